"""What the local stack says of servers that do not answer and of files that are damaged."""

import socket
from pathlib import Path

import pytest

from deploy.local.report import _answer
from deploy.local.state import Home, Part, Secrets, State
from resources.errors import UserError
from resources.settings import Settings


def test_a_database_that_does_not_answer_is_a_line_of_the_report(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    state = State(urls={"dagster_postgres": f"postgresql://longbox:secret@127.0.0.1:{port}/dagster"})
    said = _answer(Part("Dagster database", "1"), state, Settings.load({"LONGBOX_HOME": str(tmp_path)}))
    assert said.startswith("PostgreSQL does not answer (connection failed")
    assert "secret" not in said


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '"text"'])
def test_damaged_secrets_are_told_and_not_drawn_anew(tmp_path: Path, content: str) -> None:
    home = Home(tmp_path)
    home.secrets_file.write_text(content)
    with pytest.raises(UserError, match=r"holds the passwords of the local servers, is damaged; restore it"):
        Secrets.of(home)
    assert home.secrets_file.read_text() == content

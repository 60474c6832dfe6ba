"""What the local stack says of servers that do not answer, of disks that are full and of files that are damaged."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.local.dagster import code_server_serves, environment
from deploy.local.processes import start, wait_until
from deploy.local.report import _answer
from deploy.local.state import Home, Part, Secrets, State, is_locked
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


def test_a_code_server_is_asked_directly_whatever_proxy_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    serving = health.HealthServicer()
    serving.set("DagsterApi", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(serving, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{dead}")
    try:
        assert code_server_serves(port)
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "127.0.0.1"),
        ({"no_proxy": "internal"}, "internal,127.0.0.1"),
        ({"no_proxy": "internal", "no_grpc_proxy": "grpc.internal"}, "grpc.internal,127.0.0.1"),
    ],
)
def test_dagster_goes_to_its_code_server_beside_every_proxy(
    tmp_path: Path, given: dict[str, str], wanted: str
) -> None:
    assert environment(Home(tmp_path), given)["no_grpc_proxy"] == wanted


def test_a_server_that_ended_for_want_of_room_is_told_so_and_not_by_an_earlier_end(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    full = 'PANIC:  could not write to file "pg_wal/xlogtemp.1": No space left on device'
    first = start("server", ["sh", "-c", f"echo '{full}'; exit 1"], log=log)
    assert wait_until(first.exit_code, seconds=10) == 1
    assert first.lacked_room()
    second = start("server", ["sh", "-c", "echo killed; exit 1"], log=log)
    assert wait_until(second.exit_code, seconds=10) == 1
    assert not second.lacked_room()


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.lock_file.mkdir()  # what a read-only file system refuses too, and root may write everywhere else
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\); set LONGBOX_HOME"):
        is_locked(home)

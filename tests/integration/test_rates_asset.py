"""`reference/fx_rates`: a file is read when it is new, when it changed, and when rates went missing; else not."""

from pathlib import Path

import pytest

from assets.reference.rates import count_rates, load_rates_of_new_file
from pipelines.normalisation.fx import FxFileError
from resources.database import OWNER_ROLE, Database

TWO_DAYS = "Date,USD,GBP,\n2026-10-02,1.11,0.86,\n2026-10-01,1.10,0.85,\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rates.csv"
    path.write_text(TWO_DAYS, encoding="utf-8")
    return path


def test_a_file_is_read_once(database: Database, file: Path) -> None:
    assert load_rates_of_new_file(database, file, None).rows_written == 4
    again = load_rates_of_new_file(database, file, None)
    assert (again.rows_read, again.rows_written, str(again.newest_on)) == (0, 0, "2026-10-02")


def test_a_changed_file_is_read_and_its_old_content_again_too(database: Database, file: Path) -> None:
    load_rates_of_new_file(database, file, None)
    file.write_text(TWO_DAYS.replace("1.11", "1.12"), encoding="utf-8")
    assert load_rates_of_new_file(database, file, None).rows_changed == 1
    file.write_text(TWO_DAYS, encoding="utf-8")
    assert load_rates_of_new_file(database, file, None).rows_changed == 1


def test_rates_that_went_missing_are_brought_back(database: Database, file: Path) -> None:
    load_rates_of_new_file(database, file, None)
    with database.as_role(OWNER_ROLE) as owner, owner.connection() as connection:
        connection.execute("DELETE FROM reference.fx_rates WHERE currency = 'GBP'")
    assert load_rates_of_new_file(database, file, None).rows_written == 2
    assert count_rates(database) == 4


def test_a_file_that_is_not_there_is_told(database: Database, tmp_path: Path) -> None:
    with pytest.raises(FxFileError, match="no such file"):
        load_rates_of_new_file(database, tmp_path / "nowhere.csv", None)

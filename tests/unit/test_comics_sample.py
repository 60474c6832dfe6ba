"""The synthetic feed: reproducible, of the asked size, with every fault in the number that the manifest states."""

import bz2
import csv
import datetime as dt
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from assets.comics.sample import generate
from assets.comics.sample.files import COLUMNS
from assets.samples import Manifest
from cli.main import build_app
from pipelines.ingestion.decode import decompressed
from resources.errors import UserError

LAST_DAY = dt.date(2026, 10, 30)
DELIMITERS = {"csv.gz": ",", "csv": ";", "tsv.bz2": "\t"}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("sample")
    return folder, generate(folder, 6000, 12, LAST_DAY, 7, broken_files=2)


def records(path: Path) -> Iterator[list[Any] | dict[str, Any]]:
    """Every record of a file, taken apart by nothing of the platform's but its decompression."""
    extension = path.name.partition(".")[2]
    if extension == "parquet":
        yield from pq.read_table(path).to_pylist()
        return
    data = path.read_bytes()
    if extension.endswith("gz"):
        data = gzip.decompress(data)
    elif extension.endswith("bz2"):
        data = bz2.decompress(data)
    elif extension.endswith("zst"):
        data = b"".join(decompressed(iter([data])))
    text = data.decode("utf-8", "surrogateescape")
    if "jsonl" in extension:
        yield from (json.loads(line) for line in text.splitlines())
    else:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[extension])
        assert tuple(next(rows)) == COLUMNS
        yield from rows


def landed(folder: Path, manifest: Manifest) -> list[tuple[str, list[Any] | dict[str, Any]]]:
    kept = [entry for entry in manifest.files if entry.kind == "data"]
    return [(entry.landing_day, record) for entry in kept for record in records(folder / entry.path)]


def named(record: list[Any] | dict[str, Any]) -> dict[str, Any]:
    return record if isinstance(record, dict) else dict(zip(COLUMNS, record, strict=False))


def is_date(text: Any) -> bool:
    try:
        return isinstance(text, dt.datetime) or bool(dt.datetime.fromisoformat(str(text)))
    except ValueError:
        return False


def day_of(value: Any) -> dt.date:
    return (value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))).date()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    def contents(name: str, seed: int) -> dict[str, bytes]:
        folder = tmp_path / name
        generate(folder, 400, 3, LAST_DAY, seed)
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    one = contents("one", 1)
    assert contents("again", 1) == one
    assert contents("other", 2) != one


def test_files_hold_the_stated_number_of_rows(feed: tuple[Path, Manifest]) -> None:
    folder, manifest = feed
    assert sum(entry.rows for entry in manifest.files if entry.kind == "data") == manifest.rows == 6000
    for entry in manifest.files:
        if entry.kind in ("data", "repeated"):
            assert len(list(records(folder / entry.path))) == entry.rows, entry.path
    assert {entry.landing_day for entry in manifest.files} == {
        (LAST_DAY - dt.timedelta(days=number)).isoformat() for number in range(12)
    }
    assert json.loads((folder / "manifest.json").read_text())["note"].startswith("SYNTHETIC")


def test_every_quarantined_fault_is_there_in_its_number(feed: tuple[Path, Manifest]) -> None:
    folder, manifest = feed
    found: Counter[str] = Counter()
    for day, record in landed(folder, manifest):
        row = named(record)
        if isinstance(record, list) and len(record) != len(COLUMNS):
            found["wrong_column_count"] += 1
        elif any("\udcff" in str(value) for value in row.values()):
            found["invalid_utf8"] += 1
        elif row["price"] == "N/A":
            found["price_not_a_number"] += 1
        elif Decimal(str(row["price"])) < 0:
            found["negative_price"] += 1
        elif Decimal(str(row["price"])) == 0:
            found["zero_price"] += 1
        elif not row.get("currency"):
            found["missing_currency"] += 1
        elif not is_date(row["sold_at"]):
            found["impossible_date"] += 1
        elif day_of(row["sold_at"]) > dt.date.fromisoformat(day) + dt.timedelta(days=1):
            found["future_date"] += 1
    planted = {kind: manifest.faults[kind] for kind in found}
    assert dict(found) == planted
    assert len(found) == 8
    assert sum(found.values()) == manifest.expected["quarantined"]


def test_the_expected_duplicates_and_versions_follow_from_the_records_themselves(
    feed: tuple[Path, Manifest],
) -> None:
    folder, manifest = feed
    good = [named(record) for _, record in landed(folder, manifest) if is_good(record)]
    contents = {json.dumps(row, default=str, sort_keys=True) for row in good}
    keys = {(row["marketplace"], row["listing_id"]) for row in good}
    repeats = manifest.faults["repeated_in_file"] + manifest.faults["repeated_later"]
    assert len(good) - len(contents) == repeats
    assert manifest.expected["duplicate"] == repeats + manifest.expected["repeated_rows"]
    superseded = manifest.expected["superseded"]
    assert len(contents) - len(keys) == superseded > 0


def is_good(record: list[Any] | dict[str, Any]) -> bool:
    row = named(record)
    if isinstance(record, list) and len(record) != len(COLUMNS):
        return False
    if row["price"] == "N/A" or any("\udcff" in str(value) for value in row.values()):
        return False
    return Decimal(str(row["price"])) > 0 and bool(row.get("currency"))


def test_expected_rows_add_up(feed: tuple[Path, Manifest]) -> None:
    expected = feed[1].expected
    assert expected["landed"] == expected["loaded"] + expected["duplicate"] + expected["quarantined"]
    assert expected["loaded"] == expected["records"] + expected["superseded"]
    assert expected["landed"] == feed[1].rows + expected["repeated_rows"]


def test_repeated_empty_and_broken_files_are_what_they_are_called(feed: tuple[Path, Manifest]) -> None:
    folder, manifest = feed
    contents: dict[bytes, str] = {}
    for entry in manifest.files:
        data = (folder / entry.path).read_bytes()
        if entry.kind == "repeated":
            assert contents[data] != entry.path
        elif entry.kind == "empty":
            assert data == b""
        elif entry.kind == "broken":
            with pytest.raises(EOFError):
                gzip.decompress(data)
        contents.setdefault(data, entry.path)
    kinds = Counter(entry.kind for entry in manifest.files)
    assert (kinds["repeated"], kinds["empty"], kinds["broken"]) == (1, 1, 2)


def test_unless_asked_for_no_file_is_broken(tmp_path: Path) -> None:
    assert {entry.kind for entry in generate(tmp_path, 200, 2, LAST_DAY, 1).files} <= {
        "data",
        "repeated",
        "empty",
    }


def test_the_history_lands_on_the_first_day_and_reaches_months_back(feed: tuple[Path, Manifest]) -> None:
    folder, manifest = feed
    good = [(day, named(record)) for day, record in landed(folder, manifest) if is_good(record)]
    first = [
        day_of(row["sold_at"]) for day, row in good if day == manifest.first_day and is_date(row["sold_at"])
    ]
    assert len(first) > 2000
    assert min(first) < dt.date.fromisoformat(manifest.first_day) - dt.timedelta(days=150)


@pytest.mark.parametrize(("rows", "days"), [(1, 1), (7, 3), (50, 40), (300, 1)])
def test_any_size_is_met_exactly(tmp_path: Path, rows: int, days: int) -> None:
    manifest = generate(tmp_path, rows, days, LAST_DAY, 3)
    assert sum(entry.rows for entry in manifest.files if entry.kind == "data") == rows


def test_the_command_writes_a_feed_and_refuses_to_overwrite_one(tmp_path: Path) -> None:
    out = tmp_path / "feed"
    arguments = [
        "sample",
        "--out",
        str(out),
        "--rows",
        "60",
        "--days",
        "2",
        "--start",
        "2026-10-01",
        "--seed",
        "5",
    ]
    result = CliRunner().invoke(build_app(), arguments)
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.output
    assert sorted(path.name for path in out.iterdir()) == ["2026-10-01", "2026-10-02", "manifest.json"]
    again = CliRunner().invoke(build_app(), arguments)
    assert isinstance(again.exception, UserError)
    assert "not an empty folder" in str(again.exception)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--system", "reference"], "has no sample"),
        (["--start", "tomorrow"], "is not a date"),
        (["--days", "2", "--broken-files", "3"], "is more than --days"),
    ],
)
def test_the_command_explains_what_it_cannot_do(tmp_path: Path, arguments: list[str], fault: str) -> None:
    result = CliRunner().invoke(build_app(), ["sample", "--out", str(tmp_path / "out"), *arguments])
    assert isinstance(result.exception, UserError)
    assert fault in str(result.exception)

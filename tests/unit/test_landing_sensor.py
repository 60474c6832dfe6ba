"""What the landing sensor asks for: ranges without holes, a run key for the files, a cursor that never breaks."""

import datetime as dt

import pytest

from assets.partitions import contiguous
from pipelines.monitoring.landing import Unread
from sensors.landing import read_cursor, run_requests


def unread(day: str, mark: str = "m") -> Unread:
    return Unread(dt.date.fromisoformat(day), ("a.csv",), mark)


def test_days_without_holes_are_one_run_and_a_hole_begins_another() -> None:
    requests = run_requests(
        "daily_pipeline", [unread(d) for d in ("2026-10-03", "2026-10-01", "2026-10-02", "2026-10-07")]
    )
    first, second = requests
    assert first.tags["dagster/asset_partition_range_start"] == "2026-10-01"
    assert first.tags["dagster/asset_partition_range_end"] == "2026-10-03"
    assert second.partition_key == "2026-10-07"


def test_the_same_files_have_the_same_run_key_and_another_file_has_another() -> None:
    before = run_requests("daily_pipeline", [unread("2026-10-01", "m1")])
    again = run_requests("daily_pipeline", [unread("2026-10-01", "m1")])
    later = run_requests("daily_pipeline", [unread("2026-10-01", "m2")])
    assert before[0].run_key == again[0].run_key != later[0].run_key


def test_a_long_stretch_is_cut_into_ranges() -> None:
    days = [dt.date(2026, 1, 1) + dt.timedelta(days=number) for number in range(70)]
    found = contiguous(days, longest=31)
    assert [(last - first).days + 1 for first, last in found] == [31, 31, 8]


@pytest.mark.parametrize("cursor", [None, "", "not json", "[1, 2]", '"text"'])
def test_a_cursor_that_is_not_ours_starts_the_rotation_anew(cursor: str | None) -> None:
    assert read_cursor(cursor) == {}


def test_the_cursor_keeps_where_each_feed_goes_on() -> None:
    assert read_cursor('{"comics/marketplace_sales": "2026-01-05"}') == {
        "comics/marketplace_sales": "2026-01-05"
    }

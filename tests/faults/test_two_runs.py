"""Two runs of the same landing day at the same time, in two processes: the outcome is that of one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.settings import Settings
from tests.daily_runs import Daily, csv_of, sales
from tests.run_worker import run_at_once, run_day

DAY = "2026-10-05"


@pytest.fixture
def daily(settings: Settings, tmp_path: Path) -> Iterator[Daily]:
    opened = Daily.on(settings, tmp_path)
    yield opened
    opened.close()


def test_two_runs_of_the_same_day_at_once_lose_and_double_nothing(
    daily: Daily, settings: Settings, tmp_path: Path
) -> None:
    for number in range(4):
        daily.land(DAY, f"{number}.csv", sales(f"2026-10-0{number + 1}", 40, price=10.0 * (number + 1)))
    corrected = csv_of(
        "ebay,2026-10-01-3,X-Men #1 CGC 9.0,,77.00,USD,2026-10-01T12:00:00Z,2026-10-04T00:00:00Z"
    )
    daily.land(DAY, "correction.csv", corrected)
    codes = run_at_once(run_day, [(settings, tmp_path / name, DAY) for name in ("one", "other")])
    assert codes == [0, 0]
    assert daily.count("comics.pricing_data_raw") == 161
    assert daily.count("comics.pricing_data_normalized") == 160
    at_once = daily.digest()
    assert daily.run(DAY).success
    assert daily.digest() == at_once

    daily.forget_everything()
    assert daily.run(DAY).success
    assert daily.digest() == at_once

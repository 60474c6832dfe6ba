"""A range backfill of thirty landing days with three bad ones, through the job that the UI launches, and its repair."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.errors import ObjectStoreError
from resources.settings import Settings
from tests.daily_runs import Daily, sales, steps

FIRST, LAST = "2026-09-01", "2026-09-30"
TRUNCATED, NO_PRICE, UNREADABLE = "2026-09-05", "2026-09-14", "2026-09-23"
BAD = (TRUNCATED, NO_PRICE, UNREADABLE)
EVERY = tuple(f"2026-09-{number:02d}" for number in range(1, 31))
SALES = 4
STAGES = (
    "comics/pricing_data_raw", "comics/comics", "comics/pricing_data_normalized", "comics/pricing_data_aggregated",
)  # fmt: skip


@pytest.fixture
def daily(settings: Settings, tmp_path: Path) -> Iterator[Daily]:
    opened = Daily.on(settings, tmp_path)
    yield opened
    opened.close()


def test_three_bad_days_of_thirty_are_named_and_the_others_complete_and_a_repair_completes(
    daily: Daily,
) -> None:
    for day in EVERY:
        daily.land(day, "sales.csv.gz", good_file(day))
    daily.land(TRUNCATED, "sales.csv.gz", good_file(TRUNCATED)[:-20])
    daily.land(
        NO_PRICE,
        "sales.csv.gz",
        gzip.compress(gzip.decompress(good_file(NO_PRICE)).replace(b"price", b"cost")),
    )

    result = daily.run(FIRST, LAST, store=_StoreWithoutDay(daily, UNREADABLE))

    assert [step for step, how in steps(result).items() if how != "success"] == ["platform__landing_verdict"]
    failure = result.failure_data_for_node("platform__landing_verdict")
    assert failure is not None
    told = str(failure.error)
    assert "3 landing days are not complete" in told
    assert [day for day in EVERY if day in told] == list(BAD)
    assert "truncated" in told
    assert "price" in told
    assert "the disk under this day cannot be read" in told
    for stage in STAGES:
        outcomes = daily.outcomes(stage)
        assert [day for day in EVERY if outcomes[day] == "complete" or day in BAD] == list(EVERY), stage
        assert outcomes[UNREADABLE] == "failed", stage
    assert daily.outcomes(STAGES[0])[TRUNCATED] == daily.outcomes(STAGES[0])[NO_PRICE] == "incomplete"
    assert normalised_days(daily) == [day for day in EVERY if day not in BAD]
    assert daily.count("comics.pricing_data_normalized") == 27 * SALES

    daily.land(TRUNCATED, "sales.csv.gz", good_file(TRUNCATED))
    daily.land(NO_PRICE, "sales.csv.gz", good_file(NO_PRICE))
    for day in BAD:
        assert daily.run(day).success, day
    for stage in STAGES:
        assert set(daily.outcomes(stage).values()) == {"complete"}, stage
    assert normalised_days(daily) == list(EVERY)
    mended = daily.digest()

    daily.forget_everything()
    assert daily.run(FIRST, LAST).success
    assert daily.digest() == mended


def good_file(day: str) -> bytes:
    return gzip.compress(sales(day, SALES, price=float(10 + int(day[-2:]))), mtime=0)


def normalised_days(daily: Daily) -> list[str]:
    with daily.database.connection() as connection:
        rows = connection.execute(
            "SELECT sale_date FROM comics.pricing_data_normalized GROUP BY 1 HAVING count(*) = %s ORDER BY 1",
            [SALES],
        ).fetchall()
    return [str(row[0]) for row in rows]


class _StoreWithoutDay:
    """The test's object store, which cannot read the files of one day."""

    def __init__(self, daily: Daily, day: str) -> None:
        self._store, self._day = daily.store, day

    def read(self, path: str) -> Iterator[bytes]:
        if f"/{self._day}/" in path:
            raise ObjectStoreError(f"{path}: the disk under this day cannot be read")
        return self._store.read(path)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

"""A range of landing days of which most are empty: closed at once, and as each by itself would be."""

import datetime as dt
import gzip
import shutil

import pytest

from pipelines.ingestion import Loader, load_days, reconcile_days
from resources.errors import ObjectStoreUnavailableError
from tests.shop import SHOP_YAML, csv_of, open_shop

TWO_FEEDS = SHOP_YAML.replace(
    "tables:\n",
    "  returns:\n    table: sales\n    columns: {id: sale_id}\n    key: [shop, sale_id]\n"
    "    derive: {sold_on: utc_date(sold_at)}\n    starts_on: 2026-01-01\ntables:\n",
)
DAYS = [dt.date(2026, 9, 1) + dt.timedelta(days=number) for number in range(60)]
FULL, GONE, BROKEN, RETURNED, EMPTIED = DAYS[3], DAYS[10], DAYS[20], DAYS[30], DAYS[40]


def sale(number: int) -> str:
    return csv_of(("north", str(number), "chair", "10.00", "2026-08-29T12:00:00Z"))


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    """Sixty days: one with a file, one whose file went after it was loaded, one with a truncated file, one with a file
    of the other feed, one with a folder that holds nothing.
    """
    opened = open_shop(database_url, object_store_url, tmp_path, TWO_FEEDS)
    opened.land(FULL.isoformat(), "a.csv", sale(1))
    opened.land(GONE.isoformat(), "a.csv", sale(2))
    opened.load(GONE.isoformat())
    folder = tmp_path / "objects" / opened.feed.prefix
    shutil.rmtree(folder / GONE.isoformat())
    opened.land(BROKEN.isoformat(), "a.csv.gz", gzip.compress(sale(3).encode())[:-9])
    opened.store.put(f"landing/shop/returns/{RETURNED}/b.csv", sale(4).encode())
    (folder / EMPTIED.isoformat()).mkdir()
    yield opened
    opened.close()


def loaders(shop) -> list[Loader]:
    return [
        Loader(shop.database, shop.owner, shop.store, shop.system, feed)
        for feed in shop.system.feeds_of("sales")
    ]


def outcomes(shop) -> list[tuple]:
    return shop.rows(
        "SELECT asset, landing_day, outcome, counts, problems FROM longbox.day_results ORDER BY 1, 2"
    )


def test_a_range_leaves_the_results_that_its_days_leave_one_by_one(shop):
    results = [load_days(loader, DAYS) for loader in loaders(shop)]
    at_once = outcomes(shop)
    shop.rows("DELETE FROM longbox.day_results RETURNING asset")
    alone = [[load_days(loader, [day])[0] for day in DAYS] for loader in loaders(shop)]
    assert outcomes(shop) == at_once and len(at_once) == 3 * len(DAYS)
    for each, other in zip(results, alone, strict=True):
        assert [(day.landing_day, day.outcome, day.counts()) for day in each] == [
            (day.landing_day, day.outcome, day.counts()) for day in other
        ]
    loaded = {day: counts["loaded_rows"] for asset, day, _, counts, _ in at_once if asset == "shop/sales"}
    assert {day for day, rows in loaded.items() if rows} == {FULL, GONE, RETURNED}
    assert [day for asset, day, outcome, _, _ in at_once if outcome != "complete"] == [BROKEN, BROKEN]


def test_only_days_with_a_folder_or_an_account_are_looked_at_by_themselves(shop, monkeypatch):
    alone: list[dt.date] = []
    load_day = Loader.load_day

    def noted(self, day):
        alone.append(day)
        return load_day(self, day)

    monkeypatch.setattr(Loader, "load_day", noted)
    results = load_days(loaders(shop)[0], DAYS)
    assert alone == [FULL, GONE, BROKEN, EMPTIED]
    assert [result.landing_day for result in results] == DAYS
    found = reconcile_days(shop.database, shop.feed, DAYS)
    assert [day.landing_day for day in found] == [FULL, GONE, BROKEN]
    assert [problem for day in found for problem in day.problems] == []


def test_a_landing_zone_that_cannot_be_listed_fails_its_days_and_running_again_completes(shop, monkeypatch):
    def away(self, prefix):
        raise ObjectStoreUnavailableError(f"cannot list {prefix}: no answer; is the store up?")

    with monkeypatch.context() as broken:
        broken.setattr(type(shop.store), "list_folders", away)
        broken.setattr(type(shop.store), "list", away)
        failed = load_days(loaders(shop)[0], DAYS[:5])
    assert {result.outcome for result in failed} == {"failed"}
    results = load_days(loaders(shop)[0], DAYS[:5])
    assert [(result.outcome, result.rows_written) for result in results] == [
        ("complete", int(day == FULL)) for day in DAYS[:5]
    ]

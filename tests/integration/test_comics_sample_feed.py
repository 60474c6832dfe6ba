"""The synthetic feed through the real pipeline: what the manifest expects is what the tables hold."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.comics.sample import generate
from assets.samples import Manifest, landing_files
from pipelines.ingestion import DayLoad, land_file, landing_days
from pipelines.normalisation.fx import load_rates
from tests.comics_market import Market, open_market

LAST_DAY = dt.date(2026, 10, 30)


@pytest.fixture
def market(database_url: str, object_store_url: str) -> Iterator[Market]:
    market = open_market(database_url, object_store_url)
    yield market
    market.close()


def land(market: Market, folder: Path, manifest: Manifest) -> list[DayLoad]:
    for _, day, path in landing_files(folder, manifest.files):
        land_file(market.store, market.feed, path, day)
    return [market.load(day.isoformat()) for day in landing_days(market.store, market.feed)]


def test_every_planted_fault_ends_where_the_manifest_says(market: Market, tmp_path: Path) -> None:
    manifest = generate(tmp_path, 4000, 6, LAST_DAY, 2, broken_files=1)
    loads = land(market, tmp_path, manifest)
    expected = manifest.expected
    assert sum(load.landed_rows for load in loads) == expected["landed"]
    assert sum(load.loaded_rows for load in loads) == expected["loaded"]
    assert sum(load.duplicate_rows for load in loads) == expected["duplicate"]
    assert sum(load.quarantined_rows for load in loads) == expected["quarantined"]
    statuses = [file.status for load in loads for file in load.files]
    assert statuses.count("duplicate") == expected["repeated_files"]
    assert statuses.count("empty") == expected["empty_files"]
    assert statuses.count("quarantined") == expected["broken_files"]

    load_rates(market.database, None, None)
    market.normalise(*(load.landing_day.isoformat() for load in loads))
    rejected = dict(market.rows("SELECT reason, count(*) FROM longbox.rejections GROUP BY reason"))
    normalised = market.rows("SELECT count(*) FROM comics.pricing_data_normalized")[0][0]
    assert normalised + sum(rejected.values()) == expected["records"]
    faults = manifest.faults
    assert 0 < rejected.pop("unknown_currency") <= faults["unknown_currency"]
    assert 0 < rejected.pop("currency_ended") <= faults["ended_currency"]
    assert 0 < rejected.pop("no_issue") <= faults["no_issue"]
    assert rejected == {}

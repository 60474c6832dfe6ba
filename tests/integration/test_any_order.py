"""However the same records arrive, the tables say the same: any order, splitting, repetition, correction, deletion.

The truth of each example is the same records in one file of one landing day. https://hypothesis.readthedocs.io
"""

import datetime as dt
import itertools
import operator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.catalog.digest import digest_tables
from tests.comics_market import TABLES, file_of, open_market, sale

DAYS = ("2026-10-26", "2026-10-27", "2026-10-28", "2026-10-29")
TITLES = ("X-Men #1", "x-men 1 CGC 9.8", "Amazing Spider-Man #300", "Batman #404 NM", "lot of comics")
CURRENCIES = ("USD", "GBP", "EUR", "XXX")  # nobody publishes a rate of XXX: such a version is rejected
EMPTIED = (
    "longbox.loads, longbox.record_keys, longbox.version_switches, longbox.quarantine, longbox.rejections, "
    "longbox.touched, longbox.day_results, comics.publishers, comics.series, comics.comics, comics.pricing_data_raw, "
    "comics.pricing_data_normalized, comics.pricing_data_aggregated"
)


@dataclass(frozen=True)
class Delivery:
    """One version of a sale in one file of one landing day. `is_late`: the day was worked on once without it."""

    row: tuple[tuple[str, str], ...]
    landing_day: str
    file: int
    is_late: bool


@st.composite
def versions(draw):
    """Sales with up to three versions each, told apart by their revision; a correction may move a sale to a month."""
    rows = []
    for record in range(draw(st.integers(1, 8))):
        for version in range(draw(st.integers(1, 3))):
            sold_on = dt.date(2026, 8, 1) + dt.timedelta(days=draw(st.integers(0, 80)))
            row = sale(
                draw(st.sampled_from(TITLES)), str(draw(st.integers(1, 400))), f"{sold_on}T10:00:00Z",
                listing_id=f"r{record}", currency=draw(st.sampled_from(CURRENCIES)),
                updated_at=f"2026-10-2{version}T00:00:00Z", status=draw(st.sampled_from(("", "", "", "withdrawn"))),
            )  # fmt: skip
            rows.append(tuple(row.items()))
    return rows


@st.composite
def arrivals(draw):
    """Every version once or twice, anywhere; and the order in which the landing days are worked on."""
    rows = draw(versions())
    repeated = draw(st.lists(st.sampled_from(rows), max_size=4))
    delivered = [
        Delivery(row, draw(st.sampled_from(DAYS)), draw(st.integers(0, 2)), draw(st.booleans()))
        for row in draw(st.permutations(rows + repeated))
    ]
    return rows, delivered, draw(st.permutations(DAYS))


@pytest.fixture
def market(database_url, object_store_url):
    opened = open_market(database_url, object_store_url)
    opened.set_rates("2026-07-31", "2026-08-31", "2026-09-30", *DAYS)
    yield opened
    opened.close()


def start_over(market):
    for info in list(market.store.list(market.feed.prefix)):
        market.store.delete(info.path)
    with market.owner.connection() as connection:
        connection.execute(f"TRUNCATE {EMPTIED} CASCADE")


def content(market):
    """What the raw log and the derived tables say."""
    names = [f"comics.{table}" for table in (*TABLES, "pricing_data_raw")]
    with market.database.connection() as connection:
        found = digest_tables(connection, market.catalog, names)
    return {entry.table: (entry.rows, entry.content_hash) for entry in found}


def work(market, landing_day):
    market.load(landing_day)
    market.run(landing_day)


def deliver(market, deliveries, phase):
    """Put the deliveries into their files; those of another phase have names of their own."""
    place = operator.attrgetter("landing_day", "file")
    for (landing_day, file), found in itertools.groupby(sorted(deliveries, key=place), key=place):
        rows = [dict(one.row) for one in found]
        market.store.put(f"{market.feed.prefix}{landing_day}/{phase}{file}.csv", file_of(rows))


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arrival=arrivals())
def test_the_same_records_end_the_same_however_they_arrive(market, arrival):
    rows, delivered, order = arrival
    start_over(market)
    market.store.put(f"{market.feed.prefix}{DAYS[0]}/all.csv", file_of([dict(row) for row in rows]))
    work(market, DAYS[0])
    truth = content(market)

    start_over(market)
    deliver(market, [one for one in delivered if not one.is_late], "first")
    for landing_day in order:
        work(market, landing_day)
    deliver(market, [one for one in delivered if one.is_late], "late")
    for landing_day in reversed(order):
        work(market, landing_day)
    assert content(market) == truth
    totals = market.rows(
        "SELECT sum(landed_rows), sum(loaded_rows + duplicate_rows + quarantined_rows) FROM longbox.loads"
    )
    assert totals == [(len(delivered), len(delivered))]

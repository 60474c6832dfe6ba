"""A declared table of gaps equals a plain search for them, whatever lands late, twice or is moved by a correction."""

import datetime as dt
import itertools
import random

import pytest

from pipelines.aggregation import GapsJob, find_gaps
from tests.shop import csv_of, open_shop

SHOP = """
system: shop
feeds:
  sales:
    table: sales
    columns: {id: sale_id}
    key: [sale_id]
    starts_on: 2026-01-01
tables:
  sales:
    columns: {shop: text, sale_id: text, sold_at: timestamptz}
    time: sold_at
    partition: month
gaps:
  sales_gaps: {from: sales, by: [shop], every: 5 minutes}
"""
HEADER = "shop,id,sold_at"
DAYS = ("2026-10-03", "2026-10-04", "2026-10-05")
STEP = dt.timedelta(minutes=5)
START = dt.datetime(2026, 9, 30, 20, tzinfo=dt.UTC)  # the series crosses into another partition


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path, SHOP)
    yield opened
    opened.close()


def job(shop):
    return GapsJob(shop.database, shop.system, shop.system.gaps["sales_gaps"])


def find(shop, *days):
    return find_gaps(job(shop), [dt.date.fromisoformat(day) for day in days])


def table(shop):
    return sorted(shop.rows("SELECT shop, gap_from, gap_to, missing_count FROM shop.sales_gaps"))


def searched(shop):
    """The gaps by a walk over the current rows, step by step."""
    rows = shop.rows(
        "SELECT shop, sold_at FROM shop.sales JOIN longbox.record_keys k USING (key_hash, content_hash) "
        "WHERE k.is_current AND shop IS NOT NULL"
    )
    found = []
    for name in sorted({name for name, _ in rows}):
        there = {moment - (moment - START) % STEP for each, moment in rows if each == name}
        step, opened = min(there), None
        while step <= max(there):
            if step in there and opened is not None:
                found.append((name, opened, step, (step - opened) // STEP))
                opened = None
            elif step not in there and opened is None:
                opened = step
            step += STEP
    return sorted(found)


def land(shop, day, seed):
    chance = random.Random(seed)
    rows = []
    for _ in range(60):
        moment = START + dt.timedelta(seconds=chance.randrange(8 * 3600))
        # Few numbers: later files move sales of earlier ones to another time, or to the other shop.
        rows.append((chance.choice(["north", "south", ""]), chance.randrange(90), moment.isoformat()))
    shop.land(day, f"{seed}.csv", csv_of(*rows, header=HEADER))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gaps_equal_a_plain_search_after_every_day_in_any_order_of_landing(shop, seed):
    for number, day in enumerate(DAYS):
        land(shop, day, 10 * seed + number)
    for day in random.Random(seed).sample(DAYS, 3):
        shop.load(day)
        find(shop, day)
        assert table(shop) == searched(shop)
        assert len(table(shop)) > 5
    stands = table(shop)
    assert (find(shop, *DAYS).rows_written, find(shop, *DAYS).rows_deleted) == (0, 0)
    for order in itertools.permutations(DAYS):
        shop.rows("DELETE FROM shop.sales_gaps RETURNING 1")
        for day in order:
            find(shop, day)
        assert table(shop) == stands


def test_a_day_changes_no_more_than_the_gaps_around_its_rows(shop):
    times = ["20:00", "20:10", "20:20", "20:40"]
    rows = [("north", n, f"2026-09-30T{time}:00Z") for n, time in enumerate(times)]
    shop.land("2026-10-03", "a.csv", csv_of(*rows, header=HEADER))
    shop.load("2026-10-03")
    assert find(shop, "2026-10-03").rows_written == 3
    shop.land("2026-10-04", "b.csv", csv_of(("north", 9, "2026-09-30T20:32:00Z"), header=HEADER))
    shop.load("2026-10-04")
    result = find(shop, "2026-10-04")  # 20:25 to 20:40 becomes 20:25 to 20:30 and 20:35 to 20:40
    assert (result.rows_written, result.rows_deleted) == (2, 0)
    count, newest = job(shop).newest(1)
    assert (count, str(newest[0])) == (4, "north: 1 missing from 2026-09-30 20:35 to 2026-09-30 20:40")


def test_gaps_of_a_table_without_a_feed_are_searched_whole(shop):
    text = SHOP.replace("\ngaps:", "\n  ticks:\n    columns: {name: text, at: date}\n    time: at\ngaps:")
    shop.reload(text + "  ticks_gaps: {from: ticks, by: [name], every: 1 day}\n")
    ticks = GapsJob(shop.database, shop.system, shop.system.gaps["ticks_gaps"])
    shop.rows(
        "INSERT INTO shop.ticks VALUES ('a', '2026-01-01'), ('a', '2026-03-01'), ('b', '2026-01-01') RETURNING 1"
    )
    find_gaps(ticks, [dt.date(2026, 10, 3)])
    assert [str(gap) for gap in ticks.newest()[1]] == [
        "a: 58 missing from 2026-01-02 00:00 to 2026-03-01 00:00"
    ]
    shop.rows("DELETE FROM shop.ticks WHERE at = '2026-03-01' RETURNING 1")
    assert find_gaps(ticks, [dt.date(2026, 10, 3)]).rows_deleted == 1
    assert ticks.newest() == (0, [])

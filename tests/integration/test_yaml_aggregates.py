"""Aggregates declared in YAML equal all current rows of their table, whatever lands late or is corrected."""

import dataclasses
import datetime as dt
import itertools
import random
import re

import numpy as np
import pandas as pd
import pytest

from pipelines.aggregation import AggregateJob, aggregate_days
from pipelines.catalog.ddl import apply_declared_tables
from pipelines.ingestion.quarantine import replay
from tests.shop import csv_of, open_shop

SHOP = """
system: shop
feeds:
  sales:
    table: sales
    columns: {id: sale_id}
    key: [shop, sale_id]
    derive: {sold_on: utc_date(sold_at)}
    starts_on: 2026-01-01
tables:
  sales:
    columns: {shop: text, sale_id: text, item: text, price: "numeric(12,2)", weight: double precision,
              sold_at: timestamptz, sold_on: date}
    time: sold_on
    partition: month
aggregates:
  by_day:
    from: sales
    by: [shop, sold_on]
    measures: {sales: count, volume: sum(price), mid: median(price), mean_weight: mean(weight),
               items: count_distinct(item),
               low: min(price), high: max(price), spread: stddev(price), p25: p25(price), p95: p95(weight)}
  by_item:
    from: sales
    by: [item]
    measures: {sales: count, volume: sum(price), weight: sum(weight)}
  by_time:
    from: sales
    by: [{month: month(sold_on)}, {hour: hour(sold_at)}, {sold_on: week(sold_at)}, item]
    measures: {sales: count}
  by_bar:
    from: sales
    by: [shop, {bar: 12 hours(sold_at)}]
    measures: {opening: first(price), closing: last(price), last_weight: last(weight), sales: count,
               weighted: "mean(price, weight=weight)", moved: "sum(price, weight=weight)"}
"""
HEADER = "shop,id,item,price,weight,sold_at"
DAYS = ("2026-10-20", "2026-10-21", "2026-10-22")


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path, SHOP)
    yield opened
    opened.close()


def job(shop, name="by_day"):
    return AggregateJob(shop.database, shop.system, shop.system.aggregates[name])


def aggregate(shop, *days, name="by_day"):
    return aggregate_days(job(shop, name), [dt.date.fromisoformat(day) for day in days])


def land(shop, day, *sales):
    shop.land(day, f"{len(sales)}-{sales[0][1]}.csv", csv_of(*sales, header=HEADER))
    shop.load(day)


def table(shop, name="by_day"):
    columns = list(shop.system.aggregates[name].calls)
    groups = [group.name for group in shop.system.aggregates[name].groups]
    rows = shop.rows(f"SELECT {', '.join([*groups, *columns])} FROM shop.{name}")
    return sorted(rows, key=str)


def random_sales(seed, count=150):
    chance = random.Random(seed)
    for _number in range(count):
        moment = dt.datetime(2026, 8, 25, tzinfo=dt.UTC) + dt.timedelta(minutes=chance.randrange(60 * 1440))
        yield (
            chance.choice(["north", "south"]), f"{chance.randrange(400)}", chance.choice(["chair", "desk", ""]),
            f"{chance.uniform(1, 99):.2f}", chance.choice(["", f"{chance.gauss(5, 1)!r}"]), moment.isoformat(),
        )  # fmt: skip


def current(shop):
    rows = shop.rows(
        "SELECT shop, item, price::float8, weight, sold_at, sold_on FROM shop.sales JOIN longbox.record_keys k "
        "USING (key_hash, content_hash) WHERE k.is_current"
    )
    return pd.DataFrame(rows, columns=["shop", "item", "price", "weight", "sold_at", "sold_on"])


def test_measures_equal_pandas_after_corrections_and_late_rows(shop):
    for number, day in enumerate(DAYS):
        land(shop, day, *random_sales(number))
        aggregate(shop, day)
    fresh = current(shop).groupby(["shop", "sold_on"]).agg(
        sales=("price", "size"), volume=("price", "sum"), mid=("price", "median"), mean_weight=("weight", "mean"),
        items=("item", "nunique"), low=("price", "min"), high=("price", "max"), spread=("price", "std"),
        p25=("price", lambda prices: prices.quantile(0.25)), p95=("weight", lambda weights: weights.quantile(0.95)),
    )  # fmt: skip
    stands = pd.DataFrame(table(shop)).set_index([0, 1]).astype(float)
    assert len(stands) == len(fresh) > 50
    np.testing.assert_allclose(stands.to_numpy(), fresh.reindex(stands.index).to_numpy(float), rtol=1e-9)
    for name in ("by_day", "by_item", "by_time"):
        assert job(shop, name).recompute_sample(1000) == []


def test_first_last_and_weighted_measures_equal_pandas_where_many_rows_share_a_time(shop):
    for number, day in enumerate(DAYS):
        land(shop, day, *random_sales(number))
        aggregate(shop, day, name="by_bar")
    rows = shop.rows(
        "SELECT shop, sale_id, price::float8, weight, sold_at, sold_on FROM shop.sales JOIN longbox.record_keys k "
        "USING (key_hash, content_hash) WHERE k.is_current"
    )
    sales = pd.DataFrame(rows, columns=["shop", "id", "price", "weight", "sold_at", "sold_on"])
    sales = sales.sort_values(
        ["sold_on", "shop", "id"]
    )  # the table's time is a date: the key decides within it
    sales["moved"] = sales["price"] * sales["weight"]
    bars = sales.groupby(["shop", pd.to_datetime(sales["sold_at"], utc=True).dt.floor("12h")]).agg(
        opening=("price", "first"), closing=("price", "last"), last_weight=("weight", "last"), sales=("price", "size"),
        weights=("weight", "sum"), moved=("moved", lambda values: values.sum(min_count=1)),
    )  # fmt: skip
    bars["weighted"] = bars["moved"] / bars["weights"]
    measures = ["opening", "closing", "last_weight", "sales", "weighted", "moved"]
    stands = pd.DataFrame(table(shop, "by_bar"), columns=["shop", "sold_at", *measures])
    stands["sold_at"] = pd.to_datetime(stands["sold_at"], utc=True)
    stands = stands.set_index(["shop", "sold_at"]).astype(float)
    assert len(stands) == len(bars) > 50
    fresh = bars.reindex(stands.index)[measures].to_numpy(float)
    np.testing.assert_allclose(stands.to_numpy(), fresh, rtol=1e-9)
    assert job(shop, "by_bar").recompute_sample(1000) == []
    shop.rows("UPDATE shop.by_bar SET opening = opening + 1 RETURNING 1")
    assert len(job(shop, "by_bar").recompute_sample(10)) == 10


def test_groups_that_wait_for_the_run_of_a_replayed_day_are_told_with_it_and_damaged_ones_are_not(shop):
    at = "2026-10-19T12:00:00Z"
    land(shop, DAYS[0], ("north", "1", "chair", "10.00", "1", at), ("east", "2", "desk", "x", "1", at))
    land(shop, DAYS[1], ("east", "3", "chair", "20.00", "1", at), ("south", "4", "chair", "7.00", "1", at))
    aggregate(shop, *DAYS)
    shop.rows("UPDATE longbox.quarantine SET raw_text = replace(raw_text, 'x', '5.00') RETURNING 1")
    assert job(shop).recompute_sample() == []
    assert replay(shop.loader()).landing_days == (dt.date(2026, 10, 20),)
    first, *groups = job(shop).recompute_sample()
    assert first == (
        "shop/by_day: 1 of the groups named below, the first ones, waits for the run of landing days whose rows were "
        "loaded, or replayed, since they last ran: 2026-10-20; "
        "run them, as in `longbox run daily_pipeline_shop --date 2026-10-20`"
    )
    assert groups[0] == "shop/by_day (east, 2026-10-19): sales is 1, should be 2"
    shop.rows("UPDATE shop.by_day SET sales = 9 WHERE shop = 'south' RETURNING 1")
    both = job(shop).recompute_sample()
    assert both == [first, *groups, "shop/by_day (south, 2026-10-19): sales is 9, should be 1"]
    shop.rows("UPDATE shop.by_day SET sales = 1 WHERE shop = 'south' RETURNING 1")
    aggregate(shop, DAYS[0])
    assert job(shop).recompute_sample() == []
    shop.rows("UPDATE shop.by_day SET sales = 9 WHERE shop = 'east' RETURNING 1")
    assert job(shop).recompute_sample() == ["shop/by_day (east, 2026-10-19): sales is 9, should be 2"]


def test_a_group_that_a_correction_left_waits_for_the_day_of_the_correction(shop):
    land(shop, DAYS[0], ("north", "1", "chair", "10.00", "1", "2026-10-19T12:00:00Z"))
    land(shop, DAYS[0], ("north", "2", "chair", "20.00", "1", "2026-10-19T12:00:00Z"))
    aggregate(shop, DAYS[0])
    land(shop, DAYS[1], ("north", "1", "chair", "11.00", "1", "2026-09-30T13:00:00Z"))
    first, *groups = job(shop).recompute_sample()
    assert "they last ran: 2026-10-21;" in first
    assert groups[0] == "shop/by_day (north, 2026-10-19): sales is 2, should be 1"


@pytest.mark.parametrize("name", ["by_day", "by_item", "by_time", "by_bar"])
def test_any_order_of_days_and_any_number_of_runs_give_the_same_table(shop, name):
    for number, day in enumerate(DAYS):
        land(shop, day, *random_sales(number))
    tables = []
    for order in itertools.permutations(DAYS):
        shop.rows(f"DELETE FROM shop.{name} RETURNING 1")
        for day in (*order, order[0]):
            aggregate(shop, day, name=name)
        tables.append(table(shop, name))
    shop.rows(f"DELETE FROM shop.{name} RETURNING 1")
    assert aggregate(shop, *DAYS, name=name).rows_written == len(tables[0])
    assert all(each == table(shop, name) for each in tables)
    assert job(shop, name).recompute_sample(1000) == []


def test_a_correction_moves_a_row_from_one_group_to_another(shop):
    land(shop, "2026-10-20", ("north", "1", "chair", "10.00", "1", "2026-10-19T12:00:00Z"))
    land(shop, "2026-10-20", ("north", "2", "chair", "20.00", "1", "2026-09-30T12:00:00Z"))
    aggregate(shop, "2026-10-20")
    land(shop, "2026-10-21", ("north", "1", "chair", "11.00", "1", "2026-09-30T13:00:00Z"))
    result = aggregate(shop, "2026-10-21")
    assert (result.groups, result.rows_written, result.rows_deleted) == (2, 1, 1)
    assert [(row[1].isoformat(), row[2], str(row[3])) for row in table(shop)] == [("2026-09-30", 2, "31.00")]


def test_a_group_without_a_value_is_one_group(shop):
    land(shop, "2026-10-20", *(("north", str(n), "", "1.00", "", "2026-10-19T12:00:00Z") for n in range(3)))
    aggregate(shop, "2026-10-20", name="by_item")
    land(shop, "2026-10-21", ("north", "9", "", "4.00", "2.5", "2026-10-19T12:00:00Z"))
    result = aggregate(shop, "2026-10-21", name="by_item")
    assert (result.groups, result.rows_written) == (1, 1)
    assert [(item, sales, str(volume), weight) for item, sales, volume, weight in table(shop, "by_item")] == [
        (None, 4, "7.00", 2.5)
    ]


def test_a_run_that_changes_nothing_writes_nothing(shop):
    land(shop, "2026-10-20", *random_sales(1))
    aggregate(shop, "2026-10-20")
    before = shop.rows("SELECT ctid::text, xmin::text FROM shop.by_day ORDER BY 1")
    result = aggregate(shop, "2026-10-20")
    assert (result.rows_written, result.rows_deleted) == (0, 0)
    assert shop.rows("SELECT ctid::text, xmin::text FROM shop.by_day ORDER BY 1") == before


def test_a_day_that_runs_again_computes_only_what_came_since(shop):
    north, south = (
        (name, "1", "chair", "10.00", "1", f"2026-10-{day}T12:00:00Z")
        for name, day in (("north", 18), ("south", 19))
    )
    land(shop, "2026-10-20", north)
    assert aggregate(shop, "2026-10-20").groups == 1
    assert aggregate(shop, "2026-10-20").groups == 0
    land(shop, "2026-10-20", south, north)
    result = aggregate(shop, "2026-10-20")
    assert (result.groups, result.rows_written) == (1, 1)
    shop.land("2026-10-20", "correction.csv", csv_of((*north[:3], "12.00", *north[4:]), header=HEADER))
    shop.load("2026-10-20")
    result = aggregate(shop, "2026-10-20")
    assert result.rows_written == 1
    assert [(name, str(volume)) for name, _, _, volume, *_ in table(shop)] == [
        ("north", "12.00"), ("south", "10.00"),
    ]  # fmt: skip


def test_rows_that_are_replayed_are_computed_when_their_day_runs_again(shop):
    land(shop, "2026-10-20", *random_sales(1), ("north", "bad", "chair", "ten", "1", "2026-10-19T12:00:00Z"))
    aggregate(shop, "2026-10-20")
    shop.rows("UPDATE longbox.quarantine SET raw_text = replace(raw_text, 'ten', '10.00') RETURNING 1")
    assert replay(shop.loader()).loaded == 1
    result = aggregate(shop, "2026-10-20")
    assert result.rows_written == 1
    assert job(shop).recompute_sample(1000) == []


def test_a_replayed_row_that_brings_an_earlier_version_back_names_its_day(shop):
    at = "2026-10-19T12:00:00Z"
    land(shop, DAYS[0], ("north", "1", "chair", "10.00", "1", at))
    land(shop, DAYS[1], ("north", "1", "chair", "12.00", "1", at))
    land(shop, DAYS[2], ("north", "1", "chair", "ten", "1", at))
    aggregate(shop, *DAYS)
    shop.rows("UPDATE longbox.quarantine SET raw_text = replace(raw_text, 'ten', '10.00') RETURNING 1")
    result = replay(shop.loader())
    assert (result.loaded, result.duplicate, result.landing_days) == (0, 1, (dt.date(2026, 10, 22),))
    assert aggregate(shop, DAYS[2]).rows_written == 1
    assert [str(row[3]) for row in table(shop)] == ["10.00"]


def test_a_file_that_was_not_taken_in_is_whichever_number_its_load_has(shop):
    land(shop, "2026-10-20", *random_sales(1))
    land(shop, "2026-10-20", *itertools.islice(random_sales(2), 7))
    oldest = "(SELECT min(load_id) FROM longbox.loads)"
    shop.rows(f"UPDATE longbox.loads SET landing_day = '2026-10-19' WHERE load_id = {oldest} RETURNING 1")
    aggregate(shop, "2026-10-20")  # as if the older load had not committed yet
    before = len(table(shop))
    shop.rows(f"UPDATE longbox.loads SET landing_day = '2026-10-20' WHERE load_id = {oldest} RETURNING 1")
    assert aggregate(shop, "2026-10-20").rows_written > 10
    assert len(table(shop)) > before
    job(shop).forget()
    assert aggregate(shop, "2026-10-20").rows_written == 0


@pytest.mark.parametrize("damage", ["TRUNCATE shop.by_day", "DELETE FROM shop.by_day WHERE shop = 'north'"])
def test_groups_that_somebody_removed_are_back_when_their_day_runs_again(shop, damage):
    land(shop, "2026-10-20", *random_sales(1))
    aggregate(shop, "2026-10-20")
    before = table(shop)
    with shop.owner.connection() as connection:
        connection.execute(damage)
    assert aggregate(shop, "2026-10-20").rows_written > 0
    assert table(shop) == before


def test_an_aggregate_that_is_not_to_be_trusted_is_computed_whole(shop):
    land(shop, "2026-10-20", *random_sales(1))
    aggregate(shop, "2026-10-20")
    before = table(shop)
    shop.rows("UPDATE shop.by_day SET volume = volume + 1 RETURNING 1")
    job(shop).forget()
    assert aggregate(shop, "2026-10-20").rows_written == len(before)
    assert table(shop) == before


def test_a_changed_measure_computes_days_anew(shop):
    land(shop, "2026-10-20", *random_sales(1))
    aggregate(shop, "2026-10-20")
    shop.reload(SHOP.replace("low: min(price), high: max(price)", "low: max(price), high: min(price)"))
    assert aggregate(shop, "2026-10-20").rows_written > 0
    assert job(shop).recompute_sample(1000) == []


WEB = """  web:
    table: sales
    columns: {id: sale_id}
    key: [shop, sale_id]
    deletions: {column: state, one_of: [gone]}
    derive: {sold_on: utc_date(sold_at)}
    starts_on: 2026-01-01
tables:
"""


@pytest.mark.parametrize("is_fed", [True, False])
def test_superseded_rows_of_a_feed_that_is_no_longer_declared_count_for_nothing(shop, is_fed):
    shop.reload(SHOP.replace("tables:\n", WEB, 1))
    at = "2026-10-19T12:00:00Z"
    land(shop, DAYS[0], ("north", "1", "chair", "10.00", "1", at))
    web = dataclasses.replace(shop.loader(), feed=shop.system.feeds["web"])
    for day, rows in ((DAYS[0], ("8,desk,5.00", "9,desk,7.00")), (DAYS[1], ("8,desk,6.00", "9,,"))):
        lines = [f"north,{row},1,{at},{'gone' if row == '9,,' else ''}\n" for row in rows]
        shop.store.put(f"landing/shop/web/{day}/sales.csv", f"{HEADER},state\n{''.join(lines)}".encode())
        web.load_day(dt.date.fromisoformat(day))
    aggregate(shop, *DAYS)
    before = table(shop)
    assert [(row[2], str(row[3])) for row in before] == [(2, "16.00")]
    without_feed = "system: shop\n" + re.sub(
        "    columns: {shop.*?}\n", "    adopt: true\n", SHOP[SHOP.index("tables:") :], flags=re.S
    )
    shop.reload(SHOP if is_fed else without_feed)
    job(shop).forget()
    assert aggregate(shop, *DAYS).rows_written == 0
    assert table(shop) == before
    assert job(shop).recompute_sample() == []


def test_only_the_partitions_of_the_touched_groups_are_read(shop):
    land(shop, "2026-10-20", ("north", "1", "chair", "10.00", "1", "2026-10-19T12:00:00Z"))
    land(shop, "2026-10-21", ("north", "2", "chair", "10.00", "1", "2026-08-19T12:00:00Z"))
    aggregate(shop, "2026-10-20")
    with shop.owner.connection() as connection:  # reading it would fail
        connection.execute("ALTER TABLE shop.sales DETACH PARTITION shop.sales_y2026m08")
        connection.execute("ALTER TABLE shop.sales_y2026m08 RENAME TO gone")
    land(shop, "2026-10-22", ("north", "3", "chair", "30.00", "1", "2026-10-19T12:00:00Z"))
    with shop.database.connection() as connection:
        bounds = job(shop).statements(connection).bounds(dt.date(2026, 10, 19), dt.date(2026, 10, 19))
        within = bounds["within"].as_string(connection)
        plan = connection.execute(f"EXPLAIN SELECT * FROM shop.sales AS source WHERE {within}").fetchall()
    assert set(re.findall(r"y2026m\d\d", str(plan))) == {"y2026m10"}
    assert aggregate(shop, "2026-10-22").rows_written == 1


def test_a_day_whose_load_failed_is_left_out_and_named(shop):
    land(shop, "2026-10-20", *random_sales(1))
    shop.rows("UPDATE longbox.day_results SET outcome = 'failed' RETURNING 1")
    result = aggregate(shop, "2026-10-20", "2026-10-21")
    assert [day.isoformat() for day in result.failed_days] == ["2026-10-20"]
    assert shop.rows(
        "SELECT outcome FROM longbox.day_results WHERE asset = 'shop/by_day' ORDER BY landing_day"
    ) == [("failed",), ("complete",)]


def test_an_aggregate_over_a_table_without_a_feed_is_computed_whole(shop):
    shop.reload(
        SHOP.replace(
            "aggregates:",
            "  notes:\n    columns: {note_id: integer, topic: text}\n    primary_key: [note_id]\naggregates:",
        )
        + "  by_topic: {from: notes, by: [topic], measures: {notes: count}}\n"
    )
    with shop.owner.connection() as connection:
        apply_declared_tables(connection, shop.catalog)
    shop.rows("INSERT INTO shop.notes VALUES (1, 'a'), (2, 'a'), (3, NULL) RETURNING 1")
    aggregate(shop, "2026-10-20", name="by_topic")
    assert table(shop, "by_topic") == [("a", 2), (None, 1)]
    shop.rows("DELETE FROM shop.notes WHERE topic IS NULL RETURNING 1")
    assert aggregate(shop, "2026-10-20", name="by_topic").rows_deleted == 1

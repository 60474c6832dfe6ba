"""Landed files become accounted rows: promises 2, 3, 4 and the rules of identity, on a real PostgreSQL."""

import datetime as dt
import gzip
import io
import itertools
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.catalog.check import check_against_database
from pipelines.catalog.feed_keys import FeedKeyChangedError
from pipelines.ingestion import Loader, reconcile
from pipelines.ingestion.quarantine import list_quarantine
from tests.shop import SHOP_YAML, csv_of, open_shop

DAY = "2026-10-30"
SALE = ("north", "1", "chair", "10.00", "2026-10-29T12:00:00Z")


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path)
    yield opened
    opened.close()


def account(load):
    return (load.landed_rows, load.loaded_rows, load.duplicate_rows, load.quarantined_rows)


def sales(numbers, price="10.00"):
    return csv_of(*(("north", str(n), "chair", price, "2026-10-29T12:00:00Z") for n in numbers))


def test_every_row_of_a_file_is_loaded_duplicate_or_quarantined_with_its_text(shop):
    shop.land(
        DAY, "a.csv", csv_of(SALE, SALE, ("north", "2", "desk", "-1", "2026-10-29"), ("north", "3", "x", "4"))
    )
    load = shop.load(DAY)
    assert account(load) == (4, 1, 1, 2) and load.outcome == "complete"
    found = list_quarantine(shop.database)
    assert [(row.line, row.column, row.reason) for row in found] == [
        (4, "price", "breaks_rule"),
        (5, None, "column_count"),
    ]
    assert found[0].raw_text == "north,2,desk,-1,2026-10-29\n" and "greater than 0" in found[0].detail
    assert reconcile(shop.database, shop.feed, dt.date.fromisoformat(DAY)).problems == ()


def test_a_day_that_takes_long_tells_how_far_it_is_between_files_and_within_one(shop, monkeypatch):
    monkeypatch.setattr("pipelines.ingestion.progress.EVERY_SECONDS", 0.0)
    shop.land(DAY, "a.csv", sales(range(25)))
    shop.land(DAY, "b.csv", sales([99]))
    told = []
    shop.load(DAY, chunk_rows=10, tell=told.append)
    assert told == [
        f"{DAY}: files done: 0 (0 rows); a.csv: 10 rows so far",
        f"{DAY}: files done: 0 (0 rows); a.csv: 20 rows so far",
        f"{DAY}: files done: 1 (25 rows)",
        f"{DAY}: files done: 2 (26 rows)",
    ]


def test_running_a_day_again_changes_nothing_and_reads_nothing(shop):
    shop.land(DAY, "a.csv", sales(range(10)))
    first, again = shop.load(DAY), shop.load(DAY)
    assert account(first) == account(again) == (10, 10, 0, 0)
    assert (again.rows_written, again.bytes_read) == (0, 0)


def test_the_same_content_under_another_name_day_or_compression_loads_nothing(shop):
    shop.land(DAY, "a.csv", sales(range(5)))
    shop.land(DAY, "b.csv.gz", gzip.compress(sales(range(5)).encode()))
    assert account(shop.load(DAY)) == (10, 5, 5, 0)
    shop.land("2026-10-31", "c.csv", sales(range(5)))
    assert account(shop.load("2026-10-31")) == (5, 0, 5, 0)
    assert len(shop.current()) == 5


def test_a_file_written_again_with_the_same_content_is_still_the_first(shop):
    shop.land(DAY, "a.csv", sales(range(5)))
    shop.load(DAY)
    shop.store.delete(f"{shop.feed.prefix}{DAY}/a.csv")
    shop.land(DAY, "a.csv", sales(range(5)))
    load = shop.load(DAY)
    assert account(load) == (5, 5, 0, 0) and load.files[0].status == "seen"


def test_csv_json_lines_and_parquet_of_the_same_records_are_the_same_records(shop):
    rows = [("north", str(n), "chair", f"{n}.5", "2026-10-29T12:00:00Z") for n in range(1, 6)]
    shop.land(DAY, "a.csv", csv_of(*rows))
    lines = "".join(
        f'{{"shop":"north","id":"{n}","item":"chair","price":{n}.50,"sold_at":"2026-10-29T12:00:00+00:00"}}\n'
        for n in range(1, 6)
    )
    shop.land(DAY, "b.jsonl", lines)
    buffer = io.BytesIO()
    moment = dt.datetime(2026, 10, 29, 12, tzinfo=dt.UTC)
    table = pa.table(
        {"shop": ["north"] * 5, "id": [str(n) for n in range(1, 6)], "item": ["chair"] * 5,
         "price": [n + 0.5 for n in range(1, 6)], "sold_at": pa.array([moment] * 5, pa.timestamp("ns", "UTC"))}
    )  # fmt: skip
    pq.write_table(table, buffer)
    shop.land(DAY, "c.parquet", buffer.getvalue())
    assert account(shop.load(DAY)) == (15, 5, 10, 0)


def test_a_correction_is_a_new_version_and_the_last_landed_wins_also_in_another_month(shop):
    shop.land(DAY, "a.csv", csv_of(SALE))
    shop.land("2026-10-31", "a.csv", csv_of((*SALE[:3], "12.00", "2026-08-01T00:00:00Z")))
    shop.load(DAY)
    shop.load("2026-10-31")
    assert shop.current() == [("north", "1", "12.00", "2026-08-01")]
    assert shop.rows("SELECT count(*) FROM shop.sales") == [(2,)]
    switched = shop.rows("SELECT landing_day::text, event_on::text FROM longbox.version_switches ORDER BY 2")
    assert switched == [("2026-10-31", "2026-08-01"), ("2026-10-31", "2026-10-29")]


def test_a_correction_taken_back_brings_the_first_value_back(shop):
    first, second = csv_of(SALE), csv_of((*SALE[:3], "12.00", SALE[4]))
    shop.land("2026-10-28", "a.csv", first)
    shop.land("2026-10-29", "b.csv", second)
    shop.land("2026-10-30", "c.csv", first + "north,2,desk,5,2026-10-29\n")
    for day in ("2026-10-28", "2026-10-29", "2026-10-30"):
        shop.load(day)
    assert [row[2] for row in shop.current()] == ["10.00", "5.00"]
    assert shop.rows("SELECT count(*) FROM shop.sales WHERE sale_id = '1'") == [(2,)]


@pytest.mark.parametrize("order", list(itertools.permutations(["2026-10-28", "2026-10-29", "2026-10-30"])))
def test_days_loaded_in_any_order_give_the_same_winners(shop, order):
    shop.land("2026-10-28", "a.csv", csv_of(SALE, ("north", "2", "x", "1", "2026-10-01")))
    shop.land(
        "2026-10-29",
        "b.csv",
        csv_of((*SALE[:3], "12.00", "2026-08-01"), ("south", "9", "x", "1", "2026-10-01")),
    )
    shop.land("2026-10-30", "c.csv", csv_of(SALE, ("north", "2", "x", "2", "2026-09-01")))
    for day in order:
        shop.load(day)
    assert shop.current() == [
        ("north", "1", "10.00", "2026-10-29"),
        ("north", "2", "2.00", "2026-09-01"),
        ("south", "9", "1.00", "2026-10-01"),
    ]


def test_versions_within_one_file_and_over_chunks_are_told_apart(shop):
    rows = [("north", str(n % 5), "chair", str(1 + n // 5), "2026-10-29") for n in range(50)]
    shop.land(DAY, "a.csv", csv_of(*rows, *rows[:5]))
    assert account(shop.load(DAY, chunk_rows=7)) == (55, 50, 5, 0)
    assert {row[2] for row in shop.current()} == {"1.00"}, "the last lines repeat the first: they landed last"
    assert len(shop.current()) == 5


def test_the_feeds_own_revision_decides_whatever_landed_last(database_url, object_store_url, tmp_path):
    text = SHOP_YAML.replace("    starts_on", "    revision: changed_at\n    starts_on").replace(
        "      extra: jsonb", "      extra: jsonb\n      changed_at: timestamptz"
    )
    shop = open_shop(database_url, object_store_url, tmp_path, text)
    header = "shop,id,item,price,sold_at,changed_at"
    shop.land(DAY, "a.csv", csv_of((*SALE[:3], "12.00", SALE[4], "2026-10-30T10:00:00Z"), header=header))
    shop.land("2026-10-31", "b.csv", csv_of((*SALE, "2026-10-29T10:00:00Z"), (*SALE, ""), header=header))
    for day in ("2026-10-31", DAY):
        shop.load(day)
    assert [row[2] for row in shop.current()] == ["12.00"]
    shop.close()


def test_records_without_a_key_are_their_file_and_line(database_url, object_store_url, tmp_path):
    shop = open_shop(
        database_url, object_store_url, tmp_path, SHOP_YAML.replace("    key: [shop, sale_id]\n", "")
    )
    shop.land(DAY, "a.csv", csv_of(SALE, SALE))
    assert account(shop.load(DAY)) == (2, 2, 0, 0)
    assert account(shop.load(DAY)) == (2, 2, 0, 0)
    shop.close()


def test_events_of_the_future_and_beyond_what_is_kept_are_quarantined(shop):
    rows = [
        (*SALE[:4], when)
        for when in ("2026-10-31T23:59:00Z", "2026-11-01T00:00:00Z", "2019-10-29", "0001-01-01", "9999-12-31")
    ]
    shop.land(DAY, "a.csv", csv_of(*rows))
    shop.load(DAY)
    assert [row.reason for row in list_quarantine(shop.database)] == [
        "future",
        "expired",
        "out_of_range",
        "future",
    ]


def test_unknown_columns_are_reported_and_an_empty_optional_field_is_null(shop):
    shop.land(DAY, "a.csv", "Shop;ID;Item;Price;Sold At;colour\nnorth;1;;3;2026-10-29;red\n")
    load = shop.load(DAY)
    assert load.files[0].unknown_columns == ("colour",)
    assert shop.rows("SELECT item, price::text FROM shop.sales") == [(None, "3.00")]
    ((report,),) = shop.rows("SELECT report FROM longbox.loads")
    (change,) = report.pop("schema_changes")
    assert report == {"unknown_columns": ["colour"]}
    assert (change["kind"], change["column"]) == ("new", "colour")


def test_two_runs_of_the_same_day_at_once_load_every_row_once(shop):
    for number in range(6):
        shop.land(DAY, f"{number}.csv", sales(range(number * 50, number * 50 + 100)))
    loads, threads = [], []
    threads += [
        threading.Thread(target=lambda: loads.append(shop.load(DAY, chunk_rows=20))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(loads) == 3 and len(shop.current()) == 350
    assert account(shop.load(DAY)) == (600, 350, 250, 0)
    assert reconcile(shop.database, shop.feed, dt.date(2026, 10, 30)).problems == ()


TWO_FEEDS = SHOP_YAML.replace(
    "tables:\n",
    "  returns:\n    table: sales\n    columns: {id: sale_id}\n    key: [shop, sale_id]\n"
    "    derive: {sold_on: utc_date(sold_at)}\n    starts_on: 2026-01-01\ntables:\n",
)


def test_the_day_of_a_table_is_as_good_as_the_worst_of_its_feeds(database_url, object_store_url, tmp_path):
    shop = open_shop(database_url, object_store_url, tmp_path, TWO_FEEDS)
    shop.land(DAY, "a.csv.gz", gzip.compress(sales(range(3)).encode())[:-9])
    shop.store.put(f"landing/shop/returns/{DAY}/b.csv", sales(range(5, 7)).encode())
    for feed in shop.system.feeds_of("sales"):
        Loader(shop.database, shop.owner, shop.store, shop.system, feed).load_day(dt.date.fromisoformat(DAY))
    found = shop.rows("SELECT asset, outcome, counts->>'loaded_rows' FROM longbox.day_results ORDER BY 1")
    shop.close()
    assert found == [
        ("landing/shop/returns", "complete", "2"),
        ("landing/shop/sales", "incomplete", "0"),
        ("shop/sales", "incomplete", "2"),
    ]


def test_a_changed_key_is_refused_before_it_doubles_a_record(shop):
    shop.land("2026-02-01", "a.csv", csv_of(("north", "1", "chair", "10.00", "2026-02-01T12:00:00Z")))
    shop.load("2026-02-01")
    before = shop.current()
    other = SHOP_YAML.replace("key: [shop, sale_id]", "key: [sale_id, shop]")
    shop.reload(other)
    with pytest.raises(FeedKeyChangedError, match=r"by the key \[shop, sale_id\].*put the key back"):
        shop.load("2026-02-01")
    with shop.database.connection() as connection:
        problems = check_against_database(connection, shop.catalog)
    assert [problem.path for problem in problems] == ["feeds.sales.key"]
    assert shop.current() == before
    shop.reload(SHOP_YAML)
    assert account(shop.load("2026-02-01")) == (1, 1, 0, 0) and shop.current() == before


def test_the_key_of_a_feed_without_records_may_change(shop):
    shop.land("2026-02-01", "a.csv", csv_of(("north", "1", "chair", "-1", "2026-02-01T12:00:00Z")))
    shop.load("2026-02-01")
    shop.reload(SHOP_YAML.replace("key: [shop, sale_id]", "key: [sale_id]"))
    shop.land("2026-02-02", "b.csv", csv_of(("north", "1", "chair", "1", "2026-02-01T12:00:00Z")))
    shop.load("2026-02-02")
    assert shop.current() == [("north", "1", "1.00", "2026-02-01")]


@pytest.mark.parametrize("emptied", ["", csv_of()], ids=["nothing", "a header"])
def test_a_file_that_is_replaced_by_an_empty_one_takes_no_row_away_and_mends_no_other(shop, emptied):
    shop.land(DAY, "a.csv", csv_of(SALE, ("north", "2", "desk", "-1", "2026-10-29")))
    shop.land(DAY, "b.csv", "north,3\n")  # no header: put aside whole
    assert shop.load(DAY).outcome == "incomplete"
    for name in ("a.csv", "b.csv"):
        shop.land(DAY, name, emptied)
    load = shop.load(DAY)
    assert [file.status for file in load.files] == ["empty", "empty"]
    assert account(load) == (2, 1, 0, 1) and shop.current() == [("north", "1", "10.00", "2026-10-29")]
    told = [(row.file_name, row.line) for row in list_quarantine(shop.database)]
    assert told == [("a.csv", 3), ("b.csv", None)] and load.outcome == "incomplete"
    shop.land(DAY, "b.csv", sales([3]))
    assert shop.load(DAY).outcome == "complete"
    assert reconcile(shop.database, shop.feed, dt.date.fromisoformat(DAY)).problems == ()

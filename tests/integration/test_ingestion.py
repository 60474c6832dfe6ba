"""Landed files become accounted rows: promises 2, 3, 4 and the rules of identity, on a real PostgreSQL."""

import datetime as dt
import gzip
import io
import itertools
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ingestion import DayFailure, Loader, land_file, load_days, reconcile, writer
from pipelines.ingestion.quarantine import dismiss, list_quarantine, replay
from resources.errors import UserError
from resources.object_store import ObjectStore
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


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"\x1f\x8b" + b"junk" * 10])
def test_an_unreadable_file_is_put_aside_whole_and_a_good_one_repairs_the_day(shop, damage):
    good = gzip.compress(sales(range(3)).encode())
    shop.land(DAY, "a.csv.gz", damage(good))
    shop.land(DAY, "b.csv", sales(range(10, 12)))
    load = shop.load(DAY)
    assert load.outcome == "incomplete" and account(load) == (2, 2, 0, 0)
    assert "a.csv.gz" in load.problems[0]
    assert len(list_quarantine(shop.database)) == len(list_quarantine(shop.database)) == 1
    shop.load(DAY)
    assert len(list_quarantine(shop.database)) == 1, "trying again must not double the entry"
    shop.land(DAY, "a.csv.gz", good)
    repaired = shop.load(DAY)
    assert repaired.outcome == "complete" and account(repaired) == (5, 5, 0, 0)


def test_a_file_put_aside_can_be_written_off(shop):
    shop.land(DAY, "a.csv", "other,columns\n1,2\n")
    assert shop.load(DAY).outcome == "incomplete"
    entry = list_quarantine(shop.database)[0]
    assert entry.reason == "missing_column" and entry.line is None
    dismiss(shop.database, [entry.quarantine_id])
    assert shop.load(DAY).outcome == "complete"


@pytest.mark.parametrize("content", ["", "\n\n", "shop,id,item,price,sold_at\n", "shop,id\n"])
def test_an_empty_file_is_no_fault_and_its_replacement_loads(shop, content):
    shop.land(DAY, "a.csv", content)
    load = shop.load(DAY)
    assert load.outcome == "complete" and load.files[0].status == "empty"
    shop.land(DAY, "a.csv", sales(range(3)))
    assert account(shop.load(DAY)) == (3, 3, 0, 0)


def test_rows_that_the_table_refuses_are_set_apart_and_the_rest_loads(shop):
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales ADD CONSTRAINT no_thirteen CHECK (sale_id <> '13')")
    shop.land(DAY, "a.csv", sales(range(40)))
    assert account(shop.load(DAY, chunk_rows=15)) == (40, 39, 0, 1)
    entry = list_quarantine(shop.database)[0]
    assert entry.reason == "refused_by_table" and "no_thirteen" in entry.detail and entry.line == 15
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales DROP CONSTRAINT no_thirteen")
    result = replay(shop.loader())
    assert (result.loaded, result.remaining) == (1, 0) and result.landing_days == (dt.date(2026, 10, 30),)
    assert account(shop.load(DAY)) == (40, 40, 0, 0)
    assert reconcile(shop.database, shop.feed, dt.date(2026, 10, 30)).problems == ()


def test_quarantined_rows_load_on_replay_once_the_rule_allows_them(shop):
    shop.land(
        DAY,
        "a.csv",
        csv_of(SALE, ("north", "2", "gift", "0", "2026-10-29"), ("north", "3", "x", "?", "2026-10-29")),
    )
    assert account(shop.load(DAY)) == (3, 1, 0, 2)
    shop.reload(SHOP_YAML.replace("greater_than: 0", "at_least: 0"))
    result = replay(shop.loader())
    assert (result.loaded, result.duplicate, result.remaining) == (1, 0, 1)
    assert [row[:3] for row in shop.current()] == [("north", "1", "10.00"), ("north", "2", "0.00")]
    again = replay(shop.loader())
    assert (again.loaded, again.remaining) == (0, 1)
    assert reconcile(shop.database, shop.feed, dt.date(2026, 10, 30)).problems == ()


def test_a_changed_catalogue_reads_the_same_file_anew_without_doubling_a_row(shop):
    shop.land(DAY, "a.csv", csv_of(SALE, ("north", "2", "gift", "0", "2026-10-29")))
    shop.load(DAY)
    shop.reload(SHOP_YAML.replace("greater_than: 0", "at_least: 0"))
    load = shop.load(DAY)
    assert load.rows_written == 1 and len(shop.current()) == 2
    assert list_quarantine(shop.database) == []
    assert reconcile(shop.database, shop.feed, dt.date(2026, 10, 30)).problems == ()


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
    assert shop.rows("SELECT report FROM longbox.loads") == [({"unknown_columns": ["colour"]},)]


def test_strange_file_names_are_kept_as_they_are(shop):
    names = ["a b.csv", "ünï#?.csv", "100%.csv", "x" * 200 + ".csv"]
    for number, name in enumerate(names):
        shop.land(DAY, name, sales([number]))
    assert sorted(file.file_name for file in shop.load(DAY).files) == sorted(names)


def test_a_failure_in_the_middle_of_a_file_keeps_nothing_of_it_and_the_next_run_completes(shop, monkeypatch):
    shop.land(DAY, "a.csv", sales(range(100)))
    write, calls = writer.ChunkWriter.write, []

    def fail_on_third(self, chunk):
        calls.append(1)
        if len(calls) == 3:
            raise ConnectionAbortedError("pulled the plug")
        return write(self, chunk)

    monkeypatch.setattr(writer.ChunkWriter, "write", fail_on_third)
    with pytest.raises(ConnectionAbortedError):
        shop.load(DAY, chunk_rows=10)
    assert shop.rows(
        "SELECT (SELECT count(*) FROM shop.sales), (SELECT count(*) FROM longbox.record_keys)"
    ) == [(0, 0)]
    monkeypatch.undo()
    assert account(shop.load(DAY, chunk_rows=10)) == (100, 100, 0, 0)


def test_a_file_replaced_while_it_is_read_keeps_nothing_and_loads_next_time(shop, monkeypatch):
    shop.land(DAY, "a.csv", sales(range(10)))
    read, calls = ObjectStore.read, []

    def replaced_between_passes(self, path):
        calls.append(path)
        if len(calls) == 2:
            self.put(path, sales(range(20, 30)).encode())
        return read(self, path)

    monkeypatch.setattr(ObjectStore, "read", replaced_between_passes)
    load = shop.load(DAY)
    assert load.outcome == "incomplete" and "replaced while it was read" in load.problems[0]
    monkeypatch.undo()
    assert account(shop.load(DAY)) == (10, 10, 0, 0)
    assert {row[1] for row in shop.current()} == {str(n) for n in range(20, 30)}


def test_an_object_deleted_between_listing_and_reading_costs_only_itself(shop, monkeypatch):
    shop.land(DAY, "a.csv", sales(range(3)))
    shop.land(DAY, "b.csv", sales(range(3, 6)))
    read = ObjectStore.read

    def vanishing(self, path):
        if path.endswith("a.csv"):
            self.delete(path)
        return read(self, path)

    monkeypatch.setattr(ObjectStore, "read", vanishing)
    load = shop.load(DAY)
    assert account(load) == (3, 3, 0, 0) and load.outcome == "incomplete"


def test_one_bad_day_does_not_stop_the_others(shop, monkeypatch):
    days = ["2026-10-28", "2026-10-29", "2026-10-30"]
    for number, day in enumerate(days):
        shop.land(day, "a.csv", sales([number]))
    listing = ObjectStore.list

    def failing(self, prefix):
        if "2026-10-29" in prefix:
            from resources.errors import ObjectStoreUnavailableError

            raise ObjectStoreUnavailableError("the store went away")
        return listing(self, prefix)

    monkeypatch.setattr(ObjectStore, "list", failing)
    results = load_days(shop.loader(), [dt.date.fromisoformat(day) for day in days])
    assert [result.outcome for result in results] == ["complete", "failed", "complete"]
    assert isinstance(results[1], DayFailure)
    outcomes = "SELECT outcome FROM longbox.day_results WHERE asset = 'shop/sales' ORDER BY landing_day"
    assert shop.rows(outcomes) == [("complete",), ("failed",), ("complete",)]


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


@pytest.mark.parametrize("name", ["sales#1", "sales.csv#22", "two\nlines.csv", "caf\udce9.csv"])
def test_a_file_whose_name_the_store_cannot_carry_is_named_and_stops_no_other(shop, name):
    shop.land(DAY, "ok.csv", sales(range(3)))
    folder = Path(urlsplit(shop.store.url).path) / shop.feed.prefix / DAY
    (folder / name).write_text(sales(range(5)))
    load = shop.load(DAY)
    assert account(load) == (3, 3, 0, 0)
    assert load.outcome == "incomplete"
    assert "rename" in load.problems[0]
    with pytest.raises(UserError, match="rename it"):
        land_file(shop.store, shop.feed, folder / name, dt.date.fromisoformat(DAY))


def test_a_number_of_a_billion_digits_costs_one_row_and_no_time(shop):
    shop.reload(SHOP_YAML.replace("extra: jsonb", "extra: jsonb\n      pieces: integer"))
    row = '{"shop":"north","id":"%s","price":1,"sold_at":"2026-10-29",%s}\n'
    shop.land(
        DAY,
        "a.jsonl",
        row % (1, '"pieces":1e999999999') + row % (2, '"extra":{"a":1e999999999}') + row % (3, '"pieces":4'),
    )
    assert account(shop.load(DAY)) == (3, 1, 0, 2)


def test_a_parquet_time_beyond_the_calendar_puts_only_its_file_aside(shop):
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(
            {"shop": ["n"], "id": ["1"], "price": [1.0], "sold_at": pa.array([10**18], pa.timestamp("us"))}
        ),
        buffer,
    )
    shop.land(DAY, "a.parquet", buffer.getvalue())
    shop.land(DAY, "b.csv", sales(range(2)))
    load = shop.load(DAY)
    assert account(load) == (2, 2, 0, 0)
    assert load.outcome == "incomplete"


def test_a_replay_keeps_every_digit_and_every_kind_of_row(shop):
    wide = SHOP_YAML.replace("extra: jsonb", 'extra: jsonb\n      big: "numeric(30,2)"')
    shop.reload(wide.replace("{greater_than: 0}}", "{greater_than: 0}, item: {max_length: 3}}"))
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales ADD CONSTRAINT cheap CHECK (sale_id <> '9')")
    row = '{"shop":"north","id":"%s","item":"%s","price":1,"big":12345678901234567890.12,"sold_at":"2026-10-29"}\n'
    shop.land(DAY, "a.jsonl", row % (1, "chair") + row % (9, "x"))
    strange = ("north", "2", "a\u2028b\x85cd", "5", "2026-10-29")
    shop.land(DAY, "b.csv", csv_of(strange, ("north", "9", "y", "6", "2026-10-29")))
    assert account(shop.load(DAY)) == (4, 0, 0, 4)
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales DROP CONSTRAINT cheap")
    shop.reload(wide)
    result = replay(shop.loader())
    assert (result.loaded, result.remaining) == (4, 0)
    found = shop.rows("SELECT sale_id, item, big::text FROM shop.sales ORDER BY 1, 3")
    big = "12345678901234567890.12"
    assert found[:3] == [("1", "chair", big), ("2", "a\u2028b\x85cd", None), ("9", "x", big)]


def test_rows_that_landed_too_early_load_on_replay_once_their_file_lands_on_its_day(shop):
    shop.land("2026-10-20", "a.csv", sales(range(3)))
    assert account(shop.load("2026-10-20")) == (3, 0, 0, 3)
    shop.land(DAY, "a.csv", sales(range(3)))
    shop.load(DAY)
    result = replay(shop.loader())
    assert (result.loaded, result.remaining) == (3, 0)
    assert len(shop.current()) == 3


def test_an_unforeseen_error_of_one_day_does_not_stop_the_others(shop, monkeypatch):
    for day in ("2026-10-29", DAY):
        shop.land(day, "a.csv", sales([int(day[-2:])]))
    load = Loader._load_file

    def unforeseen(self, target, info, name, landing_day):
        if landing_day.day == 29:
            raise ZeroDivisionError("a parser nobody thought of")
        return load(self, target, info, name, landing_day)

    monkeypatch.setattr(Loader, "_load_file", unforeseen)
    results = load_days(shop.loader(), [dt.date(2026, 10, 29), dt.date(2026, 10, 30)])
    assert [result.outcome for result in results] == ["failed", "complete"]

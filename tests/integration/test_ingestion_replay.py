"""Rows put aside are judged again after a fix, or written off; their account stays closed."""

import datetime as dt
import io
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ingestion import reconcile
from pipelines.ingestion.binding import RowMaker
from pipelines.ingestion.quarantine import dismiss, list_quarantine, replay
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


def sale_line(name, number, price=10, **more):
    sale = {"shop": "north", name: str(number), "price": price, "sold_at": "2026-10-27", **more}
    return json.dumps(sale) + "\n"


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


ALL_TEXT = """
system: shop
feeds:
  sales: {table: sales, key: [shop, id], starts_on: 2026-01-01}
tables:
  sales: {columns: {shop: text, id: text, item: text, note: text}}
"""


def test_the_header_again_in_joined_files_is_no_row_and_a_replay_leaves_it_where_it_is(
    database_url, object_store_url, tmp_path
):
    shop = open_shop(database_url, object_store_url, tmp_path, ALL_TEXT)
    texts = "shop,id,item,note\nnorth,1,chair,x\nshop,id,item,note\nnorth,2,desk,y\n"
    shop.land(DAY, "a.csv", texts)
    shop.land(DAY, "b.csv", texts.replace("desk", '"open').replace("north", "south"))
    assert account(shop.load(DAY)) == (6, 3, 0, 3)
    found = [(e.file_name, e.line, e.reason) for e in list_quarantine(shop.database)]
    assert found == [
        ("a.csv", 3, "repeated_header"),
        ("b.csv", 3, "repeated_header"),
        ("b.csv", 4, "malformed"),
    ]
    assert replay(shop.loader()).remaining == 3
    assert [e.reason for e in list_quarantine(shop.database)] == [reason for _, _, reason in found]
    assert reconcile(shop.database, shop.feed, dt.date(2026, 10, 30)).problems == ()
    shop.close()


def test_a_file_put_aside_can_be_written_off(shop):
    shop.land(DAY, "a.csv", "other,columns\n1,2\n")
    assert shop.load(DAY).outcome == "incomplete"
    entry = list_quarantine(shop.database)[0]
    assert entry.reason == "missing_column" and entry.line is None
    dismiss(shop.database, [entry.quarantine_id])
    assert shop.load(DAY).outcome == "complete"


def test_a_json_row_loads_on_replay_once_its_own_name_of_a_column_is_mapped(shop):
    row = '{"shop":"north","id":"%s","%s":4,"sold_at":"2026-10-29"}\n'
    shop.land(DAY, "a.jsonl", row % (1, "price") + row % (2, "cost"))
    assert account(shop.load(DAY)) == (2, 1, 0, 1)
    shop.reload(SHOP_YAML.replace("{id: sale_id}", "{id: sale_id, cost: price}"))
    result = replay(shop.loader())
    assert (result.loaded, result.remaining) == (1, 0)
    assert [row[:3] for row in shop.current()] == [("north", "1", "4.00"), ("north", "2", "4.00")]


def test_rows_are_judged_many_at_once_and_the_last_version_of_a_record_wins_across_batches(shop, monkeypatch):
    sizes, rows_of = [], RowMaker.rows
    monkeypatch.setattr("pipelines.ingestion.quarantine.BATCH_ROWS", 20)
    rows = [("north", str(n % 30), "chair", f"-{n + 1}.00", "2026-10-29T12:00:00Z") for n in range(50)]
    shop.land(DAY, "a.csv", csv_of(*rows[:45], ("north", "x", "chair", "?", "2026-10-29"), *rows[45:]))
    assert account(shop.load(DAY)) == (51, 0, 0, 51)
    shop.reload(SHOP_YAML.replace("greater_than: 0", "at_least: -1000"))

    def spy(maker, records, lines):
        sizes.append(len(records))
        return rows_of(maker, records, lines)

    monkeypatch.setattr(RowMaker, "rows", spy)
    result = replay(shop.loader())
    assert (result.loaded, result.duplicate, result.remaining) == (50, 0, 1) and sizes == [20, 20, 11]
    prices = {int(number): price for _, number, price, _ in shop.current()}
    assert prices == {n % 30: f"-{n + 1}.00" for n in range(50)}
    assert reconcile(shop.database, shop.feed, dt.date(2026, 10, 30)).problems == ()


def test_a_column_that_its_sender_renamed_is_read_under_either_name_and_replayed(shop):
    shop.land("2026-10-28", "old.csv", csv_of(SALE, ("north", "2", "x", "?", "2026-10-27")))
    shop.land("2026-10-28", "old.jsonl", sale_line("id", 3) + sale_line("id", 4, price=0))
    for _ in range(2):
        shop.load("2026-10-28")
    shop.reload(
        SHOP_YAML.replace("{id: sale_id}", "{id: sale_id, Sale: sale_id}").replace("greater_than", "at_least")
    )
    shop.land(DAY, "new.csv", csv_of((*SALE[:3], "11.00", SALE[4]), header="shop,sale,item,price,sold_at"))
    shop.land(DAY, "new.jsonl", sale_line("Sale", 5) + sale_line("sale", 6) + sale_line("id", 7, Sale=7))
    load = shop.load(DAY)
    assert account(load) == (4, 3, 0, 1) and load.outcome == "complete"
    assert replay(shop.loader()).loaded == 1
    assert [row[1:3] for row in shop.current()] == [
        ("1", "11.00"), ("3", "10.00"), ("4", "0.00"), ("5", "10.00"), ("6", "10.00"),
    ]  # fmt: skip
    left = {(row.file_name, row.line, row.reason): row.detail for row in list_quarantine(shop.database)}
    assert left.keys() == {("old.csv", 3, "not_a_number"), ("new.jsonl", 3, "malformed")}
    assert "the names 'id' and 'Sale' both mean id" in left["new.jsonl", 3, "malformed"]
    assert account(shop.load("2026-10-28"))[1] + account(shop.load(DAY))[1] == 6
    shop.land(DAY, "both.csv", csv_of((*SALE, "9"), header="shop,id,item,price,sold_at,Sale"))
    assert "both mean sale_id" in shop.load(DAY).problems[0]


def test_a_replay_takes_no_digit_of_a_parquet_decimal_for_noise_and_finds_nul_bytes_again(shop):
    rows = {
        "shop": ["north"] * 2, "id": ["1", "2"], "item": ["chair", "de\0sk"], "sold_at": ["2026-10-29"] * 2,
        "price": pa.array([Decimal("19.990000000000002"), Decimal(3)], pa.decimal128(17, 15)),
    }  # fmt: skip
    content = io.BytesIO()
    pq.write_table(pa.table(rows), content)
    shop.land(DAY, "a.parquet", content.getvalue())
    assert account(shop.load(DAY)) == (2, 0, 0, 2)
    told = [(row.column, row.reason) for row in list_quarantine(shop.database)]
    assert told == [("price", "too_many_decimals"), ("item", "nul_byte")]
    result = replay(shop.loader())
    assert (result.loaded, result.remaining) == (0, 2)
    assert told == [(row.column, row.reason) for row in list_quarantine(shop.database)]

"""Feeds that look like none of the bundled ones: nothing of them is altered, lost or doubled in silence."""

import io
import json
import os
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from assets.checks import landing_gaps
from pipelines.aggregation import AggregateJob, aggregate_days
from pipelines.catalog.check import check_against_database
from pipelines.catalog.feed_keys import FeedKeyChangedError
from pipelines.ingestion import DayLoad, reconcile
from pipelines.ingestion.quarantine import list_quarantine, replay
from pipelines.migration import migrate
from resources.errors import DatabaseLimitError, UserError
from tests.comics_market import day
from tests.conftest import with_database
from tests.shop import SHOP_YAML, Shop, csv_of, make_shop, open_shop

DAY, NEXT = "2026-10-30", "2026-10-31"
# names that staging, the registry and SQL itself have too
NAMESAKES = (
    "ordinal",
    "revision",
    "last_ordinal",
    "event_on",
    "is_tombstone",
    "is_repeated",
    "select",
    "order",
    "fields",
)
FORMATS = 'formats: {sold_at: "%d.%m.%Y %H:%M"}'
STRANGE = SHOP_YAML.replace(
    "    starts_on", f'    deletions: {{column: gone, one_of: ["true", 1]}}\n    {FORMATS}\n    starts_on'
).replace("      extra: jsonb\n", '      extra: jsonb\n      tags: "text[]"\n@')
STRANGE = STRANGE.replace("@", "".join(f"      {name}: text\n" for name in NAMESAKES))
HEADER = "shop,id,item,price,sold_at"
SOLD = "29.10.2026 12:00"


@pytest.fixture
def shop(database_url: str, object_store_url: str, tmp_path: Path) -> Iterator[Shop]:
    opened = open_shop(database_url, object_store_url, tmp_path, STRANGE)
    yield opened
    opened.close()


def account(load: DayLoad) -> tuple[int, int, int, int]:
    return (load.landed_rows, load.loaded_rows, load.duplicate_rows, load.quarantined_rows)


def sale(number: int, **values: object) -> dict[str, object]:
    return {"shop": "north", "id": str(number), "item": "chair", "price": 10, "sold_at": SOLD, **values}


def ndjson(*records: dict[str, object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def sound(shop: Shop) -> None:
    """No row is lost or doubled, and running again changes nothing."""
    before = shop.current()
    for landed in (DAY, NEXT):
        assert reconcile(shop.database, shop.feed, day(landed)).problems == ()
        shop.load(landed)
    assert shop.current() == before


def test_columns_may_have_the_names_that_staging_has_itself(shop):
    first = sale(1) | dict.fromkeys(NAMESAKES, "a")
    shop.land(DAY, "a.jsonl", ndjson(first, first | {"price": 11}))
    shop.land(NEXT, "b.jsonl", ndjson(first | {"ordinal": "b"}))
    assert (account(shop.load(DAY)), account(shop.load(NEXT))) == ((2, 2, 0, 0), (1, 1, 0, 0))
    kept = shop.rows(
        'SELECT price, ordinal, revision, "select", "order" FROM shop.sales ORDER BY landing_day, line'
    )
    assert kept == [(Decimal("10.00"), *"aaaa"), (Decimal("11.00"), *"aaaa"), (Decimal("10.00"), *"baaa")]
    assert [row[:3] for row in shop.current()] == [("north", "1", "10.00")]
    sound(shop)


def test_json_names_are_found_whatever_their_case_as_those_of_a_header_are(shop):
    strange = {"Shop": "north", "ID": "1", "Item": "chair", "PRICE": 9, "sold at": SOLD}
    shop.land(
        DAY, "a.jsonl", ndjson(strange, {"nothing": 1}, sale(2, Price=7), sale(3) | {"Item ": 1, " ITEM": 2})
    )
    load = shop.load(DAY)
    assert account(load) == (4, 3, 0, 1) and load.files[0].unknown_columns == (
        " ITEM",
        "Item ",
        "Price",
        "nothing",
    )
    assert [row[1:3] for row in shop.current()] == [("1", "9.00"), ("2", "10.00"), ("3", "10.00")]
    (entry,) = list_quarantine(shop.database)
    assert (entry.reason, entry.line) == ("malformed", 2) and "its names are nothing" in entry.detail
    sound(shop)


def test_a_mark_of_deletion_is_the_same_as_a_number_of_any_form(shop):
    shop.land(DAY, "a.jsonl", ndjson(*(sale(number) for number in range(5))))
    gone = (("north", str(number), "", "", "", mark) for number, mark in enumerate(("1.0", "True", "1")))
    shop.land(NEXT, "b.csv", csv_of(*gone, header=f"{HEADER},gone"))
    shop.load(DAY)
    assert account(shop.load(NEXT)) == (3, 3, 0, 0)
    assert [row[1] for row in shop.current()] == ["3", "4"]
    sound(shop)


def test_a_file_of_which_no_column_is_known_loads_no_empty_rows(database_url, object_store_url, tmp_path):
    text = (
        "system: shop\nfeeds: {sales: {table: sales, starts_on: 2026-01-01}}\n"
        "tables: {sales: {columns: {a: text}}}\n"
    )
    shop = open_shop(database_url, object_store_url, tmp_path, text)
    shop.land(DAY, "a.csv", "1,2\n3,4\n")
    load = shop.load(DAY)
    assert (load.outcome, account(load)) == ("incomplete", (0, 0, 0, 0)) and "it has 1, 2" in load.problems[0]
    shop.land(DAY, "a.csv", "a,b\n3,4\n")
    assert account(shop.load(DAY)) == (1, 1, 0, 0) and shop.rows("SELECT a FROM shop.sales") == [("3",)]
    shop.close()


def test_refused_rows_with_lists_and_formats_are_replayed_as_they_were(shop):
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales ADD CONSTRAINT none CHECK (item <> 'chair')")
    tags = ['a"b', None, "back\\slash", "", "NULL", "x,y"]
    shop.land(DAY, "a.jsonl", ndjson(sale(1, tags=tags), sale(2, item="desk")))
    assert account(shop.load(DAY)) == (2, 1, 0, 1)
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales DROP CONSTRAINT none")
    result = replay(shop.loader())
    assert (result.loaded, result.remaining) == (1, 0)
    assert shop.rows("SELECT tags, sold_at::text FROM shop.sales WHERE sale_id = '1'") == [
        (tags, "2026-10-29 12:00:00+00")
    ]
    sound(shop)


def test_a_feed_without_a_header_and_with_its_own_numbers_and_nulls_loses_nothing(
    database_url: str, object_store_url: str, tmp_path: Path
) -> None:
    written = (
        "    header: [shop, id, unread, item, price, sold_at]\n    null_values: [NA, '\\N']\n    decimal: ','\n"
        "    thousands: .\n    formats: {sold_at: epoch_microseconds}\n    starts_on"
    )
    shop = open_shop(database_url, object_store_url, tmp_path, SHOP_YAML.replace("    starts_on", written))
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales ADD CONSTRAINT none CHECK (item <> 'lamp')")
    at = 1793188800000000
    rows = [
        f"n;1;x;chair;1.234,50;{at}",
        f"n;2;;NA;0,5;{at}",  # no item
        f"n;3;;lamp;7.000;{at}",  # the table refuses it
        f"n;4;;desk;12.50;{at}",  # not the feed's notation
        f"n;5;;desk;NA;{at}",  # a price is required
        "shop;id;unread;item;price;sold_at",  # as where files with a header were joined
        f"n;6;;\\N;9;{at}",
    ]
    shop.land(DAY, "a.csv", "\n".join(rows))
    load = shop.load(DAY)
    assert account(load) == (7, 3, 0, 4)
    open_entries = [(entry.line, entry.column, entry.reason) for entry in list_quarantine(shop.database)]
    assert sorted(open_entries) == [
        (3, "item", "refused_by_table"),
        (4, "price", "not_a_number"),
        (5, "price", "missing_value"),
        (6, None, "repeated_header"),
    ]
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales DROP CONSTRAINT none")
    result = replay(shop.loader())
    assert (result.loaded, result.remaining) == (1, 3)
    assert shop.rows("SELECT sale_id, item, price, sold_at::text FROM shop.sales ORDER BY sale_id") == [
        ("1", "chair", Decimal("1234.50"), "2026-10-28 12:00:00+00"),
        ("2", None, Decimal("0.50"), "2026-10-28 12:00:00+00"),
        ("3", "lamp", Decimal("7000.00"), "2026-10-28 12:00:00+00"),
        ("6", None, Decimal("9.00"), "2026-10-28 12:00:00+00"),
    ]
    # the same records from another sender, who writes a header and JSON: known, whatever their notation
    shop.land(
        DAY, "b.jsonl", ndjson({"shop": "n", "id": "1", "item": "chair", "price": 1234.5, "sold_at": at})
    )
    shop.land(DAY, "c.csv", f"shop;id;unread;item;price;sold_at\nn;6;;NA;9,00;{at}\n")
    load = shop.load(DAY)
    assert account(load) == (9, 4, 2, 3)
    sound(shop)
    shop.close()


def test_a_row_of_parquet_keeps_its_numbers_through_quarantine_and_one_odd_value_costs_one_row(shop):
    extra = pa.array([{"exact": Decimal("1.10")}] * 3, pa.struct([("exact", pa.decimal128(5, 2))]))
    past = pa.array(
        [0, 253402300800000000, None], pa.timestamp("us", "UTC")
    )  # the year 10000, in a column of no use
    noon = pa.array([1793275200000000, 1793275200000000, 253402300800000000], pa.timestamp("us", "UTC"))
    prices = [Decimal("-1.00"), Decimal("2.00"), Decimal("3.00")]
    columns = {"shop": ["north"] * 3, "id": ["1", "2", "3"], "price": prices, "sold_at": noon}
    table = pa.table({**columns, "extra": extra, "unused": past})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    shop.land(DAY, "a.parquet", buffer.getvalue())
    assert account(shop.load(DAY)) == (3, 1, 0, 2)
    assert [(entry.line, entry.reason) for entry in list_quarantine(shop.database)] == [
        (1, "breaks_rule"),
        (3, "not_a_time"),
    ]
    shop.reload(STRANGE.replace(FORMATS, "time_zone: UTC").replace("greater_than: 0", "at_least: -1"))
    assert replay(shop.loader()).loaded == 1
    assert shop.rows("SELECT DISTINCT extra::text FROM shop.sales") == [('{"exact": 1.10}',)]


@pytest.mark.parametrize("bulk_bytes", [1, 1 << 30])
def test_a_text_that_no_index_can_hold_costs_its_row_and_tells_an_aggregate_what_to_do(shop, bulk_bytes):
    with shop.owner.connection() as connection:
        connection.execute("CREATE INDEX ON shop.sales (item)")
    endless = random.Random(1).randbytes(20_000).hex()
    shop.land(DAY, "a.jsonl", ndjson(sale(1), sale(2, item=endless), sale(3)))
    assert account(shop.load(DAY, bulk_bytes=bulk_bytes)) == (3, 2, 0, 1)
    (entry,) = list_quarantine(shop.database)
    assert (entry.reason, entry.line) == ("refused_by_table", 2) and "index row" in entry.detail
    sound(shop)
    with shop.owner.connection() as connection:
        connection.execute("DROP INDEX shop.sales_item_idx")
    assert replay(shop.loader()).loaded == 1
    by_item = shop.system.aggregates["sales_by_day"].model_copy(update={"by": ("item",)})
    with shop.owner.connection() as connection:
        connection.execute("DROP TABLE shop.sales_by_day")
    shop.reload(STRANGE.replace("by: [shop, sold_on]", "by: [item]"))
    with pytest.raises(DatabaseLimitError, match="put `max_length` under `rules`"):
        aggregate_days(AggregateJob(shop.database, shop.system, by_item), [day(DAY)])


def test_a_renamed_table_that_would_lack_the_records_is_refused_and_one_renamed_by_migration_is_not(shop):
    shop.land(DAY, "a.jsonl", ndjson(sale(1)))
    shop.load(DAY)
    renamed = STRANGE.replace("table: sales", "table: sold").replace(
        "\n  sales:\n    columns:\n      shop", "\n  sold:\n    columns:\n      shop"
    )
    renamed = renamed.replace("from: sales", "from: sold")
    shop.reload(renamed)
    with pytest.raises(
        FeedKeyChangedError, match=r"its records are in the table 'sales'.*rename it by a migration"
    ):
        shop.load(DAY)
    with shop.database.connection() as connection:
        assert [problem.path for problem in check_against_database(connection, shop.catalog)] == [
            "feeds.sales.table"
        ]
    with shop.owner.connection() as connection:
        connection.execute("DROP TABLE shop.sold")
        connection.execute("ALTER TABLE shop.sales RENAME TO sold")
    shop.land(NEXT, "b.jsonl", ndjson(sale(1), sale(2)))
    assert account(shop.load(NEXT)) == (2, 1, 1, 0)
    assert shop.rows("SELECT count(*) FROM shop.sold") == [(2,)]


def test_what_is_no_file_in_a_landing_zone_is_told_and_the_rest_loads(shop, object_store_url):
    folder = Path(urlsplit(object_store_url).path) / shop.feed.prefix / DAY
    shop.land(DAY, "a.jsonl", ndjson(sale(1)))
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "gone.csv").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.csv")
    (folder.parent / "stray.csv").write_text("in no day")
    load = shop.load(DAY)
    assert (load.outcome, account(load)) == ("incomplete", (1, 1, 0, 0))
    assert [problem.split(" was not read: ")[0] for problem in load.problems] == [
        "'gone.csv'",
        "'loop.csv'",
        "'pipe.csv'",
    ]
    gaps = landing_gaps(shop.database, shop.store, shop.system, "sales", day(NEXT))
    assert any("stray.csv is never read: it lies in no landing day" in gap for gap in gaps)
    for name in ("loop.csv", "gone.csv", "pipe.csv"):
        (folder / name).unlink()
    assert shop.load(DAY).outcome == "complete"
    sound(shop)


HOSTILE = {
    "client_encoding": "LATIN1", "standard_conforming_strings": "off", "default_transaction_isolation": "serializable",
    "array_nulls": "off", "bytea_output": "escape", "extra_float_digits": "-10", "quote_all_identifiers": "on",
    "DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu", "search_path": "nowhere",
    "transform_null_equals": "on",
}  # fmt: skip


@pytest.fixture
def under_hostile_settings(
    shop: Shop, database_url: str, postgres_admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """Puts every setting of HOSTILE on the database, and the same encoding into the environment."""
    database = sql.Identifier(urlsplit(database_url).path[1:])

    def apply() -> None:
        for name, value in HOSTILE.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            postgres_admin.execute(
                statement.format(database, sql.Identifier(name.lower()), sql.Literal(value))
            )
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        shop.database.close()
        shop.owner.close()

    yield apply
    postgres_admin.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(database))


def test_settings_of_a_database_and_an_encoding_of_the_shell_change_no_value(shop, under_hostile_settings):
    odd = sale(1, item="Käse € 'q' \\n", tags=["a", None, "NULL", "\\"], extra={"note": "é\\", "n": 0.1})
    shop.land(DAY, "a.jsonl", ndjson(odd, sale(2)))
    shop.load(DAY)
    query = "SELECT item, tags, extra::text, sold_at FROM shop.sales WHERE sale_id IN ('1', '3')"
    before = shop.rows(query)
    under_hostile_settings()
    shop.land(NEXT, "b.jsonl", ndjson(odd | {"id": "3"}, sale(2), sale(2, price=11)))
    assert account(shop.load(NEXT)) == (3, 2, 1, 0)
    assert shop.rows(query) == before * 2 and before[0][0] == "Käse € 'q' \\n"
    sound(shop)


def test_a_database_that_takes_no_writes_is_told_and_running_again_completes(
    shop, database_url, postgres_admin
):
    database = sql.Identifier(urlsplit(database_url).path[1:])
    shop.land(DAY, "a.jsonl", ndjson(sale(1)))
    for setting in ("on", "off"):
        statement = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        postgres_admin.execute(statement.format(database, sql.SQL(setting)))
        shop.database.close()
        shop.owner.close()
        if setting == "on":
            with pytest.raises(DatabaseLimitError, match="if it is a replica, name the primary"):
                shop.load(DAY)
    assert account(shop.load(DAY)) == (1, 1, 0, 0)
    sound(shop)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_refused_before_anything_is_made(
    postgres_admin, postgres_admin_url, tmp_path, encoding
):
    name = sql.Identifier(f"encoded_{encoding.lower()}")
    statement = sql.SQL("CREATE DATABASE {} ENCODING {} LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    postgres_admin.execute(statement.format(name, sql.Literal(encoding)))
    try:
        with pytest.raises(UserError, match=f"is encoded in {encoding}, Longbox needs UTF8"):
            migrate(with_database(postgres_admin_url, f"encoded_{encoding.lower()}"), [make_shop(tmp_path)])
    finally:
        postgres_admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

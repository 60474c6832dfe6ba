"""Tables that a system.yaml declares: made, widened by added columns, never changed so that rows could be lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipelines.catalog.check import check_against_database
from pipelines.catalog.ddl import (
    LINEAGE_COLUMNS,
    TableBusyError,
    apply_declared_tables,
    create_table_statements,
    declared_sql,
)
from pipelines.catalog.errors import CatalogError
from pipelines.catalog.loader import load_catalog
from pipelines.catalog.model import Catalog
from pipelines.catalog.shape import TableMissingError, table_shape, table_shapes
from resources.database import Connection
from resources.errors import UserError

KIOSK = """\
system: kiosk
feeds:
  sales: {table: sales, key: [order_no], starts_on: 2024-01-01}
tables:
  sales:
    description: One sale.
    columns:
      order_no: bigint
      brand: varchar(20)
      price: {type: "numeric(10,2)", description: In euros}
      weight: real
      shelf: text
      sold_at: timestamptz
      sold_on: date
    time: sold_on
    partition: month
    lifecycle: {hot: 24 months, archive: true, keep: 7 years}
  notes:
    columns: {note_id: uuid, body: {type: text, default: "it's {new}"}, is_open: {type: boolean, default: true}}
    primary_key: [note_id]
aggregates:
  by_day:
    description: Sales a day.
    from: sales
    by: [brand, sold_on, {hour: hour(sold_at)}, {month: month(sold_at)}]
    measures:
      sales: count
      brands: count_distinct(brand)
      volume: sum(price)
      mid: median(price)
      heaviest: max(weight)
      mean_weight: mean(weight)
      last_sold_at: max(sold_at)
"""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url) as opened:
        yield opened


def read(folder: Path, *changes: tuple[str, str]) -> Catalog:
    """The kiosk's catalogue with texts of its YAML replaced."""
    text = KIOSK
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "system.yaml").write_text(text)
    return load_catalog([folder])


def types(connection: Connection, table: str) -> dict[str, str]:
    return {column.name: column.type_name for column in table_shape(connection, "kiosk", table).columns}


def refusal(connection: Connection, catalog: Catalog) -> str:
    """Why the declarations are refused; nothing may have changed then."""
    before = table_shapes(connection, "kiosk")
    with pytest.raises(CatalogError) as refused:
        apply_declared_tables(connection, catalog)
    assert table_shapes(connection, "kiosk") == before
    return str(refused.value)


def test_declared_tables_are_made_once(connection: Connection, tmp_path: Path) -> None:
    catalog = read(tmp_path)
    done = apply_declared_tables(connection, catalog)
    assert done[-3:] == [
        "created table kiosk.notes",
        "created table kiosk.sales",
        "created aggregate kiosk.by_day",
    ]
    connection.commit()
    assert apply_declared_tables(connection, catalog) == []
    assert check_against_database(connection, catalog) == []


def test_a_feeds_table_keeps_every_version_with_its_lineage(connection: Connection, tmp_path: Path) -> None:
    apply_declared_tables(connection, read(tmp_path))
    shape = table_shape(connection, "kiosk", "sales")
    assert shape.column_names == (
        "raw_id",
        *("order_no", "brand", "price", "weight", "shelf", "sold_at", "sold_on"),
        *(column.name for column in LINEAGE_COLUMNS),
    )
    assert shape.primary_key == ("raw_id", "sold_on")
    assert (shape.kind, shape.partition_by, shape.partition_strategy) == (
        "partitioned table",
        ("sold_on",),
        "range",
    )
    assert shape.description == "One sale."
    assert shape.column("price").description == "In euros"
    assert not shape.column("sold_on").is_nullable
    assert shape.column("order_no").is_nullable
    indexed = connection.execute(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'kiosk.sales'::regclass AND NOT indisprimary"
    ).fetchall()
    assert sorted(str(row[0]).partition(" USING ")[2] for row in indexed) == [
        "btree (key_hash)", "btree (load_id)", "btree (sold_on)"
    ]  # fmt: skip


def test_an_aggregate_is_typed_by_its_source_and_has_one_row_a_group(
    connection: Connection, tmp_path: Path
) -> None:
    apply_declared_tables(connection, read(tmp_path))
    assert types(connection, "by_day") == {
        "brand": "character varying(20)",
        "sold_on": "date",
        "hour": "timestamp with time zone",
        "month": "date",
        "sales": "bigint",
        "brands": "bigint",
        "volume": "numeric",
        "mid": "numeric",
        "heaviest": "real",
        "mean_weight": "double precision",
        "last_sold_at": "timestamp with time zone",
        "computed_at": "timestamp with time zone",
    }
    insert = "INSERT INTO kiosk.by_day (brand, sold_on, sales, brands) VALUES (NULL, '2024-01-01', 1, 1)"
    connection.execute(insert)
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(insert)


def test_defaults_are_values_not_expressions(connection: Connection, tmp_path: Path) -> None:
    apply_declared_tables(connection, read(tmp_path))
    row = connection.execute(
        "INSERT INTO kiosk.notes (note_id) VALUES (gen_random_uuid()) RETURNING body, is_open"
    ).fetchone()
    assert row == ("it's {new}", True)


def test_a_column_added_to_the_yaml_is_added_to_the_table(connection: Connection, tmp_path: Path) -> None:
    apply_declared_tables(connection, read(tmp_path))
    connection.execute("INSERT INTO kiosk.notes (note_id) VALUES (gen_random_uuid())")
    wider = read(
        tmp_path,
        ("order_no: bigint\n", "order_no: bigint\n      size: integer\n"),
        ("note_id: uuid,", "note_id: uuid, rank: {type: integer, not_null: true, default: 3},"),
        ("sales: count\n", "sales: count\n      cheapest: min(price)\n"),
    )
    planned = declared_sql(connection, wider)
    assert [
        sum(f'ADD COLUMN "{name}"' in text for text in planned) for name in ("rank", "size", "cheapest")
    ] == [1, 1, 1]
    assert apply_declared_tables(connection, wider) == [
        "added column kiosk.notes.rank (integer)",
        "added column kiosk.sales.size (integer)",
        "added column kiosk.by_day.cheapest (numeric(10,2))",
        "kiosk.by_day: materialise its days again to fill cheapest",
    ]
    assert apply_declared_tables(connection, wider) == declared_sql(connection, wider) == []
    assert connection.execute("SELECT rank FROM kiosk.notes").fetchone() == (3,)


def test_defaults_and_descriptions_follow_the_yaml(connection: Connection, tmp_path: Path) -> None:
    apply_declared_tables(connection, read(tmp_path))
    changed = read(
        tmp_path, ("default: true", "default: false"), ("In euros", "In crowns"), ("One sale.", "A sale.")
    )
    assert apply_declared_tables(connection, changed) == [
        "set the default of kiosk.notes.is_open for new rows",
        "updated the descriptions of kiosk.sales",
    ]
    assert apply_declared_tables(connection, changed) == []
    without = read(tmp_path, (", default: true", ""))
    assert "dropped the default of kiosk.notes.is_open" in apply_declared_tables(connection, without)


REFUSED = [
    (
        "numeric(10,2)",
        "numeric(12,2)",
        "tables.sales.columns.price",
        "the type is numeric(10,2) in the database and numeric(12,2) here",
    ),
    (
        "      shelf: text\n",
        "",
        "tables.sales.columns",
        "the column 'shelf' is in the database but no longer declared",
    ),
    (
        "order_no: bigint\n",
        "order_no: {type: bigint, not_null: true}\n",
        "tables.sales.columns.order_no",
        "the column may be null in the database and must not be null here",
    ),
    (
        "order_no: bigint\n",
        "order_no: bigint\n      size: {type: integer, not_null: true}\n",
        "tables.sales.columns.size",
        "rows that are there would have no value in the added column",
    ),
    (
        "order_no: bigint\n",
        "order_no: bigint\n      size: {type: integer, default: big}\n",
        "tables.sales.columns.size",
        'PostgreSQL refuses it: invalid input syntax for type integer: "big"',
    ),
    (
        "    partition: month\n    lifecycle: {hot: 24 months, archive: true, keep: 7 years}\n",
        "",
        "tables.sales.partition",
        "the table is partitioned by sold_on in the database and not partitioned here",
    ),
    (
        "    time: sold_on\n",
        "    time: sold_at\n",
        "tables.sales.partition",
        "the table is partitioned by sold_on in the database and partitioned by sold_at here",
    ),
    (
        "    primary_key: [note_id]\n",
        "",
        "tables.notes.primary_key",
        "the primary key is note_id in the database and none here",
    ),
    (
        "sum(price)",
        "sum(weight)",
        "aggregates.by_day.measures.volume",
        "the type is numeric in the database and double precision here",
    ),
    (
        "by: [brand, sold_on,",
        "by: [brand,",
        "aggregates.by_day.measures",
        "the column 'sold_on' is in the database but no longer declared",
    ),
]


def test_what_could_lose_or_rewrite_rows_is_refused(connection: Connection, tmp_path: Path) -> None:
    apply_declared_tables(connection, read(tmp_path))
    for old, new, path, message in REFUSED:
        text = refusal(connection, read(tmp_path, (old, new)))
        assert f"{tmp_path / 'system.yaml'}:" in text
        assert f": {path}: {message}; " in text, text


def test_a_table_that_gets_a_feed_later_is_refused(connection: Connection, tmp_path: Path) -> None:
    feed = "  sales: {table: sales, key: [order_no], starts_on: 2024-01-01}\n"
    apply_declared_tables(
        connection, read(tmp_path, (f"feeds:\n{feed}", ""), ("max(sold_at)", "max(sold_on)"))
    )
    text = refusal(connection, read(tmp_path, ("max(sold_at)", "max(sold_on)")))
    assert "a feed loads 'sales' now, but the table was made without the column 'load_id'" in text


def test_migrated_and_adopted_tables_are_left_alone(connection: Connection, tmp_path: Path) -> None:
    connection.execute("CREATE SCHEMA kiosk; CREATE TABLE kiosk.old (n int)")
    catalog = read(tmp_path, ("tables:\n", "tables:\n  old: {adopt: true}\n"))
    apply_declared_tables(connection, catalog)
    assert types(connection, "old") == {"n": "integer"}


def test_an_aggregate_of_a_table_that_is_not_there_is_refused(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "system.yaml").write_text(
        "system: kiosk\ntables: {old: {adopt: true}}\naggregates: {a: {from: old, by: [n], measures: {c: count}}}\n"
    )
    assert "the table 'old' it is computed from is not in the database" in refusal(
        connection, load_catalog([tmp_path])
    )


def test_a_table_in_use_is_a_retryable_error(
    connection: Connection, database_url: str, tmp_path: Path
) -> None:
    apply_declared_tables(connection, read(tmp_path))
    connection.commit()
    wider = read(tmp_path, ("note_id: uuid,", "note_id: uuid, rank: integer,"))
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM kiosk.notes")
        with pytest.raises(TableBusyError, match=r"tables\.notes\.columns\.rank: the table is in use"):
            apply_declared_tables(connection, wider)
    assert apply_declared_tables(connection, wider) == ["added column kiosk.notes.rank (integer)"]


def test_two_at_once_make_the_tables_once(database_url: str, tmp_path: Path) -> None:
    catalog = read(tmp_path)
    with psycopg.connect(database_url) as first, psycopg.connect(database_url) as second:
        first.execute("SELECT pg_advisory_xact_lock(1)")
        apply_declared_tables(first, catalog)
        outcome: list[object] = []

        def apply() -> None:
            second.execute("SELECT pg_advisory_xact_lock(1)")
            outcome.extend(apply_declared_tables(second, catalog))
            second.commit()
            outcome.append("done")

        thread = threading.Thread(target=apply)
        thread.start()
        first.commit()
        thread.join(timeout=30)
    assert outcome == ["done"]


def test_statements_can_be_shown_without_a_database(tmp_path: Path) -> None:
    system = read(tmp_path).systems["kiosk"]
    statements = create_table_statements(system, system.tables["notes"])
    assert len(statements) == 1


def test_a_missing_table_or_column_names_the_nearest(connection: Connection, tmp_path: Path) -> None:
    apply_declared_tables(connection, read(tmp_path))
    with pytest.raises(TableMissingError, match="did you mean 'sales'"):
        table_shape(connection, "kiosk", "sale")
    with pytest.raises(UserError, match="did you mean 'brand'"):
        table_shape(connection, "kiosk", "sales").column("brnd")

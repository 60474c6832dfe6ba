"""The catalogue held against real tables: their shape is read rightly, and what they do not bear out is told."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipelines.catalog.check import check_against_database
from pipelines.catalog.loader import load_catalog
from pipelines.catalog.shape import table_shape
from resources.database import Connection


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url) as opened:
        yield opened


def test_the_check_finds_what_the_database_does_not_bear_out(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "system.yaml").write_text("""\
system: kiosk
feeds:
  a: {table: sales, key: [nr], columns: {X: twice, Y: spot}, rules: {item: {at_least: 1}}, starts_on: 2024-01-01}
  b: {table: latest, starts_on: 2024-01-01}
tables:
  sales: {time: item, partition: month}
  latest: {subject: who}
  split: {}
  lost: {}
  strange: {adopt: true}
aggregates:
  sums: {from: sales, by: [kind], measures: {m: median(item)}}
""")
    connection.execute("""
        CREATE SCHEMA kiosk;
        CREATE TABLE kiosk.sales (n int, item text, spot point, twice int GENERATED ALWAYS AS (n * 2) STORED);
        CREATE VIEW kiosk.latest AS SELECT 1 AS n;
        CREATE TABLE kiosk.split (day date) PARTITION BY RANGE (day);
        CREATE TABLE kiosk.stranger (n int)
    """)
    found = [
        str(problem).partition("system.yaml:")[2]
        for problem in check_against_database(connection, load_catalog([tmp_path]))
    ]
    expected = [
        "6: tables.sales.time: column 'item' is text; the time of a row is a date or a timestamptz",
        "6: tables.sales.partition: the table is not partitioned in the database; ",
        "7: tables.latest.subject: table 'latest' has no column 'who'; ",
        "8: tables.split: the table is partitioned by day; declare `time: day` and `partition:`",
        "9: tables.lost: the table kiosk.lost is not in the database; run `longbox migrate`",
        "10: tables.strange: the table kiosk.strange is not in the database; adopt an existing one: ",
        "3: feeds.a.key[0]: table 'sales' has no column 'nr'",
        "3: feeds.a.rules.item.at_least: column 'item' is text, not a number",
        "3: feeds.a.table: table 'sales' lacks key_hash, content_hash, landing_day, load_id, line, loaded_at; ",
        "3: feeds.a.columns.X: column 'twice' is generated; take it out",
        "3: feeds.a.columns.Y: column 'spot' is point, which a feed cannot fill; the types are ",
        "4: feeds.b.table: 'latest' is a view; a feed loads into a table",
        "12: aggregates.sums.by[0]: table 'sales' has no column 'kind'",
        "12: aggregates.sums.measures.m: column 'item' is text, not a number",
        "12: aggregates.sums: the aggregate 'sums' has no table in the database; run `longbox migrate`",
    ]  # fmt: skip
    missing = [text for text in expected if not any(line.startswith(text) for line in found)]
    assert missing == [], "\n".join(found)


def test_the_shape_knows_enums_domains_and_generated_columns(connection: Connection) -> None:
    connection.execute("""
        CREATE SCHEMA kiosk; CREATE TYPE kiosk.mood AS ENUM ('b', 'a');
        CREATE DOMAIN kiosk.money AS numeric(12,2) NOT NULL;
        CREATE TABLE kiosk.t (m kiosk.mood, d kiosk.money, g text GENERATED ALWAYS AS ('x') STORED,
            u uuid DEFAULT gen_random_uuid())
    """)
    mood, money, generated, drawn = table_shape(connection, "kiosk", "t").columns
    assert (mood.enum_labels, mood.type_name) == (("b", "a"), "kiosk.mood")
    assert (money.type_name, money.base_type_name, money.is_nullable) == (
        "kiosk.money",
        "numeric(12,2)",
        False,
    )
    assert (generated.is_generated, generated.has_default) == (True, True)
    assert (drawn.has_default, drawn.is_generated, drawn.default) == (True, False, "gen_random_uuid()")

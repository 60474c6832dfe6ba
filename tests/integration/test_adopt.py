"""`longbox adopt`: an existing schema becomes a system.yaml that loads, and nothing in the database changes."""

from pathlib import Path

import psycopg
import pytest

from cli.main import main
from definitions import build_definitions
from pipelines.adoption.advice import advise
from pipelines.adoption.document import compose_document
from pipelines.adoption.survey import read_only, survey_schema
from pipelines.catalog.loader import load_catalog
from pipelines.migration import migrate
from resources.database import Database
from tests.integration.migration_support import execute, schema_dump

SHOP = """
CREATE SCHEMA shop;
CREATE TYPE shop.state AS ENUM ('new', 'paid');
CREATE TABLE shop.users (id bigint PRIMARY KEY, email text, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE shop.orders (
  id bigserial PRIMARY KEY, user_id bigint REFERENCES shop.users, state shop.state, spot point,
  updated_at timestamptz, created_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE shop.orders IS E'An order: "paid" or not\\nsecond line';
CREATE INDEX ON shop.orders (created_at);
CREATE TABLE shop.order_lines (order_id bigint REFERENCES shop.orders, line int, PRIMARY KEY (order_id, line));
CREATE TABLE shop."Weird name" (n int);
CREATE TABLE shop."no" ("on" date NOT NULL DEFAULT current_date);
CREATE TABLE shop.split (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE shop.split_1 PARTITION OF shop.split FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE shop.split_2 PARTITION OF shop.split FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE shop.listed (kind text NOT NULL) PARTITION BY LIST (kind);
CREATE VIEW shop.paid AS SELECT id FROM shop.orders WHERE state = 'paid';
INSERT INTO shop.users
  SELECT n, 'u' || n, '2020-01-01'::timestamptz + n * interval '1 day' FROM generate_series(1, 50) n;
INSERT INTO shop.orders (user_id, state, created_at)
  SELECT 1 + n % 50, 'paid', '2020-01-01'::timestamptz + n * interval '11 hours' FROM generate_series(1, 5000) n;
"""


@pytest.fixture
def shop_url(empty_database_url: str) -> str:
    execute(empty_database_url, SHOP)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("ANALYZE shop.orders")
    return empty_database_url


def written(url: str, **limits: int) -> str:
    with Database(url, role=None) as database, read_only(database) as connection:
        survey = survey_schema(connection, "shop")
    return compose_document(survey, [advise(table, **limits) for table in survey.tables])


def longbox(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main([*arguments])
    return int(exit.value.code or 0)


def test_the_written_system_loads_migrates_and_appears_as_assets_with_its_tables_left_alone(
    shop_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = schema_dump(shop_url)
    assert longbox("adopt", "shop", "--url", shop_url, "--out", str(tmp_path / "shop")) == 0
    assert schema_dump(shop_url) == before, "adopting changes nothing"
    system = load_catalog([tmp_path / "shop"]).systems["shop"]
    assert set(system.tables) == {"users", "orders", "order_lines", "no", "split"}
    assert all(table.adopt for table in system.tables.values())
    assert (system.tables["orders"].time, system.tables["no"].time) == ("created_at", "on")
    assert (system.tables["split"].time, system.tables["split"].partition) == ("at", "month")
    assert system.tables["orders"].description == 'An order: "paid" or not\nsecond line'

    monkeypatch.setenv("LONGBOX_POSTGRES_URL", shop_url)
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(tmp_path / "shop"))
    tables = (
        "SELECT oid, relname, relfilenode, relowner FROM pg_class WHERE relnamespace = 'shop'::regnamespace"
    )
    made = execute(shop_url, tables)
    assert longbox("migrate") == 0, capsys.readouterr()
    assert execute(shop_url, tables) == made, "migrate made, changed or dropped nothing in the adopted schema"
    keys = {key.to_user_string() for key in build_definitions().resolve_all_asset_keys()}
    assert {"shop/orders", "shop/users", "shop/split"} <= keys


def test_a_second_adoption_does_not_overwrite_the_first(
    shop_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "system.yaml").write_text("mine", encoding="utf-8")
    assert longbox("adopt", "shop", "--url", shop_url, "--out", str(tmp_path)) == 2
    assert "is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "system.yaml").read_text(encoding="utf-8") == "mine"


def test_large_tables_that_only_grow_are_advised_partitions_and_a_foreign_key_at_them_is_warned_about(
    shop_url: str,
) -> None:
    text = written(shop_url, large_rows=1000)
    orders = text[text.index("  orders:") : text.index("  split:")]
    assert "about 5000 rows over 6." in orders
    assert "years by created_at" in orders
    assert "time: created_at  # timestamp with time zone, named as the moment of an event, NOT NULL" in orders
    assert "follows the physical order of the rows (1.00)" in orders
    assert (
        "# time: updated_at  # timestamp with time zone, named as something that changes later, may be NULL"
        in orders
    )
    assert "# partition: year" in orders  # 5,000 rows in six years: a month would be tiny
    assert "# lifecycle: {hot: 24 months, archive: true}" in orders
    assert "# subject: user_id" in orders and "points at shop.users" in orders
    assert "foreign key order_lines_order_id_fkey of shop.order_lines points at it" in orders
    assert "no feed can fill them: spot (point)" in orders
    assert "#   Weird name: 'Weird name' is no table name" in text
    assert "#   listed: it is partitioned by list (kind)" in text
    assert "#   paid: a view" in text


def test_advice_becomes_a_valid_system_when_its_comment_signs_are_taken_away(
    shop_url: str, tmp_path: Path
) -> None:
    text = written(shop_url, large_rows=1000).replace("    # partition: year", "    partition: year")
    text = text.replace(
        "    # partitions_ahead: true\n    # lifecycle", "    partitions_ahead: true\n    # lifecycle"
    )
    text = text.replace("    # lifecycle", "    lifecycle").replace("    # subject", "    subject")
    (tmp_path / "system.yaml").write_text(text, encoding="utf-8")
    orders = load_catalog([tmp_path]).systems["shop"].tables["orders"]
    assert (orders.partition, orders.has_partitions_ahead, orders.subject) == ("year", True, "user_id")


def test_a_table_whose_rows_are_changed_all_the_time_is_not_advised_partitions(shop_url: str) -> None:
    with psycopg.connect(shop_url, autocommit=True) as connection:
        connection.execute("UPDATE shop.orders SET state = 'new'")
        connection.execute("SELECT pg_stat_force_next_flush()")
    assert "no partitions advised: large, but 5,000 rows were changed" in written(shop_url, large_rows=1000)


def test_postgresql_refuses_any_change_while_a_schema_is_read(shop_url: str) -> None:
    with Database(shop_url, role=None) as database, read_only(database) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE shop.trace (n int)")
        connection.rollback()


def test_schemas_that_cannot_be_systems_and_those_that_are_missing_are_told_apart(
    shop_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert longbox("adopt", "public", "--url", shop_url) == 2
    assert "'public' is reserved" in capsys.readouterr().err
    assert longbox("adopt", "shopp", "--url", shop_url) == 2
    assert "has no schema 'shopp'; did you mean 'shop'?" in capsys.readouterr().err
    assert longbox("adopt", "shop", "--url", "mysql://x/y") == 2


def test_partitions_of_an_adopted_table_are_made_ahead_only_when_it_says_so(
    shop_url: str, tmp_path: Path
) -> None:
    def partitions() -> int:
        return len(execute(shop_url, "SELECT 1 FROM pg_inherits WHERE inhparent = 'shop.split'::regclass"))

    text = "system: shop\ntables: {split: {adopt: true, time: at, partition: month}}\n"
    (tmp_path / "system.yaml").write_text(text, encoding="utf-8")
    migrate(shop_url, [tmp_path])
    assert partitions() == 2
    (tmp_path / "system.yaml").write_text(
        text.replace("month", "month, partitions_ahead: true"), encoding="utf-8"
    )
    execute(shop_url, "ALTER TABLE shop.split OWNER TO longbox_owner")
    migrate(shop_url, [tmp_path])
    assert partitions() > 4

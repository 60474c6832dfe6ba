"""The schema that the shipped revisions make: reversible step by step, complete, owned, granted, nothing beside."""

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipelines.catalog.loader import load_catalog
from pipelines.migration import migrate, migrate_down
from pipelines.migration.revisions import read_system
from tests.integration.migration_support import ASSETS, execute, new_database, schema_dump, value

FOLDERS = [ASSETS / "reference", ASSETS / "comics"]
NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
VIEWS = {"market_prices", "collection_values", "trending_comics", "market_insights"}
OURS = "ARRAY['longbox', 'reference', 'comics']::regnamespace[]"
ROW = (
    "INSERT INTO comics.pricing_data_raw (sold_at, sale_date, landing_day, load_id, line, key_hash, content_hash,"
    " price, source_marketplace, source_record_id, title, currency)"
    " VALUES (timestamptz '2026-11-20 10:00+00', '2026-11-20',"
    " '2026-11-21', 1, 1, gen_random_uuid(), gen_random_uuid(), 9.99, 'bay', '1', 'X #1', 'USD')"
)


@pytest.fixture(scope="module")
def url(postgres_admin_url: str) -> Iterator[str]:
    with new_database(postgres_admin_url) as url:
        migrate(url, FOLDERS, clock=lambda: NOW)
        yield url


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_revision_goes_up_down_and_up_again_to_the_same_schema(
    postgres_admin_url: str, tmp_path: Path, folder: Path
) -> None:
    system = folder.name
    copy = tmp_path / system
    (copy / "migrations").mkdir(parents=True)
    (copy / "system.yaml").write_text(f"system: {system}\n")
    with new_database(postgres_admin_url) as url:
        migrate(url, [copy])
        below = schema_dump(url)
        for file in read_system(system, folder / "migrations"):
            shutil.copy(file.path, copy / "migrations")
            assert migrate(url, [copy]).applied == (file.revision,)
            above = schema_dump(url)
            assert above != below
            target = f"{system}@{file.number - 1:04d}"
            assert migrate_down(url, [copy], target, dry_run=False).undone == (file.revision,)
            assert schema_dump(url) == below, f"undoing {file.path.name} does not give back what was before"
            migrate(url, [copy])
            assert schema_dump(url) == above, f"{file.path.name} applied twice gives another schema"
            below = above


def test_the_whole_platform_goes_down_and_up_again(postgres_admin_url: str) -> None:
    with new_database(postgres_admin_url) as url:
        migrate(url, FOLDERS, clock=lambda: NOW)
        everything = schema_dump(url)
        migrate_down(url, FOLDERS, "longbox@base", dry_run=False)
        left = execute(
            url,
            f"SELECT relname FROM pg_class WHERE relnamespace = ANY ({OURS}) AND relkind IN ('r', 'p', 'm', 'S', 'v') "
            f"UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = ANY ({OURS}) ORDER BY 1",
        )
        assert left == [("alembic_version",), ("migrations",)]
        migrate(url, FOLDERS, clock=lambda: NOW)
        assert schema_dump(url) == everything


def test_evidence_in_the_ledger_is_not_dropped_by_a_migration(postgres_admin_url: str) -> None:
    with new_database(postgres_admin_url) as url:
        migrate(url, FOLDERS[:1])
        execute(
            url,
            "INSERT INTO longbox.ledger (act, relation, policy) VALUES ('drop', 'comics.x', 'keep 7 years')",
        )
        with pytest.raises(Exception, match="evidence of destructive acts"):
            migrate_down(url, FOLDERS[:1], "longbox@base", dry_run=False)
        assert value(url, "SELECT count(*) FROM longbox.ledger WHERE act = 'drop'") == 1


def test_tables_and_catalogue_name_the_same_tables(url: str) -> None:
    for name, system in load_catalog(FOLDERS).systems.items():
        found = execute(
            url,
            "SELECT relname, relkind::text, EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = c.oid) "
            "FROM pg_class AS c WHERE relnamespace = %s::text::regnamespace AND relkind IN ('r', 'p', 'm', 'v', 'f') "
            "AND NOT relispartition",
            name,
        )
        tables = {str(relation) for relation, kind, _ in found if kind in "rp"}
        assert tables == set(system.tables)
        assert {relation for relation, kind, _ in found if kind == "m"} == (
            VIEWS if name == "comics" else set()
        )
        for relation, _, is_partitioned in found:
            if relation in system.tables:
                table = system.tables[str(relation)]
                assert is_partitioned == (table.partition is not None), relation
                for column in filter(None, (table.time, table.subject)):
                    assert value(
                        url, "SELECT count(*) FROM information_schema.columns WHERE "
                        "(table_schema, table_name, column_name) = (%s, %s, %s)", name, relation, column,
                    ) == 1, f"{name}.{relation} has no column {column}"  # fmt: skip


def test_nothing_stands_beside_what_migrations_manage(url: str) -> None:
    strangers = execute(
        url,
        "SELECT 'relation', oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e') "
        "UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public$)' "
        f"AND oid <> ALL ({OURS}) "
        f"UNION ALL SELECT 'owner', oid::regclass::text FROM pg_class WHERE relnamespace = ANY ({OURS}) "
        "AND relowner <> 'longbox_owner'::regrole "
        f"UNION ALL SELECT 'owner', oid::regprocedure::text FROM pg_proc WHERE pronamespace = ANY ({OURS}) "
        "AND proowner <> 'longbox_owner'::regrole "
        "UNION ALL SELECT 'default partition', partrelid::regclass::text FROM pg_partitioned_table "
        "WHERE partdefid <> 0",
    )
    assert strangers == []


def test_comics_has_14_tables_25_foreign_keys_and_50_indexes(url: str) -> None:
    comics = "relnamespace = 'comics'::regnamespace AND NOT relispartition"
    assert value(url, f"SELECT count(*) FROM pg_class WHERE {comics} AND relkind IN ('r', 'p')") == 14
    constraints = dict(
        execute(
            url,
            "SELECT contype::text, count(*) FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid "
            f"WHERE {comics} AND conparentid = 0 GROUP BY contype",
        )
    )
    assert constraints["f"] >= 25  # type: ignore[operator]
    assert constraints["c"] >= 50  # type: ignore[operator]
    assert constraints["u"] >= 4  # type: ignore[operator]
    assert value(url, f"SELECT count(*) FROM pg_class WHERE {comics} AND relkind IN ('i', 'I')") >= 50  # type: ignore[operator]
    kinds = dict(
        execute(
            url,
            "SELECT kind, count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
            "JOIN pg_am ON pg_am.oid = relam "
            "CROSS JOIN LATERAL (VALUES ('partial', indpred IS NOT NULL), ('expression', indexprs IS NOT NULL), "
            "('composite', indnkeyatts > 1), ('gin', amname = 'gin'), ('brin', amname = 'brin')) AS kinds (kind, has) "
            f"WHERE {comics} AND has GROUP BY kind",
        )
    )
    assert set(kinds) == {"partial", "expression", "composite", "gin", "brin"}


def test_no_foreign_key_points_at_a_partitioned_table(url: str) -> None:
    assert (
        execute(url, "SELECT conname FROM pg_constraint JOIN pg_partitioned_table ON partrelid = confrelid")
        == []
    )


def test_every_foreign_key_has_an_index_that_finds_its_rows(url: str) -> None:
    without = execute(
        url,
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 "
        "AND conrelid::regclass::text LIKE 'comics.%' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = conrelid "
        "AND (string_to_array(indkey::text, ' ')::int2[])[1] = conkey[1])",
    )
    assert without == []


def test_no_two_indexes_are_the_same(url: str) -> None:
    twins = execute(
        url,
        "SELECT array_agg(indexrelid::regclass::text) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid "
        f"WHERE relnamespace = ANY ({OURS}) GROUP BY indrelid, indkey::text, indclass::text, indoption::text, "
        "coalesce(pg_get_expr(indexprs, indrelid), ''), coalesce(pg_get_expr(indpred, indrelid), '') "
        "HAVING count(*) > 1",
    )
    assert twins == []


def test_every_table_view_and_function_says_what_it_is(url: str) -> None:
    silent = execute(
        url,
        f"SELECT oid::regclass::text FROM pg_class WHERE relnamespace = ANY ({OURS}) AND relkind IN ('r', 'p', 'm') "
        "AND NOT relispartition AND relname <> 'alembic_version' AND obj_description(oid, 'pg_class') IS NULL "
        f"UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = ANY ({OURS}) "
        "AND obj_description(oid, 'pg_proc') IS NULL",
    )
    assert silent == []


def test_timestamps_are_kept_by_the_database(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET ROLE longbox_app")
        user = connection.execute(
            "INSERT INTO comics.users (email, display_name) VALUES ('A@b.c', 'A') "
            "RETURNING user_id, created_at, updated_at"
        ).fetchone()
        assert user is not None
        connection.commit()
        changed = connection.execute(
            "UPDATE comics.users SET display_name = 'B', created_at = 'epoch', updated_at = 'epoch' WHERE user_id = %s "
            "RETURNING created_at, updated_at",
            [user[0]],
        ).fetchone()
        assert changed is not None
        assert changed[0] == user[1]
        assert changed[1] > user[2]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO comics.users (email, display_name) VALUES ('a@B.c', 'again')")


def test_generated_columns_follow_their_sources(url: str) -> None:
    bands = "SELECT array_agg(comics.grade_band(g)) FROM unnest(%s::numeric[]) WITH ORDINALITY AS t (g, n)"
    grades = ["10", "9.8", "9.6", "9.0", "8.5", "7.5", "5.5", "3.5", "1.8", "0.3", None]
    assert value(url, bands, grades) == [
        "9.8-10", "9.8-10", "9.0-9.6", "9.0-9.6", "8.0-8.5", "6.0-7.5", "4.0-5.5", "2.0-3.5", "0.5-1.8", "0.5-1.8",
        "ungraded",
    ]  # fmt: skip
    generated = execute(
        url, "SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "WHERE attgenerated = 's' AND relnamespace = 'comics'::regnamespace ORDER BY 1, 2"
    )  # fmt: skip
    assert ("comics.comics", "title_search") in generated
    assert ("comics.marketplace_transactions", "total_price") in generated


def test_the_app_writes_rows_refreshes_views_and_uses_temporary_tables_but_changes_no_schema(
    url: str,
) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET ROLE longbox_app")
        connection.execute(ROW.encode())
        connection.execute("CREATE TEMPORARY TABLE staged (a int)")
        connection.execute("ANALYZE comics.comics")
        for view in ("market_prices", "collection_values", "trending_comics", "market_insights"):
            connection.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY comics.{view}".encode())
        connection.commit()
        for refused in (
            "CREATE TABLE comics.mine (a int)",
            "DROP TABLE comics.users",
            "TRUNCATE comics.pricing_data_raw",
            "ALTER TABLE comics.users ADD COLUMN a int",
            "DELETE FROM longbox.migrations",
            "UPDATE longbox.alembic_version SET version_num = 'x'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())
            connection.rollback()
        connection.execute("DELETE FROM comics.pricing_data_raw")
        connection.commit()


def test_the_ledger_takes_entries_and_gives_none_back(url: str) -> None:
    entry = "INSERT INTO longbox.ledger (act, relation, policy) VALUES ('drop', 'comics.x', 'keep 7 years')"
    execute(url, entry, role="longbox_app")
    for role in ("longbox_app", "longbox_reader"):
        for act in (
            "UPDATE longbox.ledger SET act = 'x'",
            "DELETE FROM longbox.ledger",
            "TRUNCATE longbox.ledger",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(url, act, role=role)
    for act in (
        "UPDATE longbox.ledger SET act = 'x'",
        "DELETE FROM longbox.ledger",
        "TRUNCATE longbox.ledger",
    ):
        for prelude in ("SELECT 1", "SET session_replication_role = replica"):
            with psycopg.connect(url) as connection:
                connection.execute(prelude.encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                    connection.execute(act.encode())
    assert value(url, "SELECT count(*) FROM longbox.ledger WHERE act = 'drop'") == 1


@pytest.mark.parametrize("role", ["longbox_reader", "longbox_backup"])
def test_readers_and_backups_read_everything_and_write_nothing(url: str, role: str) -> None:
    relations = execute(
        url,
        f"SELECT oid::regclass::text FROM pg_class WHERE relnamespace = ANY ({OURS}) AND relkind IN ('r', 'p', 'm')",
    )
    assert len(relations) > 30
    for (relation,) in relations:
        rights = execute(
            url,
            "SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p "
            "WHERE has_table_privilege(%s, %s::text::regclass, p)",
            role, relation,
        )  # fmt: skip
        assert rights == [("SELECT",)], relation


def test_a_row_without_its_partition_is_an_error_not_a_row_in_the_wrong_place(url: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        execute(url, ROW.replace("2026-11-20", "1999-01-01"))


def test_partitions_stand_ahead_of_time_after_a_migration(url: str) -> None:
    for table in ("pricing_data_raw", "pricing_data_normalized"):
        names = execute(
            url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::text::regclass ORDER BY 1",
            f"comics.{table}",
        )  # fmt: skip
        months = ("y2026m10", "y2026m11", "y2026m12", "y2027m01", "y2027m02")
        assert [name for (name,) in names] == [f"comics.{table}_{month}" for month in months]

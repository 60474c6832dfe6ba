"""The commands and the Python of the how-to pages work as they are written, in their order."""

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.local.binaries import find_postgres
from pipelines.catalog.loader import load_catalog
from pipelines.catalog.partitions import spans_around
from pipelines.migration import migrate
from resources.settings import PROJECT_ROOT
from tests.integration.migration_support import execute, value

HOW_TO = PROJECT_ROOT / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (HOW_TO / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def environ(database_url: str, redis_url: str, object_store_url: str, tmp_path: Path) -> dict[str, str]:
    """A shell in which `longbox` and `psql` are on the path and the settings lead to the test's own servers."""
    command = tmp_path / "bin" / "longbox"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH={PROJECT_ROOT} exec {sys.executable} -m cli.main "$@"\n', encoding="utf-8"
    )
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}:{find_postgres().folder}:{os.environ['PATH']}",
        "LONGBOX_HOME": str(tmp_path / "home"),
        "LONGBOX_POSTGRES_URL": database_url,
        "LONGBOX_DAGSTER_POSTGRES_URL": database_url,
        "LONGBOX_REDIS_URL": redis_url,
        "LONGBOX_OBJECT_STORE": object_store_url,
    }


def run(script: str, environ: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        env=environ, cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_adopting_an_existing_database_goes_as_its_page_says(
    environ: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    execute(
        database_url,
        """
        CREATE SCHEMA shop;
        CREATE TABLE shop.orders (
          id bigserial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), total numeric);
        INSERT INTO shop.orders (created_at, total)
          SELECT '2026-01-01'::timestamptz + n * interval '3 hours', n FROM generate_series(1, 2000) n;
    """,
    )
    told = run("\n".join(blocks("adopt-an-existing-database.md", "sh")), environ, tmp_path)
    assert "shop/orders: verified; nothing has changed for applications yet" in told
    assert "shop/orders: done, nothing is under way any more" in told
    assert execute(database_url, "SELECT count(*), sum(total)::int FROM shop.orders") == [(2000, 2001000)]
    assert (
        value(database_url, "SELECT relkind::text FROM pg_class WHERE oid = 'shop.orders'::regclass") == "p"
    )

    (declared,) = blocks("adopt-an-existing-database.md", "yaml")
    (tmp_path / "systems" / "shop" / "system.yaml").write_text(declared, encoding="utf-8")
    assert load_catalog([tmp_path / "systems" / "shop"]).systems.keys() == {
        yaml.safe_load(declared)["system"]
    }
    owner = value(
        database_url, "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'shop.orders'::regclass"
    )
    execute(database_url, f'ALTER SCHEMA shop OWNER TO "{owner}"; CREATE ROLE the_owner NOLOGIN')
    execute(
        database_url,
        "GRANT CREATE, USAGE ON SCHEMA shop TO the_owner; ALTER TABLE shop.orders OWNER TO the_owner",
    )
    today = datetime.datetime.now(datetime.UTC).date()
    coming = [f"shop.orders_{span.suffix}" for span in spans_around(today, "month", behind=0, ahead=2)[1:]]
    execute(database_url, f"GRANT the_owner TO longbox_owner; DROP TABLE {', '.join(coming)}")
    try:
        migrate(database_url, [tmp_path / "systems" / "shop"])
        for name in coming:
            assert value(database_url, f"SELECT to_regclass('{name}') IS NOT NULL"), name
    finally:
        execute(
            database_url,
            f'REASSIGN OWNED BY the_owner TO "{owner}"; DROP OWNED BY the_owner; DROP ROLE the_owner',
        )


def test_analysing_the_data_goes_as_its_page_says(
    environ: dict[str, str], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(
        database_url,
        """
        CREATE TABLE comics.prices_of_the_test PARTITION OF comics.pricing_data_normalized DEFAULT;
        INSERT INTO comics.pricing_data_normalized (sold_at, sale_date, rule_version, key_hash, content_hash, is_lot,
          lot_size, price, price_usd, currency, grade_band, source_marketplace, source_record_id)
        SELECT '2026-10-05', '2026-10-05', 1, gen_random_uuid(), gen_random_uuid(),
          true, 2, n, n, 'USD', 'ungraded', 'ebay', n
        FROM generate_series(1, 5) n;
    """,
    )
    try:
        told = run("\n".join(blocks("analyse-the-data.md", "sh")), environ, tmp_path)
        assert re.search(r"^ +5$", told, re.MULTILINE)
    finally:
        execute(database_url, "DROP ROLE IF EXISTS ana")
    for name, setting in environ.items():
        monkeypatch.setenv(name, setting)
    names: dict[str, object] = {}
    for block in blocks("analyse-the-data.md", "python"):
        exec(compile(block, "analyse-the-data.md", "exec"), names)  # noqa: S102 - the page itself
    assert str(names["by_day"]).split()[:3] == ["count", "min", "max"]
    assert len(names["sales"]) == 5  # type: ignore[arg-type]

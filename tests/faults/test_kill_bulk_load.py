"""kill -9 at every named step of a file that fills its own partitions: nothing of it stays, run again it loads."""

import datetime as dt
import itertools
import shutil
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pipelines.catalog.digest import digest_tables
from pipelines.ingestion import reconcile
from resources.database import OWNER_ROLE, Database
from tests import forks
from tests.conftest import with_database
from tests.faults.kill_worker import KillAt, Place, run_load
from tests.shop import Shop, csv_of, open_shop

DAY = "2026-10-30"
WAIT_SECONDS = 120
NEW_STEPS = ("bulk_partitions.", "periods.", "registry.", "direct.")


def sales() -> str:
    """Four months, three of them new: versions within a chunk and over chunks, repetitions, rows that are refused."""
    rows = [("north", str(n), "pen", "5", f"2026-0{1 + n % 4}-10T09:00:00Z") for n in range(160)]
    odd = [
        ("north", "3", "pen", "6", "2026-04-10T09:00:00Z"),
        ("north", "999", "pen", "12345678901234", "2026-02-02"),
    ]
    return csv_of(
        *rows[:60], *odd, *rows[:5], *rows[60:], rows[7], ("north", "800", "pen", "-1", "2026-01-01")
    )


def start(place: Place, kill: KillAt, steps: Path | None = None) -> int | None:
    process = forks.start(run_load, place, DAY, kill, str(steps) if steps else None)
    process.join(WAIT_SECONDS)
    if process.exitcode is None:
        process.kill()
        pytest.fail("the load hung after a kill")
    return process.exitcode


def outcome(shop: Shop) -> tuple[Any, ...]:
    with shop.database.connection() as connection:
        digest = [
            (entry.table, entry.rows, entry.content_hash) for entry in digest_tables(connection, shop.catalog)
        ]
    return (
        digest,
        shop.rows(
            "SELECT status, landed_rows, loaded_rows, duplicate_rows, quarantined_rows FROM longbox.loads"
        ),
        shop.rows("SELECT line, reason FROM longbox.quarantine ORDER BY line"),
        shop.rows("SELECT inhrelid::regclass::text FROM pg_inherits ORDER BY 1"),
    )


def test_a_load_killed_at_any_step_leaves_nothing_and_running_again_completes(
    database_url: str, postgres_admin_url: str, tmp_path: Path
) -> None:
    store = tmp_path / "objects"
    store.mkdir()
    shop = open_shop(database_url, store.as_uri(), tmp_path)
    shop.land("2026-10-29", "a.csv", csv_of(("south", "1", "pen", "5", "2026-03-01T09:00:00Z")))
    shop.load("2026-10-29")
    shop.land(DAY, "b.csv", sales())
    shop.close()
    template, numbers = database_url.rpartition("/")[2].partition("?")[0], itertools.count()

    def clone() -> Place:
        name = f"{template}_bulk_{next(numbers)}"
        with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return Place(with_database(postgres_admin_url, name), "", store.as_uri(), str(shop.folder))

    def drop(place: Place) -> None:
        name = place.database_url.rpartition("/")[2].partition("?")[0]
        with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def found(place: Place) -> tuple[Any, ...]:
        database = Database(place.database_url)
        again = Shop(shop.folder, shop.catalog, database, database.as_role(OWNER_ROLE), shop.store)
        try:
            assert again.rows(
                "SELECT (SELECT count(*) FROM shop.sales) - (SELECT count(*) FROM longbox.record_keys)"
            ) == [(0,)]
            assert reconcile(again.database, again.feed, dt.date.fromisoformat(DAY)).problems == ()
            return outcome(again)
        finally:
            again.close()

    place, steps = clone(), tmp_path / "steps"
    assert start(place, KillAt(None), steps) == 0
    undisturbed = found(place)
    assert undisturbed[1][1:] == [("loaded", 169, 161, 6, 2)]
    drop(place)
    names = steps.read_text().splitlines()
    points = {name: names.index(name) + 1 for name in names if any(part in name for part in NEW_STEPS)}
    assert {"attach", "make", "_make_intake", "_versions", "_copy_lines", "land_again", "_attach"} <= {
        name.rpartition(".")[2] for name in points
    }
    for number, (name, step) in enumerate(points.items()):
        place = clone()
        assert start(place, KillAt(step, is_after=bool(number % 2))) == -signal.SIGKILL, name
        assert start(place, KillAt(None)) == 0, f"running again after a kill at {name} failed"
        assert found(place) == undisturbed, name
        drop(place)
    shutil.rmtree(store)

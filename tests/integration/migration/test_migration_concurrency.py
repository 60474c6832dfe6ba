"""Migrations beside others: one migrator at a time, none held up by a busy table, and a killed one leaves no lock."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from deploy.local.processes import wait_until
from pipelines.migration import engine, migrate
from pipelines.migration.errors import MigrationBusyError
from pipelines.migration.lock import LOCK_KEY
from resources.settings import PROJECT_ROOT
from tests.integration.migration_support import GOODS, PLATFORM, TABLES, Shop, execute, new_database, value


def test_two_migrators_at_once_apply_each_revision_once(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    shop.add(2, "SELECT pg_sleep(0.3); CREATE TABLE shop.slow (id int);")
    applied: list[str] = []
    told: list[str] = []

    def run() -> None:
        applied.extend(migrate(url, [shop.folder], report=told.append).applied)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [*PLATFORM, "shop_0001", "shop_0002"]
    assert any("another migration runs (process" in line for line in told)


def test_a_second_migrator_gives_up_after_the_time_it_was_given(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        with pytest.raises(MigrationBusyError, match="let it finish and migrate again"):
            migrate(url, [shop.folder], lock_wait_seconds=0.3)
    assert shop.migrate(url).applied == (*PLATFORM, "shop_0001")


def test_first_migrations_of_two_databases_do_not_trip_over_the_shared_roles(
    postgres_admin_url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    failures: list[BaseException] = []

    def run(url: str) -> None:
        try:
            migrate(url, [shop.folder])
        except BaseException as error:
            failures.append(error)

    with new_database(postgres_admin_url) as one, new_database(postgres_admin_url) as two:
        threads = [threading.Thread(target=run, args=(url,)) for url in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert value(one, TABLES) == value(two, TABLES) == 1


def test_a_right_that_another_database_gives_the_shared_role_at_the_same_moment_is_taken_as_given(
    postgres_admin_url: str, url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    shop.migrate(url)  # the roles are there
    execute(url, "ALTER ROLE longbox_backup NOREPLICATION")
    waits = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    with psycopg.connect(postgres_admin_url) as other, ThreadPoolExecutor(1) as beside:
        other.execute("ALTER ROLE longbox_backup REPLICATION")
        migrated = beside.submit(shop.migrate, url)
        assert wait_until(lambda: execute(url, waits, other.info.backend_pid) or None, seconds=60)
        other.commit()
        assert migrated.result(timeout=60).applied == ()
    assert value(url, "SELECT rolreplication FROM pg_roles WHERE rolname = 'longbox_backup'") is True


def test_a_table_that_stays_locked_stops_the_migration_without_holding_up_others(
    url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_SECONDS", 0.05)
    shop.add(1, GOODS)
    shop.migrate(url)
    shop.add(2, "ALTER TABLE shop.goods ADD COLUMN name text;")
    with psycopg.connect(url) as reader:
        reader.execute("SELECT * FROM shop.goods")
        with pytest.raises(MigrationBusyError, match="end the long transaction"):
            migrate(url, [shop.folder], sleep=lambda _: None)
        shop.add(2, "CREATE TABLE shop.shelves (id int);")
        shop.add(3, "ALTER TABLE shop.goods ADD COLUMN name text;")
        tries: list[float] = []

        def wait(seconds: float) -> None:
            tries.append(seconds)
            if len(tries) == 2:
                reader.rollback()

        assert migrate(url, [shop.folder], sleep=wait).applied == ("shop_0002", "shop_0003")
    assert len(tries) == 2


def test_a_killed_migrator_leaves_no_lock_and_the_next_one_completes(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    path = shop.add(2, "CREATE TABLE shop.slow (id int); SELECT pg_sleep(600);")
    code = (
        "import sys; from pathlib import Path; from pipelines.migration import migrate\n"
        "migrate(sys.argv[1], [Path(sys.argv[2])], report=lambda line: print(line, flush=True))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, url, str(shop.folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "shop_0002" in line:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    path.write_text(path.read_text().replace("SELECT pg_sleep(600);", ""))
    assert migrate(url, [shop.folder], lock_wait_seconds=60).applied == ("shop_0002",)
    assert value(url, TABLES) == 2

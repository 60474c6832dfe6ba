"""The engine: once and in order, all or nothing, one at a time, never over an edited history, back down again."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from deploy.local.processes import wait_until
from pipelines.migration import engine, migrate, migrate_down, plan, status
from pipelines.migration.errors import (
    DownRefusedError,
    EditedRevisionError,
    MigrationBusyError,
    MissingRevisionError,
    PrivilegeError,
    RevisionFailedError,
    RevisionFileError,
)
from pipelines.migration.history import HistoryError
from pipelines.migration.lock import LOCK_KEY
from pipelines.migration.revisions import PLATFORM_FOLDER
from resources.errors import UserError
from resources.settings import PROJECT_ROOT
from tests.integration.migration_support import (
    ASSETS,
    Shop,
    execute,
    new_database,
    run_script,
    schema_dump,
    value,
    with_user,
)
from tests.shop import SHOP_YAML, make_shop

PLATFORM = tuple(sorted(f"longbox_{file.name[:4]}" for file in PLATFORM_FOLDER.glob("*.sql")))
GOODS = "CREATE TABLE shop.goods (id int PRIMARY KEY);"
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'shop'"


@pytest.fixture
def url(postgres_admin_url: str) -> Iterator[str]:
    with new_database(postgres_admin_url) as url:
        yield url


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


def states(url: str, *folders: Path) -> dict[str, str]:
    return {item.revision: item.state for item in status(url, list(folders))}


def test_an_empty_database_gets_everything_and_a_second_run_changes_nothing(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    first = shop.migrate(url)
    dump = schema_dump(url)
    second = shop.migrate(url)
    assert first.applied == (*PLATFORM, "shop_0001")
    assert (second.applied, second.already_applied) == ((), len(PLATFORM) + 1)
    assert schema_dump(url) == dump


def test_a_new_revision_is_applied_on_top_of_the_others(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    shop.migrate(url)
    shop.add(2, "ALTER TABLE shop.goods ADD COLUMN name text;")
    assert states(url, shop.folder)["shop_0002"] == "pending"
    assert shop.migrate(url).applied == ("shop_0002",)
    assert states(url, shop.folder)["shop_0002"] == "applied"


def test_a_revision_that_depends_on_another_system_comes_after_it(url: str, tmp_path: Path) -> None:
    early, late = Shop(tmp_path / "a", "aardvark"), Shop(tmp_path / "z", "zebra")
    late.add(1, "CREATE TABLE zebra.stripes (id int PRIMARY KEY);")
    early.add(
        1, "CREATE TABLE aardvark.ants (id int REFERENCES zebra.stripes);", head="-- depends: zebra 0001"
    )
    assert migrate(url, [early.folder, late.folder]).applied == (
        *PLATFORM,
        "zebra_0001",
        "aardvark_0001",
    )


def test_a_platform_revision_can_follow_after_systems_were_applied(
    url: str, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add(1, GOODS)
    shop.migrate(url)
    platform = tmp_path / "platform"
    platform.mkdir()
    for file in PLATFORM_FOLDER.glob("*.sql"):
        (platform / file.name).write_bytes(file.read_bytes())
    number = f"{len(PLATFORM) + 1:04d}"
    (platform / f"{number}_more.sql").write_text(
        f"-- longbox {number}: More\n-- migrate: up\nCREATE TABLE longbox.more (id int);\n"
        "-- migrate: down\nDROP TABLE longbox.more;\n"
    )
    monkeypatch.setattr("pipelines.migration.revisions.PLATFORM_FOLDER", platform)
    shop.add(2, "CREATE TABLE shop.shelves (id int);", "DROP TABLE shop.shelves;")
    assert set(shop.migrate(url).applied) == {f"longbox_{number}", "shop_0002"}
    down = migrate_down(url, [shop.folder], f"longbox@{PLATFORM[-1][-4:]}", dry_run=False)
    assert down.undone == (f"longbox_{number}",)
    assert migrate_down(url, [shop.folder], "shop@0001", dry_run=False).undone == ("shop_0002",)
    assert set(shop.migrate(url).applied) == {f"longbox_{number}", "shop_0002"}


def test_a_failing_revision_leaves_nothing_and_names_file_and_line(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    path = shop.add(2, "CREATE TABLE shop.half (id int);\nCREATE TABLE shop.other (id nonsense);")
    with pytest.raises(RevisionFailedError) as caught:
        shop.migrate(url)
    assert caught.value.revision == "shop_0002"
    assert f"{path}:5: " in str(caught.value)
    assert 'type "nonsense" does not exist' in str(caught.value)
    assert states(url, shop.folder) == {
        **dict.fromkeys(PLATFORM, "applied"),
        "shop_0001": "applied",
        "shop_0002": "pending",
    }
    assert value(url, TABLES) == 1
    shop.add(2, "CREATE TABLE shop.half (id int);")
    assert shop.migrate(url).applied == ("shop_0002",)


def test_an_edited_applied_file_is_refused_with_what_to_do(url: str, shop: Shop) -> None:
    path = shop.add(1, GOODS)
    shop.migrate(url)
    original = path.read_text()
    path.write_text(original.replace("PRIMARY KEY", ""))
    shop.add(2, "CREATE TABLE shop.never (id int);")
    with pytest.raises(EditedRevisionError) as caught:
        shop.migrate(url)
    assert str(path) in str(caught.value)
    assert "shop_0001" in str(caught.value)
    assert "restore the file as it was, and write the change as a new revision" in str(caught.value)
    assert states(url, shop.folder)["shop_0001"] == "edited"
    assert value(url, TABLES) == 1
    path.write_text(original)
    assert shop.migrate(url).applied == ("shop_0002",)


def test_an_applied_revision_whose_file_is_gone_is_refused(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    path = shop.add(2, "CREATE TABLE shop.shelves (id int);")
    shop.migrate(url)
    path.unlink()
    with pytest.raises(MissingRevisionError, match=r"shop_0002.*0002_step.sql is gone; restore the file"):
        shop.migrate(url)
    assert states(url, shop.folder)["shop_0002"] == "lost"


def test_a_new_file_numbered_below_an_applied_one_is_refused(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    shop.add(3, "CREATE TABLE shop.shelves (id int);")
    shop.migrate(url)
    shop.add(2, "CREATE TABLE shop.late (id int);")
    with pytest.raises(RevisionFileError, match="give it a number above 0003"):
        shop.migrate(url)


def test_a_system_whose_folder_is_not_at_hand_stays_as_it_is(url: str, shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other", "other")
    other.add(1, "CREATE TABLE other.things (id int);")
    shop.add(1, GOODS, head="-- depends: other 0001")
    migrate(url, [shop.folder, other.folder])
    other.add(2, "CREATE TABLE other.more (id int);")
    third = Shop(tmp_path / "third", "third")
    third.add(1, "CREATE TABLE third.things (id int);")
    assert migrate(url, [third.folder]).applied == ("third_0001",)
    assert states(url, third.folder)["shop_0001"] == "absent"
    assert migrate(url, [shop.folder, other.folder]).applied == ("other_0002",)


def test_a_history_that_was_changed_by_hand_is_told(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    shop.migrate(url)
    execute(url, "DELETE FROM longbox.migrations WHERE revision = 'shop_0001'")
    with pytest.raises(HistoryError, match="shop_0001"):
        shop.migrate(url)


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


def test_an_index_is_built_concurrently_and_a_half_built_one_is_built_again(url: str, shop: Shop) -> None:
    shop.add(1, "CREATE TABLE shop.goods (id int); INSERT INTO shop.goods VALUES (1), (1);")
    shop.add(
        2, "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS goods_id ON shop.goods (id);",
        "DROP INDEX CONCURRENTLY IF EXISTS shop.goods_id;", head="-- transaction: none",
    )  # fmt: skip
    with pytest.raises(RevisionFailedError, match=r"0002_step.sql:4: .*duplicated"):
        shop.migrate(url)
    assert value(url, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 1
    execute(url, "DELETE FROM shop.goods")
    assert shop.migrate(url).applied == ("shop_0002",)
    assert value(url, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    assert any("left half-built" in line for line in shop.said)
    migrate_down(url, [shop.folder], "shop@0001", dry_run=False)
    assert value(url, "SELECT to_regclass('shop.goods_id') IS NULL")


def test_going_down_is_a_dry_run_unless_told_otherwise(url: str, shop: Shop) -> None:
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    shop.migrate(url)
    result = migrate_down(url, [shop.folder], "shop@base")
    assert result.is_dry_run
    assert result.undone == ("shop_0001",)
    assert "DROP TABLE shop.goods;" in result.sql
    assert value(url, TABLES) == 1


def test_going_down_undoes_and_writes_the_ledger(url: str, shop: Shop) -> None:
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    shop.add(2, "CREATE TABLE shop.shelves (id int);", "DROP TABLE shop.shelves;")
    shop.migrate(url)
    assert migrate_down(url, [shop.folder], "shop@0001", dry_run=False).undone == ("shop_0002",)
    assert value(url, TABLES) == 1
    rows = execute(url, "SELECT act, relation, proof ->> 'revision' FROM longbox.ledger")
    assert rows == [("migrate down", "shop", "shop_0002")]
    assert shop.migrate(url).applied == ("shop_0002",)


def test_what_depends_on_an_undone_revision_is_undone_first(url: str, shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other", "other")
    other.add(
        1,
        "CREATE TABLE other.tags (id int REFERENCES shop.goods);",
        "DROP TABLE other.tags;",
        "-- depends: shop 0001",
    )
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    migrate(url, [shop.folder, other.folder])
    result = migrate_down(url, [shop.folder, other.folder], "shop@base", dry_run=False)
    assert result.undone == ("other_0001", "shop_0001")


def test_going_down_is_refused_before_anything_runs_when_one_revision_has_no_way_down(
    url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    shop.add(2, "CREATE TABLE shop.shelves (id int);", "DROP TABLE shop.shelves;")
    shop.migrate(url)
    with pytest.raises(DownRefusedError, match=r"0001_step.sql has no `-- migrate: down` section"):
        migrate_down(url, [shop.folder], "shop@base", dry_run=False)
    assert value(url, TABLES) == 2


@pytest.mark.parametrize("target", ["shop", "shop@", "shop@x", "store@0001", "shop@0009"])
def test_a_target_that_is_no_way_down_is_refused(url: str, shop: Shop, target: str) -> None:
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    shop.migrate(url)
    with pytest.raises(DownRefusedError):
        migrate_down(url, [shop.folder], target)


def test_a_database_that_was_never_migrated_has_nothing_to_undo(url: str, shop: Shop) -> None:
    with pytest.raises(DownRefusedError, match="never migrated"):
        migrate_down(url, [shop.folder], "shop@base", dry_run=False)


def test_the_dry_run_is_a_script_that_does_what_migrating_does(postgres_admin_url: str) -> None:
    folders = [ASSETS / "reference", ASSETS / "comics"]
    with new_database(postgres_admin_url) as by_script, new_database(postgres_admin_url) as by_engine:
        script = plan(by_script, folders)
        assert value(by_script, "SELECT to_regnamespace('longbox') IS NULL")
        run_script(by_script, script)
        migrate(by_engine, folders)
        assert migrate(by_script, folders).applied == ()
        assert schema_dump(by_script) == schema_dump(by_engine)
        assert plan(by_engine, folders) == ""


def test_the_dry_run_tells_what_a_changed_declaration_does_and_does_not_do_it(
    url: str, tmp_path: Path
) -> None:
    system = make_shop(tmp_path)
    migrate(url, [system])
    make_shop(tmp_path, SHOP_YAML.replace("item: text\n", "item: text\n      colour: text\n"))
    script = plan(url, [system])
    assert 'ALTER TABLE "shop"."sales" ADD COLUMN "colour" text;' in script
    assert plan(url, [system]) == script
    assert migrate(url, [system]).declared == ("added column shop.sales.colour (text)",)
    assert plan(url, [system]) == ""


def test_a_user_without_rights_is_told_what_an_administrator_has_to_do(
    postgres_admin_url: str, url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    execute(postgres_admin_url, "DROP ROLE IF EXISTS migration_guest")
    execute(postgres_admin_url, "CREATE ROLE migration_guest LOGIN PASSWORD 'guest'")
    try:
        with pytest.raises(PrivilegeError, match=r"migration_guest.*GRANT longbox_owner"):
            migrate(with_user(url, "migration_guest", "guest"), [shop.folder])
    finally:
        execute(postgres_admin_url, "DROP ROLE migration_guest")


def test_the_owner_of_a_database_with_the_roles_granted_needs_no_superuser(
    postgres_admin_url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    with new_database(postgres_admin_url) as first:
        shop.migrate(first)  # the roles are there
    execute(postgres_admin_url, "DROP ROLE IF EXISTS migration_tenant")
    execute(postgres_admin_url, "CREATE ROLE migration_tenant LOGIN PASSWORD 'tenant'")
    execute(
        postgres_admin_url,
        "GRANT longbox_owner, longbox_app, longbox_reader, longbox_backup TO migration_tenant",
    )
    try:
        with new_database(postgres_admin_url) as url:
            name = url.rsplit("/", 1)[1]
            execute(postgres_admin_url, f"ALTER DATABASE {name} OWNER TO migration_tenant")
            assert shop.migrate(with_user(url, "migration_tenant", "tenant")).applied == (
                *PLATFORM,
                "shop_0001",
            )
            assert value(url, "SELECT tableowner FROM pg_tables WHERE tablename = 'goods'") == "longbox_owner"
    finally:
        execute(postgres_admin_url, "DROP ROLE migration_tenant")


def test_a_schema_that_was_there_before_is_used_and_stays_its_owners(url: str, shop: Shop) -> None:
    execute(url, "CREATE SCHEMA shop; CREATE TABLE shop.old (id int)")
    shop.add(1, GOODS)
    shop.migrate(url)
    owners = dict(execute(url, "SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'shop'"))
    assert owners["goods"] == "longbox_owner"
    assert owners["old"] != "longbox_owner"
    assert execute(url, "INSERT INTO shop.goods VALUES (1) RETURNING id", role="longbox_app") == [(1,)]


def test_a_server_that_is_too_old_is_refused(url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.migration.bootstrap.OLDEST_SERVER", 990000)
    with pytest.raises(UserError, match="too old for Longbox"):
        shop.migrate(url)

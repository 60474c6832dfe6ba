"""`longbox doctor`: each fault is made for real, and each is named with its remedy. No password is ever shown."""

import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cli.doctor import examine
from cli.main import main
from deploy.local.processes import wait_until
from pipelines.catalog.model import Catalog
from pipelines.ingestion import Loader
from pipelines.migration.lock import LOCK_KEY
from pipelines.monitoring import diagnosis
from pipelines.monitoring.diagnosis import Finding, Space
from resources import probes
from resources.database import OWNER_ROLE, Database
from resources.errors import ObjectStoreUnavailableError
from resources.object_store import ObjectStore
from resources.probes import Clock
from tests.daily_runs import sales
from tests.integration.migration_support import Shop, with_user
from tests.integration.stack_support import supervised


@pytest.fixture
def environ(database_url: str, redis_url: str, object_store_url: str, tmp_path: Path) -> dict[str, str]:
    """The settings of a platform in good health."""
    return {
        "PATH": os.environ["PATH"],
        "LONGBOX_HOME": str(tmp_path / "home"),
        "LONGBOX_POSTGRES_URL": database_url,
        "LONGBOX_DAGSTER_POSTGRES_URL": database_url,
        "LONGBOX_REDIS_URL": redis_url,
        "LONGBOX_OBJECT_STORE": object_store_url,
    }


def wrong(environ: dict[str, str]) -> list[Finding]:
    return [finding for finding in examine(environ) if finding.state != "ok"]


def only(found: list[Finding], check: str) -> Finding:
    (finding,) = [finding for finding in found if finding.check == check]
    assert finding.remedy, "every fault has its remedy"
    return finding


def test_a_healthy_platform_has_no_finding_and_the_command_exits_with_0(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [f for f in wrong(environ) if not f.check.startswith("disk")] == []
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Space, "of", classmethod(lambda cls, folder: Space(100 << 30, 50 << 30)))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    assert ended.value.code in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert {"settings", "libraries", "PostgreSQL", "migrations", "cache", "object store", "clock"} <= {
        f["check"] for f in found
    }


def test_a_wrong_password_and_a_missing_database_are_told_apart_and_the_password_is_not_shown(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = environ["LONGBOX_POSTGRES_URL"]
    environ["LONGBOX_POSTGRES_URL"] = with_user(url, "longbox", "hunter2secret")
    environ["LONGBOX_DAGSTER_POSTGRES_URL"] = url.rsplit("/", 1)[0] + "/nowhere"
    found = wrong(environ)
    assert "refuses the user or the password" in only(found, "PostgreSQL").message
    assert "lacks that database or role" in only(found, "PostgreSQL (Dagster)").message
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    told = capsys.readouterr()
    assert ended.value.code == 1
    assert "hunter2secret" not in told.out + told.err


def test_servers_that_cannot_be_reached_are_named(environ: dict[str, str]) -> None:
    with socket.socket() as closed:  # bound and not listening: every connection is refused
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        environ["LONGBOX_POSTGRES_URL"] = f"postgresql://u:p@127.0.0.1:{port}/x"
        environ["LONGBOX_REDIS_URL"] = f"redis://:secretword@127.0.0.1:{port}/0"
        found = wrong(environ)
    assert "cannot be reached" in only(found, "PostgreSQL").message
    cache = only(found, "cache")
    assert "cannot be reached" in cache.message and "secretword" not in cache.message


def test_a_port_that_is_taken_is_named(environ: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = wrong(environ | {"LONGBOX_UI_PORT": port})
    assert only(found, "ports").message == f"LONGBOX_UI_PORT asks for port {port}, which is taken"


def test_misspelt_and_malformed_settings_are_named_with_what_would_be_right(environ: dict[str, str]) -> None:
    (unknown,) = [f for f in wrong(environ | {"LONGBOX_REDIS_PROT": "1"}) if f.check == "settings"]
    assert "did you mean LONGBOX_REDIS_PORT?" in unknown.remedy
    found = wrong(environ | {"LONGBOX_POSTGRES_PORT": "many"})
    assert "LONGBOX_POSTGRES_PORT" in only(found, "settings").message


def test_a_migration_that_is_missing_or_edited_is_named(
    environ: dict[str, str], tmp_path: Path, database_url: str
) -> None:
    shop = Shop(tmp_path / "shop")
    shop.add(1, "CREATE TABLE shop.goods (id int);")
    environ["LONGBOX_SYSTEMS"] = str(shop.folder)
    assert only(wrong(environ), "migrations").message == "shop_0001: not applied"
    shop.migrate(database_url)
    shop.add(1, "CREATE TABLE shop.goods (id bigint);")
    assert "edited after being applied" in only(wrong(environ), "migrations").message


def test_a_database_that_was_never_migrated_is_told_so(
    environ: dict[str, str], empty_database_url: str
) -> None:
    found = wrong(environ | {"LONGBOX_POSTGRES_URL": empty_database_url})
    assert "not applied" in only(found, "migrations").message


def test_an_idle_session_that_holds_the_lock_of_migrations_is_named_with_its_pid(database_url: str) -> None:
    with psycopg.connect(database_url, application_name="left behind") as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        facts = probes.probe_postgres(database_url, migration_lock_key=LOCK_KEY)
        found = only(diagnosis.check_idle_sessions(facts.idle_sessions, idle_seconds=0), "stale locks")
        assert found.state == "problem"
        assert f"process {holder.info.backend_pid} (left behind) is idle in transaction" in found.message
        assert "holds the lock of migrations" in found.message
        assert found.remedy.endswith(f"SELECT pg_terminate_backend({holder.info.backend_pid})")
        assert diagnosis.check_idle_sessions(facts.idle_sessions, idle_seconds=3600)[0].state == "ok"


@pytest.mark.parametrize(("hours", "side"), [(1, "behind"), (-1, "ahead of")])
def test_a_clock_that_differs_is_told_for_postgresql_and_the_cache(
    database_url: str, redis_url: str, hours: int, side: str
) -> None:
    def now() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)

    clocks = [
        probes.probe_postgres(database_url, migration_lock_key=LOCK_KEY, now=now).clock,
        probes.probe_redis(redis_url, now=now).clock,
    ]
    for clock in clocks:
        (found,) = diagnosis.check_clock("the server", clock)
        assert found.state == "problem" and side in found.message


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as ourselves unless we are root")
def test_a_home_that_the_user_of_postgresql_cannot_reach_is_named_with_where_the_data_lie(
    tmp_path: Path,
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    found = only(
        wrong({"PATH": os.environ["PATH"], "LONGBOX_HOME": str(tmp_path / "closed" / "home")}), "home"
    )
    assert "cannot reach" in found.message and "/var/lib/longbox/" in found.message


def test_the_clock_of_an_s3_server_is_read_and_a_bucket_that_is_missing_is_told(s3_url: str) -> None:
    def late() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=20)

    assert [f.state for f in diagnosis.check_store("object store", s3_url)] == ["ok", "ok"]
    assert diagnosis.check_store("object store", s3_url, late)[0].state == "problem"
    missing = diagnosis.check_store("object store", "s3://no-such-bucket-here/x")
    assert [(f.check, f.state) for f in missing] == [("clock", "ok"), ("object store", "problem")]


def test_a_slow_answer_is_no_skew() -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    slow = Clock.compare(start, start, start + datetime.timedelta(seconds=9))
    assert diagnosis.check_clock("it", slow)[0].state == "ok"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte; without the right to mount one there is nothing to test on."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_a_store_on_it_that_takes_nothing(
    environ: dict[str, str], tiny_disk: Path
) -> None:
    (tiny_disk / "rest").write_bytes(bytes(900_000))
    with contextlib.suppress(OSError), (tiny_disk / "rest").open("ab", buffering=0) as file:
        for _ in range(100):
            file.write(bytes(4096))
    found = wrong(environ | {"LONGBOX_OBJECT_STORE": tiny_disk.as_uri()})
    assert "the disk is full" in only(found, "disk of the object store").message
    assert only(found, "object store").state == "problem"
    with pytest.raises(
        ObjectStoreUnavailableError, match=r"No space left on device .*; make room there, then try again"
    ):
        ObjectStore.from_url(tiny_disk.as_uri()).put("a", bytes(1 << 20))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(ObjectStoreUnavailableError, match=r"Read-only file system .*; mount it for writing"):
        ObjectStore.from_url(tiny_disk.as_uri()).put("a", b"a")


@pytest.mark.parametrize(
    ("total", "free", "state"),
    [(100, 50, "ok"), (100, 9, "warning"), (100, 1, "problem"), (10_000, 900, "ok")],
)
def test_disks_are_judged_by_what_is_left(tmp_path: Path, total: int, free: int, state: str) -> None:
    (found,) = diagnosis.check_space("x", tmp_path, lambda folder: Space(total << 30, free << 30))
    assert found.state == state


def test_versions_that_are_too_old_or_not_those_of_the_pins_are_named(database_url: str) -> None:
    assert diagnosis.check_versions(python=(3, 9, 1))[0].message == "Python 3.9.1 is too old"
    found = diagnosis.check_versions(installed=lambda name: "1.0")
    assert any(f.message.startswith("dagster is 1.0, ") and f.remedy == "run `make setup`" for f in found)
    facts = probes.probe_postgres(database_url, migration_lock_key=LOCK_KEY)
    old = diagnosis.check_postgres(
        "PostgreSQL", facts.__class__(**{**vars(facts), "version_number": 160004}), has_roles=True
    )
    assert old[0].state == "problem" and "too old" in old[0].message
    assert diagnosis.check_cache(probes.RedisFacts("Redis", (6, 2, 1), Clock(0, 0)))[0].state == "problem"


def test_a_store_that_cannot_be_written_is_named_and_the_probe_leaves_nothing(
    environ: dict[str, str],
) -> None:
    folder = Path(environ["LONGBOX_OBJECT_STORE"].removeprefix("file://"))
    wrong(environ)
    assert list(folder.iterdir()) == []
    url = f"file://{folder / 'file' / 'inside'}"
    (folder / "file").write_text("no folder", encoding="utf-8")
    assert only(wrong(environ | {"LONGBOX_OBJECT_STORE": url}), "object store").state == "warning"


def test_files_that_no_run_reads_and_rows_that_wait_in_the_quarantine_are_warned_of_and_counted(
    environ: dict[str, str], database: Database, catalog: Catalog, tmp_path: Path
) -> None:
    store, owner = ObjectStore.from_url(environ["LONGBOX_OBJECT_STORE"]), database.as_role(OWNER_ROLE)
    system = catalog.systems["comics"]
    feed = system.feeds["marketplace_sales"]
    store.put(
        f"{feed.prefix}2026-10-02/a.csv",
        sales("2026-10-01", 2) + b"ebay,x,A,fine,ten,USD,2026-10-01,2026-10-01\n",
    )
    store.put(f"{feed.prefix}2026-10-02/b.csv", b"no,header\n1,2\n")
    Loader(database, owner, store, system, feed).load_day(datetime.date(2026, 10, 2))
    owner.close()
    for number in range(7):
        store.put(f"{feed.prefix}backup{number}/a.csv", b"x")
    found = wrong(environ)
    zone, waits = only(found, "landing zone"), only(found, "quarantine")
    assert (zone.state, waits.state) == ("warning", "warning")
    assert zone.message.startswith(
        "7 files or folders are read by no run: landing/comics/marketplace_sales/backup0/ is"
    )
    assert zone.message.endswith("; and 2 more") and "`longbox land`" in zone.remedy
    assert (
        waits.message == "1 rows and 1 whole files wait in it" and "`longbox quarantine list`" in waits.remedy
    )
    with database.connection() as connection:
        connection.execute("UPDATE longbox.quarantine SET status = 'dismissed'")
    for number in range(7):
        store.delete(f"{feed.prefix}backup{number}/a.csv")
    assert [f for f in wrong(environ) if f.check in ("landing zone", "quarantine")] == []


def test_a_dead_part_of_the_stack_and_what_a_killed_supervisor_leaves_are_named(home: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "LONGBOX_HOME": str(home)}
    with supervised(home) as supervisor:
        assert [f.message for f in wrong(environ) if f.check == "stack"] == []
        supervisor.popen.send_signal(signal.SIGSTOP)  # so that it neither stops the rest nor starts it anew
        try:
            valkey = supervisor.process("Valkey")
            os.kill(valkey.pid, signal.SIGKILL)
            assert wait_until(lambda: True if "Valkey" in _stack(environ) else None, seconds=30)
        finally:
            supervisor.popen.kill()  # it does not go on before it ends
            supervisor.popen.wait()
        assert wait_until(
            lambda: True if "of a killed stack still run" in _stack(environ) else None, seconds=30
        )


def _stack(environ: dict[str, str]) -> str:
    return " ".join(f.message for f in wrong(environ) if f.check == "stack")

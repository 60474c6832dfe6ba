"""pgBackRest behind our interface: drills, moments, gaps that its own `verify` does not see, commands."""

import datetime as dt
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from assets.platform.backup import backup_definitions
from assets.platform.wal import wal_definitions
from deploy.local.processes import wait_until
from pipelines.backup import routine
from pipelines.backup.drill import drill_results
from pipelines.backup.errors import BackupError, BackupRefusedError, WalMissingError
from pipelines.backup.expiry import Policy
from pipelines.backup.model import RestoreRequest
from pipelines.backup.pgbackrest import PgBackRestEngine
from pipelines.backup.readiness import readiness
from pipelines.backup.repository import Repository
from resources.database import Database
from resources.object_store import ObjectStore
from resources.settings import PROJECT_ROOT, Settings
from tests.backup_cluster import fast_folder, one_value
from tests.pgbackrest_cluster import STANZA, StanzaCluster, platform_database, restored_truth, running_stanza

NAME = "longbox_pgbackrest"


@pytest.fixture(scope="module")
def stanza() -> Iterator[StanzaCluster]:
    with running_stanza() as running:
        yield running


@pytest.fixture(scope="module")
def platform_url(stanza: StanzaCluster) -> str:
    url = platform_database(stanza.cluster, NAME)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE closed AS SELECT n, md5(n::text) AS body FROM generate_series(1, 500) n"
        )
        connection.execute("GRANT SELECT ON closed TO longbox_app")
    return url


@pytest.fixture
def settings(stanza: StanzaCluster, platform_url: str, tmp_path: Path) -> Iterator[Settings]:
    stanza.start_anew()
    home = fast_folder("longbox-pgbackrest-home-")
    (tmp_path / "objects").mkdir(exist_ok=True)
    yield Settings.load(variables(stanza, platform_url, home, tmp_path))
    shutil.rmtree(home, ignore_errors=True)


def variables(stanza: StanzaCluster, url: str, home: Path, folder: Path) -> dict[str, str]:
    return {
        "LONGBOX_HOME": str(home),
        "LONGBOX_POSTGRES_URL": url,
        "LONGBOX_OBJECT_STORE": (folder / "objects").as_uri(),
        "LONGBOX_BACKUP_ENGINE": "pgbackrest",
        "LONGBOX_PGBACKREST_STANZA": STANZA,
        "LONGBOX_PGBACKREST_CONFIG": str(stanza.config),
    }


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = fast_folder("longbox-restored-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def wait_beyond(moment: dt.datetime) -> None:
    """pgBackRest tells whole seconds: what is archived within a backup's last one does not count."""
    assert wait_until(lambda: dt.datetime.now(dt.UTC) > moment or None, seconds=10)


def test_a_backup_is_witnessed_read_back_drilled_expired_and_told(settings: Settings, platform_url: str):
    with Database(settings.postgres_url) as database:
        made = routine.make_backup(settings, database, "incremental", warn=lambda _: None)
        assert made.record.kind == "full" and "no backup of this cluster" in made.reason
        assert made.window is not None and made.window.until >= made.record.ended_at
        second = routine.make_backup(settings, database, "incremental", warn=lambda _: None)
        assert second.record.parent_id == made.record.backup_id
        # what was archived right after it counts, though pgBackRest tells its end in whole seconds
        assert second.window is not None and second.window.is_from_wal
        assert second.window.until > second.record.ended_at
        window = routine.observe_archive(settings)
        assert window is not None and window.is_from_wal
        assert routine.read_back_newest(settings, database).is_sound
        reports = routine.read_back_all(settings, database)
        assert [report.faults for report in reports] == [(), ()] and reports[1].objects > 3
        result = routine.run_drill(settings, database, seed=3)
        assert result.is_proven and result.compared > 2 and result.is_from_wal
        source = routine.open_source(settings, database)
        assert drill_results(source.repository) == [result]
        page = readiness(source, dt.datetime.now(dt.UTC)).as_markdown()
        assert "any moment" in page and "| Not proved | the age of the newest restorable moment" in page
        for _ in range(2):
            routine.make_backup(settings, database, "full", warn=lambda _: None)
        gone = [one.record.backup_id for one in (second, made)]
        [planned] = source.expire(Policy(), dt.datetime.now(dt.UTC))
        assert (
            planned.is_dry_run and list(planned.plan.expired) == gone and len(source.catalogue().sound) == 4
        )
        routine.expire_all(settings, database)
        left = [one.backup_id for one in source.catalogue().sound]
        assert len(left) == 2 and not set(gone) & set(left)
    told = "SELECT string_agg(proof ->> 'backup_id', ' ' ORDER BY chain_position) FROM longbox.ledger WHERE act = '%s'"
    assert one_value(platform_url, told % "expire backup") == " ".join(gone)
    assert one_value(platform_url, "SELECT count(*) FROM longbox.ledger_faults()") == 0


def test_every_moment_up_to_the_newest_that_the_archive_was_seen_to_hold_is_restored_as_it_was(
    stanza: StanzaCluster, settings: Settings, scratch: Path
):
    engine, cluster = stanza.engine(settings.object_store), stanza.cluster
    wait_beyond(engine.back_up("full").ended_at)
    moments = []
    for _ in range(3):
        cluster.write(7)
        moments.append((cluster.now(), cluster.truth()))
    engine.mark_wal()
    window = engine.window()
    assert window is not None and window.is_from_wal and window.until >= moments[-1][0]
    for at, held in moments:
        if at >= window.first:
            assert restored_truth(engine, scratch, to=at) == held
    cluster.write(7)
    assert restored_truth(engine, scratch, to=window.until) == moments[-1][1]
    engine.mark_wal()
    assert restored_truth(engine, scratch) == cluster.truth()


def test_wal_missing_in_the_middle_is_named_and_never_restored_over_though_pgbackrest_calls_it_ok(
    stanza: StanzaCluster, settings: Settings, scratch: Path
):
    engine, cluster = stanza.engine(settings.object_store), stanza.cluster
    record = engine.back_up("full")
    for _ in range(3):
        cluster.write(7)
        engine.mark_wal()
    held = sorted(
        path for path in stanza.files(f"archive/{STANZA}/**/*-*") if path.name[:24] > record.last_segment
    )
    lost = held[1]
    kept = lost.read_bytes()
    lost.unlink()
    assert "status: ok" in stanza.program.run("verify", "--output=text", "--verbose")
    reports = engine.read_back()
    assert [str(fault) for fault in reports[0].faults] == [
        f"archive: WAL {lost.name[:24]} of timeline 1 is missing"
    ]
    with pytest.raises(WalMissingError, match="missing in pgBackRest's archive"):
        restored_truth(engine, scratch)
    with pytest.raises(WalMissingError, match="beyond a gap"):
        restored_truth(engine, scratch, to=cluster.now())
    assert list(scratch.iterdir()) == []
    lost.write_bytes(kept)
    shutil.chown(lost, held[0].stat().st_uid, held[0].stat().st_gid)
    assert restored_truth(engine, scratch) == cluster.truth()

    own = next(
        path for path in stanza.files(f"archive/{STANZA}/**/*-*") if path.name[:24] == record.last_segment
    )
    own.unlink()
    found = engine.verify(record.backup_id)
    assert not found.is_sound and any(record.last_segment in fault for fault in found.faults)


def test_each_of_several_encrypted_repositories_gets_every_backup_and_restores_alone(
    stanza: StanzaCluster, settings: Settings, scratch: Path
):
    engine, cluster = stanza.engine(settings.object_store), stanza.cluster
    with stanza.second_repository():
        cluster.write(7)
        first = engine.back_up("full")
        [second] = first.also
        cluster.write(7)
        engine.mark_wal()
        assert [(one.backup_id, one.repository) for one in engine.catalogue().sound] == [
            (first.backup_id, 1),
            (second, 2),
        ]
        assert engine.catalogue().faults == {}
        assert [report.faults for report in engine.read_back()] == [(), ()]
        held = [path for path in stanza.files(f"backup/{STANZA}/**/*") if path.stat().st_size]
        assert held and all(
            path.read_bytes().startswith(b"Salted__") for path in held if not path.is_symlink()
        )

        named = stanza.damage(first.backup_id)
        faults = [str(fault) for fault in engine.read_back()[0].faults]
        assert named in faults and all(fault.startswith(first.backup_id) for fault in faults)
        assert engine.verify(second).is_sound and not engine.verify(first.backup_id).is_sound

        for place in stanza.repository.iterdir():
            shutil.rmtree(place)
        left = engine.catalogue()
        assert [one.backup_id for one in left.sound] == [second] and "repository 1" in left.faults
        assert any("repository 1" in str(fault) for fault in engine.read_back()[0].faults)
        assert restored_truth(engine, scratch) == cluster.truth()


def test_a_cluster_with_a_tablespace_is_restored_whole_and_not_over_the_live_one(
    stanza: StanzaCluster, settings: Settings, scratch: Path
):
    engine, cluster = stanza.engine(settings.object_store), stanza.cluster
    place = stanza.repository.with_name("space")
    place.mkdir(mode=0o700)
    shutil.chown(place, cluster.data.stat().st_uid, cluster.data.stat().st_gid)
    cluster.run(f"CREATE TABLESPACE fast LOCATION '{place}'")
    try:
        cluster.run("CREATE TABLE spaced TABLESPACE fast AS SELECT generate_series(1, 300) AS n")
        made = engine.back_up("full")
        cluster.run("INSERT INTO spaced VALUES (301)", "CHECKPOINT")
        live = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        counts: list[object] = []
        engine.restore(
            RestoreRequest(scratch / "restored", backup_id=made.backup_id, is_durable=False),
            check=lambda url: counts.append(one_value(url, "SELECT count(*) FROM spaced")),
        )
        assert counts == [300]
        assert any(path.is_file() for path in (scratch / "restored/tablespaces").rglob("*"))
        assert live == {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    finally:
        cluster.run("DROP TABLE IF EXISTS spaced", "DROP TABLESPACE fast")


def test_archiving_that_does_not_work_is_told_and_moves_no_mark(
    stanza: StanzaCluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    engine, cluster = stanza.engine(settings.object_store), stanza.cluster
    engine.back_up("full")
    engine.mark_wal()
    before = engine.window()
    cluster.run("ALTER SYSTEM SET archive_command = 'false'", "SELECT pg_reload_conf()")
    try:
        monkeypatch.setenv("PGBACKREST_ARCHIVE_TIMEOUT", "1")
        with pytest.raises(BackupError, match="does not reach pgBackRest's archive"):
            engine.mark_wal()
        assert engine.window() == before
    finally:
        cluster.run("ALTER SYSTEM RESET archive_command", "SELECT pg_reload_conf()")


def test_the_commands_work_with_pgbackrest_or_refuse_in_one_sentence(
    stanza: StanzaCluster, settings: Settings, platform_url: str, tmp_path: Path, scratch: Path
):
    environ = variables(stanza, platform_url, settings.home, tmp_path)

    def longbox(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT_ROOT), **environ, **more}
        command = [sys.executable, "-m", "cli.main", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    made = longbox("backup")
    assert made.returncode == 0, made.stderr
    backup_id = made.stdout.split(":")[0]
    listed = longbox("backup", "list")
    assert listed.returncode == 0 and backup_id in listed.stdout and "not proved: the age" in listed.stdout
    verified = longbox("backup", "verify", backup_id)
    assert verified.returncode == 0 and "no fault(s)" in verified.stdout
    into = scratch / "restored"
    restored = longbox("restore", "--latest", "--into", str(into))
    assert restored.returncode == 0, restored.stderr
    assert (
        f"restored {backup_id} into {into / 'data'}" in restored.stdout
        and (into / "data/PG_VERSION").exists()
    )
    receiver = longbox("wal", "receive")
    assert receiver.returncode == 2 and "pgbackrest, which ships WAL by itself" in receiver.stderr
    nameless = longbox("backup", LONGBOX_PGBACKREST_STANZA="")
    assert nameless.returncode == 2 and "set LONGBOX_PGBACKREST_STANZA" in nameless.stderr
    unknown = longbox("backup", "list", LONGBOX_PGBACKREST_STANZA="other")
    assert unknown.returncode == 2 and "no stanza 'other'" in unknown.stderr
    absent = longbox("backup", "list", LONGBOX_PGBACKREST_COMMAND="/nonexistent/pgbackrest")
    assert absent.returncode == 2 and "apt-get install pgbackrest" in absent.stderr


def test_a_stanza_of_another_cluster_is_refused(stanza: StanzaCluster, settings: Settings, cluster):
    other = Database(cluster.url, role=None)
    engine = PgBackRestEngine(stanza.program, stanza.engine(settings.object_store).repository, other)
    with pytest.raises(BackupRefusedError, match=f"is of {stanza.cluster.system}"):
        engine.back_up("full")
    elsewhere = Repository(ObjectStore.from_url(settings.object_store), cluster.system)
    with pytest.raises(BackupRefusedError, match="name the right one"):
        PgBackRestEngine(stanza.program, elsewhere).catalogue()


def test_the_jobs_run_with_pgbackrest_and_the_wal_is_observed_in_its_archive(settings: Settings):
    with Database(settings.postgres_url) as database:
        given = (("settings", settings), ("database", database))
        resources = {name: dg.ResourceDefinition(lambda _, value=value: value) for name, value in given}
        parts = dg.Definitions.merge(
            backup_definitions(settings),
            wal_definitions("pgbackrest"),
            dg.Definitions(resources=resources, executor=dg.in_process_executor),
        )
        for job in ("backup_full", "wal_observation", "backup_verification", "restore_drill"):
            result = parts.resolve_job_def(job).execute_in_process(raise_on_error=False)
            assert result.success, job
            assert all(check.passed for check in result.get_asset_check_evaluations()), job
            if job == "wal_observation":
                [seen] = result.asset_observations_for_node("platform__wal")
                assert 0 <= seen.metadata["newest_restorable_age_seconds"].value < 60

"""The external engine: a provider's snapshots are recorded as evidence, never believed, and proved by a drill alone.

The provider is a script over a second server that was restored from a real backup: what a managed service does.
"""

import dataclasses
import datetime as dt
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from assets.platform.backup import backup_definitions
from assets.platform.wal import wal_definitions
from pipelines.backup import routine, setup
from pipelines.backup.drill import DrillFailedError, drill_results
from pipelines.backup.errors import BackupError, EngineCannotError
from pipelines.backup.external import ExternalEngine, read_evidence
from pipelines.backup.model import RestoreRequest
from pipelines.backup.readiness import readiness
from resources.database import Database
from resources.provider import ProviderError
from resources.settings import Settings
from sensors.schedules import backup_schedules
from tests.backup_cluster import Backups, Cluster, migrated_database, one_value
from tests.conftest import with_database

NAME = "longbox_managed"


@pytest.fixture(scope="module")
def platform_url(cluster: Cluster) -> Iterator[str]:
    with migrated_database(cluster, NAME) as url:
        yield url


@pytest.fixture
def settings(platform_url: str, tmp_path: Path) -> Settings:
    (tmp_path / "managed").mkdir()
    return Settings.load(
        {
            "LONGBOX_HOME": str(tmp_path / "home"),
            "LONGBOX_POSTGRES_URL": platform_url,
            "LONGBOX_OBJECT_STORE": (tmp_path / "managed").as_uri(),
            "LONGBOX_BACKUP_ENGINE": "external",
            "LONGBOX_EXTERNAL_EVIDENCE_FILE": str(tmp_path / "snapshots.json"),
        }
    )


def shows(settings: Settings, **snapshots: dt.datetime) -> None:
    """The provider shows these snapshots."""
    entries = [{"id": name, "at": at.isoformat(), "size_bytes": 7} for name, at in snapshots.items()]
    assert settings.external_evidence_file is not None
    settings.external_evidence_file.write_text(json.dumps({"snapshots": entries}), encoding="utf-8")


def script(path: Path, text: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\nset -eu\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path),)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def engine_of(settings: Settings, database: Database) -> ExternalEngine:
    found = routine.open_source(settings, database)
    assert isinstance(found, ExternalEngine)
    return found


def back_up(settings: Settings, database: Database) -> routine.BackupMade:
    return routine.make_backup(settings, database, "incremental", warn=lambda _: None)


def test_evidence_is_recorded_once_in_the_store_and_the_ledger_and_told_as_what_it_is(settings: Settings):
    shows(settings, monday=now() - dt.timedelta(hours=25), tuesday=now() - dt.timedelta(hours=1))
    with Database(settings.postgres_url) as database:
        before = one_value(settings.postgres_url, "SELECT count(*) FROM longbox.ledger WHERE act = 'backup'")
        made = back_up(settings, database)
        again = back_up(settings, database)
        engine = engine_of(settings, database)
        listed = engine.catalogue()
        page = readiness(engine, now()).as_markdown()
    assert made.record == again.record and made.reason == "a provider's snapshot is a whole backup"
    assert [one.kind for one in listed.sound] == ["full", "full"] and listed.faults == {}
    assert made.window is not None and not made.window.is_from_wal
    assert len(list(engine.repository.names("evidence"))) == 2
    found = one_value(settings.postgres_url, "SELECT count(*) FROM longbox.ledger WHERE act = 'backup'")
    assert int(str(found)) - int(str(before)) == 2
    assert "| Not proved | snapshots are the provider's word" in page and "**never**" in page
    assert "no snapshot was ever restored: set LONGBOX_EXTERNAL_RESTORE_COMMAND" in page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "it is no JSON"),
        ("{}", "no list of snapshots"),
        ('[{"at": "2026-11-21T03:00:00Z"}]', "has no id"),
        ('[{"id": "a"}]', "no moment in 'at'"),
        ('[{"id": "a", "at": "2026-11-21T03:00:00"}]', "without a zone"),
        ('[{"id": "a", "at": "2026-11-21T03:00:00Z", "completed_at": "2026-11-21T02:00:00Z"}]', "before it began"),
        ('[{"id": "a", "at": "2026-11-21T03:00:00Z", "size_bytes": "big"}]', "no number of bytes"),
        ('[{"id": "a", "at": "2026-11-21T03:00:00Z"}, {"id": "a", "at": "2026-11-20T03:00:00Z"}]', "same id twice"),
    ],
)  # fmt: skip
def test_evidence_that_cannot_be_read_is_refused_with_an_example(text: str, said: str):
    with pytest.raises(BackupError, match=said) as caught:
        read_evidence(text)
    assert '{"snapshots": [{"id": "nightly-1"' in str(caught.value)


def test_no_snapshot_an_old_one_a_future_one_and_a_contradiction_are_no_backup(settings: Settings):
    with Database(settings.postgres_url) as database:
        with pytest.raises(ProviderError, match="cannot be read"):
            back_up(settings, database)
        shows(settings)
        with pytest.raises(BackupError, match="no snapshot"):
            back_up(settings, database)
        shows(settings, old=now() - dt.timedelta(hours=31))
        with pytest.raises(BackupError, match="older than 30 h"):
            back_up(settings, database)
        shows(settings, coming=now() + dt.timedelta(hours=1))
        with pytest.raises(BackupError, match="still to come"):
            back_up(settings, database)
        assert engine_of(settings, database).window() is None
        shows(settings, one=now())
        back_up(settings, database)
        shows(settings, one=now() - dt.timedelta(hours=2))
        with pytest.raises(BackupError, match="two snapshots of one id"):
            back_up(settings, database)


def test_a_snapshot_that_the_provider_no_longer_shows_counts_no_more_and_is_ledgered_when_forgotten(
    settings: Settings,
):
    shows(settings, kept=now(), lost=now() - dt.timedelta(hours=3))
    with Database(settings.postgres_url) as database:
        back_up(settings, database)
        shows(settings, kept=engine_of(settings, database).catalogue().sound[-1].started_at)
        listed = engine_of(settings, database).catalogue()
        assert len(listed.sound) == 1 and "no longer shows snapshot lost" in next(
            iter(listed.faults.values())
        )
        planned = engine_of(settings, database).expire(None, now())  # type: ignore[arg-type]
        assert planned[0].is_dry_run and len(planned[0].plan.expired) == 1
        assert len(engine_of(settings, database).catalogue().faults) == 1
        routine.expire_all(settings, database)
        assert engine_of(settings, database).catalogue().faults == {}
    assert settings.external_evidence_file is not None
    settings.external_evidence_file.unlink()
    with Database(settings.postgres_url) as database:
        asked_in_vain = engine_of(settings, database).catalogue()
        assert not asked_in_vain.sound and "cannot be read" in asked_in_vain.faults["evidence"]


def test_what_cannot_be_proved_is_refused_in_one_sentence_with_what_to_do(
    settings: Settings, platform_url: str
):
    shows(settings, one=now())
    with Database(settings.postgres_url) as database:
        made = back_up(settings, database)
        engine = engine_of(settings, database)
        for act in (
            lambda: engine.verify(made.record.backup_id),
            lambda: routine.read_back_newest(settings, database),
            lambda: routine.read_back_all(settings, database),
        ):
            with pytest.raises(
                EngineCannotError, match="cannot be read back from here; a drill can prove it"
            ):
                act()
        with pytest.raises(EngineCannotError, match="with the provider's own tools"):
            engine.preview(RestoreRequest(settings.home / "restored", backup_id=made.record.backup_id))
        with pytest.raises(EngineCannotError, match="no drill without commands that restore and discard"):
            routine.run_drill(settings, database)
        with psycopg.connect(platform_url, autocommit=True) as connection:
            answer = engine.covers(connection, "longbox.loads", "longbox.loads")
    assert not answer.is_covered and "no evidence" in answer.reason


def test_a_drill_restores_by_the_users_command_compares_and_discards(
    settings: Settings, backups: Backups, tmp_path: Path
):
    """The provider's snapshot is a real backup of the cluster, restored by our own engine."""
    with Database(settings.postgres_url) as database:
        shows(settings, before=now())
        back_up(settings, database)  # a witness from before the snapshot
        record = backups.engine.back_up("full")
        shows(settings, snap=record.ended_at)
        back_up(settings, database)

        def drill(url: str) -> None:
            restored = with_database(url, NAME)
            said = f'test "$LONGBOX_SNAPSHOT_ID" = snap; echo working; echo "{restored}"'
            able = with_commands(settings, tmp_path, said)
            result = routine.run_drill(able, database, seed=1)
            assert result.is_proven and result.compared > 2 and (tmp_path / "discarded").exists()
            assert "by restoring" in readiness(engine_of(able, database), now()).as_markdown()
            (tmp_path / "discarded").unlink()

            with psycopg.connect(restored, autocommit=True) as connection:
                connection.execute("ALTER TABLE longbox.ledger DISABLE TRIGGER ALL")
                connection.execute("DELETE FROM longbox.ledger")
            with pytest.raises(DrillFailedError, match="ledger"):
                routine.run_drill(able, database, seed=1)
            assert (tmp_path / "discarded").exists()

            live = with_commands(settings, tmp_path, f'echo "{settings.postgres_url}"')
            with pytest.raises(DrillFailedError, match="named the live server"):
                routine.run_drill(live, database, seed=1)

        backups.restore(backup_id=record.backup_id, check=drill)
        results = drill_results(engine_of(settings, database).repository)
    assert [one.is_proven for one in results] == [True, False, False]


def with_commands(settings: Settings, folder: Path, restore: str) -> Settings:
    return dataclasses.replace(
        settings,
        external_restore_command=script(folder / "restore", restore),
        external_discard_command=script(folder / "discard", f"touch {folder}/discarded"),
    )


def test_a_command_that_fails_or_prints_no_url_is_told_without_secrets(settings: Settings, tmp_path: Path):
    failing = dataclasses.replace(
        settings,
        external_evidence_command=script(
            tmp_path / "evidence", "echo 'postgresql://me:secret@host/db' >&2; exit 3"
        ),
        external_restore_command=script(tmp_path / "restore", "echo done"),
    )
    with pytest.raises(ProviderError, match="exit code 3") as caught:
        setup.provider(failing).evidence()
    assert "secret" not in str(caught.value)
    with pytest.raises(ProviderError, match="must be the URL of the restored server"):
        setup.provider(failing).restore("snap")
    absent = dataclasses.replace(settings, external_evidence_command=("/nonexistent/list",))
    with pytest.raises(ProviderError, match="cannot be run"):
        setup.provider(absent).evidence()


def test_the_jobs_record_evidence_warn_where_it_cannot_be_read_back_and_have_no_wal(settings: Settings):
    shows(settings, one=now())
    with Database(settings.postgres_url) as database:
        given = (("settings", settings), ("database", database))
        resources = {name: dg.ResourceDefinition(lambda _, value=value: value) for name, value in given}
        clock = backup_schedules("external")
        parts = dg.Definitions.merge(
            backup_definitions(settings),
            wal_definitions("external"),
            dg.Definitions(schedules=clock, resources=resources, executor=dg.in_process_executor),
        )
        made = parts.resolve_job_def("backup_full").execute_in_process(raise_on_error=False)
        assert made.success
        [check] = made.get_asset_check_evaluations()
        assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
        assert "cannot be read back from here" in str(check.description)
        refused = parts.resolve_job_def("backup_verification").execute_in_process(raise_on_error=False)
        [event] = [event for event in refused.all_events if event.is_step_failure]
        assert "a drill can prove it" in str(event.step_failure_data.error)
        assert "wal_observation" not in parts.get_repository_def().job_names

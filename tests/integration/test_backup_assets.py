"""Backups, reading back and the drills through the jobs that the schedules launch, on a real cluster and store."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.platform.backup import backup_definitions
from pipelines.backup import routine
from pipelines.backup.errors import BackupRunningError
from resources.database import Database
from resources.errors import ObjectStoreUnavailableError
from resources.object_store import ObjectInfo, ObjectStore
from resources.settings import Settings
from sensors.schedules import backup_schedules, drill_time
from tests.backup_cluster import one_value
from tests.integration.backup_support import acts


@pytest.fixture
def settings(backup_settings: Settings) -> Settings:
    return backup_settings


def run(settings: Settings, job: str) -> dg.ExecuteInProcessResult:
    """The job, in this process."""
    with Database(settings.postgres_url) as database:
        resources = {"settings": given(settings), "database": given(database)}
        parts = dg.Definitions.merge(
            backup_definitions(settings), dg.Definitions(resources=resources, executor=dg.in_process_executor)
        )
        return parts.resolve_job_def(job).execute_in_process(raise_on_error=False)


def given(value: object) -> dg.ResourceDefinition:
    return dg.ResourceDefinition(lambda _: value)


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_backups_copies_reading_back_and_a_drill_run_as_jobs_and_stand_in_the_ledger(
    settings: Settings,
) -> None:
    before = acts(settings)
    first = run(settings, "backup_incremental")
    assert first.success
    made = metadata(first, "platform__backup_incremental")
    assert made["kind"] == "full"
    assert "no backup" in str(made["why_full"])
    assert made["size_bytes"] > made["stored_bytes"] > 0
    copied = metadata(first, "platform__backup_copy")
    assert copied["copied_objects"] == copied["objects"] > 0

    second = run(settings, "backup_incremental")
    assert metadata(second, "platform__backup_incremental")["kind"] == "incremental"
    assert [check.passed for check in second.get_asset_check_evaluations()] == [True]

    read = run(settings, "backup_verification")
    assert metadata(read, "platform__backup_verification")["faults"] == 0
    drill = run(settings, "restore_drill")
    assert drill.success
    proved = metadata(drill, "platform__restore_drill")
    assert proved["rto_seconds"] > 0
    assert proved["compared"] > 1
    assert "Proved when" in proved["recovery_readiness"]
    assert list((settings.home / "drills").iterdir()) == []

    after = acts(settings)
    told = {act: after[act] - before.get(act, 0) for act in after}
    assert told == {"backup": 2, "witness": 5, "verify backups": 2, "restore drill": 1}
    assert one_value(settings.postgres_url, "SELECT count(*) FROM longbox.ledger_faults()") == 0


def test_the_disaster_drill_restores_from_each_store_alone_and_names_the_one_that_fails(
    settings: Settings,
) -> None:
    assert run(settings, "backup_full").success
    before = acts(settings)
    proved = metadata(run(settings, "disaster_drill"), "platform__disaster_drill")
    assert proved["stores"] == 2
    assert proved["compared"] > 2 and proved["rto_seconds"] > 0
    with Database(settings.postgres_url) as database:
        copy = routine.open_own(settings, database).copies[0]
    [folder] = Path(copy.url.removeprefix("file://")).glob("backups/*/catalogue")
    shutil.rmtree(folder)
    failed = run(settings, "disaster_drill")
    assert not failed.success
    [event] = [event for event in failed.all_events if event.is_step_failure]
    said = str(event.step_failure_data.error.message) + str(event.step_failure_data.error.cause)
    assert f"from {copy.url} alone: there is no backup to restore" in said
    assert list((settings.home / "drills").iterdir()) == []
    # the first store was proved both times, whatever the copy said
    assert acts(settings)["disaster drill"] - before.get("disaster drill", 0) == 3


def test_the_failover_drill_lets_the_restored_server_take_writes_and_the_live_one_is_not_touched(
    settings: Settings,
) -> None:
    assert run(settings, "backup_full").success
    before = acts(settings)
    drill = run(settings, "failover_drill")
    assert drill.success
    assert metadata(drill, "platform__failover_drill")["compared"] > 3
    assert acts(settings)["fail-over drill"] - before.get("fail-over drill", 0) == 1
    assert one_value(settings.postgres_url, "SELECT count(*) FROM longbox.ledger_faults()") == 0


def test_a_damaged_object_fails_the_verification_by_name_and_the_check_of_the_next_full(
    settings: Settings,
) -> None:
    assert run(settings, "backup_full").success
    with Database(settings.postgres_url) as database:
        repository = routine.open_own(settings, database)
    for store in repository.stores:
        path = next(Path(store.url.removeprefix("file://")).glob("backups/*/data/*/part-000001.sealed"))
        data = bytearray(path.read_bytes())
        data[-40] ^= 1
        path.write_bytes(data)
    failed = run(settings, "backup_verification")
    assert not failed.success
    [event] = [event for event in failed.all_events if event.is_step_failure]
    assert "part-000001.sealed is damaged" in str(event.step_failure_data.error.message)


def test_another_backup_under_way_is_waited_for_instead_of_failing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = routine.make_backup

    def busy_once(*arguments: object, **named: object) -> object:
        asked.append(1)
        if len(asked) == 1:
            raise BackupRunningError("another backup is in progress")
        return real(*arguments, **named)

    monkeypatch.setattr(routine, "make_backup", busy_once)
    monkeypatch.setattr("assets.retries.WAIT_SECONDS", (0, 0, 0))
    assert run(settings, "backup_full").success
    assert len(asked) == 2


def test_a_copy_store_that_is_away_fails_its_own_step_and_no_backup_is_made_twice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, [away] = ObjectStore.list, settings.backup_copy_stores

    def listed(self: ObjectStore, prefix: str) -> Iterator[ObjectInfo]:
        if self.url == away:
            raise ObjectStoreUnavailableError("the copy store is away")
        return real(self, prefix)

    monkeypatch.setattr(ObjectStore, "list", listed)
    monkeypatch.setattr("assets.retries.WAIT_SECONDS", (0, 0, 0))
    result = run(settings, "backup_full")
    failed = [event.step_key for event in result.all_events if event.is_step_failure]
    assert failed == ["platform__backup_copy"]
    with Database(settings.postgres_url) as database:
        assert len(routine.open_own(settings, database).records().sound) == 1


def test_the_drill_comes_at_another_time_every_day_and_away_from_the_full_backup() -> None:
    times = [drill_time(day).split() for day in range(1, 32)]
    assert len({(minute, hour) for minute, hour, *_ in times}) > 25
    assert all(3 <= int(hour) < 22 for _, hour, *_ in times)
    assert {schedule.default_status for schedule in backup_schedules()} == {dg.DefaultScheduleStatus.STOPPED}

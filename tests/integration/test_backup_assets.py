"""Backups, reading back and the drill through the jobs that the schedules launch, on a real cluster and store."""

import dataclasses
import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest

from assets.platform.backup import backup_definitions
from deploy.local.ports import choose
from pipelines.backup import expiry, layout, routine, setup
from pipelines.backup.drill import DrillResult
from pipelines.backup.errors import BackupRunningError
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import RestoreRequest
from pipelines.backup.slot import SLOT, SlotSession
from pipelines.backup.slot_guard import give_slot_up
from resources.database import Database
from resources.errors import ObjectStoreUnavailableError
from resources.notifier import Alert, Delivery
from resources.object_store import ObjectInfo, ObjectStore
from resources.restored_server import stop_left_over
from resources.settings import PROJECT_ROOT, Settings
from sensors.backup_age import backup_age_sensor
from sensors.schedules import backup_schedules, drill_time
from tests.backup_cluster import Cluster, fast_folder, migrated_database, one_value

NAME = "longbox_jobs"


@pytest.fixture(scope="module")
def platform_url(cluster: Cluster) -> Iterator[str]:
    """A database with the platform's tables in the cluster that is backed up."""
    with migrated_database(cluster, NAME) as url:
        yield url


@pytest.fixture
def settings(platform_url: str, tmp_path: Path) -> Iterator[Settings]:
    """A store, a copy store, and no keys yet."""
    home = fast_folder("longbox-jobs-")
    for name in ("objects", "copies"):
        (tmp_path / name).mkdir()
    yield Settings.load(
        {
            "LONGBOX_HOME": str(home),
            "LONGBOX_POSTGRES_URL": platform_url,
            "LONGBOX_OBJECT_STORE": (tmp_path / "objects").as_uri(),
            "LONGBOX_BACKUP_COPY_STORES": (tmp_path / "copies").as_uri(),
        }
    )
    shutil.rmtree(home, ignore_errors=True)


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


def acts(settings: Settings) -> dict[str, int]:
    with psycopg.connect(settings.postgres_url) as connection:
        rows = connection.execute("SELECT act, count(*) FROM longbox.ledger GROUP BY act").fetchall()
    return dict(rows)


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


def test_what_the_ledger_names_and_the_store_lost_is_named_by_reading_back(settings: Settings) -> None:
    with Database(settings.postgres_url) as database:
        kept, lost = (
            routine.make_backup(settings, database, "full", warn=lambda _: None).record for _ in "ab"
        )
        result = routine.run_drill(settings, database, seed=1)
        assert result.backup_id in (kept.backup_id, lost.backup_id)
        routine.copy_all(settings, database)
        assert [report.faults for report in routine.read_back_all(settings, database)] == [(), ()]
        repository = routine.open_own(settings, database)
        witness = repository.all_names("truth")[-1]
        gone = [witness, *repository.all_names("drills"), *repository.all_names(f"data/{lost.backup_id}")]
        for name in [*gone, f"catalogue/{lost.backup_id}.json"]:
            repository.delete(name)
        report, copy = routine.read_back_all(settings, database)
        assert {fault.name for fault in report.faults} == {
            witness, result_name(result), f"catalogue/{lost.backup_id}.json"
        }  # fmt: skip
        assert copy.is_sound
        for name in repository.all_names("catalogue"):
            repository.only(repository.store).delete(name)
        assert not routine.read_back_all(settings, database)[0].is_sound


def test_a_backup_that_went_into_the_store_used_before_is_not_asked_of_this_one(settings: Settings) -> None:
    with Database(settings.postgres_url) as database:
        first = routine.make_backup(settings, database, "full", warn=lambda _: None).record
        ledger = Ledger(database, routine.open_own(settings, database).system_identifier)
        prefix, instant = first.backup_id[:-4], dt.timedelta(microseconds=1)
        # both began in the second of the oldest backup that is here
        for backup_id, began_at in ((f"{prefix}0old", -instant), (f"{prefix}0new", instant)):
            proof = {"backup_id": backup_id, "started_at": (first.started_at + began_at).isoformat()}
            ledger.write("backup", "asked for", proof)
        report = routine.read_back_all(settings, database)[0]
    assert [fault.name for fault in report.faults] == [layout.record(f"{prefix}0new")]


def result_name(result: DrillResult) -> str:
    return f"drills/{result.began_at:%Y%m%dT%H%M%S.%f}Z.json"


def test_expiry_tells_the_ledger_before_it_deletes(settings: Settings) -> None:
    policy = expiry.Policy(0, 0, 0, 0, 0, 0, minimum_fulls=1)
    with Database(settings.postgres_url) as database:
        made = [routine.make_backup(settings, database, "full", warn=lambda _: None) for _ in range(3)]
        before = acts(settings)
        results = routine.expire_all(settings, database, policy)
        [left] = routine.open_own(settings, database).only(setup.open_stores(settings)[0]).records()
    assert left.backup_id == made[-1].record.backup_id
    assert [len(result.plan.expired) for result in results] == [2, 0]
    assert acts(settings)["expire backup"] - before.get("expire backup", 0) == 2
    with Database(settings.postgres_url) as database:
        assert routine.run_drill(settings, database, seed=3).is_proven


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


def test_a_backup_by_hand_is_witnessed_and_ledgered_too(settings: Settings) -> None:
    before = acts(settings)
    for words in ([], ["expire", "--yes"]):
        done = by_hand(settings, *words)
        assert done.returncode == 0, done.stderr
    after = acts(settings)
    assert {act: after[act] - before.get(act, 0) for act in ("backup", "witness")} == {
        "backup": 1,
        "witness": 2,
    }
    with Database(settings.postgres_url) as database:
        assert routine.run_drill(settings, database, seed=1).is_proven


class Heard:
    """A notifier that keeps what it is told."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def send(self, alert: Alert) -> Delivery:
        self.causes.append(alert.cause)
        return Delivery(True, 0, ())


def tick(settings: Settings, heard: Heard, cursor: str | None) -> tuple[str, str]:
    """One tick of the sensor; what it said and its cursor."""
    context = dg.build_sensor_context(cursor=cursor, resources={"settings": settings, "notifier": heard})
    result = backup_age_sensor()(context)
    return result.skip_reason.skip_message, result.cursor


def test_the_age_sensor_tells_each_cause_once_until_it_is_gone(settings: Settings) -> None:
    heard = Heard()
    _, cursor = tick(settings, heard, None)
    said, cursor = tick(settings, heard, cursor)
    assert heard.causes == ["backup_age:none"]
    assert "there are no backups" in said
    with Database(settings.postgres_url) as database:
        routine.make_backup(settings, database, "full", warn=lambda _: None)
        routine.copy_all(settings, database)
        _, cursor = tick(settings, heard, cursor)
        assert heard.causes == ["backup_age:none", "backup_age:drill"]
        routine.run_drill(settings, database)
    said, cursor = tick(settings, heard, cursor)
    assert said == "backups, WAL and drills are as young as they have to be"
    assert json.loads(cursor) == []


def test_what_cannot_be_seen_and_a_key_that_is_due_are_told_once_each(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    _, cursor = tick(settings, heard, None)

    def away(settings: Settings) -> None:
        raise ObjectStoreUnavailableError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(setup, "open_stored_source", away)
        for _ in range(2):
            said, cursor = tick(settings, heard, cursor)
            assert "the store is away" in said
    _, cursor = tick(settings, heard, cursor)
    assert heard.causes == ["backup_age:none", "backup_age:unseen"]  # what was told before is not told again

    setup.default_keys(settings, lambda _: None)
    monkeypatch.setattr("resources.keys.ROTATE_AFTER", dt.timedelta(0))
    said, cursor = tick(settings, heard, cursor)
    assert "`longbox backup keys rotate`" in said
    tick(settings, heard, cursor)
    assert heard.causes[2:] == ["backup_age:key"]


@pytest.fixture
def forgotten_slot(cluster: Cluster) -> Iterator[None]:
    """A slot of a receiver that runs no more, for which the server keeps some segments."""
    cluster.run(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
    for _ in range(4):
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
    yield
    cluster.run(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    )


def slots(cluster: Cluster) -> object:
    return cluster.value(f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")


def test_a_slot_beyond_its_bound_that_no_receiver_reads_is_given_up_by_a_full_backup(
    settings: Settings, cluster: Cluster, forgotten_slot: None
) -> None:
    bounded, heard, told = dataclasses.replace(settings, wal_slot_max_bytes=40 << 20), Heard(), []
    with Database(settings.postgres_url) as database:
        routine.make_backup(settings, database, "full", warn=lambda _: None)
        assert slots(cluster) == 1, "within the bound"
        context = dg.build_sensor_context(cursor=None, resources={"settings": bounded, "notifier": heard})
        result = backup_age_sensor()(context)
        assert len(result.run_requests) == 1 and "backup_age:slot" in heard.causes
        assert backup_age_sensor().job_name == "backup_full"
        assert "no receiver runs" in tick(bounded, heard, result.cursor)[0]
        assert heard.causes.count("backup_age:slot") == 1
        before = acts(settings).get("drop wal slot", 0)
        made = routine.make_backup(bounded, database, "incremental", warn=told.append)
        assert made.record.kind == "full" and "no receiver runs" in made.reason
        assert slots(cluster) == 0 and any("it is dropped" in text for text in told)
        assert acts(settings)["drop wal slot"] == before + 1
        again = routine.make_backup(bounded, database, "incremental", warn=told.append)
        assert again.record.kind == "incremental" and acts(settings)["drop wal slot"] == before + 1


def test_the_slot_of_a_receiver_that_is_at_work_is_left_to_it(
    settings: Settings, cluster: Cluster, forgotten_slot: None
) -> None:
    bounded = dataclasses.replace(settings, wal_slot_max_bytes=40 << 20)
    with setup.backup_database(bounded) as database, SlotSession(database) as receiver:
        receiver.lock("longbox wal receiver")
        assert give_slot_up(bounded, lambda reason, state: pytest.fail(reason)) == ""
    assert slots(cluster) == 1


def test_reading_back_by_hand_asks_the_ledger_what_has_to_be_there(settings: Settings) -> None:
    with Database(settings.postgres_url) as database:
        routine.make_backup(settings, database, "full", warn=lambda _: None)
        lost = routine.make_backup(settings, database, "full", warn=lambda _: None).record
        repository = routine.open_own(settings, database)
        routine.copy_all(settings, database)
    assert by_hand(settings, "verify").returncode == 0
    listed = by_hand(settings, "list")
    assert listed.returncode == 0 and "restorable: the end of each backup" in listed.stdout
    assert re.search(rf"^{lost.backup_id}  full .* sound, verified ", listed.stdout, re.MULTILINE)
    repository.only(repository.store).delete(lost.objects[0].name)
    mended = by_hand(settings, "copy", "--mend")
    assert mended.returncode == 0 and f"{settings.backup_store}: 1 of " in mended.stdout, mended
    assert by_hand(settings, "verify").returncode == 0
    for name in (layout.record(lost.backup_id), *(stored.name for stored in lost.objects)):
        for store in repository.stores:
            repository.only(store).delete(name)
    found = by_hand(settings, "verify")
    assert found.returncode == 1 and layout.record(lost.backup_id) in found.stdout
    away = dataclasses.replace(settings, given_postgres_url="postgresql://nobody@127.0.0.1:1/none")
    found = by_hand(away, "verify")
    assert found.returncode == 0 and "the ledger was not asked" in found.stderr


def test_a_restore_by_hand_stands_in_the_ledger_of_the_platform_or_of_what_was_restored(
    settings: Settings,
) -> None:
    query = "SELECT proof FROM longbox.ledger WHERE act = 'restore'"
    warned: list[str] = []
    with Database(settings.postgres_url) as database:
        made = routine.make_backup(settings, database, "full", warn=lambda _: None).record
    source = setup.open_stored_source(settings)
    restored, elsewhere = settings.home / "restored", settings.home / "elsewhere"
    request = RestoreRequest(restored, is_durable=False)
    routine.restore_and_tell(settings, source, request, warn=warned.append)
    told = one_value(settings.postgres_url, query)
    assert (told["into"], told["backup_id"]) == (str(restored), made.backup_id)  # type: ignore[index]

    lost = dataclasses.replace(settings, given_postgres_url="postgresql://nobody@127.0.0.1:1/none")
    port = choose("port", None, remembered=None)
    request = RestoreRequest(elsewhere, is_durable=False, port=port)
    routine.restore_and_tell(lost, source, request, warn=warned.append)
    try:
        url = urlsplit(settings.postgres_url)
        own = url._replace(netloc=f"{url.netloc.rpartition(':')[0]}:{port}").geturl()
        assert one_value(own, query)["into"] == str(elsewhere)  # type: ignore[index]
        assert one_value(own, "SELECT count(*) FROM longbox.ledger_faults()") == 0
    finally:
        stop_left_over(elsewhere / "data")
    assert warned == []


def by_hand(settings: Settings, *words: str) -> "subprocess.CompletedProcess[str]":
    """`longbox backup ...` in a process of its own."""
    assert settings.given_postgres_url is not None and settings.given_object_store is not None
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT_ROOT),
        "LONGBOX_HOME": str(settings.home),
        "LONGBOX_POSTGRES_URL": settings.given_postgres_url,
        "LONGBOX_OBJECT_STORE": settings.given_object_store,
        "LONGBOX_BACKUP_COPY_STORES": ",".join(settings.backup_copy_stores),
    }
    command = [sys.executable, "-m", "cli.main", "backup", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_what_is_overdue_is_told_by_its_age(settings: Settings) -> None:
    from pipelines.backup.readiness import readiness

    with Database(settings.postgres_url) as database:
        routine.make_backup(settings, database, "full", warn=lambda _: None)
        routine.copy_all(settings, database)
        state = readiness(routine.open_source(settings, database), dt.datetime.now(dt.UTC))
    later = dataclasses.replace(state, now=state.now + dt.timedelta(hours=31))
    assert set(later.problems()) == {"rpo", f"copy:{settings.backup_copy_stores[0]}", "full", "drill"}
    assert "31.0 h" in later.problems()["full"]


def test_the_drill_comes_at_another_time_every_day_and_away_from_the_full_backup() -> None:
    times = [drill_time(day).split() for day in range(1, 32)]
    assert len({(minute, hour) for minute, hour, *_ in times}) > 25
    assert all(3 <= int(hour) < 22 for _, hour, *_ in times)
    assert {schedule.default_status for schedule in backup_schedules()} == {dg.DefaultScheduleStatus.STOPPED}

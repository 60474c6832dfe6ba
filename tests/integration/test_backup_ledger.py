"""Backups, expiry and restores stand in the ledger, by hand too; reading back asks it what the stores have to hold."""

import dataclasses
import datetime as dt
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from deploy.local.ports import choose
from pipelines.backup import expiry, layout, routine, setup
from pipelines.backup.drill import DrillResult
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import RestoreRequest
from resources.database import Database
from resources.restored_server import stop_left_over
from resources.settings import PROJECT_ROOT, Settings
from tests.backup_cluster import one_value
from tests.integration.backup_support import acts


@pytest.fixture
def settings(backup_settings: Settings) -> Settings:
    return backup_settings


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


def result_name(result: DrillResult) -> str:
    return f"drills/{result.began_at:%Y%m%dT%H%M%S.%f}Z.json"


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

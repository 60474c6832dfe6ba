"""kill -9 of a backup or a restore at its steps; two at once; memory. Every test ends with what is left and a rerun."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.processes import processes_in, wait_until
from pipelines.backup import layout
from pipelines.backup.errors import BackupRunningError
from pipelines.backup.model import RestoreRequest
from pipelines.backup.postgres import SLOT
from pipelines.backup.restore import restore
from pipelines.backup.verify import verify_repository
from resources.settings import PROJECT_ROOT
from tests.backup_cluster import Backups, truth

_NOW = dt.timedelta(0)


def started(*arguments: object) -> "subprocess.Popen[str]":
    """The process, once it is at its step."""
    command = [sys.executable, "-m", "tests.faults.backup_process", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "READY\n"
    return process


def killed(*arguments: object) -> None:
    """Start it and kill it at its step."""
    process = started(*arguments)
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("kind", "step"),
    [("full", "1"), ("full", "3"), ("full", "record"), ("incremental", "1"), ("incremental", "record")],
)
def test_a_backup_killed_at_any_step_does_not_exist_and_the_next_one_completes(
    backups: Backups, tmp_path: Path, kind: str, step: str
):
    repository, cluster = backups.repository, backups.cluster
    if kind == "incremental":
        backups.engine.back_up("full")
    before = [record.backup_id for record in backups.engine.catalogue().sound]
    killed("back_up", repository.store.url, cluster.url, cluster.system, tmp_path, kind, step)

    assert [record.backup_id for record in backups.engine.catalogue().sound] == before
    leftovers = repository.unfinished(_NOW)
    assert any(name.startswith(layout.DATA) for name in leftovers)
    assert repository.unfinished() == []  # they are young: it could be in progress
    wait_for_free_slot(backups)
    cluster.write()
    record = backups.engine.back_up(kind)  # type: ignore[arg-type]
    assert repository.sweep(_NOW) == sorted(
        leftovers, key=lambda name: (name.startswith(layout.LEASES), name)
    )
    assert repository.unfinished(_NOW) == []
    assert verify_repository(repository, backups.opener, True).is_sound
    assert backups.restored_truth(backup_id=record.backup_id) == cluster.truth()


def test_two_backups_at_once_are_refused_by_name_and_the_first_is_not_swept(backups: Backups, tmp_path: Path):
    cluster = backups.cluster
    first = started(
        "back_up", backups.repository.store.url, cluster.url, cluster.system, tmp_path, "full", "1"
    )
    try:
        with pytest.raises(BackupRunningError, match="another backup of this cluster is running since"):
            backups.engine.back_up("full")
        assert backups.repository.sweep() == []
        assert any(info.path.startswith(layout.LEASES) for info in backups.repository.names())
    finally:
        first.kill()
        first.wait()
    wait_for_free_slot(backups)
    assert backups.engine.back_up("full").backup_id in [
        record.backup_id for record in backups.engine.catalogue().sound
    ]


@pytest.mark.parametrize("step", ["files", "recovered"])
def test_a_restore_killed_at_any_step_is_not_taken_for_one_and_the_same_command_completes(
    backups: Backups, tmp_path: Path, step: str
):
    backups.engine.back_up("full")
    into = backups.scratch / "here"
    killed("restore", backups.repository.store.url, backups.cluster.system, tmp_path, into, step)
    assert '"in progress"' in (into / "restore.json").read_text(encoding="utf-8")

    said: list[str] = []
    request = RestoreRequest(into, is_durable=False)
    restore(backups.repository, request, backups.opener, check=lambda url: said.append(truth(url)))

    assert said == [backups.cluster.truth()]
    assert '"restored"' in (into / "restore.json").read_text(encoding="utf-8")
    assert processes_in(into / "data") == []


def test_a_backup_and_a_restore_stay_below_256_mib_of_memory(backups: Backups, tmp_path: Path):
    """150 MB that do not compress: several parts of the full size are built, in flight and fetched ahead at once."""
    cluster = backups.cluster
    cluster.run(
        "CREATE TABLE noise (body bytea)",
        "ALTER TABLE noise ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO noise SELECT pg_read_binary_file('/dev/urandom', 0, 1 << 20) FROM generate_series(1, 150)",
    )
    try:
        store = backups.repository.store.url
        arguments = ["back_up", store, cluster.url, cluster.system, tmp_path, "full", "end", 32 << 20]
        backed_up = output_of(*arguments)
        assert backups.engine.catalogue().sound[-1].stored_bytes > 100_000_000
        restored = output_of("restore", store, cluster.system, tmp_path, backups.scratch / "here", "end")
        assert int(backed_up.split()[1]) < 256 << 10, f"{backed_up} KiB"
        assert int(restored.split()[1]) < 256 << 10, f"{restored} KiB"
    finally:
        cluster.run("DROP TABLE noise")


def output_of(*arguments: object) -> str:
    """What a whole run says last."""
    command = [sys.executable, "-m", "tests.faults.backup_process", *map(str, arguments)]
    return subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]


def wait_for_free_slot(backups: Backups) -> None:
    """The server notices the end of a killed client when it next speaks to it."""
    query = f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    assert wait_until(lambda: True if backups.cluster.value(query) == 0 else None, seconds=60)

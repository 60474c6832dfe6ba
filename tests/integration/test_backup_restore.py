"""Restores: to a moment, to the newest, from a copy alone, on an empty home; and every reason to refuse one."""

import datetime as dt
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.ports import choose
from pipelines.backup import copies, expiry, files, layout, planning
from pipelines.backup.errors import (
    BaseUnusableError,
    DamagedError,
    RestoreFailedError,
    RestoreRefusedError,
    WalMissingError,
)
from pipelines.backup.model import RestoreRequest, StoredObject
from pipelines.backup.planning import plan, window
from pipelines.backup.repository import Repository
from pipelines.backup.restore import restore
from pipelines.backup.sealed import Opener, Sealer, recovery_lock, state_lock
from pipelines.backup.verify import verify_repository
from pipelines.backup.wal import SEGMENT_BYTES, WalArchive
from resources.keys import RecoveryKeys, WrongKeyError, make_keys, rotate_keys
from resources.object_store import ObjectStore
from resources.postgres_programs import MissingProgramsError
from resources.postgres_tools import PostgresTools
from resources.restored_server import stop_left_over
from resources.settings import PROJECT_ROOT
from tests.backup_cluster import Backups, Cluster, new_backups, one_value, ship_wal, truth

Usage = namedtuple("Usage", "total used free")


def test_every_moment_between_commits_is_restored_exactly(backups: Backups):
    cluster = backups.cluster
    backups.engine.back_up("full")
    moments = []
    for number in range(3):
        cluster.write(5)
        moments.append((cluster.now(), cluster.truth()))
        if number == 1:
            backups.engine.back_up("incremental")
            cluster.run("SELECT pg_switch_wal()")
    last = ship_wal(backups)

    for moment, expected in moments:
        assert backups.restored_truth(to=moment) == expected
    assert backups.restored_truth() == cluster.truth()
    # nothing was committed after the last write: the end of WAL is that moment's state
    assert backups.restored_truth(to=last) == cluster.truth()
    found = window(backups.repository, backups.opener)
    assert found is not None and found.is_from_wal and found.until == last


def test_a_chain_is_laid_out_byte_for_byte_as_pg_combinebackup_would(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
):
    cluster = backups.cluster
    cluster.run("CREATE TABLE more (id int, body text)", "CREATE INDEX more_id ON more (id)")
    fill = "INSERT INTO {} SELECT n, md5(n::text) FROM generate_series({}, {}) n"
    cluster.run(fill.format("more (id, body)", 1, 30_000), "CREATE TABLE gone AS SELECT * FROM more")
    backups.engine.back_up("full")
    cluster.run("UPDATE more SET body = 'changed' WHERE id % 900 = 0", "DELETE FROM gone WHERE id > 9000")
    cluster.run("VACUUM gone", "DROP TABLE IF EXISTS later", "CREATE TABLE later AS SELECT * FROM more")
    backups.engine.back_up("incremental")
    cluster.run(fill.format("more (id, body)", 30_001, 60_000), fill.format("gone", 1, 12_000))
    backups.engine.back_up("incremental")
    cluster.run("UPDATE later SET body = 'changed' WHERE id = 7", "TRUNCATE gone", fill.format("gone", 1, 9))
    last = backups.engine.back_up("incremental")

    def contents(name: str) -> dict[str, str]:
        backups.engine.lay_out(last.backup_id, backups.scratch / name)
        found = [path for path in (backups.scratch / name).rglob("*") if path.is_file()]
        return {
            str(path.relative_to(backups.scratch / name)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in found
            if path.name != "backup_manifest"  # has the times of files
        }

    made: list[int] = []
    apply = files.apply_changes
    monkeypatch.setattr(files, "apply_changes", lambda *given: made.append(apply(*given)) or made[-1])
    ours = contents("ours")
    assert made[0] > 5
    monkeypatch.setattr(PostgresTools, "can_link", False)
    assert ours == contents("theirs")
    assert len(made) == 1
    cluster.run("DROP TABLE more, gone, later")


def test_a_moment_outside_the_window_is_refused_and_the_window_is_named(backups: Backups):
    backups.engine.back_up("full")
    backups.cluster.write()
    last = ship_wal(backups)
    for moment, said in (
        (last - dt.timedelta(days=1), "before the first restorable moment"),
        (last + dt.timedelta(seconds=1), f"newest restorable moment, {last:%Y-%m-%d %H:%M:%S}"),
    ):
        with pytest.raises(RestoreRefusedError, match=said):
            backups.restore(to=moment)
    assert list(backups.scratch.iterdir()) == []


def test_wal_missing_in_the_middle_is_refused_for_what_lies_beyond_it_only(backups: Backups):
    cluster = backups.cluster
    record = backups.engine.back_up("full")
    cluster.write()
    cluster.run("SELECT pg_switch_wal()")
    ship_wal(backups)
    before, expected = cluster.now(), cluster.truth()
    gone = cluster.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    ship_wal(backups)
    reachable = window(backups.repository, backups.opener)
    assert reachable is not None and reachable.until > before
    for _ in range(2):
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
    ship_wal(backups)
    backups.repository.delete(layout.segment(1, str(gone)))

    with pytest.raises(WalMissingError, match="missing"):
        backups.restore()
    with pytest.raises(WalMissingError, match="missing"):
        backups.restore(to=cluster.now())
    report = verify_repository(backups.repository, backups.opener, True)
    assert any(str(gone) in str(fault) for fault in report.faults)
    assert backups.restored_truth(backup_id=record.backup_id) != expected


@pytest.mark.parametrize("wanted", ["a moment", "the newest"])
def test_wal_that_ends_before_what_is_covered_is_no_database_of_that_moment(backups: Backups, wanted: str):
    cluster, archive = backups.cluster, WalArchive(backups.repository)
    backups.engine.back_up("full")
    cluster.write()
    ship_wal(backups)
    end = archive.inventory().covered
    cluster.write()
    last = ship_wal(backups)
    (key, partial), size = next(iter(archive.inventory().partials.items())), archive.segment_bytes
    assert end is not None and partial.valid_bytes is not None and end.lsn % size < partial.valid_bytes
    # an object of the name and length of the right one that holds less: sound by itself, and worth nothing
    short = archive.read(partial.name, backups.opener)[: end.lsn % size].ljust(size, b"\0")
    lock = recovery_lock(backups.server_keys)
    archive.put_partial(lock, *key, short, partial.valid_bytes, last)

    with pytest.raises(RestoreFailedError, match=r"its WAL ends at .*, before "):
        backups.restored_truth(to=last if wanted == "a moment" else None)
    cluster.write()
    ship_wal(backups)
    assert backups.restored_truth() == cluster.truth()


def test_a_timeline_whose_history_was_lost_is_not_left_out_in_silence(backups: Backups):
    backups.engine.back_up("full")
    backups.cluster.write()
    last = ship_wal(backups)
    current = str(backups.cluster.value("SELECT pg_walfile_name(pg_current_wal_flush_lsn())"))
    archive, lock = WalArchive(backups.repository), recovery_lock(backups.server_keys)
    archive.put_segment(lock, 2, f"00000002{current[8:]}", bytes(SEGMENT_BYTES), last)
    with pytest.raises(RestoreRefusedError, match=f"{layout.history(2)} is missing"):
        backups.restore()
    assert list(backups.scratch.iterdir()) == []
    report = verify_repository(backups.repository, backups.opener, True)
    assert layout.history(2) in {fault.name for fault in report.faults}
    assert backups.restored_truth(to=last) == backups.cluster.truth()


def test_a_backup_that_outlived_its_wal_is_restorable_to_its_own_end_alone(backups: Backups):
    old = backups.engine.back_up("full")
    expected = backups.cluster.truth()
    backups.cluster.write()
    backups.cluster.run("SELECT pg_switch_wal()")
    between = backups.cluster.now()
    ship_wal(backups)
    new = backups.engine.back_up("full")
    backups.cluster.write()
    last = ship_wal(backups)
    kept = expiry.Policy(full_days=30, wal_days=0)
    assert expiry.expire(backups.repository, kept, backups.cluster.now(), dry_run=False).plan.wal

    found = window(backups.repository, backups.opener)
    assert found is not None and (found.first, found.until) == (new.ended_at, last)
    with pytest.raises(WalMissingError, match="missing"):
        backups.restore(to=between)
    assert verify_repository(backups.repository, backups.opener, True).is_sound
    assert backups.restored_truth(backup_id=old.backup_id) == expected
    assert backups.restored_truth(to=last) == backups.cluster.truth()


def test_a_damaged_wal_object_stops_the_restore_by_name_and_leaves_nothing(backups: Backups):
    backups.engine.back_up("full")
    backups.cluster.write()
    backups.cluster.run("SELECT pg_switch_wal()")
    backups.cluster.write()
    ship_wal(backups)
    victim = max(WalArchive(backups.repository).inventory().segments.values())
    backups.flip(victim)
    with pytest.raises(DamagedError, match=victim):
        backups.restore()
    assert list(backups.scratch.iterdir()) == []


def test_a_flipped_bit_is_named_and_a_copy_takes_its_place(backups: Backups, tmp_path: Path):
    record = backups.engine.back_up("full")
    expected = backups.cluster.truth()
    copy = ObjectStore.from_url((tmp_path / "copy").as_uri())
    with_copy = replace(
        backups, repository=Repository(backups.repository.store, backups.cluster.system, [copy])
    )
    (result,) = copies.copy_repository(with_copy.repository)
    assert result.copied == result.objects > 2 and result.faults == ()
    victim = record.parts[1].name
    backups.flip(victim)

    with pytest.raises(DamagedError, match=victim):
        backups.restore()
    assert with_copy.restored_truth() == expected

    assert [fault.name for fault in verify_repository(backups.repository, backups.opener, True).faults] == [
        victim
    ]
    mended = copies.mend(with_copy.repository)
    assert [found.copied for found in mended] == [1, 0]
    assert verify_repository(backups.repository, backups.opener, True).is_sound


def test_a_copy_is_enough_when_the_store_is_gone(backups: Backups, tmp_path: Path):
    backups.engine.back_up("full")
    backups.cluster.write()
    backups.engine.back_up("incremental")
    ship_wal(backups)
    copy = ObjectStore.from_url((tmp_path / "copy").as_uri())
    copies.copy_repository(Repository(backups.repository.store, backups.cluster.system, [copy]))
    shutil.rmtree(backups.path_of(""))
    alone = replace(backups, repository=Repository(copy, backups.cluster.system))
    assert alone.restored_truth() == backups.cluster.truth()
    assert verify_repository(alone.repository, alone.opener, True).is_sound


def test_the_wrong_key_is_told_before_anything_is_written(backups: Backups, tmp_path: Path):
    backups.engine.back_up("full")
    other = make_keys(tmp_path / "s2.json", tmp_path / "r2.json", dt.datetime.now(dt.UTC))
    wrong = Opener(RecoveryKeys.load(other.recovery_file))
    with pytest.raises(WrongKeyError, match=other.key_id):
        restore(backups.repository, RestoreRequest(backups.scratch / "x"), wrong)
    with pytest.raises(WrongKeyError, match="not at hand"):
        restore(backups.repository, RestoreRequest(backups.scratch / "x"), Opener())
    assert list(backups.scratch.iterdir()) == []


def test_a_backup_from_before_a_rotation_is_restored_with_the_rotated_file(backups: Backups, tmp_path: Path):
    record = backups.engine.back_up("full")
    rotate_keys(tmp_path / "server.json", tmp_path / "recovery.json", dt.datetime.now(dt.UTC))
    rotated = replace(backups, recovery_keys=RecoveryKeys.load(tmp_path / "recovery.json"))
    assert rotated.restored_truth(backup_id=record.backup_id) == backups.cluster.truth()


def test_an_incremental_whose_base_is_gone_is_refused_and_an_older_backup_is_taken_when_asked_for(
    backups: Backups,
):
    first = backups.engine.back_up("full")
    expected = backups.cluster.truth()
    base = backups.engine.back_up("full")
    lost = backups.engine.back_up("incremental")
    backups.repository.delete(layout.record(base.backup_id))
    with pytest.raises(DamagedError, match=base.backup_id):
        backups.restore(backup_id=lost.backup_id)
    # an older one is not passed off as the newest: it is taken when it is asked for
    with pytest.raises(RestoreRefusedError, match=f"{base.backup_id}.*is damaged or missing"):
        backups.restore()
    at_its_end = RestoreRequest(backups.scratch / "x", to=first.ended_at)
    assert plan(backups.repository, at_its_end, backups.opener).record == first
    assert backups.restored_truth(backup_id=first.backup_id) == expected


def test_a_base_from_beyond_where_the_server_is_now_is_refused_so_that_a_full_backup_is_made(
    backups: Backups,
):
    """As after a machine was set back to a snapshot of its disk."""
    base = backups.engine.back_up("full")
    assert base.manifest is not None
    sealed = backups.repository.read_sealed(base.manifest.name)
    content = b"".join(sealed.plain(backups.opener.key_of(sealed.header)))
    body = re.sub(
        rb'"End-LSN": "[0-9A-F]+/', b'"End-LSN": "7F/', content.rpartition(b'"Manifest-Checksum"')[0]
    )
    content = body + b'"Manifest-Checksum": "%s"}\n' % hashlib.sha256(body).hexdigest().encode()
    sealer = Sealer(state_lock(backups.server_keys), base.manifest.name)
    backups.repository.put(sealer.name, sealer.seal(content))
    manifest = StoredObject(sealer.name, sealer.size_bytes, len(content), sealer.blake2b)
    backups.repository.put_record(replace(base, manifest=manifest))
    with pytest.raises(BaseUnusableError, match="make a full backup"):
        backups.engine.back_up("incremental")


def test_a_restored_server_that_is_left_running_does_not_act_for_the_origin(backups: Backups, tmp_path: Path):
    """Its configuration names the origin's standbys, subscriptions and pid file."""
    cluster, pid_file = backups.cluster, backups.scratch / "origin.pid"
    settings = ("synchronous_standby_names = 'absent'", f"external_pid_file = '{pid_file}'")
    cluster.run(*(f"ALTER SYSTEM SET {one}" for one in settings))
    try:
        backups.engine.back_up("full")
    finally:
        cluster.run("ALTER SYSTEM RESET synchronous_standby_names", "ALTER SYSTEM RESET external_pid_file")
    port = choose("port", None, remembered=None)
    result = backups.restore(port=port)
    try:
        address, _, _ = cluster.url.rpartition("@")
        url = f"{address}@127.0.0.1:{port}/postgres"
        assert one_value(url, "SHOW synchronous_standby_names") == ""
        assert one_value(url, "SHOW max_logical_replication_workers") == "0"
        assert not pid_file.exists()
    finally:
        stop_left_over(result.into / "data")


def test_a_full_disk_is_told_before_anything_is_written(backups: Backups, monkeypatch: pytest.MonkeyPatch):
    record = backups.engine.back_up("full")
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, record.plain_bytes))
    with pytest.raises(RestoreRefusedError, match="GB free"):
        backups.restore()
    assert list(backups.scratch.iterdir()) == []


def test_another_major_version_is_refused(backups: Backups):
    record = backups.engine.back_up("full")
    backups.repository.put_record(replace(record, server_version=990001))
    with pytest.raises(MissingProgramsError, match="PostgreSQL 99"):
        backups.restore()
    assert list(backups.scratch.iterdir()) == []


def test_a_folder_with_anything_in_it_is_not_touched(backups: Backups):
    backups.engine.back_up("full")
    into = backups.scratch / "mine"
    into.mkdir()
    (into / "letter.txt").write_text("dear reader", encoding="utf-8")
    with pytest.raises(RestoreRefusedError, match="not empty"):
        restore(backups.repository, RestoreRequest(into), backups.opener)
    assert [path.name for path in into.iterdir()] == ["letter.txt"]


def test_a_check_that_says_no_leaves_no_database_behind(backups: Backups):
    backups.engine.back_up("full")

    def refuse(url: str) -> None:
        raise RestoreFailedError(f"the truth differs at {url}")

    with pytest.raises(RestoreFailedError, match="truth differs"):
        backups.restore(check=refuse)
    assert list(backups.scratch.iterdir()) == []


def test_a_record_or_part_under_another_name_is_not_taken_for_it(backups: Backups):
    first = backups.engine.back_up("full")
    second = backups.engine.back_up("full")
    for name_of in (lambda record: record.parts[0].name, lambda record: layout.record(record.backup_id)):
        path = backups.path_of(name_of(second))
        own = path.read_bytes()
        shutil.copy(backups.path_of(name_of(first)), path)
        report = verify_repository(backups.repository, backups.opener, True)
        assert {fault.name for fault in report.faults} == {name_of(second)}
        path.write_bytes(own)


def test_an_empty_machine_restores_with_the_command_the_store_and_the_keys(
    cluster: Cluster, object_store_url: str, tmp_path: Path
):
    made = new_backups(cluster, object_store_url, tmp_path)
    cluster.write()
    made.engine.back_up("full")
    ship_wal(made)
    environ = {
        "PATH": os.environ["PATH"],
        "LONGBOX_HOME": str(tmp_path / "nothing-here"),
        "LONGBOX_BACKUP_STORE": object_store_url,
        "LONGBOX_BACKUP_RECOVERY_KEYS": str(tmp_path / "recovery.json"),
    }
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "restore",
        "--latest",
        "--into",
        str(made.scratch / "here"),
        "--start",
    ]
    done = subprocess.run(command, env=environ, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"needs [\d,]+ MB of disk, takes about \d+ s$", done.stdout, re.MULTILINE)
    assert "restoring: " in done.stderr or "replaying: 0 of " in done.stderr
    seconds = re.search(r"databases opened, timeline 2, ([0-9.]+) s$", done.stdout, re.MULTILINE)
    assert seconds and float(seconds[1]) > 0, done.stdout
    print(f"\nfrom the command to a checked database on an empty machine: {seconds[1]} s")
    port, pid = done.stdout.split("127.0.0.1:")[1].split()[0], int(done.stdout.split("pid ")[1].split(")")[0])
    try:
        address, _, _ = cluster.url.rpartition("@")
        assert truth(f"{address}@127.0.0.1:{port}/postgres") == cluster.truth()
    finally:
        os.kill(pid, 2)
        shutil.rmtree(made.scratch, ignore_errors=True)
    assert not (tmp_path / "nothing-here").exists()

"""A store, a disk, a network or a server that fails in the middle of a backup or a restore.

Every test ends alike: nothing that is half counts as a backup or a database, and running again completes.
"""

import contextlib
import dataclasses
import datetime as dt
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local.processes import processes_in, wait_until
from pipelines.backup import copies, layout
from pipelines.backup.engine import Progress
from pipelines.backup.errors import BackupError, RestoreFailedError, RestoreRefusedError
from pipelines.backup.model import RestoreRequest
from pipelines.backup.planning import window
from pipelines.backup.postgres import SLOT, PostgresEngine
from pipelines.backup.repository import Repository
from pipelines.backup.restore import restore
from pipelines.backup.sealed import Buffer
from pipelines.backup.verify import verify_repository
from resources.database import Database
from resources.errors import LongboxError
from resources.object_store import ObjectStore
from tests.backup_cluster import Backups, new_backups, running_cluster, ship_wal, truth
from tests.http_proxy import HttpProxy, http_proxy_for
from tests.proxy import proxy_for

SMALL_PARTS = 1 << 18


class EventfulRepository(Repository):
    """Does something once the first part of a backup is in the store, while the rest of it is on its way."""

    def __init__(self, store: ObjectStore, system: str, at_first_part: Callable[[], object]) -> None:
        super().__init__(store, system)
        self._acts = [at_first_part]

    def put(self, name: str, data: Buffer) -> None:
        super().put(name, data)
        if name.startswith(f"{layout.DATA}/"):
            with contextlib.suppress(IndexError):  # parts are put by several threads
                act = self._acts.pop()
                act()


@contextlib.contextmanager
def small_disk(size_bytes: int) -> Iterator[Path]:
    """A file system of its own, of that size, open to PostgreSQL's user."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount the small file system that this test fills")
    folder = Path(tempfile.mkdtemp(prefix="longbox-small-"))
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "longbox-test", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.fixture
def through_proxy(
    backups: Backups, s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Backups, HttpProxy]]:
    """Backups into S3, by way of a proxy that can refuse."""
    with http_proxy_for(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = ObjectStore.from_url(s3_url, retries=1)
        repository = Repository(store, backups.cluster.system)
        yield dataclasses.replace(backups, repository=repository, part_bytes=SMALL_PARTS), proxy


def assert_nothing_counts_and_again_completes(backups: Backups) -> None:
    """What a failed backup must leave behind, and what must work afterwards."""
    assert backups.engine.catalogue().sound == ()
    wait_for_free_slot(backups.cluster.url)
    record = backups.engine.back_up("full")
    backups.repository.sweep(dt.timedelta(0))
    report = verify_repository(backups.repository, backups.opener, True)
    assert report.is_sound, report.faults
    assert [one.backup_id for one in backups.engine.catalogue().sound] == [record.backup_id]
    assert backups.restored_truth() == backups.cluster.truth()


def wait_for_free_slot(url: str) -> None:
    def is_free() -> bool | None:
        with psycopg.connect(url) as connection:
            query = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s"
            row = connection.execute(query, [SLOT]).fetchone()
        return True if row == (0,) else None

    assert wait_until(is_free, seconds=60)


@pytest.mark.parametrize("status", [403, 500, 507])
def test_a_store_that_refuses_in_the_middle_of_a_backup_fails_it_cleanly(
    through_proxy: tuple[Backups, HttpProxy], status: int
):
    """Rights taken away, an error of its own, no room: each from the third part on."""
    backups, proxy = through_proxy
    proxy.answer = lambda method, path, number: status if method == "PUT" and "part-000003" in path else None
    with pytest.raises(LongboxError, match=r"could not write.*part-000003"):
        backups.engine.back_up("full")
    assert proxy.refused
    proxy.heal()
    assert_nothing_counts_and_again_completes(backups)


def test_a_store_that_refuses_the_record_has_no_backup(through_proxy: tuple[Backups, HttpProxy]):
    backups, proxy = through_proxy
    proxy.answer = lambda method, path, number: 503 if method == "PUT" and layout.CATALOGUE in path else None
    with pytest.raises(LongboxError, match="catalogue/"):
        backups.engine.back_up("full")
    proxy.heal()
    assert_nothing_counts_and_again_completes(backups)


def test_a_store_that_fails_for_a_moment_is_asked_again(through_proxy: tuple[Backups, HttpProxy]):
    backups, proxy = through_proxy
    failed: set[str] = set()

    def once(method: str, path: str, number: int) -> int | None:
        if method != "PUT" or "part-" not in path or path in failed:
            return None
        failed.add(path)
        return 503

    proxy.answer = once
    record = backups.engine.back_up("full")
    assert proxy.refused >= len(record.parts)
    assert verify_repository(backups.repository, backups.opener, True).is_sound


def test_only_what_is_sealed_goes_up_unsigned_and_all_of_it_whole(through_proxy: tuple[Backups, HttpProxy]):
    """Records and leases prove nothing by themselves; uploads in parts would leave some, unseen, after a kill."""
    backups, proxy = through_proxy
    paths: list[str] = []
    hashes: list[str] = []
    proxy.answer = lambda method, path, number: paths.append(path) if method == "PUT" else None
    proxy.header_for = lambda headers: hashes.append(headers["x-amz-content-sha256"]) or {}
    record = backups.engine.back_up("full")
    sealed = [path for path in paths if path.endswith(layout.SEALED)]
    assert len(record.parts) < len(sealed) < len(paths)
    assert hashes.count("UNSIGNED-PAYLOAD") == len(sealed)
    assert not [path for path in paths if "?" in path]


def test_a_disk_of_the_store_that_fills_up_in_the_middle_of_a_backup_fails_it_cleanly(backups: Backups):
    with small_disk(64 << 20) as disk:
        on_disk = dataclasses.replace(
            backups,
            repository=Repository(ObjectStore.from_url(disk.as_uri()), backups.cluster.system),
            part_bytes=SMALL_PARTS,
        )
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            file.write(bytes((64 << 20) - (1 << 20)))
        with pytest.raises(LongboxError, match="No space left"):
            on_disk.engine.back_up("full")
        ballast.unlink()
        assert_nothing_counts_and_again_completes(on_disk)


def test_a_network_cut_between_the_server_and_its_backup_fails_it_cleanly(backups: Backups):
    cluster = backups.cluster
    small = dataclasses.replace(backups, part_bytes=SMALL_PARTS)
    with proxy_for(cluster.url) as proxy:
        proxy.delay_seconds = 0.005
        database = Database(proxy.url(cluster.url), role=None)
        repository = EventfulRepository(small.repository.store, cluster.system, proxy.cut)
        engine = PostgresEngine(
            database, proxy.url(cluster.url), repository, small.server_keys, part_bytes=SMALL_PARTS
        )
        with pytest.raises(BackupError, match="pg_basebackup"):
            engine.back_up("full")
        assert proxy.cuts == 1
    assert_nothing_counts_and_again_completes(small)


def test_a_network_cut_between_the_backup_and_its_store_is_bridged(
    backups: Backups, s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
):
    with proxy_for(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url(s3_endpoint))
        repository = Repository(ObjectStore.from_url(s3_url), backups.cluster.system)
        on_s3 = dataclasses.replace(backups, repository=repository, part_bytes=SMALL_PARTS)
        cutter = threading.Thread(target=lambda: (has_objects(repository, f"{layout.DATA}/"), proxy.cut()))
        cutter.start()
        on_s3.engine.back_up("full")
        cutter.join()
        assert verify_repository(repository, on_s3.opener, True).is_sound
        assert on_s3.restored_truth() == backups.cluster.truth()


def has_objects(repository: Repository, prefix: str) -> bool:
    """Once the first object is there."""
    return bool(
        wait_until(
            lambda: True if next(repository.names(prefix), None) else None, seconds=60, poll_seconds=0.01
        )
    )


def test_a_server_that_is_killed_in_the_middle_of_its_backup_leaves_none(
    tmp_path: Path, object_store_url: str
):
    with running_cluster() as cluster:
        backups = dataclasses.replace(
            new_backups(cluster, object_store_url, tmp_path), part_bytes=SMALL_PARTS
        )
        cluster.write()
        pid = int((cluster.data / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        repository = EventfulRepository(
            backups.repository.store, cluster.system, lambda: os.kill(pid, signal.SIGKILL)
        )
        with pytest.raises(LongboxError):
            dataclasses.replace(backups, repository=repository).engine.back_up("full")
        os.waitpid(pid, 0)  # our child: until then it counts as running
        assert wait_until(lambda: None if processes_in(cluster.data) else True, seconds=60)
        owner = cluster.data.stat().st_uid
        again = subprocess.Popen(command, user=owner, cwd=cluster.data, stderr=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: is_up(cluster.url), seconds=60)
            assert_nothing_counts_and_again_completes(backups)
        finally:
            again.send_signal(signal.SIGQUIT)
            again.wait()
            shutil.rmtree(backups.scratch, ignore_errors=True)


def is_up(url: str) -> bool | None:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(url).close()
        return True
    return None


def test_a_disk_that_is_too_small_is_refused_and_one_that_fills_up_leaves_no_database(backups: Backups):
    """The room that a plan asks for is there; then somebody else takes it."""
    record = backups.engine.back_up("full")
    backups.cluster.write()
    ship_wal(backups)
    with small_disk(64 << 20) as disk:
        with pytest.raises(RestoreRefusedError, match="GB free"):
            restore(backups.repository, RestoreRequest(disk / "here"), backups.opener)
        assert list(disk.iterdir()) == []
    with small_disk(record.plain_bytes + (192 << 20)) as disk:
        request = RestoreRequest(disk / "here", is_durable=False)

        def fill(progress: Progress) -> None:
            if progress.act == "checking" and not (disk / "ballast").exists():
                with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 20))

        with pytest.raises(RestoreFailedError, match=r"No space left|space|did not recover"):
            restore(backups.repository, request, backups.opener, fill)
        assert not (disk / "here").exists() and processes_in(disk) == []
        (disk / "ballast").unlink()
        said: list[str] = []
        restore(backups.repository, request, backups.opener, check=lambda url: said.append(truth(url)))
        assert said == [backups.cluster.truth()]


def test_copies_on_s3_and_elsewhere_stand_in_for_a_store_that_lost_or_damaged_objects(
    backups: Backups, s3_url: str, tmp_path: Path
):
    (tmp_path / "far").mkdir()
    others = [ObjectStore.from_url(s3_url), ObjectStore.from_url((tmp_path / "far").as_uri())]
    repository = Repository(backups.repository.store, backups.cluster.system, others)
    spread = dataclasses.replace(backups, repository=repository, part_bytes=SMALL_PARTS)
    record = spread.engine.back_up("full")
    backups.cluster.write()
    ship_wal(spread)
    results = copies.copy_repository(repository)
    assert [result.copied == result.objects > 2 for result in results] == [True, True]

    spread.flip(record.parts[0].name)
    repository.delete(record.parts[1].name)
    repository.delete(layout.record(record.backup_id))
    for name in repository.all_names(layout.WAL):
        repository.delete(name)
    repository.only(others[0]).delete(record.parts[1].name)  # each has something that another one has not
    assert spread.restored_truth() == backups.cluster.truth()

    mended = copies.mend(repository)
    assert all(not result.faults for result in mended[1:]), mended
    for store in repository.stores:
        alone = dataclasses.replace(spread, repository=repository.only(store))
        report = verify_repository(alone.repository, alone.opener, True)
        assert report.is_sound, report.faults
    only_s3 = dataclasses.replace(spread, repository=repository.only(others[0]))
    assert only_s3.restored_truth() == backups.cluster.truth()


def test_a_clock_that_was_set_back_between_two_backups_confuses_neither_restore_nor_reading_back(
    backups: Backups,
):
    full = backups.engine.back_up("full")
    backups.cluster.write()
    expected = backups.cluster.truth()
    second = backups.engine.back_up("incremental")
    hour = dt.timedelta(hours=1)
    skewed = dataclasses.replace(second, started_at=second.started_at - hour, ended_at=second.ended_at - hour)
    backups.repository.put_record(skewed)
    backups.cluster.write()
    ship_wal(backups)

    assert backups.restored_truth(backup_id=second.backup_id) == expected
    assert backups.restored_truth() == backups.cluster.truth()
    assert verify_repository(backups.repository, backups.opener, True).is_sound
    reach = window(backups.repository, backups.opener)
    assert reach is not None and reach.until > full.ended_at
    third = backups.engine.back_up("incremental")
    assert backups.restored_truth(backup_id=third.backup_id) == backups.cluster.truth()


def test_a_store_that_goes_away_in_the_middle_of_a_restore_leaves_no_database(
    backups: Backups, s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
):
    with proxy_for(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url(s3_endpoint))
        repository = Repository(ObjectStore.from_url(s3_url, retries=1), backups.cluster.system)
        on_s3 = dataclasses.replace(backups, repository=repository)
        on_s3.engine.back_up("full")
        backups.cluster.write()
        ship_wal(on_s3)
        request = RestoreRequest(backups.scratch / "here", is_durable=False)

        def cut(progress: Progress) -> None:
            if progress.act == "replaying":
                proxy.is_refusing = True
                proxy.cut()

        with pytest.raises(LongboxError, match="wal/"):
            restore(repository, request, on_s3.opener, cut)
        assert proxy.cuts == 1 and not request.into.exists()
        proxy.is_refusing = False
        said: list[str] = []
        restore(repository, request, on_s3.opener, check=lambda url: said.append(truth(url)))
        assert said == [backups.cluster.truth()]

"""What waits on the receiver's disk: shipped by whoever comes next, held back by bounds, never taken for another's."""

import datetime as dt
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.processes import wait_until
from pipelines.backup import layout, resident
from pipelines.backup import spool as stage
from pipelines.backup.bridge import Bridge, Due
from pipelines.backup.errors import TimelineTakenError
from pipelines.backup.sealed import recovery_lock
from pipelines.backup.shipper import Samples, Shipper
from pipelines.backup.slot import Sample
from pipelines.backup.spool import Spool
from pipelines.backup.wal import SEGMENT_BYTES, WalArchive, segment_name
from resources.errors import ObjectStoreError, ObjectStoreUnavailableError
from resources.object_store import ObjectStore
from tests.backup_cluster import Backups
from tests.faults.wal_support import (
    PACE,
    backed_up_and_written,
    completes,
    received,
    receiving,
    settings_of,
    wait_covered,
    whole,
)
from tests.proxy import proxy_for

pytestmark = pytest.mark.usefixtures("no_slot")
AWAY = ObjectStoreUnavailableError("the store is away")
FULL = ObjectStoreError("the object store could not write: no space left")


def refuse(patched: pytest.MonkeyPatch, error: Exception) -> None:
    """From now on nothing can be put into any store."""

    def put(self: ObjectStore, path: str, data: object, *, is_sealed: bool = False) -> None:
        raise error

    patched.setattr(ObjectStore, "put", put)


def test_what_is_left_in_the_spool_is_shipped_while_the_server_is_away_and_covered_goes_on_when_it_is_back(
    backups: Backups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with proxy_for(backups.cluster.url) as proxy:
        settings = settings_of(backups, tmp_path, LONGBOX_BACKUP_POSTGRES_URL=proxy.url(backups.cluster.url))

        def left() -> list[Path]:
            return list(settings.wal_spool.rglob("0000*"))

        with receiving(settings, backups):
            backed_up_and_written(backups)
        with monkeypatch.context() as patched:
            refuse(patched, AWAY)
            with receiving(settings, backups):
                backups.cluster.write()
                backups.cluster.run("SELECT pg_switch_wal()")
                backups.cluster.write()  # a receiver makes the next segment's file when there is something in it
                assert wait_until(lambda: len([f for f in left() if f.is_file()]) > 1 or None, seconds=20)
        archive = WalArchive(backups.repository)
        before = archive.covered()
        proxy.is_refusing = True
        proxy.cut()
        with receiving(settings, backups) as run:
            assert wait_until(lambda: True if not left() else None, seconds=20), (left(), run.said)
            assert archive.covered() == before  # nobody can say how far the server is
            proxy.is_refusing = False
            backups.cluster.write()
            wait_covered(backups)
        assert run.errors == []
        whole(backups, settings)
        completes(backups, settings)


def test_a_store_that_takes_nothing_fills_the_spool_and_gets_all_of_it_later(
    backups: Backups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = settings_of(backups, tmp_path)
    with receiving(settings, backups) as run:
        wait_covered(backups)
        backups.engine.back_up("full")
        with monkeypatch.context() as patched:
            refuse(patched, FULL)
            for _ in range(3):
                backups.cluster.write()
                backups.cluster.run("SELECT pg_switch_wal()")
            backups.cluster.write()  # a segment comes once something is in it
            assert wait_until(lambda: run.has_said("no space left") or None, seconds=20)
            assert wait_until(
                lambda: "no space left" in stage.store_fault(settings.wal_spool) or None, seconds=20
            )
            assert wait_until(lambda: len(list(settings.wal_spool.rglob("0*"))) > 4 or None, seconds=20)
            assert wait_until(
                lambda: [a for a in run.alerts if "takes no WAL" in a.title] or None, seconds=20
            )
        wait_covered(backups)
        assert wait_until(lambda: run.has_said("that is over") or None, seconds=20)
        assert wait_until(lambda: not stage.store_fault(settings.wal_spool) or None, seconds=20)
    assert run.errors == []
    whole(backups, settings)
    completes(backups, settings)


def test_a_full_spool_pauses_receiving_and_goes_on_when_the_store_takes_wal_again(
    backups: Backups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = settings_of(backups, tmp_path)
    pace = replace(PACE, bounds=replace(PACE.bounds, spool_bytes=40 << 20))
    with receiving(settings, backups, pace) as run:
        wait_covered(backups)
        backups.engine.back_up("full")
        with monkeypatch.context() as patched:
            refuse(patched, AWAY)
            for _ in range(4):
                backups.cluster.write()
                backups.cluster.run("SELECT pg_switch_wal()")
            assert wait_until(lambda: [a for a in run.alerts if a.cause == "wal:spool"] or None, seconds=20)
            assert wait_until(lambda: None if received(backups) else True, seconds=20)
        wait_covered(backups)
    assert run.errors == []
    whole(backups, settings)
    completes(backups, settings)


def test_a_timeline_of_another_promoted_copy_is_told_and_nothing_is_overwritten(
    backups: Backups, tmp_path: Path
):
    archive = WalArchive(backups.repository)
    ours, theirs = (
        b"1\t0/5000000\tno recovery target specified\n",
        b"1\t0/6000000\tno recovery target specified\n",
    )
    archive.put_history(recovery_lock(backups.server_keys), 2, ours)
    stored = backups.path_of(layout.history(2)).read_bytes()
    spool = Spool(tmp_path / "spool", backups.cluster.system)
    run = spool.make_run(spool.new_run_name())
    shipper = Shipper(spool, archive, lambda: backups.server_keys, Samples(), lambda gap: None)
    (run / "00000002.history").write_bytes(theirs)
    with pytest.raises(TimelineTakenError, match="another timeline 2 already"):
        shipper.ship(is_due=True)
    assert backups.path_of(layout.history(2)).read_bytes() == stored
    assert (run / "00000002.history").exists()
    (run / "00000002.history").write_bytes(ours)
    shipper.ship(is_due=True)
    assert spool.runs() == []


class StartingSpool(Spool):
    """A spool in which pg_receivewal is started anew at the very moment at which a pass looks at it."""

    started = ""

    def runs(self) -> list[Path]:
        if not self.started:
            self.started = "1" * 20
            self.fill(self.make_run(self.started))
        return super().runs()

    def fill(self, run: Path) -> None:
        """What the start has received by then."""


def test_the_folder_of_a_start_during_a_pass_is_not_taken_for_one_that_was_left(
    backups: Backups, tmp_path: Path
):
    spool = StartingSpool(tmp_path / "spool", backups.cluster.system)
    left = spool.make_run("0" * 20)
    archive = WalArchive(backups.repository)
    shipper = Shipper(spool, archive, lambda: backups.server_keys, Samples(), lambda gap: None)
    shipper.ship(is_due=False, live_run=lambda: spool.started)
    assert not left.exists() and [run.name for run in spool.runs()] == [spool.started]


SEGMENT, NUMBER = "000000010000000000000005", 5
NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


def opened(spool: Spool, archive: WalArchive, backups: Backups, samples: Samples) -> Shipper:
    """A shipper that finds no gap."""
    archive.put_kept(NUMBER * archive.segment_bytes)
    return Shipper(spool, archive, lambda: backups.server_keys, samples, lambda gap: None)


def test_a_segment_that_is_just_being_made_is_left_until_it_is(backups: Backups, tmp_path: Path):
    spool, archive = Spool(tmp_path / "spool", backups.cluster.system), WalArchive(backups.repository)
    run, samples = spool.make_run(spool.new_run_name()), Samples()
    shipper, size = opened(spool, archive, backups, samples), archive.segment_bytes
    samples.add(Sample(NOON, NUMBER * size, 1), NUMBER * size)
    for made_bytes in (0, 8192, 5 << 20):  # pg_receivewal writes zeros up to the end before it writes WAL
        (run / f"{SEGMENT}.partial").write_bytes(bytes(made_bytes))
        assert shipper.ship(is_due=True, live_run=lambda: run.name).partials == 0
    (run / f"{SEGMENT}.partial").write_bytes(b"W" * 4096 + bytes(size - 4096))
    assert shipper.ship(is_due=True, live_run=lambda: run.name).partials == 1
    assert list(archive.inventory().partials) == [(1, SEGMENT)]


class BehindSpool(StartingSpool):
    """The start has received less of the open segment than the one before it had."""

    def fill(self, run: Path) -> None:
        (run / f"{SEGMENT}.partial").write_bytes(b"W" * 1024 + bytes(SEGMENT_BYTES - 1024))


def test_what_an_earlier_start_had_on_disk_is_not_said_of_the_files_of_the_next(
    backups: Backups, tmp_path: Path
):
    spool, archive = BehindSpool(tmp_path / "spool", backups.cluster.system), WalArchive(backups.repository)
    samples, lsn = Samples(), NUMBER * SEGMENT_BYTES + 4096
    samples.add(Sample(NOON, lsn, 1), lsn)
    shipper = opened(spool, archive, backups, samples)
    shipper.ship(is_due=True, live_run=lambda: spool.started)
    [held] = archive.inventory().partials.values()
    assert held.valid_bytes == 1024
    assert archive.covered() is None


def test_starts_are_in_order_also_when_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spool, began = Spool(tmp_path, "1"), []
    for moment in (3 << 40, 2 << 40, 1 << 40):
        monkeypatch.setattr(stage.time, "time_ns", lambda moment=moment: moment)
        began.append(spool.make_run(spool.new_run_name()))
    assert spool.runs() == began


@pytest.mark.parametrize(("sizes", "found"), [((3 << 20, 8 << 20), 8 << 20), ((3 << 20,), SEGMENT_BYTES)])
def test_the_size_of_segments_is_not_that_of_one_that_was_just_being_made(
    tmp_path: Path, sizes: tuple[int, ...], found: int
):
    spool = Spool(tmp_path, "1")
    for number, size in enumerate(sizes):
        run = spool.make_run(spool.new_run_name())
        (run / segment_name(1, number, SEGMENT_BYTES)).write_bytes(bytes(size))
    assert resident._segment_bytes(spool) == found


class AskedAgain(Bridge):
    """A later backup is asked for, by another thread, at the very moment at which the one before is found made."""

    later = Due(1, 1 << 60, "another gap")
    looks = 0

    def due(self) -> Due | None:
        found = super().due()
        self.looks += 1
        if self.looks == 2:
            self.asking = threading.Thread(target=Bridge(self._file.parent).request, args=(self.later,))
            self.asking.start()
            self.asking.join(1)  # it may have to wait for its turn
        return found


def test_a_backup_that_is_asked_for_while_the_one_before_is_answered_is_not_forgotten(
    backups: Backups, tmp_path: Path
):
    backups.engine.back_up("full")
    bridge = AskedAgain(tmp_path / "spool")
    Bridge(tmp_path / "spool").request(Due(1, 1, "a gap"))
    bridge.answer(settings_of(backups, tmp_path), backups.repository, lambda text: None)
    bridge.asking.join()
    assert Bridge(tmp_path / "spool").due() == AskedAgain.later

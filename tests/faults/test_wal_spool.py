"""What waits on the receiver's disk: shipped by whoever comes next, held back by bounds, never taken for another's."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.processes import wait_until
from pipelines.backup import layout
from pipelines.backup.errors import TimelineTakenError
from pipelines.backup.sealed import recovery_lock
from pipelines.backup.shipper import Samples, Shipper
from pipelines.backup.spool import Spool, new_run_name
from pipelines.backup.wal import WalArchive
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
            assert wait_until(lambda: run.has_said("no space left") or None, seconds=20)
            assert wait_until(lambda: len(list(settings.wal_spool.rglob("0*"))) > 4 or None, seconds=20)
            assert wait_until(
                lambda: [a for a in run.alerts if "takes no WAL" in a.title] or None, seconds=20
            )
        wait_covered(backups)
        assert wait_until(lambda: run.has_said("that is over") or None, seconds=20)
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
    run = spool.make_run(new_run_name())
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
            self.started = new_run_name()
            self.make_run(self.started)
        return super().runs()


def test_the_folder_of_a_start_during_a_pass_is_not_taken_for_one_that_was_left(
    backups: Backups, tmp_path: Path
):
    spool = StartingSpool(tmp_path / "spool", backups.cluster.system)
    left = spool.make_run("0" * 20)
    archive = WalArchive(backups.repository)
    shipper = Shipper(spool, archive, lambda: backups.server_keys, Samples(), lambda gap: None)
    shipper.ship(is_due=False, live_run=lambda: spool.started)
    assert not left.exists() and [run.name for run in spool.runs()] == [spool.started]

"""WAL goes to every copy store as it comes; one that refuses holds nobody up, and catches up by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.local.processes import wait_until
from pipelines.backup import layout
from pipelines.backup.copies import copy_repository
from pipelines.backup.errors import BackupError
from pipelines.backup.mirror import WalMirror
from pipelines.backup.readiness import readiness
from pipelines.backup.repository import Repository, find_system
from pipelines.backup.sealed import recovery_lock
from pipelines.backup.stored import StoredBackups
from pipelines.backup.verify import verify_repository
from pipelines.backup.wal import SEGMENT_BYTES, Covered, WalArchive, segment_name
from resources.object_store import ObjectStore
from resources.settings import Settings
from tests.backup_cluster import Backups, ship_wal
from tests.faults.wal_support import completes, receiving, settings_of, wait_covered, whole
from tests.http_proxy import HttpProxy, http_proxy_for

pytestmark = pytest.mark.usefixtures("no_slot")


@dataclass(frozen=True)
class Copied:
    """Backups in a local store with a copy on S3, by way of a proxy that can refuse."""

    backups: Backups
    settings: Settings
    proxy: HttpProxy

    @property
    def copy(self) -> Repository:
        """The copy store alone."""
        return self.backups.repository.only(self.backups.repository.copies[0])

    def refuse(self) -> None:
        """From now on the copy store answers nothing."""
        self.proxy.answer = lambda method, path, number: 503

    def wal(self, repository: Repository) -> list[str]:
        """Names of WAL in one store."""
        names = [info.path for info in repository.names(layout.WAL)]
        return [name for name in names if layout.parse_wal(name) is not None]

    def assert_copy_restores_all(self) -> None:
        """The copy has what the first store has, is sound, and alone leads to the newest row."""
        first = self.backups.repository.only(self.backups.repository.store)
        assert self.wal(self.copy) == self.wal(first)
        report = verify_repository(self.copy, self.backups.opener, True)
        assert report.is_sound, report.faults
        alone = replace(self.backups, repository=self.copy)
        assert alone.restored_truth() == self.backups.cluster.truth()


@pytest.fixture
def copied(
    backups: Backups, s3_url: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Copied]:
    with http_proxy_for(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        copy = ObjectStore.from_url(s3_url, retries=0)
        repository = Repository(backups.repository.store, backups.cluster.system, (copy,))
        both = replace(backups, repository=repository)
        yield Copied(both, settings_of(both, tmp_path, LONGBOX_BACKUP_COPY_STORES=s3_url), proxy)


def test_a_copy_store_that_refuses_holds_nobody_up_is_told_and_catches_up(copied: Copied):
    backups, cluster = copied.backups, copied.backups.cluster
    with receiving(copied.settings, backups) as run:
        wait_covered(backups)
        backups.engine.back_up("full")
        copy_repository(backups.repository)
        cluster.write()
        wait_covered(backups, copied.copy)
        copied.refuse()
        for _ in range(2):
            cluster.write()
            cluster.run("SELECT pg_switch_wal()")
        cluster.write()
        wait_covered(backups)
        title = f"the copy store {copied.copy.store.url} takes no WAL"
        assert wait_until(lambda: [a for a in run.alerts if a.title == title] or None, seconds=20)
        wait_covered(backups)
        assert backups.engine.back_up("incremental").kind == "incremental"
        assert find_system(backups.repository.store, backups.repository.copies) == cluster.system
        assert not [alert for alert in run.alerts if alert.title == "the store takes no WAL"]
        copied.proxy.heal()
        wait_covered(backups, copied.copy)
        assert wait_until(lambda: run.has_said(f"{title}: that is over") or None, seconds=20)
    assert run.errors == []
    copy_repository(backups.repository)
    copied.assert_copy_restores_all()
    whole(backups, copied.settings)
    completes(backups, copied.settings)
    copied.assert_copy_restores_all()


def test_what_a_copy_store_missed_before_a_start_is_brought_by_the_next_one(copied: Copied):
    backups, cluster = copied.backups, copied.backups.cluster
    backups.engine.back_up("full")
    copy_repository(backups.repository)
    copied.refuse()
    with receiving(copied.settings, backups) as run:
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
        cluster.write()
        wait_covered(backups)
        assert backups.restored_truth() == cluster.truth()
    assert run.errors == []
    copied.proxy.heal()
    assert copied.wal(copied.copy) == []
    completes(backups, copied.settings)
    copied.assert_copy_restores_all()


def test_readiness_tells_how_far_each_copy_leads_by_itself(copied: Copied):
    backups = copied.backups
    backups.engine.back_up("full")
    copy_repository(backups.repository)
    backups.cluster.write()
    at = ship_wal(backups)
    source = backups.repository.only(backups.repository.store)
    state = readiness(StoredBackups(backups.repository, backups.opener), at)
    assert state.window is not None and state.copies[0].until is not None
    assert state.copies[0].until < state.window.until == at
    WalMirror(source, copied.copy).bring()
    state = readiness(StoredBackups(backups.repository, backups.opener), at)
    assert state.copies[0].until == at and not any(cause.startswith("copy:") for cause in state.problems())
    assert (
        f"| To when, from the copy {copied.copy.store.url} alone | {at:%Y-%m-%d %H:%M:%S} UTC"
        in state.as_markdown()
    )
    copied.refuse()
    state = readiness(StoredBackups(backups.repository, backups.opener), at)
    assert "the goal is 15 min" in state.problems()[f"copy:{copied.copy.store.url}"]


def test_a_copy_that_is_looked_at_while_it_is_brought_is_catching_up_and_no_fault(copied: Copied):
    backups, cluster = copied.backups, copied.backups.cluster
    backups.engine.back_up("full")
    ship_wal(backups)
    copy_repository(backups.repository)
    for _ in range(2):
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
    cluster.write()
    ship_wal(backups)
    source, reports = backups.repository.only(backups.repository.store), []

    class Watched(WalMirror):
        """Read back at the very moment at which all objects are there and what is said of them is not."""

        def _begin(self) -> None:
            super()._begin()
            reports.append(verify_repository(copied.copy, backups.opener, True))

    Watched(source, copied.copy).bring()
    assert reports[0].faults == () and "more is being brought" in reports[0].notes[0]
    report = verify_repository(copied.copy, backups.opener, True)
    assert (report.faults, report.notes) == ((), ())


def test_a_timeline_is_brought_to_a_copy_behind_its_history(copied: Copied):
    backups = copied.backups
    archive, lock = WalArchive(backups.repository), recovery_lock(backups.server_keys)
    source = backups.repository.only(backups.repository.store)
    for timeline in (1, 2):
        for number in (5, 6):
            name = segment_name(timeline, number, SEGMENT_BYTES)
            archive.put_segment(lock, timeline, name, bytes(SEGMENT_BYTES), None)
    archive.put_history(lock, 2, b"1\t0/6000000\tbecause\n")
    brought: list[str] = []

    class Watched(WalMirror):
        def _bring_one(self, wanted: str) -> str:
            brought.append(super()._bring_one(wanted))
            return brought[-1]

    Watched(source, copied.copy).bring()
    assert [layout.parse_wal(name).timeline for name in brought] == [1, 1, 2, 2, 2]
    assert brought[2] == layout.history(2)


class Interrupted(WalMirror):
    """A mirror that is told of newer WAL at the very moment at which it has read how far WAL is."""

    def _newest_covered(self) -> Covered | None:
        found = super()._newest_covered()
        self.tell(layout.COVERED)
        return found


def test_what_is_told_while_a_copy_is_brought_is_brought_by_the_next_turn(copied: Copied):
    copied.backups.engine.back_up("full")
    ship_wal(copied.backups)
    source = copied.backups.repository.only(copied.backups.repository.store)
    mirror = Interrupted(source, copied.copy)
    mirror.bring()
    assert mirror.is_due
    assert WalArchive(copied.copy).covered() == WalArchive(source).covered()


class Overtaken(WalMirror):
    """A mirror that is overtaken by the receiver when it comes to the open segment."""

    overtake: Callable[[str], str] | None = None

    def _bring_one(self, wanted: str) -> str:
        if self.overtake is not None and "partial" in wanted:
            overtake, self.overtake = self.overtake, None
            self.tell(overtake(wanted))
        return super()._bring_one(wanted)


def test_a_copy_is_not_said_to_cover_what_was_exchanged_while_it_was_brought(copied: Copied):
    backups = copied.backups
    backups.cluster.write()
    ship_wal(backups)
    source = backups.repository.only(backups.repository.store)

    def exchange(shorter: str) -> str:
        backups.cluster.write()
        ship_wal(backups)
        source.delete(shorter)
        wal = layout.parse_wal(shorter)
        assert wal is not None
        return str(WalArchive(source).inventory().object_of(wal.timeline, wal.segment))

    mirror = Overtaken(source, copied.copy)
    mirror.overtake = exchange
    mirror.bring()
    found = WalArchive(copied.copy).inventory()
    assert found.covered is not None and found.is_whole
    mirror.bring()
    assert copied.wal(copied.copy) == copied.wal(source)


def test_damage_in_the_first_store_is_not_spread_and_what_follows_is_not_called_covered(copied: Copied):
    backups, cluster = copied.backups, copied.backups.cluster
    backups.engine.back_up("full")
    source = backups.repository.only(backups.repository.store)
    for _ in range(2):
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
    cluster.write()
    ship_wal(backups)
    victim = copied.wal(source)[0]
    backups.flip(victim)
    mirror = WalMirror(source, copied.copy)
    with pytest.raises(BackupError, match=victim):
        mirror.bring()
    assert copied.wal(copied.copy) == copied.wal(source)[1:]
    assert WalArchive(copied.copy).covered() is None
    backups.flip(victim)
    assert mirror.is_due
    mirror.bring()
    assert not mirror.is_due
    assert WalArchive(copied.copy).covered() == WalArchive(source).covered()
    copy_repository(backups.repository)
    copied.assert_copy_restores_all()


@pytest.fixture
def first_on_s3(copied: Copied, s3_url: str, tmp_path: Path) -> Copied:
    """The same the other way round: the first store may go away, the copy is a folder."""
    first, copy = copied.backups.repository.copies[0], copied.backups.repository.store
    repository = Repository(first, copied.backups.cluster.system, (copy,))
    both = replace(copied.backups, repository=repository)
    return Copied(both, settings_of(both, tmp_path, LONGBOX_BACKUP_COPY_STORES=copy.url), copied.proxy)


def kept(settings: Settings) -> list[Path]:
    """Files in outboxes."""
    return [path for path in settings.wal_spool.glob("*/outbox/**/*") if path.is_file()]


def test_copies_get_wal_while_the_first_store_is_away_which_then_catches_up_with_the_same_bytes(
    first_on_s3: Copied,
):
    backups, cluster = first_on_s3.backups, first_on_s3.backups.cluster
    first = backups.repository.only(backups.repository.store)
    with receiving(first_on_s3.settings, backups) as run:
        wait_covered(backups)
        backups.engine.back_up("full")
        copy_repository(backups.repository)
        cluster.write()
        wait_covered(backups, first_on_s3.copy)
        first_on_s3.refuse()
        for _ in range(3):
            cluster.write()
            cluster.run("SELECT pg_switch_wal()")
            cluster.write()
            wait_covered(backups, first_on_s3.copy)
        alone = replace(backups, repository=first_on_s3.copy)
        assert alone.restored_truth() == cluster.truth()
        # nothing was let go of: the spool has what the first store has not
        whole_there = {
            path.name for path in first_on_s3.settings.wal_spool.rglob("*") if len(path.name) == 24
        }
        assert len(whole_there) >= 3 and kept(first_on_s3.settings)
        first_on_s3.proxy.heal()
        wait_covered(backups, first)
        assert wait_until(lambda: not kept(first_on_s3.settings) or None, seconds=20)
    assert run.errors == []
    for name in whole_there:
        stored = layout.segment(int(name[:8], 16), name)
        assert bytes(first.read_sealed(stored).data) == bytes(first_on_s3.copy.read_sealed(stored).data)
    completes(backups, first_on_s3.settings)
    first_on_s3.assert_copy_restores_all()


def test_a_receiver_that_starts_anew_while_the_first_store_is_away_leaves_no_gap_in_the_copy(
    first_on_s3: Copied,
):
    backups, cluster = first_on_s3.backups, first_on_s3.backups.cluster
    with receiving(first_on_s3.settings, backups):
        wait_covered(backups)
        backups.engine.back_up("full")
        copy_repository(backups.repository)
        cluster.write()
        wait_covered(backups, first_on_s3.copy)
        first_on_s3.refuse()
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
        wait_covered(backups, first_on_s3.copy)
    reached = WalArchive(first_on_s3.copy).covered()
    with receiving(first_on_s3.settings, backups) as run:
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
        # what the first store has is not known to it: it waits for that
        assert wait_until(lambda: run.has_said("the store takes no WAL") or None, seconds=20)
        assert WalArchive(first_on_s3.copy).covered() == reached
        first_on_s3.proxy.heal()
        wait_covered(backups, first_on_s3.copy)
    assert run.errors == []
    completes(backups, first_on_s3.settings)
    first_on_s3.assert_copy_restores_all()

"""What must be there of WAL: from where it is kept, without gaps, over switches of timelines, up to what is covered."""

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.backup import layout
from pipelines.backup.continuity import LONGEST_CATCHING_UP, Lag, lag_of_covered, missing_wal
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Lock, Opener, recovery_lock
from pipelines.backup.wal import Covered, WalArchive, segment_name
from resources.keys import RecoveryKeys, ServerKeys, make_keys
from resources.object_store import ObjectStore

SIZE = 1 << 20  # segments of a MiB: as small as PostgreSQL's may be
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


class Wal:
    """An archive of the test's own, with keys."""

    def __init__(self, folder: Path) -> None:
        made = make_keys(folder / "server.json", folder / "recovery.json", NOW)
        (folder / "store").mkdir()
        repository = Repository(ObjectStore.from_url((folder / "store").as_uri()), "1")
        self.archive = WalArchive(repository, SIZE)
        self.lock: Lock = recovery_lock(ServerKeys.load(made.server_file))
        self.opener = Opener(RecoveryKeys.load(made.recovery_file))

    def put(self, timeline: int, numbers: Sequence[int], minute: int = 0) -> None:
        """Whole segments."""
        for number in numbers:
            at = NOW + dt.timedelta(minutes=minute)
            self.archive.put_segment(
                self.lock, timeline, segment_name(timeline, number, SIZE), bytes(SIZE), at
            )

    def cover(self, timeline: int, lsn: int, minute: int = 0) -> None:
        self.archive.put_covered(Covered(NOW + dt.timedelta(minutes=minute), lsn, timeline))

    def branch(self, timeline: int, parent: int, lsn: int) -> None:
        """A history file."""
        self.archive.put_history(self.lock, timeline, f"{parent}\t0/{lsn:X}\tbecause\n".encode())

    def lose(self, name: str) -> None:
        self.archive.repository.delete(name)

    def lose_segment(self, timeline: int, number: int) -> str:
        name = layout.segment(timeline, segment_name(timeline, number, SIZE))
        self.lose(name)
        return name

    def missing(self, after: dt.timedelta = dt.timedelta(0)) -> list[str]:
        """Names of what is missing, or would be if nothing more came for a while."""
        now = dt.datetime.now(dt.UTC) + after
        found = missing_wal(self.archive, self.archive.inventory(), self.opener, self.lag(), now)
        return [name for name, _ in found]

    def lag(self) -> Lag | None:
        return lag_of_covered(self.archive, self.archive.inventory())


@pytest.fixture
def wal(tmp_path: Path) -> Wal:
    made = Wal(tmp_path)
    made.put(1, [3, 4, 5])
    made.cover(1, 6 * SIZE)
    assert made.missing() == []
    return made


@pytest.mark.parametrize("number", [3, 4, 5])
def test_a_lost_segment_is_named_wherever_it_lay(wal: Wal, number: int):
    assert wal.lose_segment(1, number) in wal.missing()


@pytest.mark.parametrize("name", [layout.KEPT, layout.COVERED])
def test_without_the_objects_that_say_what_must_be_there_these_are_named(wal: Wal, name: str):
    wal.lose(name)
    assert wal.missing() == [name]


def test_what_is_covered_follows_wal_that_is_being_brought_and_is_stale_when_it_does_not(wal: Wal):
    wal.put(1, [6], minute=5)
    lag = wal.lag()
    assert wal.missing() == [] and lag is not None
    assert (lag.covered, lag.held) == (NOW, NOW + dt.timedelta(minutes=5))
    assert "more is being brought" in str(lag)
    assert wal.missing(LONGEST_CATCHING_UP) == [layout.COVERED]
    wal.cover(1, 7 * SIZE, minute=5)
    assert wal.missing(LONGEST_CATCHING_UP) == [] and wal.lag() is None


def test_what_is_covered_is_stale_at_once_when_it_was_exchanged_for_what_it_was(wal: Wal):
    former = wal.archive.repository.read(layout.COVERED, lambda data: None)
    wal.put(1, [6], minute=5)
    wal.cover(1, 7 * SIZE, minute=5)
    wal.archive.repository.put(layout.COVERED, former)
    assert wal.missing() == [layout.COVERED]


def test_an_open_segment_that_is_exchanged_all_the_time_does_not_make_up_for_what_is_covered(wal: Wal):
    name = segment_name(1, 6, SIZE)
    [said_at] = [one.modified_at for one in wal.archive.repository.names(layout.COVERED.rpartition("/")[0])
                 if one.path == layout.COVERED]  # fmt: skip
    partial = wal.archive.put_partial(wal.lock, 1, name, bytes(100), 100, NOW + dt.timedelta(minutes=5))
    later = said_at + LONGEST_CATCHING_UP
    path = Path(wal.archive.repository.store.url.removeprefix("file://")) / wal.archive.repository.path(
        partial
    )
    os.utime(path, (later.timestamp(), later.timestamp()))
    assert wal.missing() == []
    assert wal.missing(LONGEST_CATCHING_UP) == [layout.COVERED]


def test_a_part_of_a_segment_before_others_is_a_gap(wal: Wal):
    name = segment_name(1, 4, SIZE)
    wal.archive.put_partial(wal.lock, 1, name, bytes(100), 100, NOW)
    assert wal.missing() == []  # it is there whole beside
    assert wal.lose_segment(1, 4) in wal.missing()


def test_a_lost_open_segment_is_named_by_what_is_covered(wal: Wal):
    name = segment_name(1, 6, SIZE)
    partial = wal.archive.put_partial(wal.lock, 1, name, bytes(100), 100, NOW)
    wal.cover(1, 6 * SIZE + 100)
    assert wal.missing() == []
    wal.lose(partial)
    assert wal.missing() == [partial]


def test_expired_wal_is_not_missing_and_what_is_kept_never_goes_back(wal: Wal):
    wal.archive.put_kept(5 * SIZE + 17)
    for number in (3, 4):
        wal.lose_segment(1, number)
    assert wal.missing() == []
    wal.archive.put_kept(3 * SIZE)
    assert wal.archive.kept() == 5 * SIZE + 17


def test_a_gap_is_told_until_wal_was_begun_anew_behind_it(wal: Wal):
    wal.put(1, [9])
    wal.cover(1, 10 * SIZE)
    assert wal.missing() == [layout.segment(1, segment_name(1, 6, SIZE))]
    wal.archive.put_kept(9 * SIZE)
    assert wal.missing() == []


def test_an_archive_that_began_on_a_later_timeline_needs_no_history_of_it(tmp_path: Path):
    later = Wal(tmp_path)
    later.put(5, [8])
    later.cover(5, 9 * SIZE)
    assert later.missing() == []


def test_over_a_switch_of_timelines_nothing_may_be_missing(wal: Wal):
    switch = 6 * SIZE + 99
    wal.archive.put_partial(wal.lock, 1, segment_name(1, 6, SIZE), bytes(99), 99, NOW)
    wal.branch(2, 1, switch)
    wal.put(2, [6, 7])
    wal.cover(2, 8 * SIZE)
    assert wal.missing() == []

    name = wal.lose_segment(2, 6)
    assert name in wal.missing()
    wal.put(2, [6])
    name = wal.lose_segment(1, 5)
    assert name in wal.missing()
    wal.put(1, [5])
    wal.lose(layout.history(2))
    assert wal.missing() == [layout.history(2)]


def test_an_archive_without_wal_misses_none(tmp_path: Path):
    assert Wal(tmp_path).missing() == []

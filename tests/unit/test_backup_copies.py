"""What is written more than once is copied only where it is newer, and what is damaged is copied nowhere."""

import datetime as dt
from pathlib import Path

import pytest

from pipelines.backup import layout
from pipelines.backup.beats import Beat, read_hour, to_json
from pipelines.backup.copies import copy_repository, mend
from pipelines.backup.expiry import Policy
from pipelines.backup.ledger import Ledger
from pipelines.backup.mirror import WalMirror
from pipelines.backup.model import BackupRecord, checked_json
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener
from pipelines.backup.stored import StoredBackups
from pipelines.backup.verify import verify_small
from pipelines.backup.wal import SEGMENT_BYTES, Covered, WalArchive
from resources.errors import ObjectForbiddenError, ObjectStoreUnavailableError
from resources.object_store import ObjectStore

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
HOUR = layout.heartbeats(1, NOON)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty store with an empty copy."""
    stores = []
    for name in ("first", "copy"):
        (tmp_path / name).mkdir()
        stores.append(ObjectStore.from_url((tmp_path / name).as_uri()))
    return Repository(stores[0], "1", stores[1:])


def beat_until(repository: Repository, number: int) -> None:
    """The hour of heartbeats as it is after so many."""
    beats = [Beat(one, NOON, f"{one - 1:064x}", f"{one:064x}", NOON, 1) for one in range(1, number + 1)]
    repository.put(HOUR, to_json(beats))


def beats_of(repository: Repository) -> int:
    return len(read_hour(repository.only(repository.store), HOUR))


def copy_of(repository: Repository) -> Repository:
    return repository.only(repository.copies[0])


def test_mending_takes_no_heartbeat_from_the_store_whose_copy_is_behind(repository: Repository):
    beat_until(repository, 3)
    copy_repository(repository)
    beat_until(repository, 5)

    assert all(not one.faults for one in mend(repository))

    assert beats_of(repository) == beats_of(copy_of(repository)) == 5


def test_mending_brings_back_heartbeats_that_the_store_lost_or_holds_damaged(repository: Repository):
    beat_until(repository, 5)
    copy_repository(repository)
    for damage in (lambda: beat_until(repository, 2), lambda: repository.put(HOUR, b"{}")):
        damage()
        mend(repository)
        assert beats_of(repository) == 5


def test_mending_does_not_set_back_how_far_pgbackrests_archive_was_seen_to_lead(repository: Repository):
    old, new = (checked_json({"at": NOON, "lsn": lsn, "timeline": 1}) for lsn in (1, 2))
    repository.put(layout.ARCHIVED, old)
    copy_repository(repository)
    repository.put(layout.ARCHIVED, new)
    mend(repository)
    for one in (repository, copy_of(repository)):
        assert one.read(layout.ARCHIVED, lambda data: None) == new


@pytest.mark.parametrize("name", [HOUR, layout.ARCHIVED, layout.evidence("20261121T120000Z-external-1a2b")])
def test_what_is_damaged_is_not_spread_to_a_sound_copy(repository: Repository, name: str):
    beat_until(repository, 2)
    sound = repository.read(HOUR, lambda data: None)
    repository.put(name, sound)
    copy_repository(repository)
    repository.put(name, sound.replace(b"1", b"7") + b" ")
    [result] = copy_repository(repository)
    assert any(name in fault for fault in result.faults)
    assert copy_of(repository).read(name, lambda data: None) == sound


def record() -> BackupRecord:
    """A backup without parts."""
    return BackupRecord(
        "20261121T120000Z-full-1a2b", "full", "postgres", "1", 180006, 1, 5, 6, NOON, NOON, None, (), None, "k", "",
        SEGMENT_BYTES, "u",
    )  # fmt: skip


@pytest.mark.parametrize("error", [ObjectStoreUnavailableError, ObjectForbiddenError])
def test_a_copy_store_that_fails_holds_neither_expiry_nor_reading_back_of_the_first_one_up(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
):
    repository.put_record(record())

    def fail(*_: object) -> None:
        raise error("the copy store takes no question")

    monkeypatch.setattr(repository.copies[0], "list", fail)
    backups, ledger = StoredBackups(repository, Opener()), Ledger(None, "1")  # type: ignore[arg-type]
    first, copy = backups.expire(Policy(), NOON, ledger)
    assert (list(first.plan.kept), first.fault) == ([record().backup_id], "")
    assert "takes no question" in copy.fault and copy.plan.kept == {}
    first_report, copy_report = backups.read_back()
    assert len(first_report.verifications) == 1
    assert "takes no question" in str(copy_report.faults[0]) and not copy_report.is_sound


def test_an_hour_of_heartbeats_that_is_lost_is_found_by_reading_back(repository: Repository):
    for hour in range(3):
        at = NOON + dt.timedelta(hours=hour)
        numbers = range(3 * hour + 1, 3 * hour + 4)
        beats = [Beat(one, at, f"{one - 1:064x}", f"{one:064x}", at, 1) for one in numbers]
        repository.put(layout.heartbeats(1, at), to_json(beats))
    assert verify_small(repository, {})[0] == []
    repository.delete(layout.heartbeats(1, NOON + dt.timedelta(hours=1)))
    assert [str(fault) for fault in verify_small(repository, {})[0]] == [
        f"{layout.HEARTBEATS}: heartbeat 6 is missing in the store"
    ]


def test_a_mirror_that_starts_anew_does_not_set_back_what_the_copy_was_said_to_cover(repository: Repository):
    first, copy = repository.only(repository.store), copy_of(repository)
    later = Covered(NOON + dt.timedelta(minutes=1), 9, 1)
    WalArchive(first).put_covered(Covered(NOON, 5, 1))
    WalArchive(copy).put_covered(later)  # brought from the spool while the first store was away
    WalMirror(first, copy).bring()
    assert WalArchive(copy).covered() == later


def test_a_gap_that_was_given_up_is_given_up_in_the_copy_too(repository: Repository):
    first, copy = repository.only(repository.store), copy_of(repository)
    WalArchive(first).put_kept(5)
    WalMirror(first, copy).bring()
    assert WalArchive(copy).kept() == 5
    WalArchive(first).put_kept(9)
    mirror = WalMirror(first, copy)
    mirror.bring()
    assert WalArchive(copy).kept() == 9
    WalArchive(copy).put_kept(12)  # each store expires by itself
    mirror.bring()
    assert WalArchive(copy).kept() == 12


def test_a_backup_that_a_copy_does_not_have_yet_is_read_back_in_the_store_and_missed_in_the_copy(
    repository: Repository,
):
    repository.put_record(record())
    first, copy = StoredBackups(repository, Opener()).read_back(record().backup_id)
    assert first.is_sound
    assert not copy.is_sound and f"{layout.record(record().backup_id)}: missing" in str(copy.faults[0])

"""A gap in WAL asks for one backup: not for another one each half minute, wherever the server is by then."""

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.backup import routine
from pipelines.backup.bridge import Bridge, Due
from pipelines.backup.model import BackupRecord
from pipelines.backup.repository import Repository
from pipelines.backup.wal import SEGMENT_BYTES, WalArchive
from resources.object_store import ObjectStore
from resources.settings import Settings

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DUE = Due(1, 100, "a gap")
FULL = BackupRecord(
    "20261121T120000Z-full-1a2b", "full", "postgres", "1", 180006, 1, 110, 120, NOON, NOON, None, (), None, "k", "",
    SEGMENT_BYTES, "u",
)  # fmt: skip


class Asked:
    """A request in a repository; `makes` is the record of each backup that is made for it."""

    def __init__(self, folder: Path, makes: BackupRecord, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "store").mkdir()
        self.repository = Repository(ObjectStore.from_url((folder / "store").as_uri()), "1")
        self.bridge, self.made = Bridge(folder), list[str]()
        self.bridge.request(DUE)

        def make(*arguments: object, **named: object) -> routine.BackupMade:
            self.repository.put_record(makes)
            self.made.append(makes.backup_id)
            return routine.BackupMade(makes, "", None)

        @contextlib.contextmanager
        def no_database(settings: Settings) -> Iterator[None]:
            yield None

        monkeypatch.setattr(routine, "make_backup", make)
        monkeypatch.setattr(routine, "platform_database", no_database)

    def answer(self) -> bool:
        return self.bridge.answer(Settings.load({}), self.repository, lambda text: None)

    @property
    def kept(self) -> int | None:
        return WalArchive(self.repository).kept()


def test_a_backup_that_is_made_after_the_gap_answers_and_gives_the_gap_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = Asked(tmp_path, FULL, monkeypatch)
    assert asked.answer() and asked.bridge.due() is None
    assert (asked.made, asked.kept) == ([FULL.backup_id], 100)
    assert asked.answer() and len(asked.made) == 1


@pytest.mark.parametrize(
    "changed", [{"timeline": 2, "start_lsn": 50, "stop_lsn": 60}, {"start_lsn": 50, "stop_lsn": 60}]
)
def test_a_server_that_was_set_back_gets_one_backup_and_its_wal_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, int]
):
    asked = Asked(tmp_path, dataclasses.replace(FULL, **changed), monkeypatch)
    for _ in range(3):
        assert asked.answer()
    assert len(asked.made) == 1 and asked.kept is None


def test_a_backup_of_a_later_timeline_that_is_there_answers_without_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = Asked(tmp_path, FULL, monkeypatch)
    asked.repository.put_record(dataclasses.replace(FULL, timeline=2))
    assert asked.answer() and asked.made == [] and asked.kept == 100

"""A gap in WAL is bridged by a backup: asked for here, kept on disk until it is made, begun by the receiver itself.

A request names the LSN behind which WAL goes on. Any whole backup that ends after it answers: it carries its own WAL.
So does one of a later timeline, and the one that is made for it, wherever the server is by then: it goes on from there.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.backup import routine
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import BackupRecord, format_lsn, parse_lsn
from pipelines.backup.repository import Repository
from pipelines.backup.wal import WalArchive
from resources.errors import RetryableError
from resources.settings import Settings

_turn = threading.Lock()  # the threads of one receiver ask and answer; no other process does


@dataclass(frozen=True)
class Due:
    """A backup that has to end after `lsn` of `timeline`, and why."""

    timeline: int
    lsn: int
    reason: str


class Bridge:
    """The request of one cluster; survives kills. `folder` is the cluster's spool."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "backup-due.json"

    def request(self, due: Due) -> None:
        """Ask for a backup. One that was asked for before is covered by it."""
        with _turn:
            before = self.due()
            if before and (before.timeline, before.lsn) >= (due.timeline, due.lsn):
                return
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._file.with_suffix(".new")
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({"timeline": due.timeline, "lsn": format_lsn(due.lsn), "reason": due.reason}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self._file)

    def due(self) -> Due | None:
        """What is asked for and not yet made."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            said = json.loads(self._file.read_text(encoding="utf-8"))
            return Due(int(said["timeline"]), parse_lsn(said["lsn"]), str(said["reason"]))
        return None

    def answer(self, settings: Settings, repository: Repository, say: Callable[[str], None]) -> bool:
        """Make the backup that is due, once, unless one was made meanwhile. Returns whether nothing is due any more.

        Raises what making a backup raises; the request stays then.
        """
        due = self.due()
        if due is None:
            return True
        if not is_bridged(repository, due):
            say(f"a full backup begins: {due.reason}")
            with routine.platform_database(settings) as database:
                try:
                    made = routine.make_backup(settings, database, "full", warn=say)
                except RetryableError as error:
                    say(f"the full backup has to wait: {error}")
                    return False
            say(f"backup {made.record.backup_id} bridges the gap")
        found = _bridging(repository, due)
        if any(record.timeline == due.timeline or record.start_lsn >= due.lsn for record in found):
            WalArchive(repository).put_kept(due.lsn)  # the gap is given up: WAL was begun anew after it
        with _turn:  # what is asked for meanwhile stays
            if self.due() == due:
                self._file.unlink(missing_ok=True)
        return self.due() is None


def is_bridged(repository: Repository, due: Due) -> bool:
    """Whether a backup with all that it builds on ends after the gap, or was made on a later timeline."""
    return next(_bridging(repository, due), None) is not None


def _bridging(repository: Repository, due: Due) -> Iterator[BackupRecord]:
    records = repository.records()
    for record in records:
        is_after = record.timeline == due.timeline and record.stop_lsn >= due.lsn
        if is_after or record.timeline > due.timeline:
            with contextlib.suppress(DamagedError):
                records.chain(record)
                yield record

"""What a backup engine can do; one contract suite (`tests/contract/test_backup_engines.py`) holds all of them.

`postgres` keeps its backups in our repository; an engine with a repository of its own (pgBackRest) or one that only
reads a provider's evidence implements the same calls and says in `limits` what it cannot prove.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.backup.model import BackupRecord, Kind, Verification


@dataclass(frozen=True)
class Progress:
    """How far a long act is. `total_bytes` is an estimate, 0 while unknown."""

    act: str
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]


def quiet(progress: Progress) -> None:
    """Reports to nobody."""


@dataclass(frozen=True)
class ServerFacts:
    """The cluster that an engine backs up."""

    system_identifier: str
    server_version: int
    timeline: int
    cluster_bytes: int
    wal_segment_bytes: int
    superuser: str


class BackupEngine(Protocol):
    """Backs up one cluster. Calls raise `LongboxError`s; none of them changes the cluster's data."""

    name: str
    limits: tuple[str, ...]

    def inspect(self) -> ServerFacts:
        """Look at the cluster. Raises `BackupRefusedError` with the reason if it cannot be backed up as it is."""

    def back_up(self, kind: Kind, report: Report = quiet) -> BackupRecord:
        """Make a backup; it exists when this returns and not before. Raises `BackupRunningError`, `BackupError`."""

    def backups(self) -> Sequence[BackupRecord]:
        """Every backup that exists, oldest first."""

    def verify(self, backup_id: str) -> Verification:
        """Read a backup and what it builds on back; the result names every damaged or missing object."""

    def lay_out(self, backup_id: str, into: Path, report: Report = quiet) -> BackupRecord:
        """Put the checked files of a backup into the empty folder `into`, ready for recovery; starts nothing."""

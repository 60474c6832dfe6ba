"""What a backup engine can do; one contract suite (`tests/contract/test_backup_engines.py`) holds all of them.

`postgres` keeps its backups in our repository; `pgbackrest` has a repository of its own; `external` only knows what a
provider says. Each implements the same calls, says in `limits` what it cannot prove, and refuses what it cannot do by
`EngineCannotError`, one sentence with what to do instead. Witnesses, results of drills and evidence are in our
repository (`repository`) whatever the engine. `setup` opens the engine of the settings.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipelines.backup.model import Kind, RestoreRequest, Verification, Window
from resources.database import Connection

if TYPE_CHECKING:
    from pipelines.backup.coverage import Coverage
    from pipelines.backup.expiry import ExpiryResult, Policy
    from pipelines.backup.ledger import Ledger
    from pipelines.backup.reach import CopyReach
    from pipelines.backup.repository import Repository
    from pipelines.backup.restore import RestoreResult
    from pipelines.backup.verify import RepositoryReport


@dataclass(frozen=True)
class Progress:
    """How far a long act is. `total_bytes` is an estimate, 0 while unknown."""

    act: str
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]
Check = Callable[[str], None]


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


@dataclass(frozen=True)
class Choice:
    """What the next backup should be, and why if it is not what was wished for."""

    kind: Kind
    reason: str = ""


class Backup(Protocol):
    """What every engine says of one backup. Sizes are 0 where nobody knows them."""

    @property
    def backup_id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def started_at(self) -> dt.datetime: ...
    @property
    def ended_at(self) -> dt.datetime: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def plain_bytes(self) -> int: ...
    @property
    def stored_bytes(self) -> int: ...
    @property
    def duration_seconds(self) -> float: ...


@dataclass(frozen=True)
class Catalogue:
    """Every backup that exists, oldest first, and the faults of those that cannot be relied on, by name."""

    sound: Sequence[Backup]
    faults: Mapping[str, str] = field(default_factory=dict)


class BackupSource(Protocol):
    """The backups of one cluster, without its server: what commands on an empty machine, drills and pages ask for."""

    name: str
    checks_pages: bool  # a drill may run amcheck as superuser
    repository: "Repository"

    @property
    def limits(self) -> tuple[str, ...]:
        """What it cannot prove, in sentences."""

    def catalogue(self) -> Catalogue:
        """What there is."""

    def window(self) -> Window | None:
        """First and newest restorable moment, None without a backup."""

    def copies(self) -> "tuple[CopyReach, ...]":
        """How far each copy store leads by itself; nothing where copies are not ours."""

    def verify(self, backup_id: str) -> Verification:
        """Read a backup and what it builds on back, and keep the result. Raises `EngineCannotError`."""

    def read_back(
        self, backup_id: str | None = None, named: Mapping[str, str] | None = None
    ) -> list["RepositoryReport"]:
        """Read everything back, or one backup: a report a store. `named`: what the ledger says must be there."""

    def require_drill(self) -> None:
        """Raise `EngineCannotError` where no drill can be made."""

    def preview(self, request: RestoreRequest) -> str:
        """One line that says how a request would be met; writes nothing. Raises as `restore` does before it writes."""

    def restore(
        self, request: RestoreRequest, report: Report = quiet, check: Check | None = None
    ) -> "RestoreResult":
        """Meet a request; `check` gets the URL of the restored server. Raises `RestoreRefusedError` before writing."""

    def expire(
        self, policy: "Policy", now: dt.datetime, ledger: "Ledger | None" = None
    ) -> list["ExpiryResult"]:
        """Delete what is no longer kept, told to `ledger` before; without a ledger only say what would go."""

    def covers(
        self, connection: Connection, table: str, partition: str, *, not_before: dt.datetime | None = None
    ) -> "Coverage":
        """Whether a partition stands in a verified backup as it is now; without evidence no. See `coverage.covers`."""


class BackupEngine(BackupSource, Protocol):
    """Backs up one cluster. Calls raise `LongboxError`s; none of them changes the cluster's data."""

    def choose(self) -> Choice:
        """The kind that the next backup should be: incremental where that can be made, else full with the reason."""

    def back_up(self, kind: Kind, report: Report = quiet) -> Backup:
        """Make a backup; it exists when this returns and not before.

        Raises `BackupRefusedError`, `BaseUnusableError` (make a full one), `BackupRunningError`, `BackupError`.
        """

    def mark_wal(self) -> None:
        """See to it that `window` knows how far WAL leads now, where the engine has to ask for that."""

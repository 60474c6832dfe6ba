"""The server's side of the WAL receiver: its replication slot, how far it is, and the lock of the one receiver.

The slot is made before anything is received, so that the server keeps what a receiver that is away still needs, up to
a bound: beyond it `drop` gives the disk back, and WAL has a gap that only a new backup bridges.
https://www.postgresql.org/docs/18/warm-standby.html#STREAMING-REPLICATION-SLOTS
"""

import contextlib
import datetime as dt
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import psycopg

from pipelines.backup.errors import BackupRefusedError, ReceiverRunningError
from pipelines.backup.wal import end_of_records
from resources.database import Connection, Database
from resources.errors import DatabaseBusyError, DatabaseUnavailableError
from resources.sql import Queries

SLOT = "longbox_wal"
_SQL = Queries.of("pipelines.backup")


@dataclass(frozen=True)
class Source:
    """The server that WAL comes from."""

    system_identifier: str
    segment_bytes: int
    keeps_megabytes: int  # max_slot_wal_keep_size


@dataclass(frozen=True)
class Sample:
    """Every commit that was answered before `at` (the server's clock) lies before `lsn` of `timeline`."""

    at: dt.datetime
    lsn: int
    timeline: int


@dataclass(frozen=True)
class SlotState:
    """The slot. `retained_bytes`: what the server keeps for it.

    `confirmed_lsn`: what the receiver that is connected now has on disk, None until it said so. The slot itself
    remembers what an earlier one had, which the files of this one do not hold yet.
    """

    exists: bool
    holder_pid: int | None
    confirmed_lsn: int | None
    restart_lsn: int | None  # from which on the server keeps WAL for it
    is_lost: bool
    retained_bytes: int


class SlotSession:
    """A session with the server, for one thread. Use as a context; every call raises `DatabaseUnavailableError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._close = contextlib.ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        self._connection = self._close.enter_context(self._database.session())
        self._run("limit_statements")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(psycopg.Error):
            self._close.close()

    def source(self) -> Source:
        """Who the server is. Raises `BackupRefusedError` for one that cannot feed a receiver, with what to do."""
        row = self._run("wal_source")
        system, segment_bytes, in_recovery, wal_level, senders, may, sees, keeps = cast(
            "tuple[str, int, bool, str, int, bool, bool, int]", row
        )
        if in_recovery:
            raise BackupRefusedError(
                "the server is a standby; name the primary with LONGBOX_BACKUP_POSTGRES_URL"
            )
        if wal_level == "minimal" or senders == 0:
            raise BackupRefusedError(
                f"the server has wal_level={wal_level} and max_wal_senders={senders}; set replica and 10, "
                "and restart it"
            )
        if not may:
            raise BackupRefusedError(
                "the user of LONGBOX_BACKUP_POSTGRES_URL may not receive WAL; ALTER ROLE ... REPLICATION, or name "
                "another one"
            )
        if not sees:
            raise BackupRefusedError(
                "the user of LONGBOX_BACKUP_POSTGRES_URL may not see how much WAL a receiver has on disk "
                "(pg_stat_replication); GRANT pg_monitor TO it (docs/how-to/ship-wal.md)"
            )
        return Source(system, segment_bytes, keeps)

    def lock(self, name: str) -> None:
        """Be the only receiver of the server while this session lives. `name` is this receiver's own, for good.

        A session of the same name is what a cut network or a kill left of ours: it is ended. Raises
        `ReceiverRunningError` naming the other one.
        """
        for _ in range(2):
            if self._run("lock_receiver")[0]:
                return
            holder = self._run("receiver_holder")
            if not holder:
                continue
            pid, application, address, since = holder
            if application != name:
                raise ReceiverRunningError(
                    f"another receiver ({application}, server process {pid}, from {address}) takes this server's "
                    f"WAL since {since:%Y-%m-%d %H:%M:%S} UTC; one is enough: end it first, or leave the work to it"
                )
            self._run("end_process", pid=pid)
        if not self._run("lock_receiver")[0]:
            raise DatabaseBusyError(
                "the lock of an earlier session of this receiver is still held; it is tried again"
            )

    def look(self) -> tuple[Sample, SlotState]:
        """The server's clock and where WAL was just after it, and the slot."""
        (at,) = self._run("clock")
        lsn, timeline, exists, pid, confirmed, restart, is_lost, retained = self._run("wal_state", slot=SLOT)
        state = SlotState(bool(exists), pid, confirmed, restart, bool(is_lost), int(retained))
        return Sample(at, end_of_records(int(lsn)), int(timeline)), state

    def create(self) -> None:
        """Make the slot; it is there is fine."""
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            self._run("create_wal_slot", slot=SLOT)

    def drop(self) -> None:
        """Give the slot up, ending who uses it. Absent is fine."""
        self.free()
        self._run("drop_wal_slot", slot=SLOT)

    def free(self) -> None:
        """End the server's process that uses the slot. Only for the holder of the lock."""
        holder = self._run("wal_state", slot=SLOT)[3]
        if holder is not None:
            self._run("end_process", pid=holder)

    def _run(self, block: str, **parameters: object) -> tuple:  # type: ignore[type-arg]
        assert self._connection is not None, "a session is used as a context"
        try:
            return self._connection.execute(_SQL[block], parameters).fetchone() or ()
        except psycopg.errors.ObjectInUse as error:
            raise DatabaseBusyError(f"the slot {SLOT} is in use ({error}); it is tried again") from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise BackupRefusedError(
                f"the user of LONGBOX_BACKUP_POSTGRES_URL may not do that: {error.diag.message_primary}; give it "
                "REPLICATION (docs/how-to/ship-wal.md)"
            ) from error
        except psycopg.Error as error:
            raise DatabaseUnavailableError(
                f"PostgreSQL did not answer ({' '.join(str(error).split())}); it is tried again"
            ) from error

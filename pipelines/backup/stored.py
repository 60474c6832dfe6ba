"""The backups of the default engine as our repository has them, without their server: what `PostgresEngine` adds to.

The store and the keys are enough for all of it, on an empty machine too.
"""

import datetime as dt
from collections.abc import Mapping

from pipelines.backup import coverage, expiry, layout
from pipelines.backup.coverage import Coverage
from pipelines.backup.engine import Catalogue, Check, Report, quiet
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import RestoreRequest, Verification, Window
from pipelines.backup.planning import plan, window
from pipelines.backup.reach import CopyReach, copy_reaches
from pipelines.backup.repository import Repository
from pipelines.backup.restore import RestoreResult, restore
from pipelines.backup.sealed import Opener
from pipelines.backup.verify import Fault, RepositoryReport, report_of, verify_backup, verify_repository
from resources.database import Connection
from resources.errors import LongboxError, ObjectStoreError, ObjectStoreUnavailableError
from resources.object_store import ObjectStore

NAME = "postgres"


class StoredBackups:
    """A repository and whatever keys are at hand."""

    name = NAME
    limits: tuple[str, ...] = ()
    checks_pages = True

    def __init__(self, repository: Repository, opener: Opener) -> None:
        self.repository, self.opener = repository, opener

    def catalogue(self) -> Catalogue:
        """Every backup that exists, in whichever store."""
        records = self.repository.records()
        return Catalogue(records.sound, records.faults)

    def window(self) -> Window | None:
        """First and newest restorable moment."""
        return window(self.repository, self.opener)

    def copies(self) -> tuple[CopyReach, ...]:
        """How far each copy store leads by itself."""
        return copy_reaches(self.repository, self.opener)

    def verify(self, backup_id: str) -> Verification:
        """Read a backup and what it builds on back, and store the result."""
        return verify_backup(self.repository, backup_id, self.opener, self.opener.has("recovery"))

    def read_back(
        self, backup_id: str | None = None, named: Mapping[str, str] | None = None
    ) -> list[RepositoryReport]:
        """Read every object of the store and of each copy back, or those of one backup. Faults are not raised.

        A copy store that is away, or does not have that backup, is a fault of its own.
        """
        reports = [self._read_back_one(self.repository.store, backup_id, named or {})]
        for store in self.repository.copies:
            try:
                # a copy may be some hours behind what the ledger names; what is brought there is compared then
                reports.append(self._read_back_one(store, backup_id, {}))
            except LongboxError as error:
                reports.append(RepositoryReport(store.url, (), (Fault(store.url, str(error)),), 0, 0, False))
        return reports

    def _read_back_one(
        self, store: ObjectStore, backup_id: str | None, named: Mapping[str, str]
    ) -> RepositoryReport:
        one, is_decrypting = self.repository.only(store), self.opener.has("recovery")
        if backup_id is None:
            return verify_repository(one, self.opener, is_decrypting, named=named)
        return report_of(store.url, verify_backup(one, backup_id, self.opener, is_decrypting))

    def require_drill(self) -> None:
        """Nothing is in the way of a drill."""

    def preview(self, request: RestoreRequest) -> str:
        """Which backups and how much WAL a request takes, its disk space and an estimate of its time."""
        decided = plan(self.repository, request, self.opener)
        chain = ", ".join(record.backup_id for record in decided.chain)
        size = sum(record.plain_bytes for record in decided.chain)
        return (
            f"from {chain} ({size / 1e6:,.0f} MB) and up to {decided.wal_bytes / 1e6:,.0f} MB of WAL; needs "
            f"{decided.needed_bytes / 1e6:,.0f} MB of disk, takes about {max(1.0, decided.estimate_seconds):.0f} s"
        )

    def restore(
        self, request: RestoreRequest, report: Report = quiet, check: Check | None = None
    ) -> RestoreResult:
        """Meet a request; see `restore.restore`."""
        return restore(self.repository, request, self.opener, report, check)

    def expire(
        self, policy: expiry.Policy, now: dt.datetime, ledger: Ledger | None = None
    ) -> list[expiry.ExpiryResult]:
        """Delete what the policy no longer keeps, in the store and in each copy; without a ledger only say what.

        A copy store that is away, or lets nothing be deleted, holds nothing up; its result says so.
        """
        results = [_expire_store(self.repository.only(self.repository.store), policy, now, ledger)]
        for store in self.repository.copies:
            try:
                results.append(_expire_store(self.repository.only(store), policy, now, ledger))
            except (ObjectStoreUnavailableError, ObjectStoreError) as error:
                nothing = expiry.ExpiryPlan({}, (), ())
                results.append(expiry.ExpiryResult(nothing, ledger is None, 0, 0, (), store.url, str(error)))
        return results

    def covers(
        self, connection: Connection, table: str, partition: str, *, not_before: dt.datetime | None = None
    ) -> Coverage:
        """Whether a partition stands in a verified backup as it is now."""
        return coverage.covers(connection, self.repository, table, partition, not_before=not_before)


def _expire_store(
    one: Repository, policy: expiry.Policy, now: dt.datetime, ledger: Ledger | None
) -> expiry.ExpiryResult:
    planned = expiry.expire(one, policy, now)
    if ledger is None:
        return planned
    wal = planned.plan.wal
    if wal:
        # WAL goes by hundreds of objects a day: one entry tells their span
        proof = {"store": one.store.url, "first": wal[0], "last": wal[-1]}
        ledger.write("expire wal", str(policy), proof, len(wal))

    def tell(name: str) -> None:
        if layout.is_backup_id(name):
            ledger.write("expire backup", str(policy), {"store": one.store.url, "backup_id": name})

    return expiry.expire(one, policy, now, dry_run=False, tell=tell)

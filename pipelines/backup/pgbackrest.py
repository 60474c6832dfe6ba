"""The pgbackrest engine: pgBackRest makes, keeps, verifies and restores; we witness, drill, compare and ledger.

Its repository stays its own: of a backup nothing is in our store but witnesses, results, and how far WAL was archived.
What it does not do is done here: gaps in the archive are found from a listing (its `verify` does not look for them),
and a restored server is started, looked at and only then called restored. https://pgbackrest.org/
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import cast

from pipelines.backup import coverage, layout
from pipelines.backup.coverage import Coverage, Proven
from pipelines.backup.engine import Catalogue, Check, Choice, Progress, Report, ServerFacts, quiet
from pipelines.backup.errors import (
    BackupError,
    BackupRefusedError,
    BackupRunningError,
    BaseUnusableError,
    DamagedError,
    EngineCannotError,
)
from pipelines.backup.expiry import ExpiryPlan, ExpiryResult, Policy
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import (
    Kind,
    RestoreRequest,
    Verification,
    Window,
    checked_json,
    parse_lsn,
    read_checked_json,
)
from pipelines.backup.pgbackrest_restore import carry_out, plan_restore, reach_of, start_of_wal
from pipelines.backup.pgbackrest_said import (
    SEGMENT,
    SUPERUSER,
    PgBackRestBackup,
    StanzaInfo,
    Verified,
    read_archive,
    read_archived,
    read_expired,
    read_info,
    read_verify,
)
from pipelines.backup.reach import CopyReach
from pipelines.backup.repository import Repository
from pipelines.backup.restore import RestoreResult
from pipelines.backup.verify import Fault, RepositoryReport, verify_small
from pipelines.backup.wal import SEGMENT_BYTES, Covered, Inventory, segment_name
from resources.database import Connection, Database
from resources.pgbackrest import PgBackRest, PgBackRestError
from resources.sql import Queries

NAME = "pgbackrest"
_SQL = Queries.of("pipelines.backup")


class PgBackRestEngine:
    """One stanza. Making backups needs `server`, the cluster as its backups reach it; all else does not."""

    name = NAME
    limits: tuple[str, ...] = (
        "the age of the newest restorable moment is known to the last backup or look at the archive only "
        "(job wal_observation), and no heartbeats are compared: pgBackRest ships WAL, not Longbox",
    )
    checks_pages = True

    def __init__(self, program: PgBackRest, repository: Repository, server: Database | None = None) -> None:
        self._program, self.repository, self._server = program, repository, server

    def inspect(self) -> ServerFacts:
        """Look at the cluster. Raises `BackupRefusedError` if it is not the one of the stanza."""
        with self._database().session() as connection:
            row = connection.execute(_SQL["server_facts"]).fetchone()
        system, version, timeline, size, segment, superuser, in_recovery, *_ = cast(
            "tuple[str, int, int, int, int, str, bool]", row
        )
        info = self._info()
        if info.system_identifier != system:
            raise BackupRefusedError(
                f"the server is cluster {system}, stanza {self._program.stanza} is of {info.system_identifier}; name "
                "the right one with LONGBOX_PGBACKREST_STANZA, or run `pgbackrest stanza-upgrade`"
            )
        if in_recovery:
            raise BackupRefusedError(
                "the server is a standby; name the primary with LONGBOX_BACKUP_POSTGRES_URL"
            )
        return ServerFacts(system, version, timeline, size, segment, superuser)

    def choose(self) -> Choice:
        """An incremental if there is a backup to build on, else a full one."""
        if self._info().backups:
            return Choice("incremental")
        return Choice("full", "pgBackRest has no backup of this cluster to build on")

    def back_up(self, kind: Kind, report: Report = quiet) -> PgBackRestBackup:
        """Make a backup in each repository of the stanza, one after the other; returns that of the first.

        One that fails does not keep the others from theirs, but fails the call. pgBackRest's own expiry is put off to
        `expire`, which tells the ledger before. Raises `BackupRefusedError`, `BaseUnusableError`,
        `BackupRunningError`, `BackupError`.
        """
        facts, known = self.inspect(), self._info()
        if kind == "incremental" and not known.backups:
            raise BaseUnusableError("pgBackRest has no backup of this cluster to build on; make a full one")
        report(Progress("backing up", 0, facts.cluster_bytes))
        errors = []
        for repository in known.repositories:
            try:
                self._back_up_into(repository, kind, facts)
            except BackupError as error:
                errors.append(str(error))
        if errors:
            raise BackupError("; ".join(errors))
        info, before = self._info(), {one.backup_id for one in known.backups}
        made = {one.repository: one for one in info.backups if one.backup_id not in before}
        lacking = [number for number in known.repositories if number not in made]
        if lacking:
            faults = "; ".join(f"{name}: {why}" for name, why in info.faults.items())
            raise BackupError(
                f"pgBackRest made no backup that can be relied on in repository {lacking[0]} "
                f"({faults or 'it lists none'})"
            )
        first, *others = (made[number] for number in known.repositories)
        return dataclasses.replace(first, also=tuple(one.backup_id for one in others))

    def _back_up_into(self, repository: int, kind: Kind, facts: ServerFacts) -> None:
        try:
            self._program.run(
                "backup",
                f"--repo={repository}",
                # full by itself where that repository has nothing to build on
                f"--type={'full' if kind == 'full' else 'incr'}",
                "--start-fast",
                "--no-expire-auto",
                f"--annotation={SUPERUSER}={facts.superuser}",
                f"--annotation={SEGMENT}={facts.wal_segment_bytes}",
            )
        except PgBackRestError as error:
            if error.is_locked:
                raise BackupRunningError(
                    f"another pgBackRest works on stanza {self._program.stanza}; try again later ({error.said})"
                ) from error
            raise BackupError(
                f"repository {repository}: {error}; nothing of it counts there, run it again"
            ) from error

    def mark_wal(self) -> None:
        """Have the open WAL segment archived and record that every commit until now is in the archive.

        Switches WAL (`pgbackrest check`). pgBackRest tells whole seconds, so that a mark within the last one of the
        newest backup would not count: it is waited for. Raises `BackupError` when archiving does not work.
        """
        newest = self._info().backups[-1:]
        with self._database().session() as connection:
            for backup in newest:
                connection.execute(_SQL["wait_until"], {"at": backup.ended_at})
            row = connection.execute(_SQL["wal_mark"]).fetchone()
        at, lsn, timeline = cast("tuple[dt.datetime, str, int]", row)
        try:
            self._program.run("check")
        except PgBackRestError as error:
            raise BackupError(
                f"WAL does not reach pgBackRest's archive: {error}; see archive_command and the server's log"
            ) from error
        self.repository.put(
            layout.ARCHIVED, checked_json({"at": at, "lsn": parse_lsn(lsn), "timeline": timeline})
        )

    def catalogue(self) -> Catalogue:
        """Every backup that pgBackRest lists of the stanza's present cluster."""
        info = self._info()
        return Catalogue(info.backups, info.faults)

    def window(self) -> Window | None:
        """From the oldest backup whose WAL leads to the newest moment that the archive was seen to hold."""
        info = self._info()
        if not info.backups:
            return None
        newest, inventory, archived = info.backups[-1], self._archive(info), self._archived()
        reach = reach_of(newest, inventory, archived)
        if not reach.has_wal or reach.at == newest.ended_at:
            return Window(info.backups[0].ended_at, reach.at, False)
        first = newest.ended_at
        for one in reversed(info.backups):
            if (
                one.timeline != newest.timeline
                or inventory.end_lsn(one.timeline, start_of_wal(one)) < reach.lsn
            ):
                break
            first = min(first, one.ended_at)
        return Window(first, reach.at, True)

    def copies(self) -> tuple[CopyReach, ...]:
        """None: pgBackRest has repositories of its own for that."""
        return ()

    def verify(self, backup_id: str) -> Verification:
        """Have pgBackRest read its repository back, look for the backup's WAL, and keep the result."""
        info = self._info()
        return self._keep(info, backup_id, self._archive(info), self._verify(info))

    def read_back(
        self, backup_id: str | None = None, named: Mapping[str, str] | None = None
    ) -> list[RepositoryReport]:
        """The stanza as one report, our own store (witnesses, results) as another, a copy each."""
        info = self._info()
        said, inventory = self._verify(info), self._archive(info)
        wanted = [one.backup_id for one in info.backups if backup_id in (None, one.backup_id)] or [
            name for name in [backup_id] if name
        ]
        found = [self._keep(info, name, inventory, said) for name in wanted]
        faults = [Fault(one.backup_id, fault) for one in found for fault in one.faults]
        if backup_id is None:
            faults += [Fault(name, why) for name, why in info.faults.items()]
            faults += [Fault("archive", str(gap)) for gap in self._gaps(info, inventory)]
            faults += _empty_repositories(info, said)
        place = f"pgbackrest:{self._program.stanza}"
        objects = sum(one.wal_files for one in said.values()) + sum(one.objects for one in found)
        stored_bytes = sum(one.stored_bytes for one in found)
        reports = [
            RepositoryReport(place, tuple(found), tuple(dict.fromkeys(faults)), objects, stored_bytes, True)
        ]
        if backup_id is None:
            for store in self.repository.stores:
                small, count = verify_small(
                    self.repository.only(store), (named or {}) if store is self.repository.store else {}
                )
                reports.append(RepositoryReport(store.url, (), tuple(small), count, 0, True))
        return reports

    def require_drill(self) -> None:
        """Nothing is in the way of a drill."""

    def preview(self, request: RestoreRequest) -> str:
        """Which backup a request takes and its disk space."""
        info = self._info()
        decided = plan_restore(info, self._archive(info), self._archived(), request)
        return (
            f"from {decided.backup.backup_id} ({decided.backup.plain_bytes / 1e6:,.0f} MB) by pgBackRest, and WAL from "
            f"its archive; needs {decided.needed_bytes / 1e6:,.0f} MB of disk and room for that WAL"
        )

    def restore(
        self, request: RestoreRequest, report: Report = quiet, check: Check | None = None
    ) -> RestoreResult:
        """Meet a request. Raises `RestoreRefusedError` before anything is written, `RestoreFailedError`."""
        info = self._info()
        decided = plan_restore(info, self._archive(info), self._archived(), request)
        return carry_out(self._program, info, decided, request, report, check)

    def expire(self, policy: Policy, now: dt.datetime, ledger: Ledger | None = None) -> list[ExpiryResult]:
        """Have pgBackRest expire by its own retention (repo*-retention-*); `policy` is not its.

        Without a ledger only say what would go.
        """
        known = {one.backup_id: one for one in self._info().backups}
        place = f"pgbackrest:{self._program.stanza}"
        try:
            said = self._program.run("expire", "--dry-run", "--log-level-console=info")
            going = read_expired(said)
            if ledger is not None:
                for name in going:
                    proof = {"store": place, "backup_id": name, "engine": NAME}
                    ledger.write("expire backup", "pgBackRest's retention", proof)
                self._program.run("expire")
        except PgBackRestError as error:
            raise BackupError(f"{error}; its retention is set in pgBackRest's configuration") from error
        freed = sum(known[name].stored_bytes for name in going if name in known)
        kept: dict[str, tuple[str, ...]] = {
            name: ("pgBackRest's retention",) for name in known if name not in going
        }
        plan = ExpiryPlan(kept, going, ())
        return [ExpiryResult(plan, ledger is None, len(going), freed, (), place)]

    def covers(
        self, connection: Connection, table: str, partition: str, *, not_before: dt.datetime | None = None
    ) -> Coverage:
        """Whether a partition stands in a verified backup as it is now: from our record of pgBackRest's `verify`."""

        def newest(timeline: int) -> Proven | None:
            for one in reversed(self._info().backups):
                last = self.repository.verification(one.backup_id)
                if (
                    one.timeline == timeline
                    and last is not None
                    and last.is_sound
                    and (not_before is None or last.verified_at >= not_before)
                ):
                    return Proven(one.backup_id, one.timeline, one.start_lsn)
            return None

        return coverage.covered_by(connection, self.repository.system_identifier, newest, table, partition)

    def _keep(
        self, info: StanzaInfo, backup_id: str, inventory: Inventory, verified: Mapping[int, Verified]
    ) -> Verification:
        backup = next((one for one in info.backups if one.backup_id == backup_id), None)
        if backup is None:
            raise DamagedError(
                f"pgBackRest lists no sound backup {backup_id}; see `longbox backup list`", [backup_id]
            )
        said = verified[backup.repository]
        faults = [*said.general_faults, *(f"WAL archive: {fault}" for fault in said.wal_faults)]
        for name in (backup_id, *backup.references):
            own = said.faults.get(name, ("pgBackRest did not read it back",))
            faults += [f"{name}: {fault}" for fault in own]
        faults += [f"WAL segment {name} is missing" for name in _missing(backup, inventory)]
        before = self.repository.verification(backup_id)
        result = Verification(
            backup_id, dt.datetime.now(dt.UTC), not faults, True, said.files.get(backup_id, 0),
            backup.stored_bytes, tuple(faults),
            is_restored=not faults and before is not None and before.is_restored,
        )  # fmt: skip
        self.repository.put(layout.verification(backup_id), result.to_json())
        return result

    def _verify(self, info: StanzaInfo) -> dict[int, Verified]:
        """What pgBackRest says of each repository. Raises `EngineCannotError` if it can read none back."""
        found, errors = {}, []
        for number in info.repositories:
            try:
                said = self._program.run("verify", f"--repo={number}", "--output=text", "--verbose")
                found[number] = read_verify(said)
            except PgBackRestError as error:
                errors.append(error)
                found[number] = Verified({}, {}, 0, (), (f"repository {number} cannot be read: {error}",))
        if len(errors) == len(found):
            raise EngineCannotError(
                f"{errors[0]}; reading back needs pgBackRest 2.45 or newer, or a drill: `restore_drill`"
            ) from errors[0]
        return found

    def _gaps(self, info: StanzaInfo, inventory: Inventory) -> list[str]:
        if not info.backups:
            return []
        oldest = info.backups[0]
        return [
            str(gap)
            for timeline in inventory.timelines
            for gap in inventory.gaps(timeline, oldest.start_lsn if timeline == oldest.timeline else 0)
        ]

    def _info(self) -> StanzaInfo:
        info = read_stanza(self._program)
        if info.system_identifier != self.repository.system_identifier:
            raise BackupRefusedError(
                f"stanza {self._program.stanza} is of cluster {info.system_identifier}, not of "
                f"{self.repository.system_identifier}; name the right one with LONGBOX_PGBACKREST_STANZA"
            )
        return info

    def _archive(self, info: StanzaInfo) -> Inventory:
        size = info.backups[-1].wal_segment_bytes if info.backups else SEGMENT_BYTES
        place = f"archive/{self._program.stanza}/{info.archive_id}"
        listings, errors = [], []
        for repository in info.repositories:
            try:
                options = ("--recurse", f"--repo={repository}")
                listings.append(self._program.json("repo-ls", *options, operand=place))
            except PgBackRestError as error:
                errors.append(error)  # what another repository has is enough
        if errors and not listings:
            raise BackupError(f"pgBackRest's archive cannot be listed: {errors[0]}") from errors[0]
        return read_archive(listings, size)

    def _archived(self) -> Covered | None:
        if layout.ARCHIVED not in self.repository.all_names("pgbackrest"):
            return None
        data = self.repository.read(layout.ARCHIVED, lambda found: read_checked_json(layout.ARCHIVED, found))
        return Covered(*read_archived(read_checked_json(layout.ARCHIVED, data)))

    def _database(self) -> Database:
        if self._server is None:
            raise EngineCannotError("this needs the server; name it with LONGBOX_BACKUP_POSTGRES_URL")
        return self._server


def read_stanza(program: PgBackRest) -> StanzaInfo:
    """What pgBackRest knows of its stanza. Raises `UserError`, `BackupError`."""
    try:
        return read_info(program.stanza, program.json("info"))
    except PgBackRestError as error:
        raise BackupError(f"{error}; see LONGBOX_PGBACKREST_CONFIG and LONGBOX_PGBACKREST_COMMAND") from error


def _empty_repositories(info: StanzaInfo, said: Mapping[int, Verified]) -> list[Fault]:
    """Repositories without a backup of this cluster, and what pgBackRest said of them."""
    found = []
    for number in info.repositories:
        if not any(one.repository == number for one in info.backups):
            found.append(Fault(f"repository {number}", "there is no backup"))
            found += [Fault(f"repository {number}", fault) for fault in said[number].general_faults]
    return found


def _missing(backup: PgBackRestBackup, inventory: Inventory) -> list[str]:
    """Segments that the backup needs to become consistent and that the archive does not have."""
    size = backup.wal_segment_bytes
    numbers = range(backup.start_lsn // size, (backup.stop_lsn - 1) // size + 1)
    names = [segment_name(backup.timeline, number, size) for number in numbers]
    return [name for name in names if (backup.timeline, name) not in inventory.segments]

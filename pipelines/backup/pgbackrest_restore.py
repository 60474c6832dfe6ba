"""A restore by pgBackRest: it lays the files out and hands WAL over; the server is started and looked at here.

Which backup, and whether WAL leads to the target, is decided before anything is written, from pgBackRest's own words.
"""

import datetime as dt
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.backup.engine import Check, Progress, Report
from pipelines.backup.errors import RestoreFailedError, RestoreRefusedError, WalMissingError
from pipelines.backup.model import RestoreRequest, format_lsn
from pipelines.backup.pgbackrest_said import PgBackRestBackup, StanzaInfo
from pipelines.backup.planning import require_folder, require_space
from pipelines.backup.recovery import NOT_REACHED, Expected, Target, look_at, promoted
from pipelines.backup.restore import RestoreResult, locked_folder, write_mark
from pipelines.backup.wal import Covered, Inventory
from resources.pgbackrest import PgBackRest, PgBackRestError
from resources.postgres_tools import PostgresTools
from resources.restored_server import RestoredServer, RestoredServerError, start_for_good

OLDEST_POSTGRES = 15
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Reach:
    """How far the archive leads from the newest backup: until when every commit is in it, and to which LSN."""

    at: dt.datetime
    lsn: int
    covered_lsn: int  # what is known to lie within WAL that holds every commit before `at`
    has_wal: bool
    is_cut: bool  # later WAL is there, beyond a gap


@dataclass(frozen=True)
class PgBackRestPlan:
    """How a request will be met."""

    backup: PgBackRestBackup
    target: Target
    expected_lsn: int
    needed_bytes: int
    tools: PostgresTools


def start_of_wal(backup: PgBackRestBackup) -> int:
    """Where the segment after the backup's own WAL begins: pgBackRest keeps what comes before with the backup."""
    return -(-backup.stop_lsn // backup.wal_segment_bytes) * backup.wal_segment_bytes


def reach_of(backup: PgBackRestBackup, inventory: Inventory, archived: Covered | None) -> Reach:
    """How far the archive leads from a backup, on its own timeline: after a fail-over make a full backup."""
    start = start_of_wal(backup)
    end = inventory.end_lsn(backup.timeline, start)
    is_cut = inventory.end(backup.timeline) > end
    at, covered_lsn = backup.ended_at, backup.stop_lsn
    if archived and archived.timeline == backup.timeline and backup.stop_lsn <= archived.lsn:
        is_cut = is_cut or archived.lsn > end
        if archived.lsn <= end and archived.at > at:
            at, covered_lsn = archived.at, archived.lsn
    return Reach(at, end, covered_lsn, end > start, is_cut)


def plan_restore(
    info: StanzaInfo, inventory: Inventory, archived: Covered | None, request: RestoreRequest
) -> PgBackRestPlan:
    """Decide how to meet a request; writes nothing. Raises `RestoreRefusedError`, `MissingProgramsError`."""
    if not info.backups:
        raise RestoreRefusedError("there is no backup to restore; make one: `longbox backup --full`")
    backup, target, lsn = _choose(info, inventory, archived, request)
    tools = PostgresTools.find(info.major, request.into / "data", oldest=OLDEST_POSTGRES)
    require_folder(request.into, tools)
    needed = backup.plain_bytes + _SPARE_BYTES
    require_space(request.into, needed)
    return PgBackRestPlan(backup, target, lsn, needed, tools)


def _choose(
    info: StanzaInfo, inventory: Inventory, archived: Covered | None, request: RestoreRequest
) -> tuple[PgBackRestBackup, Target, int]:
    if request.backup_id is not None:
        found = next((one for one in info.backups if one.backup_id == request.backup_id), None)
        if found is None:
            why = info.faults.get(request.backup_id, "`longbox backup list` shows those that exist")
            raise RestoreRefusedError(f"there is no backup {request.backup_id}: {why}")
        return found, Target(is_immediate=True, timeline=found.timeline), found.stop_lsn
    newest = info.backups[-1]
    if request.to is None:
        reach = reach_of(newest, inventory, archived)
        if reach.is_cut:
            raise WalMissingError(
                f"WAL after {format_lsn(reach.lsn)} is missing in pgBackRest's archive, though later WAL is there or "
                f"was; the newest moment before the gap is {reach.at:%Y-%m-%d %H:%M:%S.%f} UTC: restore --to it"
            )
        return newest, Target(timeline=newest.timeline), max(newest.stop_lsn, reach.covered_lsn)
    before = [one for one in info.backups if one.ended_at <= request.to]
    if not before:
        raise RestoreRefusedError(
            f"{request.to:%Y-%m-%d %H:%M:%S.%f%z} lies before the first restorable moment, "
            f"{info.backups[0].ended_at:%Y-%m-%d %H:%M:%S} UTC; choose a later one"
        )
    reach = reach_of(before[-1], inventory, archived)
    if request.to > reach.at:
        where = (
            "beyond a gap in pgBackRest's archive" if reach.is_cut else "after the newest restorable moment"
        )
        refusal = WalMissingError if reach.is_cut else RestoreRefusedError
        raise refusal(
            f"{request.to:%Y-%m-%d %H:%M:%S.%f%z} lies {where}; the newest moment that it leads to is "
            f"{reach.at:%Y-%m-%d %H:%M:%S.%f} UTC: choose that one"
        )
    target = Target(request.to, timeline=before[-1].timeline, covered_lsn=reach.covered_lsn)
    return before[-1], target, before[-1].stop_lsn


def carry_out(
    program: PgBackRest,
    info: StanzaInfo,
    decided: PgBackRestPlan,
    request: RestoreRequest,
    report: Report,
    check: Check | None,
    clock: Callable[[], float] = time.monotonic,
) -> RestoreResult:
    """Restore, recover, look; what was begun is removed after an error. Raises `RestoreFailedError`."""
    started, into, backup = clock(), request.into, decided.backup
    with locked_folder(into, backup.backup_id) as mark:
        report(Progress("restoring", 0, backup.plain_bytes))
        data = into / "data"
        _lay_out(program, decided, into)
        seconds = {"files": clock() - started}
        report(Progress("replaying", 0, 0))
        server, lsn = _recovered(program, decided, into / "server.log", data, request.is_durable)
        try:
            facts = look_at(server, Expected(info.system_identifier, lsn, decided.target.at))
            rto_seconds = clock() - started
            seconds["recovery"] = rto_seconds - seconds["files"]
            if check is not None:
                report(Progress("checking", 0, 0))
                check(server.url())
        finally:
            server.stop()
        log = into / "server.log"
        pid = start_for_good(decided.tools, data, log, request.port) if request.port else None
        write_mark(mark, backup.backup_id, "restored")
    return RestoreResult(backup.backup_id, into, facts, rto_seconds, seconds, request.port, pid)


def _lay_out(program: PgBackRest, decided: PgBackRestPlan, into: Path) -> None:
    """pgBackRest compares every file with the checksum of its manifest as it writes it."""
    spaces = into / "tablespaces"
    for folder in (into / "data", spaces):
        folder.mkdir(mode=0o700)
        if decided.tools.run_as is not None:
            os.chown(folder, decided.tools.run_as.uid, decided.tools.run_as.gid)
    try:
        program.run(
            "restore",
            f"--repo={decided.backup.repository}",
            f"--set={decided.backup.backup_id}",
            f"--pg1-path={into / 'data'}",
            f"--tablespace-map-all={spaces}",  # never where the live server has them
            "--archive-mode=off",
            "--type=default",
        )
    except PgBackRestError as error:
        raise RestoreFailedError(
            f"backup {decided.backup.backup_id} could not be laid out: {error}; see `longbox backup verify`"
        ) from error
    if not any(spaces.iterdir()):
        shutil.rmtree(spaces)


def _recovered(
    program: PgBackRest, decided: PgBackRestPlan, log: Path, data: Path, is_durable: bool
) -> tuple[RestoredServer, int]:
    """The promoted server, and the LSN that its WAL has to lead to."""
    target = decided.target
    try:
        return promoted(_server(program, decided, log, data, target, is_durable)), decided.expected_lsn
    except RestoredServerError as error:
        if target.at is None or target.covered_lsn is None or NOT_REACHED not in error.said:
            raise _failure(decided, error) from error
    # every commit up to the moment is in the archive and none came after it: the end of WAL is the target
    try:
        end = Target(timeline=target.timeline)
        lsn = max(decided.expected_lsn, target.covered_lsn)
        return promoted(_server(program, decided, log, data, end, is_durable)), lsn
    except RestoredServerError as error:
        raise _failure(decided, error) from error


def _server(
    program: PgBackRest, decided: PgBackRestPlan, log: Path, data: Path, target: Target, is_durable: bool
) -> RestoredServer:
    settings = target.settings() | {
        "restore_command": program.restore_command(data),
        "fsync": "on" if is_durable else "off",
    }
    return RestoredServer(decided.tools, data, log, settings, decided.backup.superuser)


def _failure(decided: PgBackRestPlan, error: RestoredServerError) -> RestoreFailedError:
    return RestoreFailedError(f"backup {decided.backup.backup_id} was laid out, but did not recover: {error}")

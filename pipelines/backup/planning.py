"""Which backups and which WAL lead to what is wanted; everything that is wrong is refused here, before any writing.

The newest backup that ended before the moment is the start; the WAL after it must be there without a gap, along the
timelines that branched off it, up to an object that says that it covers the moment. `restore` carries the plan out.
https://www.postgresql.org/docs/18/continuous-archiving.html#BACKUP-TIMELINES
"""

import contextlib
import datetime as dt
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipelines.backup import continuity, layout
from pipelines.backup.errors import DamagedError, RestoreRefusedError, WalMissingError
from pipelines.backup.files import needed_bytes, require_keys
from pipelines.backup.model import BackupRecord, RestoreRequest, Window, format_lsn
from pipelines.backup.recovery import AHEAD, Target
from pipelines.backup.repository import Records, Repository
from pipelines.backup.sealed import Opener
from pipelines.backup.wal import SEGMENT_BYTES, Inventory, WalArchive, parse_history
from resources.postgres_programs import can_reach
from resources.postgres_tools import PostgresTools

MARK = "restore.json"
LEFT_OVER = ("data", "data.incoming", "wal", "tablespaces", "server.log")  # what a killed restore may leave
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class RestorePlan:
    """How a request will be met."""

    chain: tuple[BackupRecord, ...]
    target: Target
    inventory: Inventory
    wal_objects: int
    wal_bytes: int
    expected_lsn: int
    needed_bytes: int
    estimate_seconds: float
    tools: PostgresTools

    @property
    def record(self) -> BackupRecord:
        """The backup that recovery starts from."""
        return self.chain[-1]


def window(repository: Repository, opener: Opener) -> Window | None:
    """First and newest restorable moment, None without a backup. The live RPO is the distance of `until` from now."""
    records = repository.records()
    if not records.sound:
        return None
    archive = WalArchive(repository, records.sound[-1].wal_segment_bytes)
    inventory = archive.inventory()
    reach = max((one.reach for one in _starts(archive, inventory, records, opener)), key=lambda one: one.at)
    if not reach.has_wal:
        return Window(records.sound[0].ended_at, reach.at, False)
    first = reach.at
    for record in reversed(records.sound):
        if _has_chain(records, record):
            if _start(archive, inventory, record, opener).reach.at < reach.at:
                break
            first = min(first, record.ended_at)
    return Window(first, reach.at, True)


def plan(repository: Repository, request: RestoreRequest, opener: Opener) -> RestorePlan:
    """Decide how to meet a request; writes nothing.

    Raises `RestoreRefusedError`, `WrongKeyError`, or what names a missing program, each with what to do.
    """
    records = repository.records()
    archive = WalArchive(repository, records.sound[-1].wal_segment_bytes if records.sound else SEGMENT_BYTES)
    inventory = archive.inventory()
    record, target, expected_lsn = _choose(archive, inventory, records, request, opener)
    chain = tuple(records.chain(record))
    require_keys(chain, opener)
    tools = PostgresTools.find(record.major, request.into / "data")
    require_folder(request.into, tools)
    wal_objects = 0 if target.is_immediate else _count_wal(inventory, target.timeline, record.stop_lsn)
    needed = needed_bytes(chain, tools) + AHEAD * record.wal_segment_bytes + _SPARE_BYTES
    require_space(request.into, needed)
    return RestorePlan(
        chain=chain,
        target=target,
        # the histories, so that the restored server begins a timeline that nobody has
        inventory=Inventory(record.wal_segment_bytes, histories=inventory.histories)
        if target.is_immediate
        else inventory,
        wal_objects=wal_objects,
        wal_bytes=wal_objects * record.wal_segment_bytes,
        expected_lsn=expected_lsn,
        needed_bytes=needed,
        # reading back takes about as long as writing did, on the machine that wrote
        estimate_seconds=sum(one.duration_seconds for one in chain),
        tools=tools,
    )


@dataclass(frozen=True)
class _Reach:
    """How far WAL without a gap leads: until which moment every commit is there, and to which LSN."""

    at: dt.datetime
    lsn: int
    covered_lsn: int  # what is known to lie within WAL that holds every commit before `at`
    is_cut: bool  # later WAL is there, beyond a gap, or was there
    has_wal: bool


@dataclass(frozen=True)
class _Start:
    """A backup to start from, the timelines to follow from it, and how far that leads."""

    record: BackupRecord
    timeline: int
    reach: _Reach


def _choose(
    archive: WalArchive, inventory: Inventory, records: Records, request: RestoreRequest, opener: Opener
) -> tuple[BackupRecord, Target, int]:
    """Where to start, where to end, and the LSN that has to be reached."""
    if request.backup_id is not None:
        record = records.get(request.backup_id)
        if record is None:
            why = records.faults.get(
                layout.record(request.backup_id), "`longbox backup list` shows those that exist"
            )
            raise RestoreRefusedError(f"there is no backup {request.backup_id}: {why}")
        return record, Target(is_immediate=True, timeline=record.timeline), record.stop_lsn
    if not records.sound:
        faults = f" ({'; '.join(records.faults.values())})" if records.faults else ""
        raise RestoreRefusedError(f"there is no backup to restore{faults}")
    if request.to is not None:
        start = _start_before(archive, inventory, records, request.to, opener)
        return (
            start.record,
            Target(request.to, timeline=start.timeline, covered_lsn=start.reach.covered_lsn),
            start.record.stop_lsn,
        )
    start = max(_starts(archive, inventory, records, opener), key=lambda one: one.reach.at)
    if start.reach.is_cut:
        raise WalMissingError(
            f"WAL after {format_lsn(start.reach.lsn)} is missing, though later WAL is or was there; the newest moment "
            f"before the gap is {_moment(start.reach.at)}: restore --to it"
        )
    _require_nothing_newer(archive, inventory, records, start)
    lowest = max(start.record.stop_lsn, start.reach.covered_lsn)
    return start.record, Target(timeline=start.timeline), lowest


def _require_nothing_newer(
    archive: WalArchive, inventory: Inventory, records: Records, start: _Start
) -> None:
    """Refuse to call a moment the newest while something newer is there that cannot be read."""
    newest = _moment(start.reach.at)
    lost = [name.removeprefix(f"{layout.CATALOGUE}/").removesuffix(".json") for name in records.faults]
    for backup_id in (*lost, *archive.repository.orphans()):
        if layout.is_backup_id(backup_id) and layout.began_at(backup_id) >= start.reach.at.replace(
            microsecond=0
        ):
            raise RestoreRefusedError(
                f"{layout.record(backup_id)}, of a backup that is newer than {newest}, is damaged or missing; see "
                f"`longbox backup verify`, bring it back from a copy, or restore --to {newest} knowingly"
            )
    newer = [
        line for line in inventory.timelines if line > start.timeline and line not in inventory.histories
    ]
    if newer:
        raise RestoreRefusedError(
            f"{layout.history(newer[-1])} is missing, so that timeline {newer[-1]} cannot be followed; bring it back "
            f"from a copy, or restore --to {newest} knowingly"
        )


def _start_before(
    archive: WalArchive, inventory: Inventory, records: Records, to: dt.datetime, opener: Opener
) -> _Start:
    """The newest backup before `to` from which WAL leads there. Raises `RestoreRefusedError`, `WalMissingError`."""
    before = [record for record in records if record.ended_at <= to and _has_chain(records, record)]
    if not before:
        first = min(record.ended_at for record in records)
        raise RestoreRefusedError(
            f"{_moment(to)} lies before the first restorable moment, {_moment(first)}; choose a later one"
        )
    best: _Start | None = None
    for record in reversed(before):
        start = _start(archive, inventory, record, opener)
        if start.reach.at >= to:
            return start
        best = start if best is None or start.reach.at > best.reach.at else best
    assert best is not None
    if best.reach.is_cut:
        raise WalMissingError(
            f"{_moment(to)} cannot be reached: WAL after {format_lsn(best.reach.lsn)} is missing; the newest moment "
            f"before the gap is {_moment(best.reach.at)}"
        )
    raise RestoreRefusedError(
        f"{_moment(to)} lies after the newest restorable moment, {_moment(best.reach.at)}; choose that one, or --latest"
    )


def _starts(archive: WalArchive, inventory: Inventory, records: Records, opener: Opener) -> list[_Start]:
    """The newest usable backup of each timeline."""
    newest = {record.timeline: record for record in records if _has_chain(records, record)}
    if not newest:
        raise RestoreRefusedError(
            "no backup has all that it builds on; `longbox backup verify` names what is missing"
        )
    return [_start(archive, inventory, record, opener) for record in newest.values()]


def _start(archive: WalArchive, inventory: Inventory, record: BackupRecord, opener: Opener) -> _Start:
    path = _path(archive, inventory, record, opener)
    return _Start(record, path[-1][0], _reach(archive, inventory, record, path))


def _path(
    archive: WalArchive, inventory: Inventory, record: BackupRecord, opener: Opener
) -> list[tuple[int, int | None]]:
    """Timelines from the backup's to the newest that branched off after it, each with the LSN where the next begins."""
    for timeline in reversed(inventory.timelines):
        if timeline <= record.timeline or timeline not in inventory.histories or not opener.has("recovery"):
            continue
        lines = parse_history(archive.read(inventory.histories[timeline], opener).decode())
        after = [line for line in lines if line.timeline >= record.timeline]
        if after and after[0].timeline == record.timeline and after[0].switch_lsn >= record.stop_lsn:
            return [*((line.timeline, line.switch_lsn) for line in after), (timeline, None)]
    return [(record.timeline, None)]


def _reach(
    archive: WalArchive, inventory: Inventory, record: BackupRecord, path: list[tuple[int, int | None]]
) -> _Reach:
    size = archive.segment_bytes
    # the backup brings the segment of its end along, and the server began a new one there
    lsn = -(-record.stop_lsn // size) * size
    at, covered_lsn, end, timeline = record.ended_at, record.stop_lsn, lsn, record.timeline
    for timeline, switch_lsn in path:
        end = inventory.end_lsn(timeline, lsn)
        if switch_lsn is None or end < switch_lsn // size * size:
            break
        lsn = max(lsn, switch_lsn)
    if end > lsn:
        with contextlib.suppress(DamagedError):
            at = max(at, continuity.until(archive, inventory, timeline, end) or at)
            covered_lsn = max(
                covered_lsn, end - size
            )  # the last record may go on in a segment that is not there
    covered = inventory.covered
    if covered and covered.timeline == timeline and record.stop_lsn <= covered.lsn <= end:
        at, covered_lsn = max(at, covered.at), max(covered_lsn, covered.lsn)
    held = [name for line, name in [*inventory.segments, *inventory.partials] if line == timeline]
    is_cut = (
        any(inventory.end_of(name) > end for name in held)
        or timeline != path[-1][0]
        or (covered is not None and covered.timeline == timeline and covered.lsn > end)
    )
    return _Reach(at, end, covered_lsn, is_cut, end > -(-record.stop_lsn // size) * size)


def _count_wal(inventory: Inventory, timeline: int, from_lsn: int) -> int:
    end = inventory.end_lsn(timeline, from_lsn)
    return -(-max(0, end - from_lsn) // inventory.segment_bytes)


def _has_chain(records: Records, record: BackupRecord) -> bool:
    with contextlib.suppress(DamagedError):
        return bool(records.chain(record))
    return False


def require_folder(into: Path, tools: PostgresTools) -> None:
    """Whether a restore may go into `into`: absent, empty, or left by a killed one. Raises `RestoreRefusedError`."""
    if into.exists() and (not into.is_dir() or (any(into.iterdir()) and not _is_left_over(into))):
        raise RestoreRefusedError(
            f"{into} exists and is not empty; nothing is overwritten, choose another folder"
        )
    above = next(parent for parent in into.parents if parent.exists())
    if tools.run_as is not None and not can_reach(tools.run_as, above):
        raise RestoreRefusedError(
            f"{above} cannot be entered by {tools.run_as.name}, as whom PostgreSQL has to run; choose a folder open to "
            "it, such as one under /var/lib"
        )


def require_space(into: Path, needed: int) -> None:
    """Whether the disk of `into` has `needed` bytes free. Raises `RestoreRefusedError`."""
    above = next(place for place in (into, *into.parents) if place.exists())
    free = shutil.disk_usage(above).free
    if free < needed:
        raise RestoreRefusedError(
            f"the restore needs {needed / 1e9:.2f} GB and {above} has {free / 1e9:.2f} GB free; make room or choose "
            "another disk"
        )


def _is_left_over(into: Path) -> bool:
    """Whether the folder holds nothing but what a killed restore left."""
    if {path.name for path in into.iterdir()} - {MARK, *LEFT_OVER}:
        return False
    with contextlib.suppress(OSError, ValueError):
        text = (into / MARK).read_text(encoding="utf-8")
        return not text or json.loads(text).get("state") == "in progress"
    return False


def _moment(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + " UTC"

"""Which backups and which WAL may go: decided by a pure function, carried out dependents first.

Kept are: young backups; the newest full one of each of the last days, weeks and months; a minimum that cannot be
configured away; the newest backup; what recovery into the WAL window starts from; and whatever any of these builds
on. A backup that was read back damaged, or lacks what it builds on, never takes the place of a sound one: the rules are
asked of all backups and again of the usable ones, and what either keeps stays. A backup goes by its record first, so
that a killed run leaves leftovers for the sweep, never half a backup.
"""

import datetime as dt
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field

from pipelines.backup import layout
from pipelines.backup.model import BackupRecord
from pipelines.backup.repository import Records, Repository
from pipelines.backup.wal import SEGMENT_BYTES, Inventory, WalArchive, segment_number

SMALLEST_MINIMUM = 1


@dataclass(frozen=True)
class Policy:
    """How long backups are kept. Days count from a backup's end; tiers keep one full backup a period."""

    full_days: int = 30
    incremental_days: int = 7
    wal_days: int = 14
    daily: int = 7
    weekly: int = 5
    monthly: int = 12
    minimum_fulls: int = 2


@dataclass(frozen=True)
class ExpiryPlan:
    """`kept` tells each kept backup's reasons; `expired` and `wal` are in the order of deletion."""

    kept: dict[str, tuple[str, ...]]
    expired: tuple[str, ...]
    wal: tuple[str, ...]
    kept_from: int | None = None  # WAL from this LSN on stays


@dataclass(frozen=True)
class ExpiryResult:
    """What `expire` did, or would do."""

    plan: ExpiryPlan
    is_dry_run: bool
    objects: int
    freed_bytes: int
    swept: tuple[str, ...] = field(default=())
    store: str = ""
    fault: str = ""  # why it did not come to its end there: a copy store that is away


def plan_expiry(
    records: Sequence[BackupRecord],
    inventory: Inventory,
    policy: Policy,
    now: dt.datetime,
    damaged: Collection[str] = (),
    *,
    is_partly_read: bool = False,
) -> ExpiryPlan:
    """Decide. Pure; the order of `records` does not matter. `damaged`: ids of backups that were read back unsound.

    `is_partly_read`: some records could not be read. Unless a usable one is as old as the WAL window, theirs may be the
    backup that recovery starts from: then no WAL goes.
    """
    by_age = sorted(records, key=lambda record: (record.ended_at, record.backup_id))
    known = {record.backup_id: record for record in by_age}
    usable = [record for record in by_age if _is_usable(known, record, damaged)]
    reasons: dict[str, list[str]] = {}
    for record in by_age:
        days = policy.full_days if record.kind == "full" else policy.incremental_days
        if now - record.ended_at < dt.timedelta(days=days):
            reasons.setdefault(record.backup_id, []).append(f"younger than {days} days")
    _keep_by_rule(by_age, policy, reasons)
    _keep_by_rule(usable, policy, reasons)
    start = now - dt.timedelta(days=policy.wal_days)
    bases = [base for some in (by_age, usable) if (base := _base_of_window(some, start)) is not None]
    for base in bases:
        _keep(reasons, base, "recovery into the WAL window starts here")
    for backup_id in list(reasons):
        _keep_ancestors(known, known[backup_id], reasons)
    expired = [record for record in reversed(by_age) if record.backup_id not in reasons]
    oldest = min(bases, key=lambda base: (base.timeline, base.start_lsn), default=None)
    if is_partly_read and not any(record.ended_at <= start for record in usable):
        oldest = None
    return ExpiryPlan(
        {backup_id: tuple(found) for backup_id, found in sorted(reasons.items())},
        tuple(record.backup_id for record in _dependents_first(expired)),
        _expired_wal(inventory, oldest),
        oldest.start_lsn if oldest else None,
    )


def _keep_by_rule(by_age: Sequence[BackupRecord], policy: Policy, reasons: dict[str, list[str]]) -> None:
    """What the tiers, the minimum and being the newest keep of some backups."""
    fulls = [record for record in by_age if record.kind == "full"]
    for tier, count, period in _tiers(policy):
        for record in _newest_of_each(fulls, period)[-count:] if count > 0 else []:
            _keep(reasons, record, tier)
    for record in fulls[-max(policy.minimum_fulls, SMALLEST_MINIMUM) :]:
        _keep(reasons, record, "the minimum")
    for record in by_age[-1:]:
        _keep(reasons, record, "the newest")


def _keep(reasons: dict[str, list[str]], record: BackupRecord, reason: str) -> None:
    said = reasons.setdefault(record.backup_id, [])
    if reason not in said:
        said.append(reason)


def _is_usable(known: dict[str, BackupRecord], record: BackupRecord, damaged: Collection[str]) -> bool:
    """Whether a backup and all that it builds on is there, and nothing of it was found damaged."""
    seen: set[str] = set()
    while record.backup_id not in damaged and record.backup_id not in seen:
        if record.parent_id is None:
            return True
        seen.add(record.backup_id)
        if record.parent_id not in known:
            return False
        record = known[record.parent_id]
    return False


def expire(
    repository: Repository,
    policy: Policy,
    now: dt.datetime,
    *,
    dry_run: bool = True,
    tell: Callable[[str], None] = lambda name: None,
) -> ExpiryResult:
    """Delete from the first store of `repository` what `policy` does not keep. Safe to kill and to repeat.

    `tell` is called with each backup id or WAL object before it goes (the ledger). Leftovers are swept too. A record
    that is damaged stops nothing, and nothing of that backup is deleted. Copies: call it for `repository.only(copy)`.
    """
    one = repository.only(repository.store)
    records = one.records()
    inventory = _inventory(one, records)
    damaged, is_partly_read = _damaged(one, records), bool(records.faults)
    plan = plan_expiry(records.sound, inventory, policy, now, damaged, is_partly_read=is_partly_read)
    sizes = {info.path: info.size_bytes for info in one.names()}
    objects = freed = 0
    for backup_id in plan.expired:
        names = [layout.record(backup_id), layout.verification(backup_id)]
        names += [name for name in sizes if name.startswith(f"{layout.DATA}/{backup_id}/")]
        found = [name for name in names if name in sizes]
        objects, freed = objects + len(found), freed + sum(sizes[name] for name in found)
        if not dry_run:
            tell(backup_id)
            one.hold(
                backup_id
            )  # so that parts which a killed run leaves are not taken for a backup that lost its record
            for name in found:
                one.delete(name)
            one.release(backup_id)
    if plan.kept_from is not None and plan.wal and not dry_run:
        WalArchive(one, inventory.segment_bytes).put_kept(plan.kept_from)
    for name in plan.wal:
        objects, freed = objects + 1, freed + sizes.get(name, 0)
        if not dry_run:
            tell(name)
            one.delete(name)
    swept = tuple(one.unfinished()) if dry_run else tuple(one.sweep())
    return ExpiryResult(plan, dry_run, objects, freed, swept, one.store.url)


def _damaged(repository: Repository, records: Records) -> set[str]:
    """Backups whose last reading back found a fault."""
    found = ((record.backup_id, repository.verification(record.backup_id)) for record in records)
    return {backup_id for backup_id, last in found if last is not None and not last.is_sound}


def _tiers(policy: Policy) -> list[tuple[str, int, Callable[[dt.datetime], Hashable]]]:
    return [
        ("newest of its day", policy.daily, lambda at: at.date()),
        ("newest of its week", policy.weekly, lambda at: at.isocalendar()[:2]),
        ("newest of its month", policy.monthly, lambda at: (at.year, at.month)),
    ]


def _newest_of_each(
    fulls: Sequence[BackupRecord], period: Callable[[dt.datetime], Hashable]
) -> list[BackupRecord]:
    newest = {period(record.ended_at.astimezone(dt.UTC)): record for record in fulls}
    return sorted(newest.values(), key=lambda record: record.ended_at)


def _base_of_window(by_age: Sequence[BackupRecord], start: dt.datetime) -> BackupRecord | None:
    """The backup from which the first moment of the window is recovered; the oldest if all are younger."""
    before = [record for record in by_age if record.ended_at <= start]
    return before[-1] if before else (by_age[0] if by_age else None)


def _keep_ancestors(
    known: dict[str, BackupRecord], record: BackupRecord, reasons: dict[str, list[str]]
) -> None:
    seen = {record.backup_id}
    while record.parent_id is not None and record.parent_id in known and record.parent_id not in seen:
        child, record = record, known[record.parent_id]
        seen.add(record.backup_id)
        reasons.setdefault(record.backup_id, []).append(f"{child.backup_id} builds on it")


def _dependents_first(expired: Sequence[BackupRecord]) -> list[BackupRecord]:
    """Newest first, and never one before what builds on it, whatever their clocks said."""
    left = list(expired)
    found: list[BackupRecord] = []
    while left:
        parents = {record.parent_id for record in left}
        free = [record for record in left if record.backup_id not in parents] or left
        found.append(free[0])
        left.remove(free[0])
    return found


def _expired_wal(inventory: Inventory, base: BackupRecord | None) -> tuple[str, ...]:
    """WAL that ends before the window's base begins, oldest first, and partials that others replaced."""
    if base is None:
        return ()
    size = inventory.segment_bytes
    held = [(key, name) for key, name in inventory.segments.items()]
    held += [(key, partial.name) for key, partial in inventory.partials.items()]
    old = [
        (segment_number(segment, size), name)
        for (timeline, segment), name in held
        if timeline <= base.timeline and (segment_number(segment, size) + 1) * size <= base.start_lsn
    ]
    return (*(name for _, name in sorted(old)), *inventory.superseded)


def _inventory(repository: Repository, records: Records) -> Inventory:
    size = records.sound[-1].wal_segment_bytes if records.sound else SEGMENT_BYTES
    return WalArchive(repository, size).inventory()

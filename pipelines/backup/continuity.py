"""Whether the WAL that is in a repository is all that must be there: what is lost leaves no object that could say so.

`wal/kept.json` says where WAL begins, `wal/covered.json` how far it leads, and the history of a timeline where it
branched off; between these no segment may be missing. Reads small objects and headers only.
https://www.postgresql.org/docs/18/continuous-archiving.html#BACKUP-TIMELINES
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import format_lsn
from pipelines.backup.sealed import Opener
from pipelines.backup.wal import (
    Inventory,
    WalArchive,
    parse_covered,
    parse_history,
    parse_kept,
    segment_name,
    segment_number,
)
from resources.errors import LongboxError

LONGEST_CATCHING_UP = dt.timedelta(hours=1)
"""For how long WAL may come into a store before `wal/covered.json`, which follows it, speaks of it."""


@dataclass(frozen=True)
class Lag:
    """WAL beside `wal/covered.json` that it does not speak of: it says until `covered`, WAL itself until `held`.

    `coming_since`, by the store's clock: when the first whole segment of it came or, where that is the open one alone,
    which is exchanged all the time, when `covered.json` was written. None if that was written after all WAL: then it
    was exchanged for an older one.
    """

    covered: dt.datetime
    held: dt.datetime
    coming_since: dt.datetime | None

    def is_catching_up(self, now: dt.datetime) -> bool:
        """Whether that is what bringing WAL looks like: objects first, what is said of all of them after the last."""
        return self.coming_since is not None and now - self.coming_since < LONGEST_CATCHING_UP

    def __str__(self) -> str:
        return (
            f"{layout.COVERED} speaks of commits until {self.covered}, WAL beside it holds them until {self.held}: "
            "more is being brought; look again in some minutes"
        )


def missing_wal(
    archive: WalArchive, inventory: Inventory, opener: Opener, lag: Lag | None, now: dt.datetime
) -> Iterator[tuple[str, str]]:
    """Names of what is missing or stale, each with the reason. `inventory` is to be older than this call.

    With the recovery keys, the ends of timelines are compared with the histories of those that branched off. WAL that
    is being brought (`lag`, of `lag_of_covered`) is no fault.
    """
    if not inventory.segments and not inventory.partials:
        return
    yield from _before_the_first(archive, inventory)
    kept = archive.kept() or 0
    for timeline in inventory.timelines:
        for gap in inventory.gaps(timeline):
            if segment_number(gap.last, inventory.segment_bytes) < kept // inventory.segment_bytes:
                continue  # given up: WAL was begun anew after it
            yield f"{layout.WAL}/{gap.timeline:08X}/{gap.first}{layout.SEALED}", str(gap)
        if timeline > inventory.timelines[0] and timeline not in inventory.histories:
            yield layout.history(timeline), "it is missing: nobody knows where this timeline branched off"
    if opener.has("recovery"):
        yield from _before_branches(archive, inventory, opener)
    yield from _after_the_last(archive, inventory, lag, now)


def lag_of_covered(archive: WalArchive, inventory: Inventory) -> Lag | None:
    """How far `wal/covered.json` is behind the newest WAL of its timeline, None if it is not, or cannot be read."""
    try:
        covered = parse_covered(archive.repository.read(layout.COVERED, parse_covered))
        end = inventory.end(covered.timeline)
        held = until(archive, inventory, covered.timeline, end) if end else None
    except DamagedError:
        return None  # reading everything back names it
    if held is None or held <= covered.at:
        return None
    times = {info.path: info.modified_at for info in archive.repository.names(layout.WAL)}
    said_at = times.get(layout.COVERED)
    later = [(at, layout.parse_wal(name)) for name, at in times.items() if said_at and at >= said_at]
    whole = [at for at, wal in later if wal is not None and wal.valid_bytes is None]
    is_coming = any(wal is not None for _, wal in later)
    return Lag(covered.at, held, min(whole, default=said_at) if is_coming else None)


def until(archive: WalArchive, inventory: Inventory, timeline: int, end: int) -> dt.datetime | None:
    """Until which moment the object before `end` covers commits. Raises `DamagedError` if that object is not whole."""
    if (timeline, end) in archive.untils:
        return archive.untils[timeline, end]
    name = inventory.object_before(timeline, end)
    if name is None:
        return None
    try:
        sealed = archive.repository.read_sealed(name)
    except DamagedError:
        name = archive.replaced_by(name)
        if name is None:
            raise
        sealed = archive.repository.read_sealed(name)
    said = sealed.header.meta.get("until")
    archive.untils[timeline, end] = dt.datetime.fromisoformat(said) if said else None
    return archive.untils[timeline, end]


def _before_the_first(archive: WalArchive, inventory: Inventory) -> Iterator[tuple[str, str]]:
    size = inventory.segment_bytes
    try:
        kept = parse_kept(archive.repository.read(layout.KEPT, parse_kept))
    except DamagedError as error:
        yield layout.KEPT, str(error)
        return
    first = min(segment_number(name, size) for _, name in [*inventory.segments, *inventory.partials])
    if kept // size < first:
        timeline = inventory.timelines[0]
        ends = segment_name(timeline, kept // size, size), segment_name(timeline, first - 1, size)
        name = layout.segment(timeline, ends[0])
        yield name, f"WAL {ends[0]} to {ends[1]} is missing: {layout.KEPT} says that it begins there"


def _before_branches(archive: WalArchive, inventory: Inventory, opener: Opener) -> Iterator[tuple[str, str]]:
    """A timeline must be there up to where the next one branched off."""
    size = inventory.segment_bytes
    for timeline, name in sorted(inventory.histories.items()):
        try:
            lines = parse_history(archive.read(name, opener).decode())
        except LongboxError:
            continue  # reading everything back names it
        held = [one for line, one in [*inventory.segments, *inventory.partials] if line == timeline]
        switch = lines[-1].switch_lsn // size if lines else 0
        if held and min(segment_number(one, size) for one in held) > switch:
            wanted = segment_name(timeline, switch, size)
            yield (
                layout.segment(timeline, wanted),
                f"WAL {wanted} is missing: timeline {timeline} begins in it",
            )
        for line in lines[-1:]:
            ends = [inventory.end_of(one) for number, one in inventory.segments if number == line.timeline]
            if ends and max(ends) < line.switch_lsn // size * size:
                wanted = segment_name(line.timeline, max(ends) // size, size)
                yield (
                    layout.segment(line.timeline, wanted),
                    f"WAL {wanted} is missing: {name} continues after it",
                )


def _after_the_last(
    archive: WalArchive, inventory: Inventory, lag: Lag | None, now: dt.datetime
) -> Iterator[tuple[str, str]]:
    size = inventory.segment_bytes
    try:
        archive.repository.read(layout.COVERED, parse_covered)
    except DamagedError as error:
        yield layout.COVERED, str(error)
        return
    # what is covered by now may be newer than the list of names
    before = inventory.covered
    if before is not None and inventory.end(before.timeline) < before.lsn:
        wanted = segment_name(before.timeline, (before.lsn - 1) // size, size)
        valid = before.lsn % size
        name = (
            layout.partial(before.timeline, wanted, valid)
            if valid
            else layout.segment(before.timeline, wanted)
        )
        yield (
            name,
            f"WAL {wanted} is missing: {layout.COVERED} says that WAL is there up to {format_lsn(before.lsn)}, "
            f"but it ends at {format_lsn(inventory.end(before.timeline))}",
        )
        return
    if lag is not None and not lag.is_catching_up(now):
        since = f", and has been coming since {lag.coming_since}" if lag.coming_since else ""
        yield (
            layout.COVERED,
            f"it is older than the WAL beside it, which covers commits until {lag.held}{since}",
        )

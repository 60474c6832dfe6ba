"""WAL in the repository: put by the receiver, listed, checked for gaps, fetched for a restore.

A segment is put once, whole. The open one is put as partial objects of growing length, each under a new name; they go
when the whole one is there. Every object tells in its `meta` until which moment of the server's clock it covers
commits; `wal/covered.json` says the same while nothing is written. Timelines follow PostgreSQL's history files.
https://www.postgresql.org/docs/18/continuous-archiving.html#BACKUP-TIMELINES
"""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import checked_json, parse_lsn, read_checked_json
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Lock, Opener, Sealer

SEGMENT_BYTES = 16 << 20
_LISTINGS = 3
_PAGE_BYTES = 8192
_PAGE_HEADERS = (24, 40)  # of a page, and of the first page of a segment


@dataclass(frozen=True)
class Covered:
    """Every commit before `at` (the server's clock) is in the store up to `lsn` of `timeline`."""

    at: dt.datetime
    lsn: int
    timeline: int


@dataclass(frozen=True)
class Gap:
    """Missing segments of a timeline, both ends included."""

    timeline: int
    first: str
    last: str

    def __str__(self) -> str:
        between = self.first if self.first == self.last else f"{self.first} to {self.last}"
        return f"WAL {between} of timeline {self.timeline} is missing"


@dataclass(frozen=True)
class Inventory:
    """What is under `wal/`: names by (timeline, segment), the longest partial of each open segment, histories."""

    segment_bytes: int
    segments: dict[tuple[int, str], str] = field(default_factory=dict)
    partials: dict[tuple[int, str], layout.WalName] = field(default_factory=dict)
    histories: dict[int, str] = field(default_factory=dict)
    superseded: tuple[str, ...] = ()  # partials of segments that are there whole, or shorter than another
    covered: Covered | None = None  # read before the names were: all that it speaks of has to be among them

    def gaps(self, timeline: int, from_lsn: int = 0) -> list[Gap]:
        """Segments missing between the first (or that of `from_lsn`) and the last of a timeline."""
        held = sorted(
            segment_number(name, self.segment_bytes)
            for line, name in [*self.segments, *self.partials]
            if line == timeline
        )
        start = from_lsn // self.segment_bytes
        held = [number for number in held if number >= start]
        if not held:
            return []
        found, wanted = [], start if from_lsn else held[0]
        for number in held:
            if number > wanted:
                ends = (segment_name(timeline, n, self.segment_bytes) for n in (wanted, number - 1))
                found.append(Gap(timeline, *ends))
            key = (timeline, segment_name(timeline, number, self.segment_bytes))
            # what follows a segment that is there in part alone lies beyond a gap
            if key not in self.segments and number < held[-1]:
                found.append(Gap(timeline, key[1], key[1]))
            wanted = max(wanted, number + 1)
        return found

    def end_lsn(self, timeline: int, from_lsn: int) -> int:
        """Where WAL without a gap from `from_lsn` on ends; `from_lsn` itself if its segment is not there."""
        number, lsn = from_lsn // self.segment_bytes, from_lsn
        while True:
            key = (timeline, segment_name(timeline, number, self.segment_bytes))
            if key in self.segments:
                number += 1
                lsn = number * self.segment_bytes
            elif key in self.partials:
                return max(lsn, number * self.segment_bytes + (self.partials[key].valid_bytes or 0))
            else:
                return lsn

    def object_of(self, timeline: int, segment: str) -> str | None:
        """The object that holds (the longest start of) a segment."""
        whole = self.segments.get((timeline, segment))
        partial = self.partials.get((timeline, segment))
        return whole or (partial.name if partial else None)

    def object_before(self, timeline: int, lsn: int) -> str | None:
        """The object that holds the byte before `lsn`."""
        return self.object_of(
            timeline, segment_name(timeline, (lsn - 1) // self.segment_bytes, self.segment_bytes)
        )

    def end_of(self, segment: str) -> int:
        """The LSN at which what is held of a segment ends."""
        partial = self.partials.get((int(segment[:8], 16), segment))
        held = partial.valid_bytes or 0 if partial else self.segment_bytes
        return segment_number(segment, self.segment_bytes) * self.segment_bytes + held

    def end(self, timeline: int) -> int:
        """The LSN at which the last WAL of a timeline ends, 0 if there is none."""
        held = [name for line, name in [*self.segments, *self.partials] if line == timeline]
        return max((self.end_of(name) for name in held), default=0)

    @property
    def is_whole(self) -> bool:
        """Whether there is no gap, and all that is said to be covered is there."""
        is_short = self.covered is not None and self.end(self.covered.timeline) < self.covered.lsn
        return not is_short and not any(self.gaps(timeline) for timeline in self.timelines)

    @property
    def timelines(self) -> list[int]:
        """Timelines with WAL, ascending."""
        return sorted({line for line, _ in [*self.segments, *self.partials]} | set(self.histories))


class WalArchive:
    """The WAL of one repository. Every `put_*` is idempotent; one receiver at a time."""

    def __init__(self, repository: Repository, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.repository, self.segment_bytes = repository, segment_bytes
        self.untils: dict[tuple[int, int], dt.datetime | None] = {}  # what objects said, by timeline and end
        self._is_begun = False

    def put_segment(
        self,
        lock: Lock,
        timeline: int,
        segment: str,
        data: bytes,
        until: dt.datetime | None,
        replaces: Sequence[str] = (),
    ) -> str:
        """Put a whole segment, then remove the partial objects it `replaces`. Returns its name.

        `until` is a moment of the server's clock, read before the server said that its WAL is flushed up to the end.
        """
        if len(data) != self.segment_bytes:
            raise ValueError(f"{segment} has {len(data)} bytes where a segment has {self.segment_bytes}")
        name = self._put(lock, layout.segment(timeline, segment), data, until, replaces)
        self._begin(segment)
        return name

    def put_partial(
        self,
        lock: Lock,
        timeline: int,
        segment: str,
        data: bytes,
        valid_bytes: int,
        until: dt.datetime | None,
        replaces: Sequence[str] = (),
    ) -> str:
        """Put the first `valid_bytes` of the open segment, then remove the shorter ones it `replaces`."""
        name = layout.partial(timeline, segment, valid_bytes)
        self._put(lock, name, data[:valid_bytes], until, [old for old in replaces if old != name])
        self._begin(segment)
        return name

    def put_sealed(self, name: str, segment: str, sealed: bytes | memoryview) -> None:
        """Put a segment, whole or in part, that `seal` made before."""
        self.repository.put(name, sealed)
        self._begin(segment)

    def seal(self, lock: Lock, name: str, data: bytes, until: dt.datetime | None) -> bytes:
        """The object of that name, as `put_segment` and `put_partial` would write it."""
        meta = {"until": until.astimezone(dt.UTC).isoformat()} if until else {}
        return Sealer(lock, name, meta).seal(data)

    def put_history(self, lock: Lock, timeline: int, data: bytes) -> str:
        """Put the history file of a timeline; its digest stands in the clear, for who may not decrypt it."""
        name = layout.history(timeline)
        sealed = Sealer(lock, name, {"blake2b": history_digest(data)}).seal(data)
        self.repository.put(name, sealed)
        return name

    def put_covered(self, covered: Covered) -> None:
        """Say until when everything is in the store. Only after the objects it speaks of."""
        self.repository.put(layout.COVERED, checked_json(covered))

    def covered(self) -> Covered | None:
        """What the receiver said last, the newest of all stores; None if nothing readable is there."""
        found = []
        for store in self.repository.stores:
            one = self.repository.only(store)
            try:
                found.append(parse_covered(one.read(layout.COVERED, parse_covered)))
            except DamagedError:
                continue
        return max(found, key=lambda covered: covered.at, default=None)

    def put_kept(self, lsn: int) -> None:
        """Say that WAL before `lsn` may be gone, and none after it; never goes back.

        Called before anything is deleted, and by a receiver that had to begin anew beyond a gap.
        """
        before = self.kept()
        if before is None or before < lsn:
            self.repository.put(layout.KEPT, checked_json({"lsn": lsn}))

    def kept(self) -> int | None:
        """The LSN from which on no WAL may be missing; None if nothing readable says so."""
        try:
            data = self.repository.read(layout.KEPT, parse_kept)
        except DamagedError:
            return None
        return parse_kept(data)

    def inventory(self) -> Inventory:
        """What is there, in whichever store.

        No store lists its names at one instant: where a segment seems to be missing, which may have been exchanged
        for a longer one meanwhile, they are listed again.
        """
        for _ in range(_LISTINGS - 1):
            found = self._list()
            if found.is_whole:
                return found
        return self._list()

    def _list(self) -> Inventory:
        found = Inventory(self.segment_bytes, covered=self.covered())
        superseded = []
        for name in self.repository.all_names(layout.WAL):
            wal = layout.parse_wal(name)
            if wal is None:
                continue
            if wal.is_history:
                found.histories[wal.timeline] = name
                continue
            key = (wal.timeline, wal.segment)
            if wal.valid_bytes is None:
                found.segments[key] = name
                continue
            other = found.partials.get(key)
            longest = wal if other is None or (other.valid_bytes or 0) < wal.valid_bytes else other
            superseded += [
                partial.name for partial in (other, wal) if partial is not None and partial is not longest
            ]
            found.partials[key] = longest
        for key in [key for key in found.partials if key in found.segments]:
            superseded.append(found.partials.pop(key).name)
        return Inventory(
            found.segment_bytes,
            found.segments,
            found.partials,
            found.histories,
            tuple(sorted(superseded)),
            found.covered,
        )

    def replaced_by(self, name: str) -> str | None:
        """The object that took the place of a partial segment, which goes when a longer one comes; None if none did."""
        wal = layout.parse_wal(name)
        if wal is None or wal.valid_bytes is None:
            return None
        found = self.inventory().object_of(wal.timeline, wal.segment)
        return found if found != name else None

    def read(self, name: str, opener: Opener) -> bytes:
        """A segment (a partial one filled up with zeros) or a history file. Raises `DamagedError`."""
        sealed = self.repository.read_sealed(name)
        plain = b"".join(sealed.plain(opener.key_of(sealed.header)))
        wal = layout.parse_wal(name)
        if wal is not None and wal.valid_bytes is not None:
            return plain.ljust(self.segment_bytes, b"\0")
        return plain

    def read_current(self, name: str, opener: Opener) -> bytes:
        """As `read`; a partial segment that the receiver replaced meanwhile is read as what replaced it."""
        while True:
            try:
                return self.read(name, opener)
            except DamagedError:
                other = self.replaced_by(name)
                if other is None:
                    raise
                name = other

    def _put(
        self, lock: Lock, name: str, data: bytes, until: dt.datetime | None, replaces: Sequence[str] = ()
    ) -> str:
        self.repository.put(name, self.seal(lock, name, data, until))
        for old in replaces:
            self.repository.delete(old)
        return name

    def _begin(self, segment: str) -> None:
        """Remember where WAL begins, once; after the object, so that a kill between leaves no gap that is none."""
        if not self._is_begun:
            if self.repository.store.head(self.repository.path(layout.KEPT)) is None:
                self.put_kept(segment_number(segment, self.segment_bytes) * self.segment_bytes)
            self._is_begun = True


def parse_kept(data: bytes) -> int:
    """The content of `wal/kept.json`. Raises `DamagedError`."""
    try:
        return parse_lsn(read_checked_json(layout.KEPT, data)["lsn"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{layout.KEPT} does not say where WAL begins", [layout.KEPT]) from error


def parse_covered(data: bytes) -> Covered:
    """The content of `wal/covered.json`. Raises `DamagedError`."""
    content = read_checked_json(layout.COVERED, data)
    try:
        at, lsn = dt.datetime.fromisoformat(content["at"]), parse_lsn(content["lsn"])
        return Covered(at, lsn, int(content["timeline"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{layout.COVERED} does not say what is covered", [layout.COVERED]) from error


@dataclass(frozen=True)
class HistoryLine:
    """A timeline that ended: at `switch_lsn` the next one branched off."""

    timeline: int
    switch_lsn: int


def history_digest(data: bytes) -> str:
    """What tells two history files apart."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def parse_history(text: str) -> list[HistoryLine]:
    """The lines of a history file: parents of that timeline, oldest first."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0].isdigit():
            found.append(HistoryLine(int(words[0]), parse_lsn(words[1])))
    return found


def segment_name(timeline: int, number: int, segment_bytes: int) -> str:
    """`00000001000000000000000A` for segment 10 of timeline 1."""
    per_id = (1 << 32) // segment_bytes
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def segment_number(name: str, segment_bytes: int) -> int:
    """The inverse of `segment_name`, without the timeline."""
    return int(name[8:16], 16) * ((1 << 32) // segment_bytes) + int(name[16:24], 16)


def end_of_records(insert_lsn: int) -> int:
    """Where the last record ends: on a fresh page the insert position is beyond a header that is not yet written."""
    return insert_lsn - insert_lsn % _PAGE_BYTES if insert_lsn % _PAGE_BYTES in _PAGE_HEADERS else insert_lsn

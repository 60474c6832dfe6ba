"""From the spool into the store: each whole segment, the open one as a partial, history files; proved, then deleted.

Everything is idempotent and goes in the order of WAL, so that a kill at any step leaves a store without a gap and a
spool that has the rest. A file leaves the spool only after its object was read back whole.
"""

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError, TimelineTakenError
from pipelines.backup.outbox import Outbox
from pipelines.backup.sealed import recovery_lock
from pipelines.backup.slot import Sample
from pipelines.backup.spool import Spool, SpoolFile, received_bytes
from pipelines.backup.wal import (
    Covered,
    Gap,
    WalArchive,
    history_digest,
    parse_history,
    segment_name,
    segment_number,
)
from resources.keys import ServerKeys

Key = tuple[int, str]


class Samples:
    """Readings of the server's clock and WAL, with how much of it is on the spool's disk. Shared between threads."""

    def __init__(self) -> None:
        self._waiting: list[Sample] = []
        self._received: list[Sample] = []
        self._confirmed = 0
        self._lock = threading.Lock()

    def add(self, sample: Sample, confirmed_lsn: int | None) -> None:
        """A reading, and up to where WAL is on disk. A reading counts once WAL is there up to it."""
        with self._lock:
            self._confirmed = max(self._confirmed, confirmed_lsn or 0)
            self._waiting.append(sample)
            self._received += [one for one in self._waiting if one.lsn <= self._confirmed]
            self._waiting = [one for one in self._waiting if one.lsn > self._confirmed]
            # one that waits is enough to know how late we are; the newest few that came are what objects quote
            self._waiting = self._waiting[:1] + self._waiting[1:][-50:]
            self._received = self._received[-50:]

    def restart(self) -> None:
        """Forget: another run begins, maybe on another timeline."""
        with self._lock:
            self._waiting, self._received, self._confirmed = [], [], 0

    def newest(self, timeline: int | None = None, before_lsn: int | None = None) -> Sample | None:
        """The newest reading that counts: of a timeline, up to an LSN."""
        with self._lock:
            fits = (
                one
                for one in self._received
                if timeline in (None, one.timeline) and (before_lsn is None or one.lsn <= before_lsn)
            )
            return max(fits, key=lambda one: one.at, default=None)

    def oldest_waiting(self) -> Sample | None:
        """The reading that has waited longest for its WAL."""
        with self._lock:
            return self._waiting[0] if self._waiting else None


@dataclass(frozen=True)
class Shipped:
    """What one pass did: objects put, and up to when the store covers every commit now."""

    segments: int
    partials: int
    covered: Covered | None


class Shipper:
    """Ships one spool into one archive; for one thread.

    `on_gap` is told of WAL that nobody has any more, `on_shipped` the name of each object that was proved in the store,
    or put into the outbox.
    """

    def __init__(
        self,
        spool: Spool,
        archive: WalArchive,
        load_keys: Callable[[], ServerKeys],
        samples: Samples,
        on_gap: Callable[[Gap], None],
        on_shipped: Callable[[str], None] = lambda name: None,
        outbox: Outbox | None = None,
    ) -> None:
        self._spool, self._archive, self._load_keys, self._outbox = spool, archive, load_keys, outbox
        self._samples, self._on_gap, self._on_shipped = samples, on_gap, on_shipped
        self._segments: set[Key] = set()
        self._partials: dict[Key, set[str]] = {}
        self._histories: set[int] = set()
        self._staged: dict[Key, set[str]] = {}  # in the outbox
        self._is_outbox_clear = False  # a killed process may have left something
        self._compared: set[tuple[str, int]] = set()
        self._looked_at: set[str] = set()  # runs whose beginning was compared with what is there
        self._is_known = False
        self.covered: Covered | None = None
        self._newest_held: Sample | None = None  # up to the end of the last whole segment

    def ship(self, *, is_due: bool, live_run: Callable[[], str] = lambda: "") -> Shipped:
        """One pass; `is_due`: the open segment too, and say until when everything is there.

        `live_run` names the folder that is still written to, if any. Raises `LongboxError`s of the store and of keys;
        then some is shipped, and the next pass does the rest.
        """
        self._know()
        segments = partials = 0
        runs, live, sample = self._look(live_run)
        for run in runs:
            files = self._spool.files(run)
            self._look_for_gap(run.name, files)
            is_live = run.name == live
            for file in files:
                # a file that is gone was completed, and so renamed, while we looked: the next pass takes it
                with contextlib.suppress(FileNotFoundError):
                    if not file.segment:
                        self._ship_history(file)
                    elif not file.is_partial:
                        segments += self._ship_segment(file)
                    elif is_due or not is_live:
                        partials += self._ship_partial(file, sample if is_live else None)
                    if not is_live:
                        file.path.unlink(missing_ok=True)
            if not is_live:
                self._spool.forget_if_empty(run)
        if is_due:
            self._clear_outbox()
            self._cover(sample)
        elif (
            segments
        ):  # a segment says until when it leads; what is said of all must not lag behind, it would seem stale
            self._cover(self._newest_held)
        return Shipped(segments, partials, self.covered)

    def stage(self, live_run: Callable[[], str] = lambda: "") -> None:
        """Put what waits in the spool into the outbox, for copies, while the first store takes nothing.

        Only what goes on from WAL of a timeline that the first store was seen to have: whether it may have the rest is
        its to say. `live_run` as for `ship`. Raises `LongboxError`s of the disk and of keys.
        """
        if self._outbox is None or not self._is_known:
            return
        runs, live, sample = self._look(live_run)
        known = {timeline for timeline, _ in [*self._segments, *self._partials]}
        for file in [file for run in runs for file in self._spool.files(run)]:
            key = (file.timeline, file.segment)
            if file.segment and file.timeline in known and key not in self._segments:
                with contextlib.suppress(FileNotFoundError):
                    self._stage_one(self._outbox, file, sample if file.run.name == live else None)
        if sample is not None and sample.timeline in known and self._holds(sample):
            self._outbox.cover(Covered(sample.at, sample.lsn, sample.timeline))
            self._on_shipped(layout.COVERED)

    def _look(self, live_run: Callable[[], str]) -> tuple[list[Path], str, Sample | None]:
        """Folders of all starts, which of them is written to, and the newest reading of that one."""
        before = live_run()
        # read before the files are: what comes while they are shipped is the next pass's
        sample = self._samples.newest()
        runs = self._spool.runs()
        # asked after the folders are listed: a start says its name before it makes its folder, so none of them that is
        # about to be written to passes for one that was left behind
        live = live_run()
        # what an earlier start had on disk says nothing of how far the files of this one are
        return runs, live, sample if live == before else None

    def _stage_one(self, outbox: Outbox, file: SpoolFile, sample: Sample | None) -> None:
        key = (file.timeline, file.segment)
        if layout.segment(*key) in self._staged.get(key, ()):
            return
        data = file.path.read_bytes()
        if file.is_partial:
            valid, until = self._valid(file, data, sample)
            if valid <= max(
                map(_valid_bytes, [*self._staged.get(key, ()), *self._partials.get(key, ())]), default=0
            ):
                return
            name, data = layout.partial(*key, valid), data[:valid]
        else:
            name, until = layout.segment(*key), self._whole_until(file)
        outbox.put(name, self._archive.seal(recovery_lock(self._load_keys()), name, data, until))
        shorter, self._staged[key] = self._staged.get(key, set()), {name}
        self._on_shipped(name)  # before the shorter one goes: who looks for that finds that more is coming
        for other in shorter:
            outbox.remove(other)

    def _clear_outbox(self) -> None:
        """All of the spool was shipped: what is in the outbox is in the first store, or replaced there."""
        if self._outbox is not None and (self._staged or not self._is_outbox_clear):
            self._outbox.clear()
        self._staged.clear()
        self._is_outbox_clear = True

    def _know(self) -> None:
        """What is in the store, asked once: from then on nobody but us puts WAL there."""
        if self._is_known:
            return
        names = [layout.parse_wal(info.path) for info in self._archive.repository.names(layout.WAL)]
        for wal in filter(None, names):
            if wal.is_history:
                self._histories.add(wal.timeline)
            elif wal.valid_bytes is None:
                self._segments.add((wal.timeline, wal.segment))
            else:
                self._partials.setdefault((wal.timeline, wal.segment), set()).add(wal.name)
        first = self._archive.repository.only(self._archive.repository.store)
        self.covered = WalArchive(first).covered()  # a copy that is away must not hold this up
        self._is_known = True

    def _ship_segment(self, file: SpoolFile) -> int:
        key = (file.timeline, file.segment)
        name, is_new = layout.segment(*key), key not in self._segments
        if is_new or not self._is_proved(name):
            data, staged = file.path.read_bytes(), self._outbox.get(name) if self._outbox else None
            if staged is not None:
                self._archive.put_sealed(name, file.segment, staged.data)
            else:
                until = self._whole_until(file)
                self._archive.put_segment(recovery_lock(self._load_keys()), *key, data, until)
            self._prove(name)
            self._segments.add(key)
        self._newest_held = self._sample_within(file)
        self._remove(self._partials.pop(key, ()))
        file.path.unlink()
        return int(is_new)

    def _ship_partial(self, file: SpoolFile, sample: Sample | None) -> int:
        key = (file.timeline, file.segment)
        if key in self._segments:
            return 0
        data = file.path.read_bytes()
        valid, until = self._valid(file, data, sample)
        there = self._partials.get(key, set())
        if valid == 0 or valid <= max((_valid_bytes(name) for name in there), default=0):
            return 0
        staged = self._outbox.get(layout.partial(*key, valid)) if self._outbox else None
        if staged is not None:
            name = staged.name
            self._archive.put_sealed(name, file.segment, staged.data)
        else:
            name = self._archive.put_partial(recovery_lock(self._load_keys()), *key, data, valid, until)
        self._prove(name)
        self._partials[key] = {name}
        self._remove(there - {name})
        return 1

    def _whole_until(self, file: SpoolFile) -> dt.datetime | None:
        """Up to which moment a whole segment holds every commit."""
        sample = self._sample_within(file)
        return sample.at if sample else None

    def _sample_within(self, file: SpoolFile) -> Sample | None:
        """The newest reading up to the end of a segment."""
        size = self._archive.segment_bytes
        return self._samples.newest(file.timeline, (segment_number(file.segment, size) + 1) * size)

    def _valid(self, file: SpoolFile, data: bytes, sample: Sample | None) -> tuple[int, dt.datetime | None]:
        """How much of an open segment is there, and up to which moment it holds every commit."""
        size = self._archive.segment_bytes
        if len(data) != size:
            # pg_receivewal is just making it: it writes zeros up to the end before anything else
            return 0, None
        sample = sample if sample and sample.timeline == file.timeline else None
        start = segment_number(file.segment, size) * size
        valid = received_bytes(data)
        if sample and start < sample.lsn <= start + size:
            valid = max(valid, sample.lsn - start)  # on disk for sure, also where it ends with zeros
        return valid, sample.at if sample and sample.lsn <= start + valid else None

    def _ship_history(self, file: SpoolFile) -> None:
        if file.timeline in self._histories and (file.run.name, file.timeline) in self._compared:
            return
        data = file.path.read_bytes()
        if file.timeline in self._histories:
            self._require_same_history(file.timeline, data)
        else:
            self._archive.put_history(recovery_lock(self._load_keys()), file.timeline, data)
            self._prove(layout.history(file.timeline))
            self._histories.add(file.timeline)
        self._compared.add((file.run.name, file.timeline))

    def _require_same_history(self, timeline: int, data: bytes) -> None:
        """Raise `TimelineTakenError` if the store's timeline of that number branched off elsewhere."""
        name = layout.history(timeline)
        said = self._archive.repository.read_sealed(name).header.meta
        if said.get("blake2b", history_digest(data)) != history_digest(data):
            raise TimelineTakenError(
                f"the store has another timeline {timeline} already, of another promoted copy; its WAL is kept. "
                "Restore anew from this repository: the restored server then takes a number that nobody has"
            )

    def _look_for_gap(self, run: str, files: Iterable[SpoolFile]) -> None:
        """Whether a run begins where what is held ends. Looked at once, as soon as the run has a segment."""
        files = list(files)
        first = next((file for file in files if file.segment), None)
        if run in self._looked_at or first is None:
            return
        self._looked_at.add(run)
        size = self._archive.segment_bytes
        number, wanted = segment_number(first.segment, size), self._expected(first, files)
        if wanted is not None and number > wanted:
            ends = (segment_name(first.timeline, one, size) for one in (wanted, number - 1))
            self._on_gap(Gap(first.timeline, *ends))

    def _expected(self, first: SpoolFile, files: Iterable[SpoolFile]) -> int | None:
        """The number of the segment that has to come, None where nothing was ever held. Earlier runs are shipped."""
        size = self._archive.segment_bytes
        held = [key for key in {*self._segments, *self._partials} if key[0] == first.timeline]
        if held:
            whole_or_open = max(segment_number(segment, size) for _, segment in held)
            is_whole = (first.timeline, segment_name(first.timeline, whole_or_open, size)) in self._segments
            return whole_or_open + int(is_whole)
        history = next((f for f in files if not f.segment and f.timeline == first.timeline), None)
        if history is not None:
            return parse_history(history.path.read_text("utf-8"))[-1].switch_lsn // size
        newest = self._archive.repository.records().sound[-1:]
        # a backup carries its own WAL; what begins after it has to be received
        return -(-newest[0].stop_lsn // size) if newest else None

    def _cover(self, sample: Sample | None) -> None:
        """Say until when every commit is in the store, if that is later than what was said."""
        said = self.covered
        if sample is None or (said and said.timeline == sample.timeline and said.at >= sample.at):
            return
        if self._holds(sample):
            covered = Covered(sample.at, sample.lsn, sample.timeline)
            self._archive.put_covered(covered)
            self.covered = covered
            self._on_shipped(layout.COVERED)

    def _holds(self, sample: Sample) -> bool:
        """Whether WAL up to a reading is in the first store or, with what is there, in the outbox."""
        size = self._archive.segment_bytes
        number, offset = divmod(sample.lsn, size)
        key = (sample.timeline, segment_name(sample.timeline, number, size))
        before = (sample.timeline, segment_name(sample.timeline, max(0, number - 1), size))
        names = [*self._partials.get(key, ()), *self._staged.get(key, ())]
        held = max(map(_valid_bytes, names), default=0)
        return self._is_whole(key) or held >= offset > 0 or (offset == 0 and self._is_whole(before))

    def _is_whole(self, key: Key) -> bool:
        return key in self._segments or layout.segment(*key) in self._staged.get(key, ())

    def _prove(self, name: str) -> None:
        self._archive.repository.store.settle(self._archive.repository.path(name))
        if not self._is_proved(name):
            raise DamagedError(
                f"{name} is not in {self._archive.repository.store.url} as it was written", [name]
            )
        self._on_shipped(name)

    def _is_proved(self, name: str) -> bool:
        repository = self._archive.repository
        try:
            repository.only(repository.store).read_sealed(name)
        except DamagedError:
            return False
        return True

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._archive.repository.delete(name)


def _valid_bytes(name: str) -> int:
    wal = layout.parse_wal(name)
    return (wal.valid_bytes or 0) if wal else 0

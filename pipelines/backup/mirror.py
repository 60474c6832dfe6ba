"""WAL from the first store (from the outbox while that is away) to one copy store, whatever state that one is in.

The shipper tells each name that it proved; what cannot be brought now is brought later, in the order of WAL. A start
compares what both stores hold. Objects go byte for byte and are read back; `wal/covered.json` follows what it speaks
of. Base backups are `copies`', as is everything that is damaged.
"""

import threading

from pipelines.backup import layout
from pipelines.backup.errors import BackupError, DamagedError
from pipelines.backup.outbox import Outbox
from pipelines.backup.repository import Repository
from pipelines.backup.wal import Covered, WalArchive

Key = tuple[int, str]


class WalMirror:
    """The WAL of one cluster in one copy store. `tell` from any thread, `bring` on one."""

    def __init__(self, source: Repository, target: Repository, outbox: Outbox | None = None) -> None:
        self._source, self._target, self._outbox = source, target, outbox
        self._pending: set[str] = set()
        self._partials: dict[Key, set[str]] = {}
        self._covered: Covered | None = None
        self._is_known = False
        self._lock = threading.Lock()

    @property
    def is_due(self) -> bool:
        """Whether there is something to bring."""
        return not self._is_known or bool(self._pending)

    def tell(self, name: str) -> None:
        """An object, or `wal/covered.json`, was put into the first store and proved there."""
        with self._lock:
            self._pending.add(name)

    def bring(self) -> int:
        """Bring what is pending; returns how many objects. Idempotent.

        Raises what either store raises, and `BackupError` naming what is damaged in the first store; the next call does
        the rest.
        """
        if not self._is_known:
            self._compare()
        with self._lock:
            self._pending.discard(
                layout.COVERED
            )  # before it is read: told once more meanwhile, it is due again
        faults = []
        try:
            covered = self._newest_covered()  # before the names: all that it speaks of is among them
            with self._lock:
                names = sorted(self._pending - {layout.COVERED}, key=_order)
            for name in names:
                if name not in self._pending:
                    continue  # brought in the place of a shorter one
                try:
                    brought = self._bring_one(name)
                except DamagedError as error:
                    faults.append(str(error))
                    continue
                with self._lock:
                    self._pending -= {name, brought}
            faults = list(dict.fromkeys(faults))
            if faults:
                raise BackupError(
                    f"{len(faults)} object(s) of WAL could not be copied: {'; '.join(faults[:3])}"
                )
            self._begin()
            if covered is not None and self._is_news(covered):
                WalArchive(self._target).put_covered(covered)
                self._covered = covered
        except BaseException:
            self.tell(layout.COVERED)
            raise
        return len(names)

    def _newest_covered(self) -> Covered | None:
        return self._outbox.covered() if self._outbox else WalArchive(self._source).covered()

    def _is_news(self, covered: Covered) -> bool:
        """The first store that is back says less than its outbox said, until the shipper has come so far."""
        said = self._covered
        return said is None or covered.timeline != said.timeline or covered.at > said.at

    def _longest(self, name: str) -> str:
        """Of what is pending, what holds most of the segment of `name`."""
        wal = layout.parse_wal(name)
        if wal is None or wal.valid_bytes is None:
            return name
        with self._lock:
            others = filter(None, map(layout.parse_wal, self._pending))
            held = [one for one in others if (one.timeline, one.segment) == (wal.timeline, wal.segment)]
        return max([wal, *held], key=lambda one: one.valid_bytes or float("inf")).name

    def _compare(self) -> None:
        """What the first store has and the copy has not, or not as long."""
        there = {info.path: info.size_bytes for info in self._target.names(layout.WAL)}
        for name in there:
            self._remember(name)
        for info in self._source.names(layout.WAL):
            if layout.parse_wal(info.path) is not None and there.get(info.path) != info.size_bytes:
                self.tell(info.path)
        # while the first store was away the copy got ahead of what that says
        self._covered = WalArchive(self._target).covered()
        self.tell(layout.COVERED)
        self._is_known = True

    def _bring_one(self, wanted: str) -> str:
        """Bring what is `wanted`, or what took its place by now: what is said to be covered may rest on it.

        Returns which of them it was.
        """
        name = self._longest(wanted)
        try:
            sealed = self._outbox.read(name) if self._outbox else self._source.read_sealed(name)
        except DamagedError:
            # a partial segment goes when a longer one comes, which was told before
            if self._longest(wanted) != name:
                return self._bring_one(wanted)
            if self._source.store.head(self._source.path(name)) is None:
                return name
            raise
        self._target.put(name, sealed.data)
        self._target.store.settle(self._target.path(name))
        if self._target.read_sealed(name).blake2b != sealed.blake2b:
            raise DamagedError(f"{name} is not in {self._target.store.url} as it was written there", [name])
        self._remember(name)
        self._remove_shorter(name)
        return name

    def _remember(self, name: str) -> None:
        wal = layout.parse_wal(name)
        if wal is not None and wal.valid_bytes is not None:
            self._partials.setdefault((wal.timeline, wal.segment), set()).add(name)

    def _remove_shorter(self, name: str) -> None:
        wal = layout.parse_wal(name)
        if wal is None or wal.is_history:
            return
        key = (wal.timeline, wal.segment)
        for other in sorted(self._partials.get(key, ())):
            shorter = layout.parse_wal(other)
            assert shorter is not None and shorter.valid_bytes is not None
            if wal.valid_bytes is None or shorter.valid_bytes < wal.valid_bytes:
                self._target.delete(other)
                self._partials[key].discard(other)
        if not self._partials.get(key):
            self._partials.pop(key, None)

    def _begin(self) -> None:
        """Say where WAL begins: what the first store gave up, expired or lost in a gap, may be missing in the copy."""
        kept = WalArchive(self._source).kept()
        if kept is not None:
            WalArchive(self._target).put_kept(kept)


def _order(name: str) -> tuple[int, bool, str]:
    """Timelines in their order, each with its history first: without that nobody knows where it branched off."""
    wal = layout.parse_wal(name)
    return (wal.timeline, not wal.is_history, name) if wal else (0, False, name)

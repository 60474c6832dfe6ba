"""Sealed WAL of the spool, kept on the receiver's disk while the first store takes none, so that copies get it at once.

The very objects go to the first store when it is back: copies stay the same bytes. The segments themselves stay in the
spool until then; what is here counts against the spool's bound. Filled by `shipper`, read by `mirror`.
"""

from pathlib import Path

from pipelines.backup import layout
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import SealedObject
from pipelines.backup.spool import OUTBOX, Spool
from pipelines.backup.wal import Covered, WalArchive
from resources.errors import LongboxError
from resources.object_store import ObjectStore


class Outbox:
    """The outbox of one cluster. `put`, `cover` and `clear` on the shipper's thread, reading on any."""

    def __init__(self, spool: Spool, first: ObjectStore) -> None:
        folder = (spool.folder / OUTBOX).resolve()
        self._folder: Path = folder
        self._own = Repository(ObjectStore.from_url(folder.as_uri()), spool.system_identifier)
        self._both = Repository(self._own.store, spool.system_identifier, (first,))

    def put(self, name: str, sealed: bytes) -> None:
        """Keep an object, on disk before this returns."""
        self._own.put(name, sealed)
        self._own.store.settle(self._own.path(name))

    def get(self, name: str) -> SealedObject | None:
        """A whole object that is kept here."""
        if not self._has(name):
            return None
        try:
            return self._own.read_sealed(name)
        except LongboxError:
            return None

    def read(self, name: str) -> SealedObject:
        """An object from here or, where it is not, from the first store. Raises `DamagedError`."""
        return self._both.read_sealed(name) if self._has(name) else self._first.read_sealed(name)

    def cover(self, covered: Covered) -> None:
        """Say that with what is here every commit up to a moment is there."""
        WalArchive(self._own).put_covered(covered)

    def covered(self) -> Covered | None:
        """The newest that was said here or in the first store."""
        return WalArchive(self._both if self._has(layout.COVERED) else self._first).covered()

    def clear(self) -> None:
        """Forget all: the first store has it, or what replaced it."""
        for info in self._own.names():
            self._own.delete(info.path)

    def remove(self, name: str) -> None:
        """Forget one."""
        self._own.delete(name)

    @property
    def _first(self) -> Repository:
        return self._both.only(self._both.copies[0])

    def _has(self, name: str) -> bool:
        return (self._folder / self._own.path(name)).exists()

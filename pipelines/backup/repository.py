"""One cluster's repository over a store and its copies: records, leases, whole objects, sweeping of leftovers.

Writing goes to the first store alone (`copies` brings the rest there); reading takes an object from the first store
where it is whole, so that a damaged one is replaced by its copy without the caller's doing. Objects are never
rewritten under the same name, but for leases, verifications and `wal/covered.json`.
"""

import contextlib
import datetime as dt
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import BackupRecord, StoredObject, Verification
from pipelines.backup.sealed import Buffer, SealedObject
from resources.errors import LongboxError, ObjectMissingError, ObjectStoreUnavailableError, UserError
from resources.object_store import ObjectInfo, ObjectStore

LEASE_SECONDS = 30.0
_AWAY_SECONDS = 60.0
SWEEP_AFTER = dt.timedelta(minutes=15)  # thirty missed renewals: the holder is gone, not slow

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Records:
    """The catalogue: sound records by time, and the faults of those that no store has whole."""

    sound: tuple[BackupRecord, ...]
    faults: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[BackupRecord]:
        return iter(self.sound)

    def get(self, backup_id: str) -> BackupRecord | None:
        """The record of that id."""
        return next((record for record in self.sound if record.backup_id == backup_id), None)

    def chain(self, record: BackupRecord) -> list[BackupRecord]:
        """The full backup and the incrementals up to `record`, oldest first. Raises `DamagedError` if one is gone."""
        found = [record]
        while (parent_id := found[0].parent_id) is not None:
            parent = self.get(parent_id)
            if parent is None or parent in found:
                raise DamagedError(
                    f"backup {record.backup_id} builds on {parent_id}, which is not in the repository",
                    [layout.record(parent_id)],
                )
            found.insert(0, parent)
        return found


class Repository:
    """The objects of one cluster, by their names in `layout`. Safe to share between threads."""

    def __init__(
        self, store: ObjectStore, system_identifier: str, copies: Sequence[ObjectStore] = ()
    ) -> None:
        self.store, self.copies = store, tuple(copies)
        self.system_identifier = system_identifier
        self._away_until: dict[str, float] = {}  # copies that could not be listed, asked again later

    @property
    def stores(self) -> tuple[ObjectStore, ...]:
        """The store and its copies, in the order of reading."""
        return (self.store, *self.copies)

    def only(self, store: ObjectStore) -> "Repository":
        """The same repository as that one store has it."""
        return Repository(store, self.system_identifier)

    def path(self, name: str) -> str:
        """Where an object is in its store."""
        return f"{layout.ROOT}/{self.system_identifier}/{name}"

    def names(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects of the first store under `prefix`, ordered, with names as in `layout`."""
        root = self.path("")
        for info in self.store.list(self.path(prefix).rstrip("/")):
            name = info.path.removeprefix(root)
            yield ObjectInfo(name, info.size_bytes, info.e_tag, info.modified_at)

    def all_names(self, prefix: str) -> list[str]:
        """Names under `prefix` in any of the stores that can be reached, ordered. Raises if the first one cannot."""
        return sorted(set().union(*(names for _, names in self._listed(prefix))))

    def _listed(self, prefix: str) -> list[tuple[ObjectStore, set[str]]]:
        """Names under `prefix` by store. A copy that is away is left out: neither backups nor restores wait for it."""
        found = []
        for store in self.stores:
            if time.monotonic() < self._away_until.get(store.url, 0.0):
                continue
            try:
                found.append((store, {info.path for info in self.only(store).names(prefix)}))
            except ObjectStoreUnavailableError:
                if store is self.store:
                    raise
                self._away_until[store.url] = time.monotonic() + _AWAY_SECONDS
        return found

    def put(self, name: str, data: Buffer) -> None:
        """Write an object to the first store. All or nothing."""
        self.store.put(self.path(name), data, is_sealed=name.endswith(layout.SEALED))

    def delete(self, name: str) -> None:
        """Remove an object from the first store; absent is fine."""
        self.store.delete(self.path(name))

    def read(self, name: str, is_whole: Callable[[bytes], object]) -> bytes:
        """The object from the first store in which `is_whole` does not raise. Raises `DamagedError` naming it."""

        def whole(data: memoryview) -> bytes:
            content = bytes(data)
            is_whole(content)
            return content

        return self._first(name, whole)

    def read_sealed(self, name: str, recorded: StoredObject | None = None) -> SealedObject:
        """A sealed object, compared with its digest and with its record if one is given. Raises `DamagedError`."""
        return self._first(name, lambda data: check_sealed(name, data, recorded))

    def _first(self, name: str, parse: Callable[[memoryview], Parsed]) -> Parsed:
        """What `parse` makes of the object of the first store in which it does not raise."""
        faults = []
        for store in self.stores:
            try:
                return parse(store.fetch(self.path(name)))
            except ObjectMissingError:
                faults.append(f"missing in {store.url}")
            except LongboxError as error:
                faults.append(f"{error} (in {store.url})")
        raise DamagedError(f"{name}: {'; '.join(faults)}", [name])

    def records(self) -> Records:
        """Every backup that exists, in whichever store."""
        sound, faults = [], {}
        for name in self.all_names(layout.CATALOGUE):
            try:
                sound.append(self.record(name.removeprefix(f"{layout.CATALOGUE}/").removesuffix(".json")))
            except DamagedError as error:
                faults[name] = str(error)
        return Records(tuple(sorted(sound, key=lambda record: (record.ended_at, record.backup_id))), faults)

    def record(self, backup_id: str) -> BackupRecord:
        """One record. Raises `DamagedError`, also when there is none."""
        name = layout.record(backup_id)
        return BackupRecord.from_json(name, self.read(name, lambda data: _check_record(name, data)))

    def put_record(self, record: BackupRecord) -> None:
        """Make the backup exist. The last act of a backup."""
        self.put(layout.record(record.backup_id), record.to_json())

    def verification(self, backup_id: str) -> Verification | None:
        """What the last reading back of a backup found; None if it was never read back, or the result is damaged."""
        name = layout.verification(backup_id)
        with contextlib.suppress(DamagedError):
            return Verification.from_json(
                name, self.read(name, lambda data: Verification.from_json(name, data))
            )
        return None

    def unfinished(self, older_than: dt.timedelta = SWEEP_AFTER) -> list[str]:
        """Names that belong to backups without a record whose lease was not renewed for `older_than`.

        Ages are taken from the store's own clock, on which leases and objects are stamped too. Parts without a lease
        are not among them: theirs is a record that was lost (`orphans`), and they may be all that is left of a backup.
        """
        now = self._store_clock()
        leases = {_owner(info.path): info for info in self.names(layout.LEASES)}
        finished = {_owner(info.path) for info in self.names(layout.CATALOGUE)}
        by_backup: dict[str, list[ObjectInfo]] = {backup_id: [info] for backup_id, info in leases.items()}
        for info in self.names(layout.DATA):
            owner = _owner(info.path)
            if owner in leases and owner not in finished:
                by_backup[owner].append(info)
        return [
            info.path
            for _, objects in sorted(by_backup.items())
            if now - max(info.modified_at for info in objects) >= older_than
            for info in objects
        ]

    def orphans(self) -> list[str]:
        """Ids of backups whose parts are in a store while no store has their record, nor a lease, oldest first."""
        found = self._without_record()
        # one that expired while these folders were listed one after the other has no parts the second time
        return sorted(found & self._without_record()) if found else []

    def _without_record(self) -> set[str]:
        # in this order: a backup that ends meanwhile is seen with its lease, its record, or both
        listed = self._listed(layout.DATA)
        owners = {_owner(name) for _, names in listed for name in names}
        for folder in (layout.LEASES, layout.CATALOGUE):
            for (
                store,
                _,
            ) in (
                listed
            ):  # all of them: a copy that goes away meanwhile must not seem to have lost its records
                owners -= {_owner(info.path) for info in self.only(store).names(folder)}
        return owners

    def hold(self, backup_id: str) -> None:
        """Say by a lease that the parts of a backup may be without its record for a while; `release` ends it."""
        self.put(
            layout.lease(backup_id), json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        )

    def release(self, backup_id: str) -> None:
        """Remove the lease."""
        self.delete(layout.lease(backup_id))

    def sweep(self, older_than: dt.timedelta = SWEEP_AFTER) -> list[str]:
        """Delete what killed backups left. Never touches one in progress; safe to repeat. Returns the names."""
        # parts before the lease: a sweep that is killed leaves what names the rest
        found = sorted(self.unfinished(older_than), key=lambda name: (name.startswith(layout.LEASES), name))
        for name in found:
            self.delete(name)
        return found

    @contextlib.contextmanager
    def lease(self, backup_id: str) -> Iterator[None]:
        """Say that a backup is in progress, renewed in the background; the lease goes with the block."""
        self.hold(backup_id)
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_SECONDS):
                # a store that is away for a while is the stream's to tell
                with contextlib.suppress(LongboxError):
                    self.hold(backup_id)

        thread = threading.Thread(target=renew, name="longbox-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        self.release(backup_id)

    def _store_clock(self) -> dt.datetime:
        name = f"{layout.LEASES}/clock-{secrets.token_hex(4)}"  # of this call: another one removes its own
        self.put(name, b"")
        info = self.store.head(self.path(name))
        self.delete(name)
        return info.modified_at if info else dt.datetime.now(dt.UTC)


def find_system(store: ObjectStore, copies: Sequence[ObjectStore], wanted: str | None = None) -> str:
    """The cluster whose backups the stores hold. Raises `UserError` if there is none, or several and none is named.

    A copy that is away is not asked.
    """
    names = set(store.list_folders(layout.ROOT))
    for place in copies:
        with contextlib.suppress(ObjectStoreUnavailableError):
            names.update(place.list_folders(layout.ROOT))
    found = sorted(names)
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"there are no backups in {store.url}; name their store with LONGBOX_BACKUP_STORE")
    asked = f"none of cluster {wanted}" if wanted else "backups of several clusters"
    raise UserError(f"{store.url} has {asked}; choose one with --system: {', '.join(found)}")


def check_sealed(name: str, data: Buffer, recorded: StoredObject | None = None) -> SealedObject:
    """`data` as the whole sealed object `name`, and the recorded one. Raises `DamagedError`."""
    if recorded is not None and len(data) != recorded.size_bytes:
        raise DamagedError(
            f"{name} is damaged: it has {len(data)} bytes where {recorded.size_bytes} were written", [name]
        )
    sealed = SealedObject(name, data)
    if recorded is not None and sealed.blake2b != recorded.blake2b:
        raise DamagedError(f"{name} is not the object that was recorded", [name])
    return sealed


def _check_record(name: str, data: bytes) -> None:
    record = BackupRecord.from_json(name, data)
    if layout.record(record.backup_id) != name:
        raise DamagedError(f"{name} is the record of {record.backup_id}, stored under another name", [name])


def _owner(name: str) -> str:
    return name.split("/")[1].removesuffix(".json")

"""Read the repository back: every object against its digest and its record, decrypted where the keys are at hand.

Every fault names its object; nothing is repaired and nothing is trusted from listings. Results are kept under
`verifications/`, where `coverage` takes its evidence from. A copy is verified as a repository of its own
(`repository.only(store)`).
"""

import contextlib
import datetime as dt
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from pipelines.backup import layout
from pipelines.backup.beats import lineage
from pipelines.backup.continuity import lag_of_covered, missing_wal
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import BackupRecord, StoredObject, Verification, read_checked_json
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener
from pipelines.backup.wal import SEGMENT_BYTES, WalArchive
from resources.errors import LongboxError

_READERS = 2
_SMALL = (layout.TRUTH, layout.DRILLS, layout.VERIFICATIONS, layout.HEARTBEATS)
Clock = Callable[[], dt.datetime]


@dataclass(frozen=True)
class Fault:
    """One object, or one gap, and what is wrong with it."""

    name: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.name in self.reason else f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class RepositoryReport:
    """What reading a whole repository back found."""

    store: str
    verifications: tuple[Verification, ...]
    faults: tuple[Fault, ...]
    objects: int
    stored_bytes: int
    is_decrypted: bool
    notes: tuple[str, ...] = ()  # what will pass by itself, and is no fault

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.faults


class WalFound(NamedTuple):
    """What reading WAL back found: faults, objects and bytes read, and what is no fault but worth telling."""

    faults: list[Fault]
    objects: int
    stored_bytes: int
    notes: tuple[str, ...]


def report_of(store: str, found: Verification) -> RepositoryReport:
    """A verification of one backup as the report of its store."""
    faults = tuple(Fault(found.backup_id, fault) for fault in found.faults)
    return RepositoryReport(store, (found,), faults, found.objects, found.stored_bytes, found.is_decrypted)


def verify_backup(
    repository: Repository,
    backup_id: str,
    opener: Opener,
    is_decrypting: bool,
    clock: Clock = lambda: dt.datetime.now(dt.UTC),
) -> Verification:
    """Read one backup and those it builds on back, and keep the result. Raises `DamagedError` if its record is gone."""
    records = repository.records()
    record = records.get(backup_id) or repository.record(backup_id)
    faults: list[Fault] = []
    try:
        chain = records.chain(record)
    except DamagedError as error:
        chain, faults = [record], [Fault(error.objects[0], str(error))]
    objects = [stored for one in chain for stored in one.objects]
    faults += _read_back(repository, objects, opener)
    return _keep(repository, record, objects, faults, is_decrypting, clock())


def verify_repository(
    repository: Repository,
    opener: Opener,
    is_decrypting: bool,
    clock: Clock = lambda: dt.datetime.now(dt.UTC),
    named: Mapping[str, str] = MappingProxyType({}),
) -> RepositoryReport:
    """Read every object of a repository back, each once; keeps the result of every backup.

    `named` are objects that must be there, with the BLAKE2b of their content or an empty text: what the ledger names.
    """
    small_faults, small_objects = verify_small(repository, named)  # before verifications are written anew
    records = repository.records()
    found: dict[str, list[Fault]] = {
        record.backup_id: list(_read_back(repository, record.objects, opener)) for record in records
    }
    verifications: list[Verification] = []
    faults = [*small_faults, *(Fault(name, reason) for name, reason in records.faults.items())]
    if not records.sound:
        faults.append(Fault(layout.CATALOGUE, "there is no backup"))
    faults += [
        Fault(layout.record(backup_id), "it is missing, though the parts of that backup are there")
        for backup_id in repository.orphans()
    ]
    for record in records:
        own = [*found[record.backup_id]]
        try:
            for parent in records.chain(record)[:-1]:
                own += [
                    Fault(fault.name, f"{fault} (in {parent.backup_id}, on which this builds)")
                    for fault in found[parent.backup_id]
                ]
        except DamagedError as error:
            own.append(Fault(error.objects[0], str(error)))
            faults.append(own[-1])
        verifications.append(_keep(repository, record, record.objects, own, is_decrypting, clock()))
    faults += [fault for several in found.values() for fault in several]
    wal = verify_wal(repository, opener, records.sound, clock)
    objects = wal.objects + small_objects + sum(len(record.objects) + 1 for record in records)
    stored_bytes = wal.stored_bytes + sum(record.stored_bytes for record in records)
    all_faults = tuple(dict.fromkeys([*faults, *wal.faults]))
    return RepositoryReport(
        repository.store.url,
        tuple(verifications),
        all_faults,
        objects,
        stored_bytes,
        is_decrypting,
        wal.notes,
    )


def verify_wal(
    repository: Repository,
    opener: Opener,
    records: Sequence[BackupRecord],
    clock: Clock = lambda: dt.datetime.now(dt.UTC),
) -> WalFound:
    """Read every object of WAL back and look for gaps."""
    segment_bytes = records[-1].wal_segment_bytes if records else SEGMENT_BYTES
    archive = WalArchive(repository, segment_bytes)
    inventory = archive.inventory()
    names = [*inventory.segments.values(), *inventory.histories.values()]
    names += [partial.name for partial in inventory.partials.values()]
    names += inventory.superseded
    sizes = {info.path: info.size_bytes for info in repository.names(layout.WAL)}

    def look(name: str) -> Fault | None:
        try:
            sealed = repository.read_sealed(name)
            wal = layout.parse_wal(name)
            if wal is not None and opener.has(sealed.header.lock):
                plain_bytes = sum(len(piece) for piece in sealed.plain(opener.key_of(sealed.header)))
                wanted = wal.valid_bytes if wal.valid_bytes is not None else segment_bytes
                if not wal.is_history and plain_bytes != wanted:
                    return Fault(name, f"it holds {plain_bytes} bytes where {wanted} belong")
        except LongboxError as error:
            if not _is_there(repository, name) and archive.replaced_by(name):
                return None  # it went when a longer one came
            return Fault(name, str(error))
        return None

    with ThreadPoolExecutor(_READERS) as pool:
        faults = [fault for fault in pool.map(look, names) if fault is not None]
    now, lag = clock(), lag_of_covered(archive, inventory)
    faults += [Fault(*missing) for missing in missing_wal(archive, inventory, opener, lag, now)]
    notes = (str(lag),) if lag is not None and lag.is_catching_up(now) else ()
    return WalFound(faults, len(names), sum(sizes.get(name, 0) for name in names), notes)


def verify_small(repository: Repository, named: Mapping[str, str]) -> tuple[list[Fault], int]:
    """Witnesses, heartbeats, results of drills and verifications: checksums, names, and whether any is lost."""
    faults, objects = [], 0
    there = [name for folder in _SMALL for name in repository.all_names(folder)]
    for name in dict.fromkeys([*there, *named]):
        objects += 1
        try:
            repository.read(name, lambda data, name=name: _check_small(name, data, named))  # type: ignore[misc]
        except LongboxError as error:
            # what nobody names may have expired since the names were listed
            if name in named or _is_there(repository, name):
                faults.append(Fault(name, str(error)))
    with contextlib.suppress(DamagedError):  # it is named above
        faults += [Fault(layout.HEARTBEATS, fault) for fault in lineage(repository)[1]]
    return faults, objects


def _is_there(repository: Repository, name: str) -> bool:
    return any(store.head(repository.path(name)) is not None for store in repository.stores)


def _check_small(name: str, data: bytes, named: Mapping[str, str]) -> None:
    content = read_checked_json(name, data)
    folder = name.partition("/")[0]
    try:
        own = {
            layout.TRUTH: lambda: layout.truth(dt.datetime.fromisoformat(content["ended_at"])),
            layout.DRILLS: lambda: layout.drill(dt.datetime.fromisoformat(content["began_at"])),
            layout.VERIFICATIONS: lambda: layout.verification(content["backup_id"]),
        }.get(folder, lambda: name)()
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{name} is not what its name says ({error})", [name]) from error
    if own != name:
        raise DamagedError(f"{name} is {own}, stored under another name", [name])
    if named.get(name) and hashlib.blake2b(data, digest_size=32).hexdigest() != named[name]:
        raise DamagedError(f"{name} is not the object that the ledger names", [name])


def _read_back(repository: Repository, objects: Sequence[StoredObject], opener: Opener) -> list[Fault]:
    with ThreadPoolExecutor(_READERS, thread_name_prefix="longbox-verify") as pool:
        faults = pool.map(lambda stored: _fault_of(repository, stored, opener), objects)
        return [fault for fault in faults if fault is not None]


def _fault_of(repository: Repository, stored: StoredObject, opener: Opener) -> Fault | None:
    try:
        sealed = repository.read_sealed(stored.name, stored)
        if opener.has(sealed.header.lock):
            plain_bytes = sum(len(piece) for piece in sealed.plain(opener.key_of(sealed.header)))
            if plain_bytes != stored.plain_bytes:
                return Fault(stored.name, f"it holds {plain_bytes} bytes where {stored.plain_bytes} belong")
    except LongboxError as error:
        return Fault(stored.name, str(error))
    return None


def _keep(
    repository: Repository,
    record: BackupRecord,
    objects: Sequence[StoredObject],
    faults: Sequence[Fault],
    is_decrypted: bool,
    now: dt.datetime,
) -> Verification:
    before = repository.verification(record.backup_id)
    result = Verification(
        record.backup_id,
        now,
        not faults,
        is_decrypted,
        len(objects),
        sum(stored.size_bytes for stored in objects),
        tuple(str(fault) for fault in faults),
        is_restored=not faults and before is not None and before.is_restored,
    )
    repository.put(layout.verification(record.backup_id), result.to_json())
    return result

"""Read the repository back: every object against its digest and its record, decrypted where the keys are at hand.

Every fault names its object; nothing is repaired and nothing is trusted from listings. Results are kept under
`verifications/`, where `coverage` takes its evidence from. A copy is verified as a repository of its own
(`repository.only(store)`).
"""

import datetime as dt
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import BackupRecord, StoredObject, Verification
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener, SealedReader, chunks_of
from pipelines.backup.wal import SEGMENT_BYTES, WalArchive
from resources.errors import LongboxError

_READERS = 2
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

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.faults


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
) -> RepositoryReport:
    """Read every object of a repository back, each once; keeps the result of every backup."""
    records = repository.records()
    found: dict[str, list[Fault]] = {
        record.backup_id: list(_read_back(repository, record.objects, opener)) for record in records
    }
    verifications, faults = [], [Fault(name, reason) for name, reason in records.faults.items()]
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
    wal_faults, wal_objects, wal_bytes = verify_wal(repository, opener, records.sound)
    objects = wal_objects + sum(len(record.objects) + 1 for record in records)
    stored_bytes = wal_bytes + sum(record.stored_bytes for record in records)
    all_faults = tuple(dict.fromkeys([*faults, *wal_faults]))
    return RepositoryReport(
        repository.store.url, tuple(verifications), all_faults, objects, stored_bytes, is_decrypting
    )


def verify_wal(
    repository: Repository, opener: Opener, records: Sequence[BackupRecord]
) -> tuple[list[Fault], int, int]:
    """Read every object of WAL back and look for gaps. Returns faults, objects and bytes read."""
    segment_bytes = records[-1].wal_segment_bytes if records else SEGMENT_BYTES
    archive = WalArchive(repository, segment_bytes)
    inventory = archive.inventory()
    names = [*inventory.segments.values(), *inventory.histories.values()]
    names += [partial.name for partial in inventory.partials.values()]
    sizes = {info.path: info.size_bytes for info in repository.names(layout.WAL)}

    def look(name: str) -> Fault | None:
        try:
            data = repository.read_sealed(name)
            wal = layout.parse_wal(name)
            reader = SealedReader(name, chunks_of(data))
            if wal is not None and opener.has(reader.header.lock):
                plain_bytes = sum(len(piece) for piece in reader.plain(opener.key_of(reader.header)))
                wanted = wal.valid_bytes if wal.valid_bytes is not None else segment_bytes
                if not wal.is_history and plain_bytes != wanted:
                    return Fault(name, f"it holds {plain_bytes} bytes where {wanted} belong")
        except LongboxError as error:
            return Fault(name, str(error))
        return None

    with ThreadPoolExecutor(_READERS) as pool:
        faults = [fault for fault in pool.map(look, names) if fault is not None]
    if faults:
        # a partial segment that the receiver replaced meanwhile is no fault
        now = archive.inventory()
        there = {*now.superseded, *(partial.name for partial in now.partials.values())}
        gone = {partial.name for partial in inventory.partials.values()} - there
        faults = [
            fault
            for fault in faults
            if not (fault.name in gone and now.object_of(*_place(fault.name)) is not None)
        ]
    # WAL begins when the receiver was first started: what lies before its first segment is not a gap
    gaps = [gap for timeline in inventory.timelines for gap in inventory.gaps(timeline)]
    faults += [Fault(f"{layout.WAL}/{gap.timeline:08X}", str(gap)) for gap in gaps]
    return faults, len(names), sum(sizes.get(name, 0) for name in names)


def _place(name: str) -> tuple[int, str]:
    wal = layout.parse_wal(name)
    assert wal is not None
    return wal.timeline, wal.segment


def _read_back(repository: Repository, objects: Sequence[StoredObject], opener: Opener) -> list[Fault]:
    with ThreadPoolExecutor(_READERS, thread_name_prefix="longbox-verify") as pool:
        faults = pool.map(lambda stored: _fault_of(repository, stored, opener), objects)
        return [fault for fault in faults if fault is not None]


def _fault_of(repository: Repository, stored: StoredObject, opener: Opener) -> Fault | None:
    try:
        data = repository.read_sealed(stored.name, stored)
        reader = SealedReader(stored.name, chunks_of(data))
        if opener.has(reader.header.lock):
            plain_bytes = sum(len(piece) for piece in reader.plain(opener.key_of(reader.header)))
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

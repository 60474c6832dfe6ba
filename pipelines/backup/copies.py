"""Bring every object of a repository to its copy stores, check it there by reading it back, and mend either side.

Records go last, as in a backup, so that a copy never shows a backup that is not whole. What is damaged at the source
is not spread. A deep run also reads what is already there and replaces what is not whole.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import read_checked_json
from pipelines.backup.repository import Repository, check_sealed
from pipelines.backup.wal import parse_covered, parse_kept
from resources.errors import LongboxError

_OWN = (f"{layout.LEASES}/", f"{layout.VERIFICATIONS}/")  # each store's own


@dataclass(frozen=True)
class CopyResult:
    """What was brought to one store; `faults` are objects that could not be brought, with the reason."""

    store: str
    objects: int
    copied: int
    copied_bytes: int
    faults: tuple[str, ...]


def copy_repository(repository: Repository, *, is_deep: bool = False) -> list[CopyResult]:
    """Bring what is missing to each copy store. Idempotent; a killed run goes on where it was. Deletes nothing."""
    source = repository.only(repository.store)
    return [bring(source, repository.only(store), is_deep=is_deep) for store in repository.copies]


def mend(repository: Repository) -> list[CopyResult]:
    """Replace what is damaged or missing in the store by what any copy has whole, then do the same for the copies."""
    source = repository.only(repository.store)
    mended = [
        bring(repository.only(store), source, is_deep=True, is_mending=True) for store in repository.copies
    ]
    return mended + copy_repository(repository, is_deep=True)


def bring(
    source: Repository, target: Repository, *, is_deep: bool = False, is_mending: bool = False
) -> CopyResult:
    """Bring the objects of one store to another. An object is compared by its size, deeply by its content.

    `is_mending`: from a copy back; what is written more than once is left as it is where it is whole.
    """
    there = {info.path: info.size_bytes for info in target.names()}
    covered = _covered(source)  # before the list: what it speaks of is then among what is brought
    objects = copied = copied_bytes = 0
    faults: list[str] = []
    for name, size_bytes in _in_order(source):
        objects += 1
        try:
            if there.get(name) == size_bytes and not is_deep and not _changes(name):
                continue
            if name in there and _stays(target, name, there[name] >= size_bytes, covered, is_mending):
                continue
            _hold(target, name, there)
            data = covered if name == layout.COVERED and covered else None
            size = _bring_one(source, target, name, name in there, data)
        except LongboxError as error:
            # a partial segment goes when the whole one comes: what is no longer there needs no copy
            if source.store.head(source.path(name)) is not None:
                faults.append(str(error))
            continue
        copied += size > 0
        copied_bytes += size
    return CopyResult(target.store.url, objects, copied, copied_bytes, tuple(faults))


def _stays(target: Repository, name: str, is_as_long: bool, covered: bytes | None, is_mending: bool) -> bool:
    """Whether what the target has of an object that is written more than once is as new as what would be brought."""
    if name == layout.COVERED:  # the receiver may have brought later WAL meanwhile
        return covered is not None and _covers_more(target, covered)
    is_own = name == layout.KEPT  # each store expires by itself
    # an hour of heartbeats only grows: the longer one has all of the other
    is_whole = is_as_long and name.startswith(f"{layout.HEARTBEATS}/")
    # of what the first store puts anew a copy has what it was
    is_newer = is_mending and (name == layout.ARCHIVED or name.startswith(f"{layout.EVIDENCE}/"))
    return (is_own or is_whole or is_newer) and _is_sound(target, name)


def _hold(target: Repository, name: str, there: dict[str, int]) -> None:
    """A backup whose parts are brought before its record is marked by a lease, until the record is there."""
    folder, _, rest = name.partition("/")
    owner = rest.partition("/")[0].removesuffix(".json")
    if folder == layout.DATA and layout.record(owner) not in there and layout.lease(owner) not in there:
        target.hold(owner)
        there[layout.lease(owner)] = 0


def _bring_one(
    source: Repository, target: Repository, name: str, is_there: bool, data: bytes | None = None
) -> int:
    """Bytes brought, 0 if the target has the object already."""
    if data is None:
        data = source.read(name, lambda data: check_object(name, data))
    is_new = not (is_there and _has(target, name, data))
    if is_new:
        target.put(name, data)
        if not _has(target, name, data):
            raise DamagedError(f"{name} is not in {target.store.url} as it was written there", [name])
    if name.startswith(f"{layout.CATALOGUE}/"):
        target.release(name.removeprefix(f"{layout.CATALOGUE}/").removesuffix(".json"))
    return len(data) if is_new else 0


def _covered(source: Repository) -> bytes | None:
    with contextlib.suppress(DamagedError):
        return source.read(layout.COVERED, lambda data: check_object(layout.COVERED, data))
    return None


def _covers_more(target: Repository, covered: bytes) -> bool:
    said = _covered(target)
    return said is not None and parse_covered(said).at > parse_covered(covered).at


def _is_sound(target: Repository, name: str) -> bool:
    with contextlib.suppress(DamagedError):
        return bool(target.read(name, lambda data: check_object(name, data)))
    return False


def _has(target: Repository, name: str, data: bytes) -> bool:
    try:
        return target.store.fetch(target.path(name)) == data
    except LongboxError:
        return False


def _in_order(source: Repository) -> Iterator[tuple[str, int]]:
    found = [(info.path, info.size_bytes) for info in source.names() if not info.path.startswith(_OWN)]
    finished = {name.removeprefix(f"{layout.CATALOGUE}/").removesuffix(".json") for name, _ in found}
    records = f"{layout.CATALOGUE}/"
    for name, size in sorted(found, key=lambda item: (item[0].startswith(records), item[0])):
        # parts of a backup in progress, or of a killed one, are nobody's yet
        if not name.startswith(f"{layout.DATA}/") or name.split("/")[1] in finished:
            yield name, size


def _changes(name: str) -> bool:
    """Whether an object of that name is written more than once."""
    return name == layout.COVERED or not name.startswith((layout.CATALOGUE, layout.DATA, layout.WAL))


def check_object(name: str, data: bytes) -> None:
    """Whether an object is whole, by its kind. Raises `DamagedError`."""
    if name.endswith(layout.SEALED):
        check_sealed(name, data)
    elif name == layout.KEPT:
        parse_kept(data)
    elif name.endswith(".json") and not name.startswith(_OWN):
        read_checked_json(name, data)

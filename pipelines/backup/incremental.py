"""Changed blocks of incremental backups written into the files that they change, instead of making those files anew.

pg_combinebackup writes a whole file of up to 1 GiB where one block of it changed; here that block is written. The rules
are its own: a block comes from the newest backup that has it, older ones count below the newest truncation length
alone, and what nobody has is zeros. What needs no change, labels, control file and manifest stay its work.
https://www.postgresql.org/docs/18/app-pgcombinebackup.html
"""

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.backup.errors import DamagedError

PREFIX = "INCREMENTAL."
_MAGIC = 0xD3AE1F0D
_START = struct.Struct("=III")  # magic, number of blocks, truncation length: in the byte order of the server
_RUN_BLOCKS = 64  # written at once
_LARGEST_SEGMENT_BLOCKS = (
    1 << 22
)  # 32 GiB of 8 KiB: beyond any --with-segsize, so that a header bounds its memory


@dataclass(frozen=True)
class _Changes:
    """One incremental file: which blocks it holds, and where the first of them is."""

    path: Path
    blocks: "array[int]"
    truncation_blocks: int
    offset: int


@dataclass(frozen=True)
class _Run:
    """Blocks that follow each other both in an incremental file and in the file that it changes."""

    source: Path
    offset: int
    first_block: int
    blocks: int


def apply_changes(folders: Sequence[Path], block_bytes: int) -> int:
    """Make files of the last folder of a chain whole, by changing and moving those of earlier ones; returns how many.

    `folders`: unpacked and verified backups, the full one first. A file that pg_combinebackup can link as it is stays
    as it is. Each block that was written is read back and compared. Raises `DamagedError`; the folders are worthless
    then.
    """
    last = folders[-1]
    found = [path for place in ("global", "base/*") for path in sorted(last.glob(f"{place}/{PREFIX}*"))]
    return sum(_make_whole(folders, path.relative_to(last), block_bytes) for path in found)


def _make_whole(folders: Sequence[Path], incremental: Path, block_bytes: int) -> bool:
    name = incremental.with_name(incremental.name.removeprefix(PREFIX))
    base, changes = _sources(folders, incremental, name, block_bytes)
    newest, size = changes[0], base.stat().st_size
    length = max(newest.truncation_blocks, max(newest.blocks, default=-1) + 1)
    runs = list(_runs(changes, block_bytes))
    if not runs and size == length * block_bytes:
        return False
    handle = os.open(base, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.ftruncate(handle, min(size // block_bytes, newest.truncation_blocks) * block_bytes)
        os.ftruncate(handle, length * block_bytes)
        _write(handle, runs, block_bytes)
    finally:
        os.close(handle)
    base.rename(folders[-1] / name)
    (folders[-1] / incremental).unlink()
    return True


def _sources(
    folders: Sequence[Path], incremental: Path, name: Path, block_bytes: int
) -> tuple[Path, list[_Changes]]:
    """The newest whole file of that name, and the incremental ones after it, newest first."""
    changes = [_read_header(folders[-1] / incremental, block_bytes)]
    for folder in reversed(folders[:-1]):
        if (folder / name).is_file():
            return folder / name, changes
        if not (folder / incremental).is_file():
            break
        changes.append(_read_header(folder / incremental, block_bytes))
    raise DamagedError(f"{incremental} has no whole file to build on in the backups before it", [str(name)])


def _read_header(path: Path, block_bytes: int) -> _Changes:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_START.size)
        magic, count, truncation = _START.unpack(start) if len(start) == _START.size else (0, 0, 0)
        if magic != _MAGIC or max(count, truncation) > _LARGEST_SEGMENT_BLOCKS:
            raise DamagedError(f"{path.name} does not start as an incremental file", [path.name])
        numbers = array("I")
        numbers.frombytes(file.read(count * numbers.itemsize)[: count * numbers.itemsize])
    offset = _START.size + count * numbers.itemsize
    if count:
        offset = -(-offset // block_bytes) * block_bytes  # blocks are aligned
    if len(numbers) != count or size != offset + count * block_bytes:
        raise DamagedError(f"{path.name} has {size} bytes, which is not what its header says", [path.name])
    if count and max(numbers) >= _LARGEST_SEGMENT_BLOCKS:
        raise DamagedError(f"{path.name} names a block beyond any segment", [path.name])
    return _Changes(path, numbers, truncation, offset)


def _runs(changes: Sequence[_Changes], block_bytes: int) -> Iterator[_Run]:
    """Every block that comes from an incremental file, once, from the newest that counts."""
    below = changes[0].truncation_blocks
    taken: set[int] = set()
    for number, one in enumerate(changes):
        start = run = 0
        before = -1
        for index, block in enumerate(one.blocks):
            if block in taken or (number and block >= below):
                continue
            taken.add(block)
            if run and index == start + run and block == before + 1 and run < _RUN_BLOCKS:
                run += 1
            else:
                if run:
                    yield _Run(one.path, one.offset + start * block_bytes, before - run + 1, run)
                start, run = index, 1
            before = block
        if run:
            yield _Run(one.path, one.offset + start * block_bytes, before - run + 1, run)


def _write(handle: int, runs: Sequence[_Run], block_bytes: int) -> None:
    """Write all, then compare all."""
    for is_written in (False, True):
        for run, data in _read(runs, block_bytes):
            place = run.first_block * block_bytes
            if is_written:
                if os.pread(handle, len(data), place) != data:
                    raise DamagedError(
                        f"block {run.first_block} from {run.source.name} was not written as it is",
                        [run.source.name],
                    )
                continue
            view = memoryview(data)
            while view:
                done = os.pwrite(handle, view, place)
                view, place = view[done:], place + done


def _read(runs: Sequence[_Run], block_bytes: int) -> Iterator[tuple[_Run, bytes]]:
    """Each run with its bytes. One file is open at a time: runs are ordered by it."""
    source, handle = Path(), -1
    try:
        for run in runs:
            if run.source != source:
                if handle >= 0:
                    os.close(handle)
                source, handle = run.source, os.open(run.source, os.O_RDONLY | os.O_NOFOLLOW)
            data = os.pread(handle, run.blocks * block_bytes, run.offset)
            if len(data) != run.blocks * block_bytes:
                raise DamagedError(f"{source.name} ended in the middle of a block", [source.name])
            yield run, data
    finally:
        if handle >= 0:
            os.close(handle)

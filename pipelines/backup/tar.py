"""The tar stream of pg_basebackup, read as it flows: which files, one of them kept, or all of them written out.

Only what PostgreSQL writes is understood (ustar: files and folders); anything else is refused rather than guessed.
https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-BASE-BACKUP
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from pipelines.backup.errors import DamagedError

_BLOCK = 512
_FILE, _FOLDER = b"0", b"5"


@dataclass(frozen=True)
class Entry:
    """The header of one file or folder."""

    path: str
    size_bytes: int
    is_folder: bool


class Sink(Protocol):
    """Takes what a `TarReader` finds."""

    def begin(self, entry: Entry) -> None:
        """A file or folder begins."""

    def data(self, piece: memoryview) -> None:
        """Bytes of the current file."""

    def end(self) -> None:
        """The current file or folder is whole."""


class TarReader:
    """Cuts a tar stream, fed in chunks of any size, into entries for a sink. No byte of a file is held."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._header = bytearray()
        self._left = 0  # bytes of the current file to come
        self._padding = 0
        self._is_open = False
        self.is_complete = False  # the end mark was seen
        self.files = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the stream. Raises `DamagedError` for what is no tar of PostgreSQL's."""
        view = memoryview(chunk)
        while view and not self.is_complete:
            if self._left:
                piece = view[: self._left]
                self._sink.data(piece)
                self._left -= len(piece)
                view = view[len(piece) :]
            elif self._is_open:
                self._is_open = False
                self._sink.end()
            elif self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
            else:
                taken = view[: _BLOCK - len(self._header)]
                self._header += taken
                view = view[len(taken) :]
                if len(self._header) == _BLOCK:
                    self._begin()
        if self._is_open and not self._left:
            self._is_open = False
            self._sink.end()

    def _begin(self) -> None:
        header, self._header = bytes(self._header), bytearray()
        if not header.strip(b"\0"):
            self.is_complete = True
            return
        entry = _entry(header)
        self._sink.begin(entry)
        self.files += not entry.is_folder
        self._is_open, self._left = True, entry.size_bytes
        self._padding = -entry.size_bytes % _BLOCK


class Keeper:
    """Keeps the files of some names and lets the others pass."""

    def __init__(self, kept: dict[str, BinaryIO]) -> None:
        self._kept = kept
        self._file: BinaryIO | None = None
        self.seen: set[str] = set()

    def begin(self, entry: Entry) -> None:
        self.seen |= {entry.path} & set(self._kept)
        self._file = self._kept.get(entry.path)

    def data(self, piece: memoryview) -> None:
        if self._file is not None:
            self._file.write(piece)

    def end(self) -> None:
        self._file = None


class Extractor:
    """Writes every entry below a folder, owned by `own`'s choice; refuses names that lead out of it."""

    def __init__(self, into: Path, own: Callable[[int | Path], None]) -> None:
        self._into, self._own = into, own
        self._descriptor: int | None = None

    def begin(self, entry: Entry) -> None:
        parts = PurePosixPath(entry.path).parts
        if PurePosixPath(entry.path).is_absolute() or ".." in parts:
            raise DamagedError(
                f"the backup holds {entry.path!r}, which leads out of its folder", [entry.path]
            )
        path = self._into.joinpath(*parts)
        if entry.is_folder:
            path.mkdir(mode=0o700, exist_ok=True)
            self._own(path)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        self._own(self._descriptor)

    def data(self, piece: memoryview) -> None:
        assert self._descriptor is not None
        while piece:
            piece = piece[os.write(self._descriptor, piece) :]

    def end(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _entry(header: bytes) -> Entry:
    name, prefix = _text(header[:100]), _text(header[345:500])
    path = f"{prefix}/{name}" if prefix else name
    kind = header[156:157]
    if header[257:262] != b"ustar" or kind not in (_FILE, _FOLDER, b"\0"):
        raise DamagedError(f"the backup's tar holds {path!r}, which is neither file nor folder", [path])
    if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise DamagedError(f"the backup's tar is damaged at {path!r}", [path])
    is_folder = kind == _FOLDER
    return Entry(path.rstrip("/"), 0 if is_folder else _number(header[124:136]), is_folder)


def _text(field: bytes) -> str:
    return os.fsdecode(field.split(b"\0", 1)[0])


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base 256, for files of 8 GiB and more
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)

"""From an object's bytes to its decompressed content, streamed with bounded memory.

Compression is told by the first bytes, not by the name: feeds misname their files. A file that ends early (all of the
formats say so), goes on after its end, or grows beyond any measure raises `UnreadableFileError`: it loads nothing
(DESIGN, Files). Add a compression to `_OPENERS`; record formats live in `formats`.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from pipelines.ingestion.errors import UnreadableFileError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 1 << 20
# Past so many bytes a compressed file may hold at most so many for each of its own: data compresses 5 to 50 times, what
# is made to fill a disk a thousand times and more. An uncompressed file has no limit.
FREE_BYTES = 256 << 20
MAX_EXPANSION = 250


class _ChunkStream(io.RawIOBase):
    """A readable file over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.size_bytes = 0  # of what was read so far

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
            self.size_bytes += len(chunk)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class _Members:
    """A stream of one compressed member after the other. Unlike the library's own files it refuses what follows them:
    a member with a damaged beginning is not passed over as garbage. Zeros may follow, as of padded tapes and blocks.
    """

    def __init__(self, source: IO[bytes], new: Callable[[], Any]) -> None:
        self._source, self._new = source, new
        self._member = new()

    def read(self, size: int) -> bytes:
        while True:
            if self._member.eof:
                rest = self._after_member(self._member.unused_data)
                if not rest:
                    return b""
                self._member = self._new()
                data = self._member.decompress(rest, size)
            elif self._member.needs_input:
                more = self._source.read(CHUNK_BYTES)
                if not more:
                    raise EOFError("before the end of the compressed stream")
                data = self._member.decompress(more, size)
            else:
                data = self._member.decompress(b"", size)
            if data:
                return cast(bytes, data)

    def _after_member(self, rest: bytes) -> bytes:
        while not (rest := rest.lstrip(b"\0")):
            rest = self._source.read(CHUNK_BYTES)
            if not rest:
                return b""
        return rest


_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda source: gzip.GzipFile(fileobj=source, mode="rb"),
    b"BZh": lambda source: _Members(source, bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": lambda source: _Members(source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    b"\x28\xb5\x2f\xfd": lambda source: _Members(source, zstd.ZstdDecompressor),
}
_ARCHIVES = {
    b"PK\x03\x04": "a ZIP archive", b"PK\x05\x06": "an empty ZIP archive", b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
}  # fmt: skip
_TAR_AT = 257  # where a tar archive says that it is one


def _refuse_archive(head: bytes) -> None:
    """Raise `UnreadableFileError` for a file that holds other files."""
    found = next((name for magic, name in _ARCHIVES.items() if head.startswith(magic)), None)
    if found or head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        raise UnreadableFileError(
            "unreadable",
            f"it is {found or 'a tar archive'}",
            "land the files in it, each by itself; gzip, bzip2, xz, zstd are read",
        )


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a landed file in chunks of at most `CHUNK_BYTES`, decompressed when it was compressed.

    Raises `UnreadableFileError`: `truncated` or `unreadable` where the compressed stream is damaged, `bomb` where it
    grows beyond `MAX_EXPANSION`.
    """
    raw = _ChunkStream(iter(chunks))
    source = io.BufferedReader(cast(io.RawIOBase, raw), buffer_size=CHUNK_BYTES)
    magic = source.peek(512)[:512]
    _refuse_archive(magic)
    opener = next((open_ for prefix, open_ in _OPENERS.items() if magic.startswith(prefix)), None)
    stream = cast(Any, source) if opener is None else opener(source)
    size = 0
    while True:
        try:
            chunk = stream.read(CHUNK_BYTES)
        except EOFError as error:
            raise UnreadableFileError(
                "truncated",
                f"the compressed data ends in the middle ({error})",
                "land the complete file again",
            ) from error
        except (OSError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
            raise UnreadableFileError(
                "unreadable",
                f"the compressed data is damaged ({error})",
                "land an undamaged file",
            ) from error
        if not chunk:
            return
        if opener is not None and not size:
            _refuse_archive(chunk)
            if chunk.startswith(tuple(_OPENERS)):
                raise UnreadableFileError("unreadable", "it is compressed twice", "land it compressed once")
        size += len(chunk)
        if opener is not None and size > max(FREE_BYTES, MAX_EXPANSION * raw.size_bytes):
            raise UnreadableFileError(
                "bomb",
                f"{raw.size_bytes} compressed bytes hold more than {size}",
                "land it uncompressed, or in parts",
            )
        yield chunk


@dataclass(frozen=True)
class Content:
    """What a first pass over a file tells: sha256 of its decompressed bytes, their number, the first of them."""

    sha256: bytes
    size_bytes: int
    head: bytes


def fingerprint(chunks: Iterable[bytes]) -> Content:
    """Read decompressed `chunks` once and tell their identity (DESIGN, Files)."""
    digest, size, head = hashlib.sha256(), 0, b""
    for chunk in chunks:
        if not size:
            head = chunk[:4096]
        digest.update(chunk)
        size += len(chunk)
    return Content(digest.digest(), size, head)

"""From an object's bytes to its decompressed content, streamed with bounded memory.

Compression is told by the first bytes, not by the name: feeds misname their files. A file that ends early
(gzip, bzip2 and zstd all say so) raises `UnreadableFileError`: a truncated file loads nothing (DESIGN, Files).
Add a compression to `_OPENERS`; record formats live in `formats`.
"""

import bz2
import gzip
import hashlib
import io
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


class _ChunkStream(io.RawIOBase):
    """A readable file over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


_OPENERS: dict[bytes, Callable[[Any], IO[bytes]]] = {
    b"\x1f\x8b": lambda source: cast(IO[bytes], gzip.GzipFile(fileobj=source, mode="rb")),
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": lambda source: cast(IO[bytes], zstd.ZstdFile(source)),
}


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a landed file in chunks of at most `CHUNK_BYTES`, decompressed when it was compressed.

    Raises `UnreadableFileError` (`truncated` or `unreadable`) where the compressed stream is damaged.
    """
    source = io.BufferedReader(cast(io.RawIOBase, _ChunkStream(iter(chunks))), buffer_size=CHUNK_BYTES)
    magic = source.peek(4)[:4]
    opener = next((open_ for prefix, open_ in _OPENERS.items() if magic.startswith(prefix)), None)
    stream: IO[bytes] = cast(IO[bytes], source) if opener is None else opener(source)
    while True:
        try:
            chunk = stream.read(CHUNK_BYTES)
        except EOFError as error:
            raise UnreadableFileError(
                "truncated",
                f"the compressed data ends in the middle ({error})",
                "land the complete file again",
            ) from error
        except (OSError, zlib.error, zstd.ZstdError) as error:
            raise UnreadableFileError(
                "unreadable",
                f"the compressed data is damaged ({error})",
                "land an undamaged file",
            ) from error
        if not chunk:
            return
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

"""A stream of plaintext as parts in the repository, and parts as a stream, with bounded memory either way.

Writing: the caller reads and compresses (zstd on threads of its own), a second thread encrypts, two more hash and
upload; at most `_UPLOADS` finished parts wait. A part ends after `PART_BYTES` of ciphertext; each is one zstd frame
under its own name, readable without the others. Reading: one thread fetches and hashes a part ahead, a second decrypts
and unpacks, the caller gets the pieces.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from backports import zstd

from pipelines.backup import layout
from pipelines.backup.errors import BackupError
from pipelines.backup.model import StoredObject
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Lock, Opener, SealBuffer, SealedObject, Sealer

PART_BYTES = 32 << 20
_QUEUED = 8  # chunks between two threads
_PIECES = 32  # of plaintext, a quarter of a MiB each
_UPLOADS = 2


@dataclass(frozen=True)
class _EndOfPart:
    plain_bytes: int


class PartWriter:
    """Writes a plaintext stream as numbered parts of one backup. Use as a context; `finish` returns the parts.

    Leaving the block without `finish` ends the threads and leaves parts that no record names, to be swept.
    """

    def __init__(
        self,
        repository: Repository,
        lock: Lock,
        backup_id: str,
        *,
        part_bytes: int = PART_BYTES,
        name_of: Callable[[str, int], str] = layout.part,
    ) -> None:
        self._repository, self._lock, self._backup_id = repository, lock, backup_id
        self._part_bytes, self._name_of = part_bytes, name_of
        parameter = zstd.CompressionParameter
        workers = max(1, min(4, os.cpu_count() or 2))
        self._compressor = zstd.ZstdCompressor(
            options={
                parameter.compression_level: 1,
                parameter.checksum_flag: 1,
                parameter.nb_workers: workers,
            }
        )
        self._frames: queue.Queue[bytes | _EndOfPart | None] = queue.Queue(_QUEUED)
        self._parts: list[Future[StoredObject]] = []
        self._pool = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="longbox-upload")
        self._free: queue.SimpleQueue[SealBuffer] = queue.SimpleQueue()
        for _ in range(_UPLOADS + 1):
            # a part ends after its bytes were passed, and then takes what was still being compressed
            self._free.put(SealBuffer(2 * part_bytes))
        self._failed: BaseException | None = None
        self._sealing = threading.Thread(target=self._seal, name="longbox-seal", daemon=True)
        self._plain_in_part = self._frames_in_part = 0
        self.plain_bytes = self.stored_bytes = 0

    def __enter__(self) -> Self:
        self._sealing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._sealing.is_alive():
            self._failed = self._failed or error or BackupError("the stream was not finished")
            while self._sealing.is_alive():
                self._offer(None)
                self._sealing.join(0.1)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(self, chunk: bytes) -> None:
        """Add bytes. Raises what an upload failed with."""
        self._plain_in_part += len(chunk)
        self.plain_bytes += len(chunk)
        self._put(self._compressor.compress(chunk))
        if self._frames_in_part >= self._part_bytes:
            self._end_part()

    def finish(self) -> tuple[StoredObject, ...]:
        """End the last part and wait until every part is in the store."""
        if self._plain_in_part:
            self._end_part()
        self._put(None)
        self._sealing.join()
        self._raise_if_failed()
        return tuple(future.result() for future in self._parts)

    def _end_part(self) -> None:
        self._put(self._compressor.flush())
        self._put(_EndOfPart(self._plain_in_part))
        self._plain_in_part = self._frames_in_part = 0

    def _put(self, item: bytes | _EndOfPart | None) -> None:
        if isinstance(item, bytes):
            if not item:
                return
            self._frames_in_part += len(item)
        while True:
            self._raise_if_failed()
            try:
                return self._frames.put(item, timeout=0.5)
            except queue.Full:
                continue

    def _offer(self, item: None) -> None:
        try:
            self._frames.put_nowait(item)
        except queue.Full:
            with contextlib.suppress(queue.Empty):  # the other thread went on
                self._frames.get_nowait()

    def _raise_if_failed(self) -> None:
        for future in self._parts:
            if future.done() and future.exception() is not None:
                future.result()
        if self._failed is not None:
            raise self._failed

    def _seal(self) -> None:
        try:
            while (part := self._next_part()) is not None:
                if self._failed is not None:
                    return
                self._parts.append(self._pool.submit(self._upload, *part))
        except BaseException as error:  # told to the caller's thread at its next write
            self._failed = error

    def _next_part(self) -> tuple[Sealer, SealBuffer, int] | None:
        first = self._frames.get()
        if first is None or self._failed is not None:
            return None
        assert isinstance(first, bytes)
        plain_bytes = 0

        def frames() -> Iterator[bytes]:
            nonlocal plain_bytes
            item: bytes | _EndOfPart | None = first
            while isinstance(item, bytes):
                yield item
                item = self._frames.get()
            if item is None:
                raise BackupError("the stream was given up")
            plain_bytes = item.plain_bytes

        sealer = Sealer(self._lock, self._name_of(self._backup_id, len(self._parts) + 1))
        buffer = self._free.get()
        buffer.clear()
        sealer.encrypt(frames(), buffer)
        return sealer, buffer, plain_bytes

    def _upload(self, sealer: Sealer, buffer: SealBuffer, plain_bytes: int) -> StoredObject:
        try:
            self._repository.put(sealer.name, sealer.finish(buffer))
            self.stored_bytes += sealer.size_bytes
            return StoredObject(sealer.name, sealer.size_bytes, plain_bytes, sealer.blake2b)
        finally:
            self._free.put(buffer)


def read_parts(repository: Repository, parts: Sequence[StoredObject], opener: Opener) -> Iterator[bytes]:
    """The plaintext of parts, in order. A damaged part is taken from a copy. Raises `DamagedError`."""
    pieces: queue.Queue[bytes | _Ended] = queue.Queue(_PIECES)
    given_up = threading.Event()

    def unpack() -> None:
        try:
            for sealed in _fetched(repository, parts):
                for piece in sealed.plain(opener.key_of(sealed.header)):
                    if not _give(pieces, piece, given_up):
                        return
            _give(pieces, _Ended(None), given_up)
        except BaseException as error:  # told to the caller's thread
            _give(pieces, _Ended(error), given_up)

    thread = threading.Thread(target=unpack, name="longbox-unpack", daemon=True)
    thread.start()
    try:
        while not isinstance(piece := pieces.get(), _Ended):
            yield piece
        if piece.error is not None:
            raise piece.error
    finally:
        given_up.set()
        thread.join()


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None


def _give(pieces: "queue.Queue[bytes | _Ended]", piece: bytes | _Ended, given_up: threading.Event) -> bool:
    while not given_up.is_set():
        try:
            pieces.put(piece, timeout=0.5)
            return True
        except queue.Full:
            continue
    return False


def _fetched(repository: Repository, parts: Sequence[StoredObject]) -> Iterator[SealedObject]:
    """Each part, compared with its digest, while the next is on its way."""
    with ThreadPoolExecutor(1, thread_name_prefix="longbox-fetch") as pool:
        coming = [pool.submit(repository.read_sealed, part.name, part) for part in parts[:1]]
        for number in range(len(parts)):
            sealed = coming.pop().result()
            coming += [
                pool.submit(repository.read_sealed, after.name, after) for after in parts[number + 1 :][:1]
            ]
            yield sealed
            del sealed

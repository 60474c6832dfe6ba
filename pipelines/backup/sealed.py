"""Sealed objects: compressed, encrypted, bound to their name, and checkable without a key.

    8 bytes     magic `LONGBOX1`
    4 bytes     length of the header, big-endian
    header      JSON: format, name, lock (recovery or state), key_id, wrapped (the key, base64), meta
    ciphertext  Tink streaming AES-256-GCM of one zstd frame (with its own checksum); associated data: the header
    32 bytes    BLAKE2b-256 of everything before

Kept out: where objects go (`repository`) and how a backup is cut into them (`stream`).
"""

import base64
import hashlib
import io
import json
import mmap
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from backports import zstd

from pipelines.backup.errors import DamagedError
from resources.keys import DecryptionError, RecoveryKeys, ServerKeys, StreamKey, WrongKeyError, read_decrypted

MAGIC = b"LONGBOX1"
DIGEST_BYTES = 32
CHUNK_BYTES = 256 << 10
_START_BYTES = len(MAGIC) + 4
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Lock:
    """A key for new objects and how it is wrapped. One a backup; see `recovery_lock` and `state_lock`."""

    key: StreamKey
    kind: str  # recovery: opened with the recovery keys; state: by the server
    key_id: str
    wrapped: bytes


def recovery_lock(keys: ServerKeys) -> Lock:
    """A fresh key that only the recovery keys open."""
    key = StreamKey.new()
    return Lock(key, "recovery", keys.recovery_key_id, keys.wrap(key))


def state_lock(keys: ServerKeys) -> Lock:
    """A fresh key that the server itself opens again."""
    key = StreamKey.new()
    return Lock(key, "state", keys.state_key_id, keys.wrap_state(key))


class SealBuffer(io.RawIOBase):
    """Memory that sealed objects are written into, one after the other: fresh memory costs more than encrypting it."""

    def __init__(self, expected_bytes: int = 64 << 10) -> None:
        # mapped, not a bytearray, which would fill it with zeros: memory is taken as it is written to
        self._memory = mmap.mmap(-1, expected_bytes)
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Append."""
        end = self.size_bytes + len(data)
        if end > len(self._memory):
            # not resized in place: somebody may still hold a view
            larger = mmap.mmap(-1, max(end, 2 * len(self._memory)))
            larger[: self.size_bytes] = self.view()
            self._memory = larger
        self._memory[self.size_bytes : end] = data
        self.size_bytes = end
        return len(data)

    def clear(self) -> None:
        """Begin anew; the memory stays."""
        self.size_bytes = 0

    def view(self) -> memoryview:
        """What was written, until the next `clear`."""
        return memoryview(self._memory)[: self.size_bytes]

    def close(self) -> None:
        """Nothing: the encrypting writer closes what it writes to, and what was written is wanted still."""


@dataclass
class Sealer:
    """Turns plaintext chunks into the bytes of one sealed object; what was written stands here after the end."""

    lock: Lock
    name: str
    meta: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    blake2b: str = ""

    def encrypt(self, frames: Iterable[bytes], into: SealBuffer) -> None:
        """Write header and ciphertext of the chunks of one zstd frame into an empty buffer; `finish` has to follow."""
        header = json.dumps(
            {
                "format": 1,
                "name": self.name,
                "lock": self.lock.kind,
                "key_id": self.lock.key_id,
                "wrapped": base64.b64encode(self.lock.wrapped).decode(),
                "meta": self.meta,
            },
            sort_keys=True,
        ).encode()
        into.write(MAGIC + struct.pack(">I", len(header)) + header)
        writer = self.lock.key.encrypting_writer(cast(BinaryIO, into), header)
        for frame in frames:
            view = memoryview(frame)
            while view:
                view = view[writer.write(view) :]
        writer.close()

    def finish(self, buffer: SealBuffer) -> memoryview:
        """Append the digest and return the whole object. May run on another thread than `encrypt`."""
        digest = hashlib.blake2b(buffer.view(), digest_size=DIGEST_BYTES)
        buffer.write(digest.digest())
        self.size_bytes, self.blake2b = buffer.size_bytes, digest.hexdigest()
        return buffer.view()

    def seal(self, data: bytes) -> bytes:
        """A whole small object."""
        buffer = SealBuffer()
        self.encrypt([compressed(data)], buffer)
        return bytes(self.finish(buffer))


def compressed(data: bytes) -> bytes:
    """`data` as one zstd frame with a checksum."""
    parameter = zstd.CompressionParameter
    return zstd.compress(data, options={parameter.compression_level: 1, parameter.checksum_flag: 1})


@dataclass(frozen=True)
class Header:
    """The header of a sealed object, read back."""

    name: str
    lock: str
    key_id: str
    wrapped: bytes
    meta: dict[str, Any]
    raw: bytes


class Opener:
    """Unwraps the keys of objects; each wrapped key is opened once."""

    def __init__(self, recovery: RecoveryKeys | None = None, server: ServerKeys | None = None) -> None:
        self._recovery, self._server = recovery, server
        self._opened: dict[bytes, StreamKey] = {}

    def has(self, kind: str) -> bool:
        """Whether keys of that kind (recovery, state) are at hand, not whether they are the right ones."""
        return (self._recovery if kind == "recovery" else self._server) is not None

    def key_of(self, header: Header) -> StreamKey:
        """The key of an object. Raises `WrongKeyError`."""
        return self.unwrap(header.lock, header.wrapped, header.key_id)

    def unwrap(self, kind: str, wrapped: bytes, key_id: str) -> StreamKey:
        """A wrapped key opened. Raises `WrongKeyError`."""
        if wrapped not in self._opened:
            self._opened[wrapped] = self._unwrap(kind, wrapped, key_id)
        return self._opened[wrapped]

    def _unwrap(self, kind: str, wrapped: bytes, key_id: str) -> StreamKey:
        if kind == "recovery" and self._recovery:
            return self._recovery.unwrap(wrapped, key_id)
        if kind == "state" and self._server:
            return self._server.unwrap_state(wrapped, key_id)
        raise WrongKeyError(f"the {kind} keys are not at hand; this needs key {key_id}")


class SealedObject:
    """A whole sealed object in memory, compared with its digest. Every fault is a `DamagedError` with its name."""

    def __init__(self, name: str, data: Buffer) -> None:
        self.name, self.data = name, memoryview(data)
        digest = hashlib.blake2b(self.data[:-DIGEST_BYTES], digest_size=DIGEST_BYTES)
        if digest.digest() != self.data[-DIGEST_BYTES:]:
            raise self._damaged("its bytes do not match its checksum")
        self.size_bytes, self.blake2b = len(self.data), digest.hexdigest()
        self.header = self._read_header()

    def plain(self, key: StreamKey) -> Iterator[bytes]:
        """The plaintext, decrypted and decompressed in chunks; each is authenticated, all of them at the end."""
        body = self.data[_START_BYTES + len(self.header.raw) : -DIGEST_BYTES]
        reader = key.decrypting_reader(cast(BinaryIO, _Source(body)), self.header.raw)
        unpack = zstd.ZstdDecompressor()
        try:
            while chunk := read_decrypted(reader, CHUNK_BYTES):
                yield from _unpacked(unpack, chunk)
        except (DecryptionError, zstd.ZstdError, EOFError) as error:
            raise self._damaged(str(error)) from error
        if not unpack.eof or unpack.unused_data:
            raise self._damaged("its compressed content is not whole")

    def _read_header(self) -> Header:
        start = bytes(self.data[:_START_BYTES])
        if start[: len(MAGIC)] != MAGIC or len(start) < _START_BYTES:
            raise self._damaged("it does not start as a sealed object")
        (length,) = struct.unpack(">I", start[len(MAGIC) :])
        if length > len(self.data) - _START_BYTES - DIGEST_BYTES:
            raise self._damaged("its header has no sensible length")
        raw = bytes(self.data[_START_BYTES : _START_BYTES + length])
        try:
            found = json.loads(raw)
            header = Header(
                found["name"],
                found["lock"],
                found["key_id"],
                base64.b64decode(found["wrapped"]),
                found["meta"],
                raw,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged("its header is not readable") from error
        if header.name != self.name:
            raise self._damaged(f"it is {header.name}, stored under another name")
        return header

    def _damaged(self, why: str) -> DamagedError:
        return DamagedError(f"{self.name} is damaged: {why}", [self.name])


def _unpacked(unpack: zstd.ZstdDecompressor, chunk: bytes) -> Iterator[bytes]:
    piece = unpack.decompress(chunk, max_length=CHUNK_BYTES)
    while piece:
        yield piece
        if unpack.eof or unpack.needs_input:
            return
        piece = unpack.decompress(b"", max_length=CHUNK_BYTES)


class _Source(io.RawIOBase):
    """Bytes in memory as a stream."""

    def __init__(self, data: memoryview) -> None:
        self._left = data

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        size = len(self._left) if size < 0 else size
        taken, self._left = bytes(self._left[:size]), self._left[size:]
        return taken

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
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from backports import zstd

from pipelines.backup.errors import DamagedError
from resources.keys import DecryptionError, RecoveryKeys, ServerKeys, StreamKey, WrongKeyError, read_decrypted

MAGIC = b"LONGBOX1"
DIGEST_BYTES = 32
CHUNK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 16
_HELD_BACK = DIGEST_BYTES


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


@dataclass
class Sealer:
    """Turns plaintext chunks into the bytes of one sealed object; what was written stands here after the end."""

    lock: Lock
    name: str
    meta: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    blake2b: str = ""

    def seal_compressed(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        """The object's bytes for chunks of one zstd frame. Nothing is held but the current chunk."""
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
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for piece in self._pieces(header, frames):
            digest.update(piece)
            self.size_bytes += len(piece)
            yield piece
        self.blake2b = digest.hexdigest()
        self.size_bytes += DIGEST_BYTES
        yield digest.digest()

    def seal(self, data: bytes) -> bytes:
        """A whole small object."""
        return b"".join(self.seal_compressed([compressed(data)]))

    def _pieces(self, header: bytes, frames: Iterable[bytes]) -> Iterator[bytes]:
        yield MAGIC + struct.pack(">I", len(header)) + header
        sink = _Sink()
        writer = self.lock.key.encrypting_writer(cast(BinaryIO, sink), header)
        for frame in frames:
            view = memoryview(frame)
            while view:
                view = view[writer.write(view) :]
            if piece := sink.take():
                yield piece
        writer.close()
        yield sink.take()


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


def check_digest(name: str, data: bytes) -> str:
    """The digest of a whole object in memory, which must be the one it ends with. Raises `DamagedError`."""
    body = memoryview(data)[:-DIGEST_BYTES]
    digest = hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()
    if digest != data[-DIGEST_BYTES:]:
        raise DamagedError(f"{name} is damaged: its bytes do not match its checksum", [name])
    _ = SealedReader(name, [data[: _MAX_HEADER_BYTES + DIGEST_BYTES]]).header
    return digest.hex()


def chunks_of(data: bytes) -> Iterator[bytes]:
    """An object in memory as the chunks that `SealedReader` takes."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])


class SealedReader:
    """Reads one sealed object from a stream of its bytes: first `header`, then `plain()` or `drain()`, once.

    Whichever is used, the end is only reached if the whole object matched its digest: a caller must not trust what
    it was given before. Every fault is a `DamagedError` with the object's name.
    """

    def __init__(self, name: str, chunks: Iterable[bytes]) -> None:
        self._name = name
        self._body = _Body(name, iter(chunks))
        self.header = self._read_header()

    @property
    def size_bytes(self) -> int:
        """Bytes read so far; the object's size at the end."""
        return self._body.size_bytes

    @property
    def blake2b(self) -> str:
        """The digest, once the end was reached."""
        return self._body.hexdigest

    def drain(self) -> None:
        """Read to the end and check the digest, without a key."""
        while self._body.read(CHUNK_BYTES):
            pass
        self._body.check()

    def plain(self, key: StreamKey) -> Iterator[bytes]:
        """The plaintext, decrypted and decompressed in chunks of about a MiB."""
        reader = key.decrypting_reader(cast(BinaryIO, self._body), self.header.raw)
        unpack = zstd.ZstdDecompressor()
        try:
            while chunk := read_decrypted(reader, CHUNK_BYTES):
                yield from _unpacked(unpack, chunk)
        except (DecryptionError, zstd.ZstdError, EOFError) as error:
            raise self._damaged(str(error)) from error
        if not unpack.eof or unpack.unused_data:
            raise self._damaged("its compressed content is not whole")
        self.drain()

    def _read_header(self) -> Header:
        start = self._body.read_exactly(len(MAGIC) + 4)
        if start[: len(MAGIC)] != MAGIC:
            raise self._damaged("it does not start as a sealed object")
        (length,) = struct.unpack(">I", start[len(MAGIC) :])
        if length > _MAX_HEADER_BYTES:
            raise self._damaged("its header has no sensible length")
        raw = self._body.read_exactly(length)
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
        if header.name != self._name:
            raise self._damaged(f"it is {header.name}, stored under another name")
        return header

    def _damaged(self, why: str) -> DamagedError:
        return DamagedError(f"{self._name} is damaged: {why}", [self._name])


def _unpacked(unpack: zstd.ZstdDecompressor, chunk: bytes) -> Iterator[bytes]:
    piece = unpack.decompress(chunk, max_length=CHUNK_BYTES)
    while piece:
        yield piece
        if unpack.eof or unpack.needs_input:
            return
        piece = unpack.decompress(b"", max_length=CHUNK_BYTES)


class _Sink(io.RawIOBase):
    """Collects ciphertext between two takes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class _Body(io.RawIOBase):
    """The bytes of an object but its last 32, which are checked against the hash of those handed out."""

    def __init__(self, name: str, chunks: Iterator[bytes]) -> None:
        self._name, self._chunks = name, chunks
        self._buffer = bytearray()
        self._is_done = False
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self.size_bytes = 0
        self.hexdigest = ""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        while not self._is_done and len(self._buffer) < size + _HELD_BACK:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._is_done = True
            else:
                self.size_bytes += len(chunk)
                self._buffer += chunk
        take = min(size, max(0, len(self._buffer) - _HELD_BACK))
        data = bytes(memoryview(self._buffer)[:take])
        del self._buffer[:take]
        self._digest.update(data)
        return data

    def read_exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) != size:
            raise DamagedError(f"{self._name} is damaged: it is cut off", [self._name])
        return data

    def check(self) -> None:
        if self._digest.digest() != bytes(self._buffer):
            raise DamagedError(f"{self._name} is damaged: its bytes do not match its checksum", [self._name])
        self.hexdigest = self._digest.hexdigest()

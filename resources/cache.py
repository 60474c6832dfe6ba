"""Redis (or Valkey) as a cache: never the truth, always optional, every value with a time to live.

Values above 1 KB are compressed; a one-byte header tells which, so that old and new values mix.
Driver errors become `CacheUnavailableError`, on which every reader falls back to PostgreSQL (promise 6).
"""

import zlib
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import redis

from resources.errors import CacheUnavailableError

COMPRESS_ABOVE_BYTES = 1024
T = TypeVar("T")

_PLAIN, _ZLIB = b"\x00", b"\x01"


class Cache:
    """Bytes by key with a TTL in seconds. Safe to share between threads; connects at the first call."""

    def __init__(self, url: str, *, timeout_seconds: float = 1.0) -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            health_check_interval=30,
            client_name="longbox",
        )

    def ping(self) -> None:
        """Raise `CacheUnavailableError` unless the server answers."""
        self._call("ping", lambda: self._client.ping())

    def get(self, key: str) -> bytes | None:
        """The value at `key`, or None when absent or expired."""
        stored = cast("bytes | None", self._call("get", lambda: self._client.get(key)))
        return None if stored is None else _unpack(stored)

    def set(self, key: str, value: bytes, *, ttl_seconds: int) -> None:
        """Keep `value` for `ttl_seconds` (> 0)."""
        self._call("set", lambda: self._client.set(key, _pack(value), ex=ttl_seconds))

    def set_many(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> int:
        """Keep all `values` for `ttl_seconds` in one round trip per thousand. Returns how many."""
        items = list(values.items())
        for start in range(0, len(items), 1000):
            pipeline = self._client.pipeline(transaction=False)
            for key, value in items[start : start + 1000]:
                pipeline.set(key, _pack(value), ex=ttl_seconds)
            self._call("set", pipeline.execute)
        return len(items)

    def delete(self, *keys: str) -> int:
        """Remove keys at once. Returns how many were there."""
        return self._call("delete", lambda: self._client.unlink(*keys)) if keys else 0

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _call(self, act: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except redis.RedisError as error:
            raise CacheUnavailableError(
                f"Redis could not {act} ({type(error).__name__}: {error}); reads answer from PostgreSQL meanwhile, "
                "check it with `longbox status`"
            ) from error


def _pack(value: bytes) -> bytes:
    if len(value) <= COMPRESS_ABOVE_BYTES:
        return _PLAIN + value
    return _ZLIB + zlib.compress(value, level=3)


def _unpack(stored: bytes) -> bytes:
    return zlib.decompress(stored[1:]) if stored[:1] == _ZLIB else stored[1:]

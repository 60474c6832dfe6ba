"""Cache entries: keys `longbox:<system>:<entry>:<id>`, JSON payloads with a version, TTLs from the catalogue.

A payload of another version is taken for absent, so that a new release never reads what an old one wrote.
"""

import datetime as dt
import decimal
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.catalog.model import System
from resources.cache import Cache
from resources.errors import CacheUnavailableError, LongboxError

PAYLOAD_VERSION = 1
BATCH_KEYS = 1000
T = TypeVar("T")


class UnknownEntryError(LongboxError):
    """Code asked for a cache entry that its system.yaml does not declare."""


@dataclass(frozen=True)
class CachedEntry:
    """One kind of value of one system, as `cache:` in its system.yaml declares it."""

    system: str
    name: str
    ttl_seconds: int

    @classmethod
    def of(cls, system: System, name: str) -> "CachedEntry":
        """The entry `name` of `system`."""
        declared = system.cache.get(name)
        if declared is None:
            known = ", ".join(system.cache) or "none"
            raise UnknownEntryError(
                f"cache entry {name!r} is not declared in {system.file} (declared: {known}); add it under `cache:`"
            )
        return cls(system.name, name, max(1, int(declared.ttl.total_seconds())))

    def key(self, identity: object) -> str:
        """The key of one value, such as `longbox:comics:current_price:<comic_id>`."""
        return f"longbox:{self.system}:{self.name}:{identity}"

    @property
    def pattern(self) -> str:
        """The glob that matches every key of the entry."""
        return self.key("*")


def encode(value: Any) -> bytes:
    """`value` as a payload. Decimals are written as text: a price has no binary rounding."""
    return _ENCODER.encode({"v": PAYLOAD_VERSION, "data": value}).encode()


def decode(payload: bytes | None) -> Any:
    """The value of a payload; None for none, for one of another version, and for one that cannot be read."""
    if payload is None:
        return None
    try:
        found = json.loads(payload)
    except ValueError:
        return None
    return found.get("data") if isinstance(found, dict) and found.get("v") == PAYLOAD_VERSION else None


def warm(cache: Cache, entry: CachedEntry, values: Iterable[tuple[object, Any]]) -> int:
    """Write (identity, value) pairs with the entry's TTL, a thousand a round trip; returns how many.

    Raises `CacheUnavailableError` when Redis is away: the caller reports it, nothing else depends on it.
    """
    written = 0
    batch: dict[str, bytes] = {}
    for identity, value in values:
        batch[entry.key(identity)] = encode(value)
        if len(batch) == BATCH_KEYS:
            written += cache.set_many(batch, ttl_seconds=entry.ttl_seconds)
            batch = {}
    return written + (cache.set_many(batch, ttl_seconds=entry.ttl_seconds) if batch else 0)


def read_through(
    cache: Cache, entry: CachedEntry, identity: object, load: Callable[[], T | None]
) -> T | None:
    """The cached value, else what `load` gives, which is then kept. Without Redis: `load`, slower, never an error.

    A None is not kept. The value of a hit has been through JSON: give `load` the same shape (`encode` tells which).
    """
    key = entry.key(identity)
    try:
        found: T | None = decode(cache.get(key))
    except CacheUnavailableError:
        return _through_json(load())
    if found is not None:
        return found
    value = _through_json(load())
    if value is not None:
        try:
            cache.set(key, encode(value), ttl_seconds=entry.ttl_seconds)
        except CacheUnavailableError:
            pass  # it is only slower the next time
    return value


def _through_json(value: T | None) -> T | None:
    result: T | None = decode(encode(value))
    return result


def _plain(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (dt.date, dt.datetime)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"{type(value).__name__} cannot be kept in the cache; give text, numbers, dates, lists or dicts"
    )


_ENCODER = json.JSONEncoder(default=_plain, separators=(",", ":"))

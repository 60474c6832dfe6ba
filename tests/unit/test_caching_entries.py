"""Payloads and keys of the cache, and reading through it when it is away: no server needed."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest

from pipelines.caching import CachedEntry, decode, encode, warm
from pipelines.caching.entries import UnknownEntryError, read_through
from pipelines.catalog.loader import load_catalog
from resources.errors import CacheUnavailableError
from resources.settings import PROJECT_ROOT

ENTRY = CachedEntry("comics", "current_price", 900)


class Memory:
    """A cache that keeps values in a dict, or is away."""

    def __init__(self, is_away=False):
        self.values, self.ttls, self.is_away = {}, set(), is_away

    def get(self, key):
        self._check()
        return self.values.get(key)

    def set(self, key, value, *, ttl_seconds):
        self.set_many({key: value}, ttl_seconds=ttl_seconds)

    def set_many(self, values, *, ttl_seconds):
        self._check()
        self.values.update(values)
        self.ttls.add(ttl_seconds)
        return len(values)

    def _check(self):
        if self.is_away:
            raise CacheUnavailableError("away")


def test_a_payload_keeps_prices_exact_and_dates_readable():
    value = {"price": Decimal("10.10"), "on": dt.date(2026, 11, 21), "id": uuid.UUID(int=1)}
    assert decode(encode(value)) == {"price": "10.10", "on": "2026-11-21", "id": str(uuid.UUID(int=1))}


def test_a_payload_of_another_version_or_without_sense_is_absent():
    assert decode(None) is decode(b"\xff") is decode(b"[]") is decode(b'{"v": 0, "data": 1}') is None


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(TypeError, match="object cannot be kept"):
        encode(object())


def test_an_entry_takes_its_ttl_from_the_catalogue_and_names_keys_by_system():
    system = load_catalog([PROJECT_ROOT / "assets" / "comics"]).systems["comics"]
    entry = CachedEntry.of(system, "current_price")
    assert (entry.ttl_seconds, entry.key(7)) == (900, "longbox:comics:current_price:7")
    assert CachedEntry.of(system, "market_insights").ttl_seconds == 600
    with pytest.raises(UnknownEntryError, match="add it under `cache:`"):
        CachedEntry.of(system, "nothing")


def test_warming_writes_every_value_with_the_ttl_and_counts_them():
    cache = Memory()
    assert (
        warm(cache, ENTRY, ((number, {"n": number}) for number in range(2500))) == len(cache.values) == 2500
    )
    assert cache.ttls == {900}


def test_warming_without_a_cache_is_reported():
    with pytest.raises(CacheUnavailableError):
        warm(Memory(is_away=True), ENTRY, [(1, 1)])


def test_a_read_fills_the_cache_once_and_answers_the_same_from_both():
    cache, loads = Memory(), []

    def load():
        loads.append(1)
        return {"price": Decimal("1.50")}

    first, second = (read_through(cache, ENTRY, 1, load) for _ in range(2))
    assert first == second == {"price": "1.50"}
    assert len(loads) == 1


def test_a_read_without_a_cache_answers_from_the_source():
    assert read_through(Memory(is_away=True), ENTRY, 1, lambda: {"price": Decimal(2)}) == {"price": "2"}


def test_nothing_found_is_not_kept():
    cache = Memory()
    assert read_through(cache, ENTRY, 1, lambda: None) is None
    assert not cache.values

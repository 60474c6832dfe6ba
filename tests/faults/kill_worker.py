"""The daily work of two systems as a process that a test can kill at any of its steps.

A step is one round trip to PostgreSQL or Redis, or one object touched in the store; its name is the place in our code
that makes it (`pipelines.ingestion.writer._stage`). `KillAt(n)` sends SIGKILL to the process before or after its n-th
step; `KillAt(None)` only counts, and notes the names.
"""

import contextlib
import dataclasses
import datetime as dt
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from resources.object_store import ObjectStore

OUR_PACKAGES = ("pipelines", "assets")
SMALL = {
    "chunk_rows": 40,
    "bulk_bytes": 0,
}  # many chunks and batches from few rows, and the ways of a large file


@dataclass(frozen=True)
class Place:
    """Where the work is done: addresses, and the folder of the YAML-only system."""

    database_url: str
    redis_url: str
    store_url: str
    shop_folder: str


@dataclass(frozen=True)
class KillAt:
    """The step at which the process dies (1 is the first), and whether the step is done by then."""

    step: int | None
    is_after: bool = False


def run(place: Place, days: Sequence[str], kill: KillAt, steps_file: str | None = None) -> None:
    """Do all the work of the landing days, in this process."""
    steps = _Steps(kill)
    with steps.watched():
        work(place, days)
    if steps_file is not None:
        Path(steps_file).write_text("\n".join(steps.names), encoding="utf-8")


def run_load(place: Place, landing_day: str, kill: KillAt, steps_file: str | None = None) -> None:
    """Load a landing day of the shop alone, in this process."""
    from tests.shop import Shop

    steps = _Steps(kill)
    with steps.watched(), contextlib.closing(_shop(Shop, place)) as shop:
        shop.load(landing_day, **SMALL)
    if steps_file is not None:
        Path(steps_file).write_text("\n".join(steps.names), encoding="utf-8")


def run_pricing(database_url: str, store_url: str, days: Sequence[str]) -> None:
    """Match, normalise and aggregate the landing days of the comics in small batches, in this process."""
    from assets.comics.aggregate import aggregate_days
    from assets.comics.normalise import match_comics
    from tests.comics_market import open_market

    wanted = [dt.date.fromisoformat(day) for day in days]
    with contextlib.closing(open_market(database_url, store_url)) as market:
        normaliser = dataclasses.replace(market.normaliser, batch_rows=50, parts_from=0)
        for day in wanted:
            match_comics(normaliser, day)
            normaliser.normalise_day(day)
        aggregate_days(market.database, wanted, batch_days=5, parts_from=0)


def work(place: Place, days: Sequence[str]) -> None:
    """Load, match, normalise and aggregate the days of comics and of the shop; refresh the views, warm the cache."""
    from assets.comics.aggregate import aggregate_days, refresh_views
    from assets.comics.normalise import match_comics
    from assets.comics.warm import warm_cache
    from pipelines.aggregation import AggregateJob
    from pipelines.aggregation import aggregate_days as aggregate_declared
    from pipelines.ingestion import Loader, load_days
    from pipelines.normalisation.engine import normalise_days
    from resources.cache import Cache
    from tests.comics_market import open_market
    from tests.shop import Shop

    wanted = [dt.date.fromisoformat(day) for day in days]
    market = open_market(place.database_url, place.store_url)
    shop = _shop(Shop, place)
    with (
        contextlib.closing(market),
        contextlib.closing(shop),
        contextlib.closing(Cache(place.redis_url)) as cache,
    ):
        for system, feed in ((market.system, market.feed), (shop.system, shop.feed)):
            loader = Loader(market.database, market.owner, market.store, system, feed, **SMALL)
            _raise_failures(load_days(loader, wanted))
        normaliser = dataclasses.replace(market.normaliser, batch_rows=2 * SMALL["chunk_rows"], parts_from=0)
        for day in wanted:
            match_comics(normaliser, day)
        _raise_failures(normalise_days(normaliser, wanted))
        aggregate_days(market.database, wanted, batch_days=5, parts_from=0)
        for aggregate in shop.system.aggregates.values():
            aggregate_declared(AggregateJob(shop.database, shop.system, aggregate), wanted)
        list(refresh_views(market.database))
        warm_cache(cache, market.database, market.system)


def _shop(shop: Callable[..., Any], place: Place) -> Any:
    from pipelines.catalog.loader import load_catalog
    from resources.database import OWNER_ROLE, Database

    database, folder = Database(place.database_url), Path(place.shop_folder)
    store = ObjectStore.from_url(place.store_url)
    return shop(folder, load_catalog([folder]), database, database.as_role(OWNER_ROLE), store)


def _raise_failures(results: Sequence[Any]) -> None:
    for result in results:
        if isinstance(getattr(result, "error", None), Exception):
            raise result.error


class _Steps:
    """Counts the steps of this process, and kills it at the one that was asked for."""

    def __init__(self, kill: KillAt) -> None:
        self._kill = kill
        self._lock = threading.Lock()
        self.names: list[str] = []

    @contextlib.contextmanager
    def watched(self) -> Any:
        """Watch every way out of this process."""
        targets = [
            (psycopg.Connection, "wait"), (redis.Connection, "send_packed_command"),
            (ObjectStore, "read"), (ObjectStore, "list"), (ObjectStore, "head"),
        ]  # fmt: skip
        kept = [(owner, name, getattr(owner, name)) for owner, name in targets]
        for owner, name, original in kept:
            setattr(owner, name, self._stepping(original))
        try:
            yield
        finally:
            for owner, name, original in kept:
                setattr(owner, name, original)

    def _stepping(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            name = _place_in_our_code()
            if name is None:  # a pool's own worker: connecting, checking
                return original(*arguments, **options)
            with self._lock:
                self.names.append(name)
                is_last = len(self.names) == self._kill.step
            if is_last and not self._kill.is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **options)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step


def _place_in_our_code() -> str | None:
    frame: Any = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.split(".")[0] in OUR_PACKAGES:
            return f"{module}.{frame.f_code.co_name}"
        frame = frame.f_back
    return None

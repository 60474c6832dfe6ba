"""What comics keeps in the cache: current prices, top lists, market insights, with the TTLs of system.yaml.

Warmed after the views are refreshed, and daily at 06:00 UTC. `current_price` reads through the cache and answers from
PostgreSQL when it is away (promise 6).
"""

import itertools
import operator
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from psycopg import Cursor, sql
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from assets.comics.matching import QUERIES
from pipelines.caching.entries import CachedEntry, read_through, warm
from pipelines.catalog.model import System
from resources.cache import Cache
from resources.database import Connection, Database
from resources.runtime import collector_at_rest

WARM_COMICS = 10_000
LIST_LENGTH = 100
ROWS_A_ROUND_TRIP = 10_000
TOP_LISTS = ("trending", "most_traded")
AnyCursor = TypeVar("AnyCursor", bound=Cursor[Any])
_PRICE_COLUMNS = (
    "grade_band", "current_price_usd", "price_basis", "sale_count_30d", "sale_count_90d", "volume_30d_usd",
    "low_90d_usd", "high_90d_usd", "last_sale_on", "change_30d_ratio", "as_of",
)  # fmt: skip
_BAND_COLUMNS = _PRICE_COLUMNS[1:-1]
_COLUMNS = sql.SQL(", ").join(
    sql.Identifier("market_prices", column) for column in ("comic_id", *_PRICE_COLUMNS)
)


@dataclass(frozen=True)
class WarmResult:
    """Values written, by cache entry, and the seconds it took."""

    counts: Mapping[str, int]
    seconds: float

    @property
    def keys(self) -> int:
        """Values written in all."""
        return sum(self.counts.values())


def warm_cache(cache: Cache, database: Database, system: System, limit: int = WARM_COMICS) -> WarmResult:
    """Write the prices of the `limit` most traded comics, the top lists and the market insights.

    Bounded in memory and in keys. Raises `CacheUnavailableError` when Redis is away: only this step reports it.
    """
    started = time.monotonic()
    cache.ping()  # before PostgreSQL is asked for anything
    with collector_at_rest(), database.connection() as connection:
        counts = {
            "current_price": warm(cache, CachedEntry.of(system, "current_price"), _prices(connection, limit)),
            "top_lists": warm(cache, CachedEntry.of(system, "top_lists"), _top_lists(connection)),
            "market_insights": warm(
                cache, CachedEntry.of(system, "market_insights"), [("all", _insights(connection))]
            ),
        }
    return WarmResult(counts, time.monotonic() - started)


def current_price(
    cache: Cache, database: Database, system: System, comic_id: uuid.UUID
) -> dict[str, Any] | None:
    """The current price of a comic in each grade band, from the cache or else from PostgreSQL; None if never priced.

    Prices are text (decimal dollars), dates ISO 8601. Never fails for want of the cache.
    """

    def load() -> dict[str, Any] | None:
        query = QUERIES.compose("prices_of_comic", columns=_COLUMNS)
        with database.connection() as connection:
            rows = _as_text(connection.cursor()).execute(query, {"comic_id": comic_id}).fetchall()
        return _price(rows) if rows else None

    return read_through(cache, CachedEntry.of(system, "current_price"), comic_id, load)


def top_list(cache: Cache, database: Database, system: System, name: str) -> list[dict[str, Any]] | None:
    """The top list `trending` or `most_traded`, from the cache or else from PostgreSQL."""

    def load() -> list[dict[str, Any]]:
        with database.connection() as connection:
            return _rows(connection, QUERIES[name], {"limit": LIST_LENGTH})

    return read_through(cache, CachedEntry.of(system, "top_lists"), name, load)


def _prices(connection: Connection, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    query = QUERIES.compose("prices_of_most_traded", columns=_COLUMNS)
    with connection.cursor(name="prices") as cursor:
        cursor.itersize = ROWS_A_ROUND_TRIP
        _as_text(cursor).execute(query, {"limit": limit})
        for comic_id, rows in itertools.groupby(cursor, key=operator.itemgetter(0)):
            yield comic_id, _price(list(rows))


def _price(rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """The bands of one comic, rows as `_COLUMNS` and its title."""
    comic_id, *_, as_of, title = rows[0]
    bands = {row[1]: dict(zip(_BAND_COLUMNS, row[2:-2], strict=True)) for row in rows}
    return {"comic_id": comic_id, "title": title, "as_of": as_of, "bands": bands}


def _top_lists(connection: Connection) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name in TOP_LISTS:
        yield name, _rows(connection, QUERIES[name], {"limit": LIST_LENGTH})


def _insights(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    rows = _rows(connection, QUERIES["insights"], {})
    return {name: list(group) for name, group in itertools.groupby(rows, key=lambda row: row["insight"])}


def _rows(connection: Connection, query: Any, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return _as_text(cursor).execute(query, parameters).fetchall()


def _as_text(cursor: AnyCursor) -> AnyCursor:
    """Leave decimals, dates and ids as PostgreSQL writes them: as text they go into the payload."""
    for name in ("numeric", "date", "uuid"):
        cursor.adapters.register_loader(name, TextLoader)
    return cursor

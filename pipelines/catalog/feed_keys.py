"""Key and table of a feed that has records. Another key would load each of them a second time, another table would lack
them all, as they are registered already: both are refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from pipelines.catalog.model import Feed
from resources.database import Connection
from resources.errors import LongboxError
from resources.sql import Queries

_ANEW = "or load the feed anew under another name (how-to: bring your own table)"
_SQL = Queries.of("pipelines.catalog")


class FeedKeyChangedError(LongboxError):
    """The catalogue gives a feed another key, or another table, than its records were registered with."""


class Identity(NamedTuple):
    """The key of a feed's records, and the table that they are in; None where that is not known or not there."""

    key: Sequence[str]
    table: str | None


class Change(NamedTuple):
    """What the catalogue says otherwise: the key of the feed's YAML, what is wrong, what would be right."""

    name: str
    message: str
    remedy: str


def hold_key(connection: Connection, feed: Feed, feed_id: int) -> None:
    """Note key and table of a feed without records. Raises `FeedKeyChangedError` where it has some, of others."""
    connection.execute(
        _SQL["keep_identity"], {"feed_id": feed_id, "key": list(feed.key), "table": feed.table}
    )
    for change in changes(feed, kept_identities(connection, feed.system)):
        raise FeedKeyChangedError(f"feed {feed.key_name}: {change.message}; {change.remedy}")


def kept_identities(connection: Connection, system: str) -> Mapping[str, Identity]:
    """Feed -> key and table of its records, of those that have records. Reads only."""
    rows = connection.execute(_SQL["kept_identities"], {"system": system}).fetchall()
    return {
        feed: Identity(key, table)
        for feed, key, table in cast("list[tuple[str, Sequence[str], str | None]]", rows)
    }


def changes(feed: Feed, kept: Mapping[str, Identity]) -> Iterator[Change]:
    """What is wrong with a feed's key and table; nothing if they are those of its records."""
    was = kept.get(feed.name)
    if was is None:
        return
    if tuple(was.key) != tuple(feed.key):
        message = (
            f"its records were loaded by the key {_listed(was.key)}; by {_listed(feed.key)} each would load a second "
            "time"
        )
        yield Change("key", message, f"put the key back, {_ANEW}")
    if was.table not in (None, feed.table):
        message = f"its records are in the table {was.table!r}, and would be missing from {feed.table!r}"
        yield Change("table", message, f"put the table back, rename it by a migration (ALTER TABLE), {_ANEW}")


def _listed(key: Sequence[str]) -> str:
    return f"[{', '.join(key)}]" if key else "[] (file and line)"

"""The key of a feed that has records: another key would load each of them a second time, so it is refused."""

from collections.abc import Mapping, Sequence
from typing import cast

from pipelines.catalog.model import Feed
from resources.database import Connection
from resources.errors import LongboxError
from resources.sql import Queries

REMEDY = (
    "put the key back, or load the feed anew under another name (how-to: bring your own table, change a key)"
)
_SQL = Queries.of("pipelines.catalog")


class FeedKeyChangedError(LongboxError):
    """The catalogue gives a feed another key than its records were registered with."""


def hold_key(connection: Connection, feed: Feed, feed_id: int) -> None:
    """Note the key of a feed that has no record yet. Raises `FeedKeyChangedError` where it has some, of another key."""
    connection.execute(_SQL["keep_key"], {"feed_id": feed_id, "key": list(feed.key)})
    if message := changed_key(feed, kept_keys(connection, feed.system)):
        raise FeedKeyChangedError(f"feed {feed.key_name}: {message}; {REMEDY}")


def kept_keys(connection: Connection, system: str) -> Mapping[str, Sequence[str]]:
    """Feed -> the key of its records, of those that have records. Reads only."""
    rows = connection.execute(_SQL["kept_keys"], {"system": system}).fetchall()
    return dict(cast("list[tuple[str, Sequence[str]]]", rows))


def changed_key(feed: Feed, kept: Mapping[str, Sequence[str]]) -> str | None:
    """What is wrong with a feed's key, None if it is that of its records."""
    was = kept.get(feed.name)
    if was is None or tuple(was) == tuple(feed.key):
        return None
    return f"its records were loaded by the key {_listed(was)}; by {_listed(feed.key)} each would load a second time"


def _listed(key: Sequence[str]) -> str:
    return f"[{', '.join(key)}]" if key else "[] (file and line)"

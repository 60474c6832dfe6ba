"""What most commands need: the settings, the catalogue, the database and the object store, opened late.

Each part is made at its first use, so that `--help` and errors in the arguments need no server.
"""

import contextlib
import functools
from collections.abc import Iterator

from pipelines.catalog.loader import load_catalog, system_folders
from pipelines.catalog.model import Catalog, Feed, System
from pipelines.ingestion import Loader
from resources.database import OWNER_ROLE, Database
from resources.errors import UserError
from resources.object_store import ObjectStore
from resources.settings import Settings


class Session:
    """One command's connections, closed by `session()`."""

    def __init__(self) -> None:
        self._close = contextlib.ExitStack()

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of the environment."""
        return Settings.load()

    @functools.cached_property
    def catalog(self) -> Catalog:
        """Every system that is installed."""
        return load_catalog(system_folders(self.settings))

    @functools.cached_property
    def database(self) -> Database:
        """PostgreSQL as `longbox_app`."""
        return self._close.enter_context(Database(self.settings.postgres_url, application_name="longbox cli"))

    @functools.cached_property
    def owner(self) -> Database:
        """PostgreSQL as `longbox_owner`: makes partitions."""
        return self._close.enter_context(self.database.as_role(OWNER_ROLE))

    @functools.cached_property
    def store(self) -> ObjectStore:
        """The object store."""
        return ObjectStore.from_url(self.settings.object_store)

    def feed(self, name: str) -> tuple[System, Feed]:
        """The feed `system/feed`. Raises `UserError` naming those that exist."""
        system_name, _, feed_name = name.partition("/")
        system = self.catalog.systems.get(system_name)
        if system is None or feed_name not in system.feeds:
            known = ", ".join(sorted(feed.key_name for feed in self.catalog.feeds()))
            raise UserError(f"there is no feed {name!r}; write SYSTEM/FEED, one of: {known}")
        return system, system.feeds[feed_name]

    def loader(self, feed_name: str) -> Loader:
        """What loads or replays a feed's rows."""
        system, feed = self.feed(feed_name)
        return Loader(self.database, self.owner, self.store, system, feed)

    def close(self) -> None:
        """Close what was opened."""
        self._close.close()


@contextlib.contextmanager
def session() -> Iterator[Session]:
    """A session for the length of a command."""
    opened = Session()
    try:
        yield opened
    finally:
        opened.close()

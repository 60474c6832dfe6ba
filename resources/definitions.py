"""The resources as Dagster sees them: each only builds and closes the plain one, from the settings of the process.

Assets declare what they need as `dg.ResourceParam[Database]` and get the plain object, so that tests and other
programs may hand in their own. No URL or secret stands in a resource's configuration, hence none in the UI.
https://docs.dagster.io/guides/build/external-resources
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from resources.cache import Cache
from resources.database import APP_ROLE, OWNER_ROLE, Database
from resources.notifier import COOL_DOWN_SECONDS, Notifier, Sent
from resources.object_store import ObjectStore
from resources.s3_admin import S3Administration
from resources.setting_values import postgres_url
from resources.settings import Settings

_ALERTS_SENT: dict[str, Sent] = {}  # sensors build their resources at every tick: what was told outlives them


class SettingsResource(dg.ConfigurableResource[Settings]):
    """The settings of the environment."""

    def create_resource(self, context: dg.InitResourceContext) -> Settings:
        """Read them."""
        return Settings.load()


class DatabaseResource(dg.ConfigurableResource[Database]):
    """PostgreSQL as one of Longbox's roles, through a pool that lives as long as the run."""

    role: str = APP_ROLE
    max_connections: int = 10
    connect_timeout_seconds: float = 10.0

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Database]:
        """Lend it, and close its pool."""
        job = context.run.job_name if context.run is not None else "sensor"
        with Database(
            Settings.load().postgres_url,
            role=self.role,
            application_name=f"longbox {job}"[:63],
            max_size=self.max_connections,
            connect_timeout_seconds=self.connect_timeout_seconds,
        ) as database:
            yield database


class DagsterDatabaseResource(dg.ConfigurableResource[Database]):
    """The PostgreSQL database of the Dagster instance itself, as the user of its URL."""

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Database]:
        """Lend it, and close its pool."""
        url = postgres_url(Settings.load().dagster_postgres_url)
        with Database(url, role=None, application_name="longbox dagster history", max_size=2) as database:
            yield database


class CacheResource(dg.ConfigurableResource[Cache]):
    """Redis; connects at the first call, so that runs start without it."""

    timeout_seconds: float = 1.0

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Cache]:
        """Lend it, and close its connections."""
        cache = Cache(Settings.load().redis_url, timeout_seconds=self.timeout_seconds)
        try:
            yield cache
        finally:
            cache.close()


class ObjectStoreResource(dg.ConfigurableResource[ObjectStore]):
    """Where files land and archives go."""

    def create_resource(self, context: dg.InitResourceContext) -> ObjectStore:
        """Build it; it has nothing to close."""
        return ObjectStore.from_url(Settings.load().object_store)


class S3AdministrationResource(dg.ConfigurableResource[S3Administration]):
    """The object store's bucket, where the store is S3."""

    def create_resource(self, context: dg.InitResourceContext) -> S3Administration:
        """Build it. Raises `UserError` for a store that is not S3."""
        return S3Administration.from_url(Settings.load().object_store)


class NotifierResource(dg.ConfigurableResource[Notifier]):
    """Alerts to the console and the channels of LONGBOX_ALERT_URLS."""

    cool_down_seconds: float = COOL_DOWN_SECONDS

    def create_resource(self, context: dg.InitResourceContext) -> Notifier:
        """Build it with the memory of this process."""
        return Notifier(
            Settings.load().alert_urls, cool_down_seconds=self.cool_down_seconds, memory=_ALERTS_SENT
        )


def default_resources() -> Mapping[str, Any]:
    """Every resource by the name that assets and sensors use."""
    return {
        "settings": SettingsResource(),
        "database": DatabaseResource(),
        "owner_database": DatabaseResource(role=OWNER_ROLE, max_connections=2),
        "dagster_database": DagsterDatabaseResource(),
        "cache": CacheResource(),
        "store": ObjectStoreResource(),
        "s3_admin": S3AdministrationResource(),
        "notifier": NotifierResource(),
    }

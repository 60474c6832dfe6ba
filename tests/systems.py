"""A bundled system on the servers of one test, stage by stage without Dagster: land, load, compute, compare."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.aggregation import AggregateJob, GapsJob, aggregate_days, find_gaps, refresh_view
from pipelines.catalog.digest import digest_tables
from pipelines.catalog.loader import load_catalog, system_folders
from pipelines.catalog.model import Catalog, System
from pipelines.ingestion import Loader, load_days
from resources.database import OWNER_ROLE, Database
from resources.object_store import ObjectStore
from resources.settings import Settings


def land_sample(store: ObjectStore, system: str, folder: Path) -> None:
    """Put every landed file of a sample where its feed is read from."""
    for file in sorted(folder.glob("*/*/*")):
        feed, day, name = file.relative_to(folder).parts
        store.put(f"landing/{system}/{feed}/{day}/{name}", file.read_bytes())


@dataclass
class Stages:
    """One system, and what a daily run does for it."""

    catalog: Catalog
    system: System
    database: Database
    owner: Database
    store: ObjectStore

    @classmethod
    def of(cls, name: str, settings: Settings) -> "Stages":
        catalog = load_catalog(system_folders(settings))
        database = Database(settings.postgres_url)
        store = ObjectStore.from_url(settings.object_store)
        return cls(catalog, catalog.system(name), database, database.as_role(OWNER_ROLE), store)

    def load(self, *days: str) -> None:
        for feed in self.system.feeds.values():
            load_days(Loader(self.database, self.owner, self.store, self.system, feed), _days(days))

    def compute(self, *days: str) -> int:
        """Aggregates, gaps and views of landing days; returns how many rows of aggregates and gaps changed."""
        results = [
            *(aggregate_days(job, _days(days)) for job in self.aggregates()),
            *(
                find_gaps(GapsJob(self.database, self.system, gaps), _days(days))
                for gaps in self.system.gaps.values()
            ),
        ]
        for view in self.system.views:
            refresh_view(self.database, self.system.name, view)
        return sum(result.rows_written + result.rows_deleted for result in results)

    def aggregates(self) -> list[AggregateJob]:
        return [AggregateJob(self.database, self.system, each) for each in self.system.aggregates.values()]

    def rows(self, query: str, *parameters):
        with self.database.connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def digest(self) -> list:
        with self.database.connection() as connection:
            return digest_tables(connection, self.catalog, [self.system.name])

    def empty_computed(self) -> None:
        """Empty the aggregates and the gaps, as if nothing had been computed yet."""
        with self.owner.connection() as connection:
            for name in (*self.system.aggregates, *self.system.gaps):
                connection.execute(f"TRUNCATE {self.system.name}.{name}")

    def close(self) -> None:
        self.database.close()
        self.owner.close()


def feed_counts(stages: Stages, feed: str) -> dict[str, int]:
    """Landed, loaded, duplicate, quarantined and current rows of a feed, as the platform accounts for them."""
    names = ("landed", "loaded", "duplicate", "quarantined")
    ((*counts, current),) = stages.rows(
        "SELECT sum(landed_rows)::int, sum(loaded_rows)::int, sum(duplicate_rows)::int, sum(quarantined_rows)::int, "
        "(SELECT count(*) FROM longbox.record_keys WHERE feed_id = feeds.feed_id AND is_current) "
        "FROM longbox.loads JOIN longbox.feeds USING (feed_id) WHERE system = %s AND feed = %s GROUP BY feeds.feed_id",
        stages.system.name,
        feed,
    )
    return dict(zip(names, counts, strict=True)) | {"records": current}


def _days(days: Sequence[str]) -> list[dt.date]:
    return [dt.date.fromisoformat(day) for day in days]

"""The last asset of a daily run: it fails when a landing day is not complete, naming the day and why.

A range run goes on past a bad day; this is where it is told. It looks at what the stages recorded, and depends on
every asset that works by landing days, but not on the cache, whose absence is the warm step's own failure.

What is no failure but belongs before the user's eyes stands in its metadata, which `longbox run` prints: rows put
aside, changed columns, files that no run reads.
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from assets.metadata import OWNERS
from assets.partitions import SINGLE_RUN, landing_days
from assets.retries import retry_passing_faults
from pipelines.catalog.model import Catalog, System
from resources.database import Database
from resources.object_store import ObjectStore


def verdict_asset(
    name: str, watched: Sequence[dg.AssetKey], calendar: dg.DailyPartitionsDefinition, systems: Sequence[System],
    catalog: Catalog,
) -> dg.AssetsDefinition:  # fmt: skip
    """`platform/<name>` over the assets `watched` of `systems`, which share `calendar`."""
    feeds = [feed for system in systems for feed in system.feeds.values()]
    assets = [key.to_user_string() for key in watched]

    @dg.asset(
        key=["platform", name],
        deps=list(watched),
        partitions_def=calendar,
        backfill_policy=SINGLE_RUN,
        group_name="platform",
        owners=OWNERS,
        kinds={"postgresql"},
        description="Fails when a landing day failed, or holds a file quarantined whole; names the days and why.",
    )
    @retry_passing_faults
    def verdict(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.MaterializeResult[None]:
        from pipelines.ingestion import schema_changes
        from pipelines.monitoring.days import BadDaysError, bad_days, put_aside
        from pipelines.monitoring.landing import first_of, unread_for_good

        days = landing_days(context)
        found = bad_days(database, assets, days)
        told = {
            "put_aside": put_aside(database, assets, days),
            "schema_changes": first_of(schema_changes(database, feeds, days)),
        }
        if found:
            raise BadDaysError(found, [line for lines in told.values() for line in lines])
        # not before: a store that is away is why days failed, and must not be told in their place
        today = dt.datetime.now(dt.UTC).date()
        told["never_read"] = first_of(unread_for_good(store, catalog, systems, today=today))
        return dg.MaterializeResult(
            metadata={"landing_days": len(days), "assets": len(assets), "outcome": "complete"}
            | {name: "\n".join(lines) for name, lines in told.items() if lines}
        )

    return verdict

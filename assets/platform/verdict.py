"""The last asset of a daily run: it fails when a landing day is not complete, naming the day and why.

A range run goes on past a bad day; this is where it is told. It looks at what the stages recorded, and depends on
every asset that works by landing days, but not on the cache, whose absence is the warm step's own failure.
"""

from collections.abc import Sequence

import dagster as dg

from assets.metadata import OWNERS
from assets.partitions import SINGLE_RUN, landing_days
from assets.retries import retry_passing_faults
from resources.database import Database


def verdict_asset(
    name: str, watched: Sequence[dg.AssetKey], calendar: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    """`platform/<name>` over the assets `watched`, which share `calendar`."""
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
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        from pipelines.monitoring.days import BadDaysError, bad_days, put_aside

        days = landing_days(context)
        found = bad_days(database, assets, days)
        if found:
            raise BadDaysError(found)
        aside = put_aside(database, assets, days)
        return dg.MaterializeResult(
            metadata={"landing_days": len(days), "assets": len(assets), "outcome": "complete"}
            | ({"put_aside": "\n".join(aside)} if aside else {})
        )

    return verdict

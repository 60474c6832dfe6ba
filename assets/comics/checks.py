"""Claims about comics as asset checks: raw = normalised + superseded + rejected, and statistics equal a recomputation.

What a check's severity means in a one-day run and in a range is in `assets.checks`.
"""

from collections.abc import Iterator

import dagster as dg

from assets.checks import SAMPLE_GROUPS, result_of, spec
from assets.partitions import landing_days
from pipelines.catalog.model import System
from resources.database import Database


def comics_checks(system: System, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """The checks of the normalised and the aggregated table."""
    normalised = dg.AssetKey([system.name, "pricing_data_normalized"])
    aggregated = dg.AssetKey([system.name, "pricing_data_aggregated"])
    rule = "raw versions = normalised + superseded + rejected"
    sample = f"{SAMPLE_GROUPS} groups, computed anew from all their sales, are equal"

    @dg.multi_asset_check(
        name="comics__normalised__checks",
        specs=[spec(normalised, "counts_reconcile", rule, calendar, blocks=True)],
    )
    def normalised_checks(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        owner_database: dg.ResourceParam[Database],
    ) -> Iterator[dg.AssetCheckResult]:
        from assets.comics.normalise import make_normaliser

        normaliser = make_normaliser(system, database, owner_database)
        found = [normaliser.reconcile(day) for day in landing_days(context)]
        problems = [f"{day.landing_day}: {problem}" for day in found for problem in day.problems]
        yield result_of(context, normalised, "counts_reconcile", problems, blocks=True)

    @dg.multi_asset_check(
        name="comics__aggregated__checks", specs=[spec(aggregated, "equals_recomputation", sample, calendar)]
    )
    def aggregated_checks(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        from assets.comics.recompute import recompute_sample

        seed = landing_days(context)[-1].toordinal()
        problems = recompute_sample(database, count=SAMPLE_GROUPS, seed=seed)
        yield result_of(context, aggregated, "equals_recomputation", problems)

    return [normalised_checks, aggregated_checks]

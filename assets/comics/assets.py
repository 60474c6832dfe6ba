"""The comics that no system.yaml can describe: matching, normalisation, price statistics, market views, the warm cache.

`pricing_data_raw` and the tables around it come from `assets.lifecycle`. Bodies call one stage each; the rules are in
`matching`, `normalise`, `aggregate` and `warm` beside this file.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets.checks import SAMPLE_GROUPS, result_of, spec
from assets.comics import lineage
from assets.jobs import CACHE_KEY
from assets.lifecycle import freshness, labels
from assets.lineage import written_lineage
from assets.metadata import (
    COLUMN_LINEAGE,
    DAY_ROWS,
    OWNERS,
    add_live_columns,
    report_days,
    report_matching,
    report_run,
    table_metadata,
    view_metadata,
)
from assets.partitions import SINGLE_RUN, landing_days
from assets.pools import DERIVE
from assets.retries import retry_passing_faults
from pipelines.catalog.model import System
from resources.cache import Cache
from resources.database import Database

RAW, NORMALISED, AGGREGATED = "pricing_data_raw", "pricing_data_normalized", "pricing_data_aggregated"
MATCHED = ("publishers", "series", "comics")
VIEWS = ("market_prices", "collection_values", "trending_comics", "market_insights")
RATES = dg.AssetKey(["reference", "fx_rates"])
NORMALISED_COUNTS = {"rows_read": "raw_rows", "rows_rejected": "rejected_rows", DAY_ROWS: "normalised_rows"}


def definitions(system: System, calendar: dg.DailyPartitionsDefinition | None) -> dg.Definitions:
    """The assets and checks of comics over its landing days."""
    assert calendar is not None, "comics has a feed"
    assets = [_matched(system, calendar), _normalised(system, calendar), _aggregated(system, calendar)]
    return dg.Definitions(
        assets=[*assets, _views(system), _cache(system)],
        asset_checks=_checks(system, calendar),
        jobs=[_renormalise_job(system)],
    )


class NormaliseConfig(dg.Config):
    """How a run normalises."""

    whole_history: bool = Field(
        default=False,
        description="Also every record, of any landing day, that other rules than today's made or refused.",
    )


def _renormalise_job(system: System) -> Any:
    """Materialising past days again does the same for the records that they own; this does it for all at once."""
    key = dg.AssetKey([system.name, NORMALISED])
    return dg.define_asset_job(
        "comics_renormalise",
        selection=dg.AssetSelection.assets(key).downstream(),
        config={"ops": {key.to_python_identifier(): {"config": {"whole_history": True}}}},
        description="After a changed rule: normalises and aggregates again what it changes in the whole history. "
        "Launch it for one landing day, such as the last.",
    )


def _matched(system: System, calendar: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    raw = dg.AssetKey([system.name, RAW])
    specs = [_spec(system, table, [raw], lineage.MATCHED[table]) for table in MATCHED]

    @dg.multi_asset(
        name="comics__matching", specs=specs, partitions_def=calendar, backfill_policy=SINGLE_RUN, pool=DERIVE,
        description="Finds the comic that each new title means, and makes those first seen.",
    )  # fmt: skip
    @retry_passing_faults
    def match(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        owner_database: dg.ResourceParam[Database],
    ) -> Any:
        from assets.comics.days import match_days
        from assets.comics.normalise import make_normaliser

        normaliser = make_normaliser(system, database, owner_database, context.run.run_id)
        report_matching(context, match_days(normaliser, database, landing_days(context), context.run.run_id))
        add_live_columns(context, database, *((system.name, table) for table in MATCHED))
        yield from (dg.MaterializeResult(asset_key=key) for key in sorted(context.selected_asset_keys))

    return match


def _normalised(system: System, calendar: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    upstream = [
        dg.AssetKey([system.name, RAW]),
        *(dg.AssetKey([system.name, table]) for table in MATCHED),
        RATES,
    ]

    @dg.asset(
        **_labels(system, NORMALISED, lineage.NORMALISED), deps=upstream, partitions_def=calendar,
        backfill_policy=SINGLE_RUN, pool=DERIVE,
    )  # fmt: skip
    @retry_passing_faults
    def normalise(
        context: dg.AssetExecutionContext,
        config: NormaliseConfig,
        database: dg.ResourceParam[Database],
        owner_database: dg.ResourceParam[Database],
    ) -> None:
        from assets.comics.days import normalise_matched_days
        from assets.comics.normalise import make_normaliser

        normaliser = make_normaliser(system, database, owner_database, context.run.run_id)
        results = normalise_matched_days(
            normaliser,
            database,
            landing_days(context),
            context.run.run_id,
            whole_history=config.whole_history,
        )
        report_days(context, results, NORMALISED_COUNTS)
        add_live_columns(context, database, (system.name, NORMALISED))

    return normalise


def _aggregated(system: System, calendar: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        **_labels(system, AGGREGATED, lineage.AGGREGATED), deps=[dg.AssetKey([system.name, NORMALISED])],
        partitions_def=calendar, backfill_policy=SINGLE_RUN, pool=DERIVE,
    )  # fmt: skip
    @retry_passing_faults
    def aggregate(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> None:
        from assets.comics.aggregate import aggregate_days

        report_run(context, aggregate_days(database, landing_days(context), context.run.run_id))
        add_live_columns(context, database, (system.name, AGGREGATED))

    return aggregate


def _views(system: System) -> dg.AssetsDefinition:
    upstream = [dg.AssetKey([system.name, table]) for table in (AGGREGATED, "comics")]
    specs = [_spec(system, view, [*upstream, *_inputs(system, view)], lineage.VIEWS[view]) for view in VIEWS]

    @dg.multi_asset(
        name="comics__market_views",
        specs=specs,
        description="Refreshes the views that answer what the market does now, without blocking their readers.",
    )
    @retry_passing_faults
    def refresh(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
    ) -> Any:
        from assets.comics.aggregate import refresh_views

        for view in refresh_views(database):
            yield dg.MaterializeResult(
                asset_key=[system.name, view.name], metadata=view_metadata(database, system, view)
            )

    return refresh


def _cache(system: System) -> dg.AssetsDefinition:
    @dg.asset(
        key=CACHE_KEY,
        deps=[dg.AssetKey([system.name, view]) for view in VIEWS],
        group_name="platform",
        owners=OWNERS,
        kinds={"redis"},
        description="Current prices, top lists and market insights, warm in Redis before anyone asks.",
    )
    @retry_passing_faults
    def cache_warm(
        database: dg.ResourceParam[Database], cache: dg.ResourceParam[Cache]
    ) -> dg.MaterializeResult[None]:
        from assets.comics.warm import warm_cache

        warmed = warm_cache(cache, database, system)
        return dg.MaterializeResult(
            metadata={**warmed.counts, "keys_written": warmed.keys, "seconds": warmed.seconds}
        )

    return cache_warm


def _checks(system: System, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """The checks of the normalised and the aggregated table."""
    normalised, aggregated = dg.AssetKey([system.name, NORMALISED]), dg.AssetKey([system.name, AGGREGATED])
    rule = "raw versions = normalised + superseded + rejected + deleted"
    sample = f"{SAMPLE_GROUPS} groups, computed anew from all their sales, are equal"

    @dg.multi_asset_check(
        name="comics__normalised__checks",
        specs=[spec(normalised, "counts_reconcile", rule, calendar, blocks=True)],
    )
    @retry_passing_faults
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
    @retry_passing_faults
    def aggregated_checks(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        from assets.comics.recompute import recompute_sample

        seed = landing_days(context)[-1].toordinal()
        problems = recompute_sample(database, count=SAMPLE_GROUPS, seed=seed)
        yield result_of(context, aggregated, "equals_recomputation", problems)

    return [normalised_checks, aggregated_checks]


def _inputs(system: System, view: str) -> list[dg.AssetKey]:
    """The views and tables beside the price statistics that a view is made of."""
    return [dg.AssetKey([system.name, name]) for name in lineage.VIEW_INPUTS.get(view, ())]


def _spec(system: System, table: str, deps: list[dg.AssetKey], columns: Mapping[str, str]) -> dg.AssetSpec:
    return dg.AssetSpec(deps=deps, **_labels(system, table, columns))


def _labels(system: System, table: str, columns: Mapping[str, str]) -> dict[str, Any]:
    declared = system.tables.get(table)
    return {
        "key": dg.AssetKey([system.name, table]),
        "description": declared.description if declared else lineage.VIEW_DESCRIPTIONS[table],
        "metadata": table_metadata(system, table) | {COLUMN_LINEAGE: written_lineage(system.name, columns)},
        "freshness_policy": freshness(system, table),
        **labels(system, "postgresql", "sql"),
    }

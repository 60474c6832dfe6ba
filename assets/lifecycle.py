"""From a system.yaml to assets: what lands, the tables it is loaded into, the aggregates, and the tables around them.

A system that is YAML alone needs nothing else. One with rules of its own has an `assets.py` in its folder (also
outside this repository) whose `definitions(system, calendar)` adds to these, or replaces one by using its key.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from assets.checks import aggregate_check, gaps_check, landing_check
from assets.freshness import freshness_check
from assets.lineage import aggregate_lineage, gap_lineage, landed_columns, landing_lineage
from assets.metadata import (
    COLUMN_LINEAGE,
    COLUMNS,
    OWNERS,
    add_live_columns,
    report_days,
    report_run,
    table_metadata,
    view_metadata,
)
from assets.partitions import SINGLE_RUN, landing_calendar, landing_days
from assets.pools import DERIVE, INGEST
from assets.retries import retry_passing_faults
from pipelines.catalog.model import Aggregate, Feed, Gaps, System, View
from resources.database import Database
from resources.errors import UserError
from resources.object_store import ObjectStore
from resources.settings import PROJECT_ROOT

Calendar = dg.DailyPartitionsDefinition
OwnDefinitions = Callable[[System, Calendar | None], dg.Definitions]

INGESTED = {
    "rows_read": "landed_rows",
    "rows_rejected": "quarantined_rows",
    "dagster/partition_row_count": "loaded_rows",
}


def system_definitions(system: System) -> dg.Definitions:
    """Every asset and check of a system. Touches no server."""
    calendar = landing_calendar(system)
    own = _own_definitions(system, calendar)
    taken = {key for asset in own.assets or [] for key in _keys(asset)}
    assets: list[Any] = [_landing_spec(feed) for feed in system.feeds.values()]
    checks: list[Any] = []
    if calendar is not None:
        for table in sorted({feed.table for feed in system.feeds.values()}):
            if dg.AssetKey([system.name, table]) not in taken:
                assets.append(ingest_asset(system, table, calendar))
                checks.append(landing_check(system, table, calendar))
            if system.tables[table].freshness is not None:
                checks.append(freshness_check(system, table))
        for aggregate in system.aggregates.values():
            if dg.AssetKey([system.name, aggregate.name]) not in taken:
                assets.append(aggregate_asset(system, aggregate, calendar))
                checks.append(aggregate_check(system, aggregate, calendar))
        for gaps in system.gaps.values():
            if dg.AssetKey([system.name, gaps.name]) not in taken:
                assets.append(gaps_asset(system, gaps, calendar))
                checks.append(gaps_check(system, gaps, calendar))
    assets += [
        view_asset(system, view)
        for view in system.views.values()
        if dg.AssetKey([system.name, view.name]) not in taken
    ]
    made = taken | {key for asset in assets for key in _keys(asset)}
    assets += [
        _table_spec(system, name) for name in system.tables if dg.AssetKey([system.name, name]) not in made
    ]
    return dg.Definitions.merge(dg.Definitions(assets=assets, asset_checks=checks), own)


def ingest_asset(system: System, table: str, calendar: Calendar) -> dg.AssetsDefinition:
    """The asset that loads the landed files of every feed of `table`."""
    feeds = system.feeds_of(table)

    @dg.asset(
        key=[system.name, table],
        deps=[landing_key(feed) for feed in feeds],
        partitions_def=calendar,
        backfill_policy=SINGLE_RUN,
        description=system.tables[table].description
        or f"Rows of {', '.join(feed.key_name for feed in feeds)}.",
        metadata=table_metadata(system, table) | {COLUMN_LINEAGE: landing_lineage(system, feeds)},
        code_version="-".join(feed.version for feed in feeds),
        freshness_policy=freshness(system, table),
        pool=INGEST,
        **labels(system, "csv", "postgresql"),
    )
    @retry_passing_faults
    def ingest(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        owner_database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> None:
        from pipelines.ingestion import Loader, load_days

        for feed in feeds:
            loader = Loader(
                database, owner_database, store, system, feed, context.run.run_id, tell=context.log.info
            )
            report_days(context, load_days(loader, landing_days(context)), INGESTED)
        add_live_columns(context, database, (system.name, table))

    return ingest


def aggregate_asset(system: System, aggregate: Aggregate, calendar: Calendar) -> dg.AssetsDefinition:
    """The asset that keeps one declared aggregate exact: it recomputes the groups that its landing days touched."""

    @dg.asset(
        key=[system.name, aggregate.name],
        deps=[dg.AssetKey([system.name, aggregate.from_])],
        partitions_def=calendar,
        backfill_policy=SINGLE_RUN,
        description=aggregate.description
        or f"{aggregate.from_} by {', '.join(g.name for g in aggregate.groups)}.",
        metadata=table_metadata(system, aggregate.name)
        | {COLUMN_LINEAGE: aggregate_lineage(system, aggregate)},
        code_version=hashlib.sha256(aggregate.model_dump_json().encode()).hexdigest()[:12],
        pool=DERIVE,
        **labels(system, "postgresql", "sql"),
    )
    @retry_passing_faults
    def compute(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> None:
        from pipelines.aggregation import AggregateJob, aggregate_days

        result = aggregate_days(
            AggregateJob(database, system, aggregate, context.run.run_id), landing_days(context)
        )
        report_run(context, result)
        add_live_columns(context, database, (system.name, aggregate.name))

    return compute


def gaps_asset(system: System, gaps: Gaps, calendar: Calendar) -> dg.AssetsDefinition:
    """The asset that keeps the gaps of a series exact around what its landing days touched."""

    @dg.asset(
        key=[system.name, gaps.name],
        deps=[dg.AssetKey([system.name, gaps.from_])],
        partitions_def=calendar,
        backfill_policy=SINGLE_RUN,
        description=gaps.description
        or f"Where a row of {gaps.from_} is missing, of one every {gaps.every} by {', '.join(gaps.by)}.",
        metadata=table_metadata(system, gaps.name) | {COLUMN_LINEAGE: gap_lineage(system, gaps)},
        code_version=hashlib.sha256(gaps.model_dump_json().encode()).hexdigest()[:12],
        **labels(system, "postgresql", "sql"),
    )
    @retry_passing_faults
    def find(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> None:
        from pipelines.aggregation import GapsJob, find_gaps

        result = find_gaps(GapsJob(database, system, gaps, context.run.run_id), landing_days(context))
        report_run(context, result)
        add_live_columns(context, database, (system.name, gaps.name))

    return find


def view_asset(system: System, view: View) -> dg.AssetsDefinition:
    """The asset that refreshes a materialised view once what it reads is done; it has no landing days of its own."""

    @dg.asset(
        key=[system.name, view.name],
        deps=[dg.AssetKey([system.name, name]) for name in view.after],
        description=view.description or f"A view of {', '.join(view.after)}.",
        metadata=table_metadata(system, view.name),
        **labels(system, "postgresql", "sql"),
    )
    @retry_passing_faults
    def refresh(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
        from pipelines.aggregation import refresh_view

        done = refresh_view(database, system.name, view.name)
        return dg.MaterializeResult(metadata=view_metadata(database, system, done))

    return refresh


def labels(system: System, *kinds: str) -> dict[str, Any]:
    """Group, owners and kinds of an asset of `system`."""
    return {"group_name": system.name, "owners": OWNERS, "kinds": set(kinds)}


def freshness(system: System, table: str) -> dg.FreshnessPolicy | None:
    """The freshness that a table's system.yaml asks for. Dagster's is per asset: any partition's run turns it green."""
    declared = system.tables[table].freshness if table in system.tables else None
    if declared is None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=declared.fail_after, warn_window=declared.warn_after)


def landing_key(feed: Feed) -> dg.AssetKey:
    """The asset that stands for a feed's folder in the object store."""
    return dg.AssetKey(["landing", feed.system, feed.name])


def _landing_spec(feed: Feed) -> dg.AssetSpec:
    return dg.AssetSpec(
        landing_key(feed),
        description=f"{feed.description} Files in {feed.prefix}<YYYY-MM-DD>/.".strip(),
        metadata={"prefix": feed.prefix, COLUMNS: landed_columns(feed)},
        group_name=feed.system,
        owners=OWNERS,
        kinds={"file"},
    )


def _table_spec(system: System, table: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        [system.name, table],
        description=system.tables[table].description or None,
        metadata=table_metadata(system, table),
        freshness_policy=freshness(system, table),
        **labels(system, "postgresql", "table"),
    )


def _own_definitions(system: System, calendar: Calendar | None) -> dg.Definitions:
    file = system.folder / "assets.py"
    if not file.is_file():
        return dg.Definitions()
    module = _load_module(system)
    own: OwnDefinitions | None = getattr(module, "definitions", None)
    if own is None:
        raise UserError(
            f"{file} defines no function `definitions(system, calendar)`; add it (it returns dagster.Definitions), "
            "or remove the file if the system needs no assets of its own"
        )
    return own(system, calendar)


def _load_module(system: System) -> Any:
    """The system's assets.py: as a module of this project, or by path for a folder from elsewhere."""
    folder = system.folder.resolve()
    if folder.parent == PROJECT_ROOT / "assets":
        return importlib.import_module(f"assets.{folder.name}.assets")
    name = f"longbox_system_{system.name}"
    spec = importlib.util.spec_from_file_location(name, folder / "assets.py")
    assert spec is not None, "a path that ends in .py has a spec"
    assert spec.loader is not None, "and a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as `import` does: dataclasses and pickles look it up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(
            f"{folder / 'assets.py'} cannot be loaded ({type(error).__name__}: {error}); correct it"
        ) from error
    return module


def _keys(asset: Any) -> Sequence[dg.AssetKey]:
    return list(asset.keys) if isinstance(asset, dg.AssetsDefinition) else [asset.key]

"""Upkeep of the tables: partitions made ahead of time, and stretches of time that none holds.

Vacuum, indexes and bloat will join it. https://www.postgresql.org/docs/18/ddl-partitioning.html
"""

import datetime as dt

import dagster as dg

from assets.metadata import OWNERS
from assets.pools import UPKEEP
from assets.retries import retry_passing_faults
from pipelines.catalog.model import Catalog
from resources.database import Database


def upkeep_definitions(catalog: Catalog) -> dg.Definitions:
    """`platform/partitions` over every partitioned table of `catalog`, and its check."""
    key = dg.AssetKey(["platform", "partitions"])
    tables = [(system.name, table.name) for system in catalog.systems.values() for table in system.tables.values()
              if table.has_partitions_ahead]  # fmt: skip

    @dg.asset(
        key=key,
        group_name="platform",
        owners=OWNERS,
        kinds={"postgresql"},
        pool=UPKEEP,
        description="Makes the partitions of the coming periods, so that no row ever waits for one.",
    )
    @retry_passing_faults
    def partitions(
        context: dg.AssetExecutionContext, owner_database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        from pipelines.catalog.partitions import keep_ahead

        made = keep_ahead(owner_database, catalog, dt.datetime.now(dt.UTC))
        return dg.MaterializeResult(
            metadata={"partitions_made": len(made), "tables": len(tables), "made": ", ".join(made) or "none"}
        )

    @dg.asset_check(
        asset=key, name="no_gaps", description="Every partitioned table holds all time up to tomorrow"
    )
    @retry_passing_faults
    def no_gaps(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        from pipelines.catalog.partitions import find_gaps

        tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
        with database.connection() as connection:
            gaps = [
                gap
                for system, table in tables
                for gap in find_gaps(connection, system, table, until=tomorrow)
            ]
        told = [f"{gap.schema}.{gap.table}: {gap.lower:%Y-%m-%d} to {gap.upper:%Y-%m-%d}" for gap in gaps]
        return dg.AssetCheckResult(
            passed=not gaps,
            severity=dg.AssetCheckSeverity.WARN,  # a late row makes the partition that it needs
            description="\n".join(told) or None,
            metadata={"gaps": len(gaps)},
        )

    return dg.Definitions(assets=[partitions], asset_checks=[no_gaps])

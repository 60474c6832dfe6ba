"""`reference/fx_rates`: the European Central Bank's rates, which normalisation converts prices with.

Not partitioned: a load brings the whole history up to the file that is bundled or set (LONGBOX_FX_RATES).
"""

import dagster as dg

from assets.metadata import COLUMNS, OWNERS, live_columns, table_metadata
from assets.retries import retry_passing_faults
from pipelines.catalog.model import System
from resources.database import Database
from resources.settings import Settings


def definitions(system: System, calendar: dg.DailyPartitionsDefinition | None) -> dg.Definitions:
    """The assets of the system `reference`."""

    @dg.asset(
        key=[system.name, "fx_rates"],
        group_name=system.name,
        owners=OWNERS,
        kinds={"csv", "postgresql"},
        description=system.tables["fx_rates"].description,
        metadata=table_metadata(system, "fx_rates"),
    )
    @retry_passing_faults
    def fx_rates(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult[None]:
        from assets.reference.rates import count_rates, load_rates_of_new_file

        load = load_rates_of_new_file(database, settings.fx_rates_file, context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": count_rates(database),
                "rows_read": load.rows_read,
                "rows_written": load.rows_written,
                "rows_changed": load.rows_changed,
                "newest_rate_on": load.newest_on.isoformat(),
                COLUMNS: live_columns(database, system.name, "fx_rates"),
            }
        )

    return dg.Definitions(assets=[fx_rates])

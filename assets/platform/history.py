"""`platform/dagster_history`: runs, events and logs of Dagster itself, for LONGBOX_DAGSTER_HISTORY_DAYS.

A job of its own, `dagster_retention`: it works on Dagster's database, which may be another server than the tables'.
"""

import dagster as dg

from assets.metadata import OWNERS
from assets.pools import UPKEEP
from assets.retries import retry_passing_faults
from resources.database import Database
from resources.settings import Settings

KEY = dg.AssetKey(["platform", "dagster_history"])


class HistoryConfig(dg.Config):
    """Options of a launch."""

    dry_run: bool = False


@dg.asset(
    key=KEY,
    group_name="platform",
    owners=OWNERS,
    kinds={"postgresql"},
    pool=UPKEEP,
    description="Deletes old finished runs with their events and logs; keeps what the status of assets stands on.",
)
@retry_passing_faults
def dagster_history(
    context: dg.AssetExecutionContext,
    config: HistoryConfig,
    database: dg.ResourceParam[Database],
    dagster_database: dg.ResourceParam[Database],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Purge, or with `dry_run` only count."""
    from pipelines.retention.dagster_history import HistoryJob
    from resources.dagster_logs import delete_compute_logs

    job = HistoryJob(
        database, dagster_database, settings.dagster_history_days,
        lambda run_ids: delete_compute_logs(settings, run_ids), context.run.run_id,
    )  # fmt: skip
    done = job.purge(dry_run=config.dry_run)
    return dg.MaterializeResult(
        metadata={
            **done.counts(),
            "dry_run": done.is_dry_run,
            "stopped": done.stopped,
            "before": done.before.isoformat(),
        }
    )

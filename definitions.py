"""The code location: every system's assets, their jobs, schedules, sensors and resources, put together.

Assembly only; nothing is decided here, and loading it needs no server. Another program or a test calls
`build_definitions(resources=...)` with resources of its own. https://docs.dagster.io/api/dagster/definitions
"""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.jobs import daily_pipelines, upkeep_jobs
from assets.lifecycle import system_definitions
from assets.platform.backup import backup_definitions
from assets.platform.history import dagster_history
from assets.platform.upkeep import upkeep_definitions
from assets.platform.wal import wal_definitions
from pipelines.catalog.loader import load_catalog, system_folders
from resources.definitions import default_resources
from resources.settings import Settings
from sensors.backup_age import backup_age_sensor
from sensors.failures import run_failure_sensor
from sensors.freshness import freshness_sensor
from sensors.landing import landing_sensor
from sensors.schedules import backup_schedules, daily_schedule, upkeep_schedules


def build_definitions(*, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything Dagster shows and runs. `resources` replaces defaults by name. Raises `CatalogError`, `UserError`."""
    settings = Settings.load()
    catalog = load_catalog(system_folders(settings))
    with warnings.catch_warnings():
        # Partitioned checks and single-run backfills are preview and beta in the pinned Dagster: chosen knowingly.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        parts = {name: system_definitions(system) for name, system in catalog.systems.items()}
        upkeep = upkeep_definitions(catalog)
        backups = dg.Definitions.merge(backup_definitions(settings), wal_definitions(settings.backup_engine))
        pipelines = daily_pipelines(catalog, parts)
        jobs = upkeep_jobs([*parts.values(), upkeep])
        automation = dg.Definitions(
            assets=[*(pipeline.verdict for pipeline in pipelines), dagster_history],
            jobs=[*(pipeline.job for pipeline in pipelines), *jobs],
            schedules=[
                *(daily_schedule(pipeline) for pipeline in pipelines),
                *upkeep_schedules([job.name for job in jobs]),
                *backup_schedules(settings.backup_engine),
            ],
            sensors=[
                landing_sensor(pipelines),
                freshness_sensor(catalog),
                run_failure_sensor(),
                backup_age_sensor(),
            ],
            resources={**default_resources(), **(resources or {})},
            executor=dg.in_process_executor,
        )
        return dg.Definitions.merge(*parts.values(), upkeep, backups, automation)


defs = build_definitions()

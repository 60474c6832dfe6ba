"""What runs together: the daily pipeline, the cache's warming, the platform's upkeep.

A Dagster job has one partitions definition. Systems whose feeds start on `PLATFORM_STARTS_ON` share `daily_pipeline`;
any other landing calendar has a job of its own, `daily_pipeline_<system>`, so that adding a system never moves the
partitions of another. https://docs.dagster.io/guides/build/jobs/asset-jobs
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from assets.freshness import check_key
from assets.partitions import landing_calendar
from assets.platform.verdict import verdict_asset
from pipelines.catalog.job_names import daily_pipeline_of, verdict_of
from pipelines.catalog.model import Catalog, System
from pipelines.monitoring.freshness import watched_tables

CACHE_KEY = dg.AssetKey(["platform", "cache"])


@dataclass(frozen=True)
class DailyPipeline:
    """A daily job, the systems whose feeds it reads, and the asset that gives its verdict."""

    name: str
    systems: tuple[System, ...]
    calendar: dg.DailyPartitionsDefinition
    verdict: dg.AssetsDefinition
    job: "dg.JobDefinition | object"


def daily_pipelines(catalog: Catalog, parts: Mapping[str, dg.Definitions]) -> list[DailyPipeline]:
    """The daily jobs over the assets of `parts` (system name -> its definitions)."""
    groups: dict[str, list[System]] = {}
    for system in catalog.systems.values():
        if system.feeds:
            groups.setdefault(daily_pipeline_of(system), []).append(system)
    return [_daily_pipeline(name, systems, catalog, parts) for name, systems in sorted(groups.items())]


def _daily_pipeline(
    name: str, systems: Sequence[System], catalog: Catalog, parts: Mapping[str, dg.Definitions]
) -> DailyPipeline:
    calendar = landing_calendar(systems[0])
    assert calendar is not None, "systems are grouped by their calendar"
    executable = [asset for system in systems for asset in _executable(parts[system.name])]
    watched = sorted(
        {key for asset in executable if asset.partitions_def == calendar for key in asset.keys},
        key=dg.AssetKey.to_user_string,
    )
    verdict = verdict_asset(verdict_of(name), watched, calendar, systems, catalog)
    keys = {key for asset in executable for key in asset.keys}
    selection = dg.AssetSelection.assets(*keys).upstream() | dg.AssetSelection.assets(verdict.key)
    selection -= dg.AssetSelection.checks(*_checks_of_now(systems))  # they do not speak of a run's partitions
    job = dg.define_asset_job(
        name,
        selection=selection,
        description=f"Landed files to cached values, by landing day: {', '.join(s.name for s in systems)}.",
        tags={"longbox/systems": ",".join(system.name for system in systems)},
    )
    return DailyPipeline(name, tuple(systems), calendar, verdict, job)


def _checks_of_now(systems: Sequence[System]) -> list[dg.AssetCheckKey]:
    named = {system.name: system for system in systems}
    return [check_key(f"{system.name}/{table}") for system, table in watched_tables(Catalog(systems=named))]


def _executable(definitions: dg.Definitions) -> list[dg.AssetsDefinition]:
    return [a for a in definitions.assets or [] if isinstance(a, dg.AssetsDefinition) and a.is_executable]


def upkeep_jobs(parts: Sequence[dg.Definitions]) -> list[object]:
    """`maintenance`, and `cache_warm` where a system fills the cache."""
    jobs: list[object] = [
        dg.define_asset_job(
            "maintenance",
            selection=dg.AssetSelection.assets(["platform", "partitions"]),
            description="Keeps partitions ahead of time and finds gaps.",
        )
    ]
    jobs.append(
        dg.define_asset_job(
            "dagster_retention",
            selection=dg.AssetSelection.assets(["platform", "dagster_history"]),
            description="Deletes Dagster's own finished runs, events and logs past LONGBOX_DAGSTER_HISTORY_DAYS.",
        )
    )
    if any(CACHE_KEY in asset.keys for part in parts for asset in _executable(part)):
        jobs.append(
            dg.define_asset_job(
                "cache_warm",
                selection=dg.AssetSelection.assets(CACHE_KEY),
                description="Fills the cache with current prices, top lists and market insights.",
            )
        )
    return jobs

"""The check `yesterday_complete` of a table that feeds are loaded into: are its landing days complete that are due?

It speaks of now, not of the partitions of a run, so that it is no part of the daily jobs: `freshness_sensor` evaluates
it, and anyone may in the UI. https://docs.dagster.io/guides/test/asset-checks
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

import dagster as dg

from assets.retries import retry_passing_faults
from pipelines.catalog.model import System
from pipelines.monitoring.freshness import TableFreshness
from resources.database import Database

NAME = "yesterday_complete"


def utc_now() -> dt.datetime:
    """The moment at which freshness is judged."""
    return dt.datetime.now(dt.UTC)


def freshness_check(
    system: System, table: str, *, clock: Callable[[], dt.datetime] = utc_now
) -> dg.AssetChecksDefinition:
    """The check of one table whose system.yaml asks for freshness."""

    @dg.asset_check(
        asset=dg.AssetKey([system.name, table]),
        name=NAME,
        description="Every landing day that is over is complete, within the table's freshness",
    )
    @retry_passing_faults
    def check(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        from pipelines.monitoring.freshness import judge_freshness

        return dg.AssetCheckResult(**check_fields(judge_freshness(database, system, table, clock())))

    return check


def check_key(table: str) -> dg.AssetCheckKey:
    """The check of the table `<system>/<table>`."""
    return dg.AssetCheckKey(dg.AssetKey(table.split("/")), NAME)


def check_fields(found: TableFreshness) -> dict[str, Any]:
    """What a result of the check says. Days that were never run are a warning: nothing is expected of them yet."""
    return {
        "passed": found.state in ("fresh", "not due"),
        "severity": dg.AssetCheckSeverity.ERROR if found.state == "stale" else dg.AssetCheckSeverity.WARN,
        "description": found.told(),
        "metadata": {
            "state": found.state,
            "last_due_day": found.last_due_day.isoformat(),
            "missing_days": ", ".join(day.landing_day.isoformat() for day in found.missing_days) or "none",
        },
    }

"""Names of the daily jobs and of what judges them, for who defines them and for who asks for them by name."""

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.catalog.model import System

PLATFORM_STARTS_ON = dt.date(2024, 1, 1)
DAILY_PIPELINE = "daily_pipeline"
"""The daily job of the systems that share the platform's calendar; another calendar's adds the system's name."""


def daily_pipeline_of(system: "System") -> str:
    """The daily job of a system that has feeds."""
    starts_on = min(feed.starts_on for feed in system.feeds.values())
    return DAILY_PIPELINE if starts_on == PLATFORM_STARTS_ON else f"{DAILY_PIPELINE}_{system.name}"


def is_daily(job: str) -> bool:
    """Whether this is the daily job of some systems."""
    return job.startswith(DAILY_PIPELINE)


def verdict_of(job: str) -> str:
    """The name of the asset, in the group `platform`, that judges the days of a daily job's run."""
    return job.replace(DAILY_PIPELINE, "landing_verdict")

"""Names of the daily jobs and of what judges them, for who defines them and for who asks for them by name."""

DAILY_PIPELINE = "daily_pipeline"
"""The daily job of the systems that share the platform's calendar; another calendar's adds the system's name."""


def is_daily(job: str) -> bool:
    """Whether this is the daily job of some systems."""
    return job.startswith(DAILY_PIPELINE)


def verdict_of(job: str) -> str:
    """The name of the asset, in the group `platform`, that judges the days of a daily job's run."""
    return job.replace(DAILY_PIPELINE, "landing_verdict")

"""Landing days as partitions: from the day a system's first feed starts to today inclusive, in UTC.

Raw, normalised and aggregated of a system share them (DESIGN, "Time"), so that one partition means the same day
everywhere. Partitions of months, for archives, will stand here too.
https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from pipelines.catalog.model import System

SINGLE_RUN = dg.BackfillPolicy.single_run()
"""A range is one run: a process a day would cost about six seconds each before it did anything."""


def landing_calendar(system: System) -> dg.DailyPartitionsDefinition | None:
    """The landing days of a system, None if nothing lands for it. A feed that starts later has empty days before."""
    starts = [feed.starts_on for feed in system.feeds.values()]
    if not starts:
        return None
    # end_offset 1: today's folder may be read while it fills
    return dg.DailyPartitionsDefinition(start_date=min(starts).isoformat(), timezone="UTC", end_offset=1)


def landing_days(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[dt.date]:
    """The landing days of this run, in order: one, or all of a range."""
    return [dt.date.fromisoformat(key) for key in context.partition_keys]


def contiguous(days: Sequence[dt.date], *, longest: int) -> list[tuple[dt.date, dt.date]]:
    """`days` as ranges (first, last) without holes, each of at most `longest` days."""
    ranges: list[tuple[dt.date, dt.date]] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1][1] == dt.timedelta(days=1) and (day - ranges[-1][0]).days < longest:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges

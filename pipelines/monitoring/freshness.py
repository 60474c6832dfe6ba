"""Whether the landing days of a table that feeds are loaded into are complete, as far as they are due.

A day is complete when it was worked on after it had ended (an empty day too) and nothing of it was put aside whole. An
age is counted from the beginning of the oldest day that is not complete, so that a backfill of another day changes
nothing; Dagster's own FreshnessPolicy looks at the newest run of any day. Thresholds are the table's `freshness:` keys.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pipelines.catalog.model import Catalog, Freshness, System
from resources.database import Database
from resources.sql import Queries

DAYS_LOOKED_AT = 7
"""Older days are the business of the verdict and of `no_gaps`: an alert that never ends is read by no one."""
SHOWN_PROBLEMS = 3
State = Literal["fresh", "late", "stale", "never run", "not due"]
_SQL = Queries.of("pipelines.monitoring")


@dataclass(frozen=True)
class MissingDay:
    """A landing day that is over and not complete, and why."""

    landing_day: dt.date
    reason: str


@dataclass(frozen=True)
class TableFreshness:
    """How a table stands at `judged_at`. `missing_days` are in order; `overdue_since` is None unless late or stale."""

    table: str
    state: State
    judged_at: dt.datetime
    last_due_day: dt.date
    missing_days: tuple[MissingDay, ...] = ()
    overdue_since: dt.datetime | None = None

    @property
    def cause(self) -> str:
        """What an alert about it is about: another day, or a worse state, is another matter."""
        first = self.missing_days[0].landing_day.isoformat() if self.missing_days else ""
        return f"freshness:{self.table}:{self.state}:{first}"

    def told(self) -> str:
        """Which day, since when, why, and what to do."""
        if self.state == "not due":
            return f"{self.table}: its first landing day is not over yet"
        if self.state == "never run":
            return (
                f"{self.table}: no landing day was ever run; start landing_sensor or the daily schedule, or run the "
                f"day {self.last_due_day}"
            )
        if not self.missing_days:
            return f"{self.table}: every landing day up to {self.last_due_day} is complete"
        days = "\n".join(f"  {day.landing_day}: {day.reason}" for day in self.missing_days)
        due = (
            f"overdue since {self.overdue_since:%Y-%m-%d %H:%M} UTC"
            if self.overdue_since
            else "not overdue yet"
        )
        return (
            f"{self.table}: landing day {self.missing_days[0].landing_day} is not complete, {due}; mend what is named, "
            f"then run the day again:\n{days}"
        )


def watched_tables(catalog: Catalog) -> list[tuple[System, str]]:
    """The tables that feeds are loaded into and whose system.yaml asks for freshness."""
    return [
        (system, table)
        for system in catalog.systems.values()
        for table in sorted({feed.table for feed in system.feeds.values()})
        if system.tables[table].freshness is not None
    ]


def judge_freshness(database: Database, system: System, table: str, now: dt.datetime) -> TableFreshness:
    """Judge the last `DAYS_LOOKED_AT` landing days of `table` that were over at `now` (aware). Reads only."""
    asset = f"{system.name}/{table}"
    limits = system.tables[table].freshness
    assert limits is not None, f"{asset} asks for no freshness"
    last = now.astimezone(dt.UTC).date() - dt.timedelta(days=1)
    starts_on = min(feed.starts_on for feed in system.feeds_of(table))
    if starts_on > last:
        return TableFreshness(asset, "not due", now, last)
    with database.connection() as connection:
        row = connection.execute(_SQL["first_day_with_result"], {"asset": asset}).fetchone()
        begun_on = cast("tuple[dt.date | None]", row)[0]
        first = max(last - dt.timedelta(days=DAYS_LOOKED_AT - 1), starts_on, begun_on or starts_on)
        window = {"asset": asset, "first": first, "last": last}
        rows = connection.execute(_SQL["results_of_days"], window).fetchall()
    if begun_on is None:
        return TableFreshness(asset, "never run", now, last)
    results = {cast(dt.date, found[0]): found[1:] for found in rows}
    every = (first + dt.timedelta(days=number) for number in range((last - first).days + 1))
    missing = [MissingDay(day, reason) for day in every if (reason := _reason(results, day)) is not None]
    return _judged(asset, limits, now, last, missing)


def _judged(
    asset: str, limits: Freshness, now: dt.datetime, last: dt.date, missing: Sequence[MissingDay]
) -> TableFreshness:
    if not missing:
        return TableFreshness(asset, "fresh", now, last)
    begun_at = _midnight(missing[0].landing_day)
    stale_at, late_at = begun_at + limits.fail_after, begun_at + (limits.warn_after or limits.fail_after)
    state: State = "stale" if now > stale_at else "late" if now > late_at else "fresh"
    since = {"stale": stale_at, "late": late_at}.get(state)
    return TableFreshness(asset, state, now, last, tuple(missing), since)


def _reason(results: Mapping[dt.date, Sequence[object]], day: dt.date) -> str | None:
    """Why a day is not complete, None if it is."""
    if day not in results:
        return "it was never run"
    outcome, problems, finished_at = cast("tuple[str, list[str], dt.datetime]", results[day])
    if outcome != "complete":
        return f"{outcome}: {'; '.join(problems[:SHOWN_PROBLEMS]) or 'see the run'}"
    if finished_at < _midnight(day + dt.timedelta(days=1)):
        return f"it was last run at {finished_at:%Y-%m-%d %H:%M} UTC, before it had ended"
    return None


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)

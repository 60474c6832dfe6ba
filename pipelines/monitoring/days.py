"""The outcome of landing days: who failed, who may go on, and the verdict over a whole run.

Stages record a row a day in `longbox.day_results`; a range run reads it to hold back what follows a failed day, and to
end with a verdict that names the bad days. The stages' own counts are not interpreted here.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pipelines.catalog import days as catalogue
from resources.database import Database
from resources.errors import LongboxError
from resources.sql import Queries

_SQL = Queries.of("pipelines.monitoring")


class BadDaysError(LongboxError):
    """Landing days failed, or hold a file that was quarantined whole. `notes`: what is to be seen beside that."""

    def __init__(self, bad_days: Sequence["BadDay"], notes: Sequence[str] = ()) -> None:
        self.bad_days = tuple(bad_days)
        days = sorted({day.landing_day for day in bad_days})
        lines = [
            f"  {day.landing_day} {day.asset} {day.outcome}: {'; '.join(day.problems)}" for day in bad_days
        ]
        super().__init__(
            f"{len(days)} landing {'day is' if len(days) == 1 else 'days are'} not complete; the others went through. "
            "Mend what is named, then run these days again (`longbox quarantine list` shows files and rows put "
            "aside):\n"
            + "\n".join([*lines, *(["Beside that:"] if notes else []), *(f"  {note}" for note in notes)])
        )


class DayError(LongboxError):
    """The landing day of a one-day run failed."""


@dataclass(frozen=True)
class BadDay:
    """A landing day that is not complete at an asset, and why."""

    landing_day: dt.date
    asset: str
    outcome: str
    problems: tuple[str, ...]


def bad_days(database: Database, assets: Sequence[str], days: Sequence[dt.date]) -> list[BadDay]:
    """The days of `days` that failed or are incomplete at one of `assets`, in order. Reads only."""
    with database.connection() as connection:
        rows = connection.execute(
            _SQL["day_outcomes"], {"assets": list(assets), "days": list(days)}
        ).fetchall()
    found = [
        BadDay(day, asset, outcome, tuple(str(problem) for problem in problems))
        for asset, day, outcome, problems in cast("list[tuple[str, dt.date, str, list[object]]]", rows)
    ]
    return [day for day in found if day.outcome != "complete"]


def days_to_work_on(
    database: Database, days: Sequence[dt.date], *, asset: str, upstream: str, run_id: str | None
) -> list[dt.date]:
    """`days` without those that failed at `upstream`; these are recorded as failed at `asset` too. One transaction."""
    failed = {day.landing_day for day in bad_days(database, [upstream], days) if day.outcome == "failed"}
    for day in sorted(failed):
        record_day(database, asset, day, "failed", {}, [f"{upstream} failed on this day"], run_id)
    return [day for day in days if day not in failed]


def record_day(
    database: Database,
    asset: str,
    landing_day: dt.date,
    outcome: str,
    counts: Mapping[str, int],
    problems: Sequence[str],
    run_id: str | None,
) -> None:
    """`pipelines.catalog.days.record_day` in a transaction of its own."""
    with database.connection() as connection:
        catalogue.record_day(connection, asset, landing_day, outcome, counts, problems, run_id)


def day_totals(database: Database, asset: str, days: Sequence[dt.date]) -> dict[str, int]:
    """Every count that `asset` kept for `days`, summed."""
    with database.connection() as connection:
        rows = connection.execute(_SQL["day_totals"], {"asset": asset, "days": list(days)}).fetchall()
    return dict(cast("list[tuple[str, int]]", rows))


def put_aside(database: Database, assets: Sequence[str], days: Sequence[dt.date]) -> list[str]:
    """How many rows in the files of `days` were put aside at `assets`, in words, an asset each.

    Days without any are left out. Rows of contents that were replaced since are told beside them, not among them.
    """
    with database.connection() as connection:
        rows = connection.execute(_SQL["put_aside"], {"assets": list(assets), "days": list(days)}).fetchall()
    return [
        f"{asset}: {aside:,} of {in_files:,} rows were put aside"
        + (f", and {before:,} of files that were replaced since" if before else "")
        for asset, aside, in_files, before in cast("list[tuple[str, int, int, int]]", rows)
    ]


def waiting_in_quarantine(database: Database) -> tuple[int, int]:
    """How many rows, and how many whole files, were put aside and are still open."""
    with database.connection() as connection:
        return cast("tuple[int, int]", connection.execute(_SQL["count_open"]).fetchone())


def days_without_result(database: Database, asset: str, first: dt.date, last: dt.date) -> tuple[dt.date, ...]:
    """The days from `first` to `last` on which `asset` has no result but failures."""
    with database.connection() as connection:
        rows = connection.execute(
            _SQL["days_with_result"], {"asset": asset, "first": first, "last": last}
        ).fetchall()
    done = {cast("tuple[dt.date]", row)[0] for row in rows}
    every = (first + dt.timedelta(days=number) for number in range((last - first).days + 1))
    return tuple(day for day in every if day not in done)

"""Comics' aggregation: the price statistics of exactly the windows and periods that landing days touched.

A window is a calendar month of one comic and grade band. Flags (outliers, second listings) depend on the neighbours in
the window, so they are set here, first; then days, weeks and the month are computed from all their rows. The statements
and their rules are in `sql/aggregate.sql`; `recompute` checks them by other means.
"""

import datetime as dt
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader

from pipelines.aggregation import ViewRefresh, refresh_view
from pipelines.catalog.days import failed_days, record_day
from pipelines.normalisation.batch import lock_relation
from resources.database import Connection, Database
from resources.errors import LongboxError
from resources.sql import Queries

QUERIES = Queries.of("assets.comics")
SOURCE = "comics.pricing_data_normalized"
TARGET = "comics.pricing_data_aggregated"
SOURCE_ASSET = "comics/pricing_data_normalized"
ASSET = "comics/pricing_data_aggregated"
BATCH_DAYS = 50_000
LEAST_SALES = 5  # below, a median and a MAD say nothing about a sale
VIEWS = (
    "market_prices",
    "collection_values",
    "trending_comics",
    "market_insights",
)
STATISTICS = (
    "sale_count", "outlier_count", "cross_listed_count", "volume_usd", "min_usd", "p25_usd", "median_usd", "p75_usd",
    "max_usd", "mean_usd", "stddev_usd",
)  # fmt: skip

SaleDay = tuple[str, str, dt.date]  # comic, band, day: of which something changed


@dataclass(frozen=True)
class AggregatedRun:
    """What aggregating some landing days did. `failed_days` failed upstream and were left out."""

    days: tuple[dt.date, ...]
    failed_days: tuple[dt.date, ...] = ()
    windows: int = 0
    flags_changed: int = 0
    periods_written: int = 0
    periods_deleted: int = 0
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """The numbers of the run, by name."""
        return {
            "windows": self.windows,
            "flags_changed": self.flags_changed,
            "periods_written": self.periods_written,
            "periods_deleted": self.periods_deleted,
        }


def aggregate_days(
    database: Database,
    days: Sequence[dt.date],
    run_id: str | None = None,
    on_batch: Callable[[int], None] | None = None,
    *,
    batch_days: int = BATCH_DAYS,
) -> AggregatedRun:
    """Recompute the windows that `days` touched, in one pass over their union. Idempotent, exact in any order.

    A transaction a batch of comics (`batch_days`: of how many sale days about), under the locks of both tables; rows
    that stay the same are not written, and what the batch has taken in of `longbox.touched` goes with it: after a kill
    the rest is there. A landing day that was aggregated before is computed anew from all that landed on it. Days whose
    normalisation failed are left out and recorded as failed. `on_batch` hears how many windows are done.
    """
    started = time.monotonic()
    with database.connection() as connection:
        failed = failed_days(connection, SOURCE_ASSET, days)
        sound = [day for day in days if day not in failed]
        rows = connection.execute(QUERIES["windows_by_day"], {"source": SOURCE, "days": sound}).fetchall()
    touched = cast("dict[dt.date, int]", dict(rows))  # type: ignore[arg-type]
    try:
        done = flagged = written = deleted = 0
        for batch in _batches(_changed_days(database, sound, batch_days), batch_days):
            with database.connection() as connection:
                windows, *counts = _aggregate(connection, batch, sound)
            flagged, written, deleted = flagged + counts[0], written + counts[1], deleted + counts[2]
            done += windows
            if on_batch is not None:
                on_batch(done)
    except (LongboxError, psycopg.Error) as error:
        _record(database, {day: {} for day in sound}, "failed", [str(error)], run_id)
        raise
    _record(database, {day: {"windows": touched.get(day, 0)} for day in sound}, "complete", [], run_id)
    problem = f"failed at {SOURCE_ASSET}; mend that, then materialise the day again"
    _record(database, {day: {} for day in failed}, "failed", [problem], run_id)
    seconds = time.monotonic() - started
    return AggregatedRun(tuple(sound), tuple(sorted(failed)), done, flagged, written, deleted, seconds)


def refresh_views(database: Database) -> list[ViewRefresh]:
    """Refresh the materialised views in the order in which they build on each other, a transaction each."""
    return [refresh_view(database, "comics", name) for name in VIEWS]


def _changed_days(database: Database, days: Sequence[dt.date], page: int) -> Iterator[SaleDay]:
    """What there is to recompute, by comic, from a cursor on the server: memory stays bounded."""
    with database.connection() as connection:
        known = {"asset": ASSET, "days": list(days)}
        again = [row[0] for row in connection.execute(QUERIES["days_again"], known)]
        with connection.cursor(name="changed_days") as cursor:
            cursor.adapters.register_loader("uuid", TextLoader)  # they only go back to the server
            scope = {"source": SOURCE, "days": list(days), "again": again}
            cursor.execute(QUERIES["all_days" if again else "pending_days"], scope)
            while rows := cursor.fetchmany(page):
                yield from cast("list[SaleDay]", rows)


def _batches(days: Iterator[SaleDay], size: int) -> Iterator[list[SaleDay]]:
    """Whole comics together: a week over two months then sees the flags of both."""
    batch: list[SaleDay] = []
    for _, of_comic in itertools.groupby(days, key=lambda day: day[0]):
        batch.extend(of_comic)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _aggregate(
    connection: Connection, changed: Sequence[SaleDay], landing_days: Sequence[dt.date]
) -> tuple[int, int, int, int]:
    """One batch: windows, flags changed, periods written, periods deleted."""
    lock_relation(connection, SOURCE)
    lock_relation(connection, TARGET)
    connection.execute(QUERIES.compose("create_batch", **_PARTS))
    windows = _stage(connection, changed)
    comics = {"first_comic": changed[0][0], "last_comic": changed[-1][0]}
    months = [_bounds(month) | comics for month in windows]
    flagged = sum(_run(connection, "flag_month", month).rowcount for month in months)
    written = deleted = 0
    for month in months:
        _run(connection, "compute_month", month)
        connection.execute(QUERIES["probe_only"])
        counts = _run(connection, "write_periods", {}).fetchone()
        connection.execute(QUERIES["plan_freely"])
        written, deleted = written + counts[0], deleted + counts[1]
        connection.execute(QUERIES["clear_fresh"])
    connection.execute(QUERIES["hash_only"])
    connection.execute(QUERIES["forget_touched"], {"source": SOURCE, "days": list(landing_days)})
    return sum(windows.values()), flagged, written, deleted


def _stage(connection: Connection, changed: Sequence[SaleDay]) -> dict[dt.date, int]:
    """Give the batch its windows and days; returns the number of windows of each month, in order."""
    windows: dict[SaleDay, int] = {}
    numbers = [
        windows.setdefault((comic, band, day.replace(day=1)), len(windows)) for comic, band, day in changed
    ]
    with connection.cursor() as cursor:
        with cursor.copy(QUERIES["copy_windows"]) as copy:
            for window, number in windows.items():
                copy.write_row((number, *window))
        with cursor.copy(QUERIES["copy_days"]) as copy:
            for number, day in zip(numbers, changed, strict=True):
                copy.write_row((number, day[2]))
    connection.execute(QUERIES["analyse_windows"])
    return dict(sorted(Counter(month for _, _, month in windows).items()))


def _run(connection: Connection, name: str, month: Mapping[str, object]) -> Any:
    # Values as literals: the planner leaves other months' partitions out only when it sees them.
    parts = {key: sql.Literal(value) for key, value in month.items()}
    return connection.execute(QUERIES.compose(name, **_PARTS, **parts), prepare=False)


def _bounds(month: dt.date) -> dict[str, object]:
    next_month = (month + dt.timedelta(days=32)).replace(day=1)
    last_day = next_month - dt.timedelta(days=1)
    return {
        "month": month,
        "next_month": next_month,
        "first_monday": month - dt.timedelta(days=month.weekday()),
        "after_last_week": last_day + dt.timedelta(days=7 - last_day.weekday()),
    }


def _record(
    database: Database, days: Mapping[dt.date, Mapping[str, int]], outcome: str, problems: Sequence[str],
    run_id: str | None,
) -> None:  # fmt: skip
    with database.connection() as connection:
        for day, counts in days.items():
            record_day(connection, ASSET, day, outcome, counts, problems, run_id)


def _listed(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names
    )


_PARTS: dict[str, Any] = {
    "columns": _listed(STATISTICS),
    "kept_columns": _listed(STATISTICS, "kept"),
    "fresh_columns": _listed(STATISTICS, "fresh"),
    "least": sql.Literal(LEAST_SALES),
    **{
        f"p{25 * quarters}": QUERIES.compose("percentile", quarters=sql.Literal(quarters))
        for quarters in (1, 2, 3)
    },
    "assignments": sql.SQL(", ").join(
        [
            *(sql.SQL("{0} = fresh.{0}").format(sql.Identifier(name)) for name in STATISTICS),
            sql.SQL("computed_at = now()"),
        ]
    ),
}

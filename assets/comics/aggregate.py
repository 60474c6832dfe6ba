"""Comics' aggregation: the price statistics of exactly the windows and periods that landing days touched.

A window is a calendar month of one comic and grade band. Flags (outliers, second listings) depend on the neighbours in
the window, so they are set here, first; then days, weeks and the month are computed from all their rows. The statements
and their rules are in `sql/aggregate.sql`; `recompute` checks them by other means.
"""

import datetime as dt
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader

from assets.comics.parts import Part, all_parts, one_part
from pipelines.aggregation import ViewRefresh, refresh_view
from pipelines.catalog.days import failed_days, record_day
from resources.database import Connection, Database
from resources.errors import LongboxError
from resources.runtime import at_once
from resources.sql import Queries

QUERIES = Queries.of("assets.comics")
SOURCE = "comics.pricing_data_normalized"
TARGET = "comics.pricing_data_aggregated"
SOURCE_ASSET = "comics/pricing_data_normalized"
ASSET = "comics/pricing_data_aggregated"
BATCH_DAYS = 50_000
PARTS_FROM = 4_000  # fewer windows are computed before a second connection has brought anything
LEAST_SALES = 5  # below, a median and a MAD say nothing about a sale
# Those of a line do not read each other, those of the second read market_prices.
VIEWS = (
    ("market_prices", "trending_comics"),
    ("collection_values", "market_insights"),
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
    parts_from: int = PARTS_FROM,
) -> AggregatedRun:
    """Recompute the windows that `days` touched, in one pass over their union. Idempotent, exact in any order.

    Where about `parts_from` sales or more are to be looked at, in parts of the comics at the same time. A transaction a
    batch of comics (`batch_days`: of how many sale days about), under the locks of `Part`; rows that stay the same are
    not written, and what the batch has taken in of `longbox.touched` goes with it: after a kill the rest is there. A
    landing day that was aggregated before is computed anew from all that landed on it. Days whose normalisation failed
    are left out and recorded as failed. `on_batch` hears how many windows are done, on the thread that did them.
    """
    started = time.monotonic()
    with database.connection() as connection:
        failed = failed_days(connection, SOURCE_ASSET, days)
        sound = [day for day in days if day not in failed]
        rows = connection.execute(QUERIES["windows_by_day"], {"source": SOURCE, "days": sound}).fetchall()
        touched = cast("dict[dt.date, int]", dict(rows))  # type: ignore[arg-type]
        again = _days_again(connection, sound)
        is_much = sum(touched.values()) + _landed_rows(connection, again) >= parts_from
    work = _Work(database, tuple(sound), tuple(again), batch_days, on_batch)
    try:
        at_once([partial(work.do, part) for part in (all_parts() if is_much else [one_part()])], work.stop)
    except (LongboxError, psycopg.Error) as error:
        _record(database, {day: {} for day in sound}, "failed", [str(error)], run_id)
        raise
    _record(database, {day: {"windows": touched.get(day, 0)} for day in sound}, "complete", [], run_id)
    problem = f"failed at {SOURCE_ASSET}; mend that, then materialise the day again"
    _record(database, {day: {} for day in failed}, "failed", [problem], run_id)
    seconds = time.monotonic() - started
    return AggregatedRun(tuple(sound), tuple(sorted(failed)), *work.done, seconds)


def refresh_views(database: Database) -> list[ViewRefresh]:
    """Refresh the materialised views, a transaction each: at the same time those that do not read each other."""
    return [
        view
        for names in VIEWS
        for view in at_once([partial(refresh_view, database, "comics", name) for name in names])
    ]


@dataclass
class _Work:
    """What one call aggregates, and how far it is: windows, flags changed, periods written, periods deleted."""

    database: Database
    days: Sequence[dt.date]
    again: Sequence[dt.date]
    batch_days: int
    on_batch: Callable[[int], None] | None
    done: tuple[int, int, int, int] = (0, 0, 0, 0)
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def do(self, part: Part) -> None:
        """One part, batch by batch, unless another part has failed."""
        with closing(self._changed_days(part)) as changed:
            for batch in _batches(changed, self.batch_days):
                if self.stop.is_set():
                    return
                with self.database.connection() as connection:
                    part.lock(connection, SOURCE, TARGET)
                    counts = _aggregate(connection, batch, self.days)
                self._count(counts)

    def _count(self, counts: tuple[int, int, int, int]) -> None:
        with self._lock:
            self.done = cast(
                "tuple[int, int, int, int]", tuple(map(sum, zip(self.done, counts, strict=True)))
            )
            if self.on_batch is not None:
                self.on_batch(self.done[0])

    def _changed_days(self, part: Part) -> Generator[SaleDay]:
        """What there is to recompute, by comic, from a cursor on the server: memory stays bounded."""
        scope = {"source": SOURCE, "days": list(self.days), "again": list(self.again)}
        scope |= {"first": part.first, "last": part.last}
        with self.database.connection() as connection, connection.cursor(name="changed_days") as cursor:
            cursor.adapters.register_loader("uuid", TextLoader)  # they only go back to the server
            cursor.execute(QUERIES["all_days" if self.again else "pending_days"], scope)
            while rows := cursor.fetchmany(self.batch_days):
                yield from cast("list[SaleDay]", rows)


def _days_again(connection: Connection, days: Sequence[dt.date]) -> list[dt.date]:
    rows = connection.execute(QUERIES["days_again"], {"asset": ASSET, "days": list(days)})
    return [cast(dt.date, row[0]) for row in rows]


def _landed_rows(connection: Connection, days: Sequence[dt.date]) -> int:
    row = connection.execute(QUERIES["landed_rows"], {"days": list(days)}).fetchone() if days else None
    return cast(tuple[int], row)[0] if row else 0


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
    """One batch, whose comics the caller has locked: windows, flags changed, periods written, periods deleted."""
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

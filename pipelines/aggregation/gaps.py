"""Gaps in a series: the steps between its first row and its last that have no current row, kept by landing day.

A landing day changes gaps only between the rows next to those it touched, so that no more of a series is read than
that. Steps lie on UTC's clock and have no breaks: a market that closes has gaps while it is closed. Rows that are no
longer in PostgreSQL open no gap: before its first row there a series is not looked at.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, LiteralString, cast

from psycopg import sql

from pipelines.aggregation.job import (
    QUERIES,
    AggregateResult,
    begin_groups,
    count_groups,
    loads_of_days,
    recorded_run,
    statements_of,
    touch_all_groups,
    touch_groups,
)
from pipelines.aggregation.statements import Statements
from pipelines.catalog.model import Aggregate, Gaps, System
from pipelines.catalog.values import bin_minutes
from resources.database import Connection, Database

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Gap:
    """Steps missing from `gap_from` until before `gap_to`, in the series that the values of `by` name."""

    series: tuple[Any, ...]
    gap_from: dt.datetime
    gap_to: dt.datetime
    missing_count: int

    def __str__(self) -> str:
        name = ", ".join(map(str, self.series))
        span = f"{self.gap_from:%Y-%m-%d %H:%M} to {self.gap_to:%Y-%m-%d %H:%M}"
        return f"{name}: {self.missing_count:,} missing from {span}"


@dataclass(frozen=True)
class GapsJob:
    """What keeping one table of gaps needs."""

    database: Database
    system: System
    gaps: Gaps
    run_id: str | None = None

    @property
    def asset(self) -> str:
        """The asset whose day results these are: `<system>/<gaps>`."""
        return f"{self.system.name}/{self.gaps.name}"

    @property
    def source_asset(self) -> str:
        """The asset of the series."""
        return f"{self.system.name}/{self.gaps.from_}"

    @cached_property
    def steps(self) -> Aggregate:
        """The steps of the series as groups of an aggregate."""
        return self.gaps.steps(cast(str, self.system.tables[self.gaps.from_].time))

    def newest(self, count: int = 10) -> tuple[int, list[Gap]]:
        """How many gaps there are, and the `count` that end last. Reads only."""
        by = _listed(self.gaps.by)
        table = sql.Identifier(self.system.name, self.gaps.name)
        with self.database.connection() as connection:
            query = QUERIES.compose("newest_gaps", by=by, gaps=table)
            rows = connection.execute(query, {"count": count}).fetchall()
        found = [Gap(tuple(row[1:-3]), *cast("tuple[Any, Any, Any]", tuple(row[-3:]))) for row in rows]
        return (cast(int, rows[0][0]) if rows else 0), found


def find_gaps(job: GapsJob, days: Sequence[dt.date]) -> AggregateResult:
    """Bring the gaps around everything that `days` touched up to date. Idempotent and exact in any order of days.

    `groups` counts the touched steps. Days whose load failed are left out; two runs at once take turns.
    """
    return recorded_run(job, days, lambda connection, sound: _find(connection, job, sound))


def _find(connection: Connection, job: GapsJob, days: Sequence[dt.date]) -> tuple[int, int, int]:
    statements = statements_of(connection, job.system, job.steps)
    begin_groups(connection, statements)
    if statements.feed_ids:
        touch_groups(connection, statements, loads_of_days(connection, statements, days), days)
    else:
        touch_all_groups(connection, statements)
    touched = count_groups(connection)
    parts = _parts(job, statements)
    connection.execute(QUERIES.compose("create_spans", **parts), prepare=False)
    connection.execute(QUERIES.compose("create_fresh_gaps", **parts), prepare=False)
    deleted = connection.execute(QUERIES.compose("delete_closed_gaps", **parts)).rowcount
    written = connection.execute(QUERIES.compose("upsert_gaps", **parts)).rowcount
    return touched, written, deleted


def _parts(job: GapsJob, statements: Statements) -> dict[str, sql.Composable]:
    minutes = bin_minutes(job.gaps.every)
    step = _DAY if minutes is None else dt.timedelta(minutes=minutes)
    time = sql.Identifier("source", cast(str, job.system.tables[job.gaps.from_].time))
    columns = statements.parts()
    return {
        "gaps": columns["aggregate"],
        "source": columns["source"],
        "is_current": columns["is_current"],
        "by": _listed(job.gaps.by),
        "span_by": _listed(job.gaps.by, "span"),
        "fresh_by": _listed(job.gaps.by, "fresh"),
        "kept_by": _listed(job.gaps.by, "kept"),
        "is_named": _all("{} IS NOT NULL", [(name,) for name in job.gaps.by]),
        "same_series": _all("{} = {}", [(("source", name), ("span", name)) for name in job.gaps.by]),
        "time": time,
        "step_of": sql.SQL("({})::timestamptz").format(statements.group_value(job.steps.groups[-1])),
        "step": sql.Literal(step),
    }


def _all(condition: LiteralString, columns: Sequence[Sequence[Any]]) -> sql.Composed:
    """`condition` of each of the columns."""
    each = [
        sql.SQL(condition).format(
            *(sql.Identifier(*([part] if isinstance(part, str) else part)) for part in parts)
        )
        for parts in columns
    ]
    return sql.SQL(" AND ").join(each)


def _listed(names: Sequence[str], alias: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names
    )

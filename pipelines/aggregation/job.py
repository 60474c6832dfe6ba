"""Recomputing a declared aggregate: exactly the groups that landing days touched, from all their current rows.

What of a day was taken in before is remembered (`taken_in`), so that a day that runs again costs what came since.
So the table is the same whatever the order of the days and however often they are run. One transaction a run.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import psycopg
from psycopg import sql

from pipelines.aggregation.sample import measure_values, same_value
from pipelines.aggregation.statements import Statements
from pipelines.aggregation.taken_in import forget_taken_in, take_in
from pipelines.catalog.days import failed_days, record_days
from pipelines.catalog.job_names import daily_pipeline_of
from pipelines.catalog.model import Aggregate, System
from pipelines.catalog.shape import table_shape
from resources.database import Connection, Database
from resources.errors import LongboxError
from resources.sql import Queries

QUERIES = Queries.of("pipelines.aggregation")
SHOWN_DAYS = 5


@dataclass(frozen=True)
class AggregateJob:
    """What computing one aggregate needs."""

    database: Database
    system: System
    aggregate: Aggregate
    run_id: str | None = None

    @property
    def asset(self) -> str:
        """The asset whose day results these are: `<system>/<aggregate>`."""
        return f"{self.system.name}/{self.aggregate.name}"

    @property
    def source_asset(self) -> str:
        """The asset it is computed from."""
        return f"{self.system.name}/{self.aggregate.from_}"

    def recompute_sample(self, count: int = 50, seed: int = 0) -> list[str]:
        """Compare at most `count` groups with a plain recomputation; mismatches in words, [] when equal. Reads only.

        Floats, and percentiles (which go through floats), are equal within 1e-9 of their size. Groups that the run of a
        landing day computes anew, as after a replay of the quarantine, come first, after the days and the command.
        """
        with self.database.connection() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            statements = self.statements(connection)
            parts = statements.parts()
            query = QUERIES.compose("sample_groups", **parts)
            kept = connection.execute(query, {"seed": seed, "count": count}).fetchall()
            found = ((row, self._problems(connection, statements, row)) for row in kept)
            differ = [(row, problems) for row, problems in found if problems]
            if not differ:
                return []
            days = self._days_to_run(connection, statements)
            waits = [self._is_touched(connection, statements, row, days) for row, _ in differ]
        told = [self._what_to_run(days, sum(waits))] if any(waits) else []
        for wanted in (True, False):
            told += [
                p
                for (_, problems), is_so in zip(differ, waits, strict=True)
                if is_so == wanted
                for p in problems
            ]
        return told

    def _days_to_run(self, connection: Connection, statements: Statements) -> list[dt.date]:
        """The landing days of whose rows the aggregate has not taken all in yet."""
        scope: dict[str, Any] = {"feeds": list(statements.feed_ids), "asset": self.asset}
        return [cast(dt.date, row[0]) for row in connection.execute(QUERIES["days_to_run"], scope)]

    def _is_touched(
        self, connection: Connection, statements: Statements, row: Sequence[Any], days: Sequence[dt.date]
    ) -> bool:
        """Whether the run of `days` computes the group of `row` anew."""
        if not days:
            return False
        group = statements.same_group(row[: len(self.aggregate.groups)])
        query = QUERIES.compose("is_touched", **statements.parts(), same_group=group)
        scope = {"feeds": list(statements.feed_ids), "days": list(days)}
        return connection.execute(query, scope, prepare=False).fetchone() == (True,)

    def _what_to_run(self, days: Sequence[dt.date], groups: int) -> str:
        shown = ", ".join(map(str, days[:SHOWN_DAYS]))
        more = f" and {len(days) - SHOWN_DAYS} more" if len(days) > SHOWN_DAYS else ""
        command = f"longbox run {daily_pipeline_of(self.system)} --date {days[0]}"
        return (
            f"{self.asset}: {groups} of the groups named below, the first ones, {'waits' if groups == 1 else 'wait'} "
            f"for the run of landing days whose rows were loaded, or replayed, since they last ran: {shown}{more}; "
            f"run them, as in `{command}`"
        )

    def forget(self) -> None:
        """Have the next run of any day compute all that the day touched: what is in the table is not to be trusted."""
        with self.database.connection() as connection:
            forget_taken_in(connection, self.asset)

    def statements(self, connection: Connection) -> Statements:
        """The parts of its SQL, after a look at the tables as they are."""
        return statements_of(connection, self.system, self.aggregate)

    def _problems(self, connection: Connection, statements: Statements, row: Sequence[Any]) -> list[str]:
        width = len(self.aggregate.groups)
        calls = self.aggregate.calls
        columns = [column for call in calls.values() for column in call.columns]
        parts = statements.parts() | {"same_group": statements.same_group(row[:width])}
        values = connection.execute(
            QUERIES.compose("values_of_group", values=_values(columns), order=statements.order, **parts),
            prepare=False,
        ).fetchall()
        fresh = measure_values(calls, values)
        name = ", ".join(str(value) for value in row[:width])
        if not values:
            return [f"{self.asset} ({name}): in the table, but there is no such row"]
        return [
            f"{self.asset} ({name}): {column} is {stands}, should be {fresh[column]}"
            for column, stands in zip(calls, row[width:], strict=True)
            if not same_value(stands, fresh[column])
        ]


def statements_of(connection: Connection, system: System, aggregate: Aggregate) -> Statements:
    """The parts of an aggregate's SQL, after a look at the tables as they are."""
    feeds = system.feeds_of(aggregate.from_)
    names = {"system": system.name, "names": [feed.name for feed in feeds], "declared": list(system.feeds)}
    ids = tuple(cast(int, row[0]) for row in connection.execute(QUERIES["feed_ids"], names))
    has_others = connection.execute(QUERIES["has_other_feeds"], names).fetchone() == (True,)
    source = table_shape(connection, system.name, aggregate.from_)
    target = table_shape(connection, system.name, aggregate.name)
    return Statements(system, aggregate, source, target, ids, has_others)


@dataclass(frozen=True)
class AggregateResult:
    """What aggregating some landing days did. `failed_days` failed upstream and were left out."""

    days: tuple[dt.date, ...]
    failed_days: tuple[dt.date, ...] = ()
    groups: int = 0
    rows_written: int = 0
    rows_deleted: int = 0

    def counts(self) -> dict[str, int]:
        """The numbers of the run, by name."""
        return {"groups": self.groups, "rows_written": self.rows_written, "rows_deleted": self.rows_deleted}


def aggregate_days(job: AggregateJob, days: Sequence[dt.date]) -> AggregateResult:
    """Recompute the groups that `days` touched since they were taken in. Idempotent; rows that stay are not written.

    Days whose load failed are left out and recorded as failed. Two runs at once take turns.
    """
    return recorded_run(job, days, lambda connection, sound: _aggregate(connection, job, sound))


class DaysJob(Protocol):
    """What computes a table from another by landing days."""

    @property
    def database(self) -> Database: ...
    @property
    def run_id(self) -> str | None: ...
    @property
    def asset(self) -> str: ...
    @property
    def source_asset(self) -> str: ...


def recorded_run(
    job: DaysJob,
    days: Sequence[dt.date],
    work: Callable[[Connection, tuple[dt.date, ...]], tuple[int, int, int]],
) -> AggregateResult:
    """Do `work` over the days whose load did not fail, in one transaction, and record how each day went.

    `work` returns groups, rows written, rows deleted.
    """
    with job.database.connection() as connection:
        failed = tuple(sorted(failed_days(connection, job.source_asset, days)))
    sound = tuple(day for day in days if day not in failed)
    result = AggregateResult(sound, failed)
    try:
        if sound:
            with job.database.connection() as connection:
                result = AggregateResult(sound, failed, *work(connection, sound))
    except (LongboxError, psycopg.Error) as error:
        _record(job, sound, "failed", {}, [str(error)])
        raise
    _record(job, sound, "complete", result.counts(), [])
    _record(
        job,
        failed,
        "failed",
        {},
        [f"failed at {job.source_asset}; mend that, then materialise the day again"],
    )
    return result


def begin_groups(connection: Connection, statements: Statements) -> None:
    """Lock the computed table for this transaction; no group is touched yet."""
    connection.execute(QUERIES["lock_relation"], {"relation": statements.relation})
    connection.execute(QUERIES.compose("create_groups", **statements.parts()))


def loads_of_days(connection: Connection, statements: Statements, days: Sequence[dt.date]) -> list[int]:
    """The loads of `days` that hold rows."""
    scope = {"feeds": list(statements.feed_ids), "days": list(days)}
    return [cast(int, row[0]) for row in connection.execute(QUERIES["loads_of_days"], scope)]


def touch_groups(
    connection: Connection, statements: Statements, loads: Sequence[int], days: Sequence[dt.date]
) -> None:
    """List the groups of the rows of `loads`, and of the records that switched versions on `days`."""
    scope = {"feeds": list(statements.feed_ids), "loads": list(loads), "days": list(days)}
    connection.execute(QUERIES.compose("touch_groups", **statements.parts()), scope, prepare=False)


def touch_all_groups(connection: Connection, statements: Statements) -> None:
    """List every group of a table that no feed is to load: nothing tells what changed in it. Else there is none yet."""
    if not statements.system.feeds_of(statements.aggregate.from_):
        connection.execute(QUERIES.compose("touch_all_groups", **statements.parts()), prepare=False)


def count_groups(connection: Connection) -> int:
    """How many groups are touched; the planner knows it then too."""
    connection.execute(QUERIES["analyse_groups"])
    return cast(tuple[int], connection.execute(QUERIES["count_groups"]).fetchone())[0]


def _aggregate(connection: Connection, job: AggregateJob, days: Sequence[dt.date]) -> tuple[int, int, int]:
    statements = job.statements(connection)
    parts = statements.parts()
    begin_groups(connection, statements)
    if statements.feed_ids:
        _touch_news(connection, job, statements, days)
    else:
        touch_all_groups(connection, statements)
    groups = count_groups(connection)
    written = deleted = 0
    for first, last in _chunks(connection, statements, parts):
        bounded = {**parts, **statements.bounds(first, last)}
        connection.execute(QUERIES.compose("compute_groups", **bounded), prepare=False)
        deleted += connection.execute(QUERIES.compose("delete_vanished", **bounded), prepare=False).rowcount
        written += connection.execute(QUERIES.compose("upsert_changed", **bounded), prepare=False).rowcount
        connection.execute(QUERIES["clear_fresh"])
    return groups, written, deleted


def _touch_news(
    connection: Connection, job: AggregateJob, statements: Statements, days: Sequence[dt.date]
) -> None:
    parts = statements.parts()
    meaning = QUERIES.compose("compute_groups", **parts, **statements.bounds_left_open())
    news = take_in(connection, job.asset, statements, days, meaning.as_string(connection))
    if news.days:
        touch_groups(connection, statements, news.loads, news.days)
    if news.known_loads:
        query = QUERIES.compose("touch_missing_groups", **parts)
        connection.execute(query, {"loads": list(news.known_loads)}, prepare=False)


def _chunks(
    connection: Connection, statements: Statements, parts: Mapping[str, Any]
) -> list[tuple[Any, Any]]:
    if statements.time_group is None:
        return [(None, None)]
    return cast("list[tuple[Any, Any]]", connection.execute(QUERIES.compose("chunks", **parts)).fetchall())


def _record(
    job: DaysJob,
    days: Sequence[dt.date],
    outcome: str,
    counts: Mapping[str, int],
    problems: Sequence[str],
) -> None:
    with job.database.connection() as connection:
        record_days(connection, job.asset, days, outcome, counts, problems, job.run_id)


def _values(columns: Sequence[str]) -> sql.Composable:
    """The columns as a select list; a group whose only measure is a count has none."""
    values = [sql.Identifier("source", name) for name in columns]
    return sql.SQL(", ").join(values) if values else sql.SQL("1")

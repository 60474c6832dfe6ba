"""Copying a table in batches and keeping the copy in step while others write: marks say what to look at again.

A mark is a key. Under one snapshot the marked rows of the copy are removed, the rows as they are now put in, and the
marks taken away: whatever is committed later has left a mark of its own. So at every snapshot, rows without a mark
are equal on both sides, which `verify` checks to the letter while writers go on.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import sql

from pipelines.adoption.errors import RefusedError
from pipelines.adoption.facts import AnyConnection
from pipelines.adoption.job import COPIED, COPYING, SWITCHED, Job
from pipelines.catalog.partitions import ensure_partitions
from resources.sql import Queries

BATCH_ROWS = 5_000
BATCH_MARKS = 20_000
CATCH_UP_BELOW_MARKS = 5_000  # few enough to carry over while a switch holds its locks
_SQL = Queries.of("pipelines.adoption")
_CATALOG = Queries.of("pipelines.catalog")
Step = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """The comparison of both tables: equal rows, marked rows left out of it, and the periods that differ."""

    rows: int
    marked: int
    periods: int
    content_hash: str
    different: tuple[str, ...]


def copy_rows(connection: AnyConnection, job: Job, step: Step, *, batch_rows: int = BATCH_ROWS) -> Job:
    """Copy what is left, a transaction a batch, in the order of the primary key; no lock that a writer meets."""
    while job.phase == COPYING:
        with connection.transaction():
            job = _copy_batch(connection, job, batch_rows)
        step("batch copied")
    return job


def catch_up(connection: AnyConnection, job: Job, step: Step = lambda _: None) -> None:
    """Settle every mark that was there at the start; ends however fast others write."""
    with connection.transaction():
        row = connection.execute(_SQL.compose("newest_mark", marks=job.target.marks)).fetchone()
    goal = cast(int, row[0]) if row else 0
    settled: int | None = 0
    while settled is not None and settled < goal:
        settled = apply_marks(connection, job)
        step("marks applied")


def apply_marks(connection: AnyConnection, job: Job, limit: int = BATCH_MARKS) -> int | None:
    """Settle the oldest `limit` marks in one transaction; returns the newest of them, None when there was none.

    Rows that are marked together may depend on each other (a value of a unique column that moved from one to
    another); a batch that cut them apart is tried again, larger.
    """
    while True:
        try:
            with connection.transaction():
                return settle(connection, job, limit)
        except psycopg.errors.UniqueViolation as error:
            with connection.transaction():
                waiting = count_marks(connection, job, limit + 1)
            if waiting <= limit:
                raise RefusedError(_not_unique(job, error)) from error
            limit *= 10


def settle(connection: AnyConnection, job: Job, limit: int) -> int | None:
    """`apply_marks` inside the caller's transaction, whose snapshot must not be older than its locks."""
    parts = job.parts()
    row = connection.execute(
        _SQL.compose("batch_of_marks", marks=parts["marks"]), {"limit": limit}
    ).fetchone()
    newest, truncated = cast("tuple[int | None, int | None]", row)
    if newest is None:
        return None
    if truncated is not None:
        connection.execute(_SQL.compose("empty_target", target=parts["target"]))
    parts["newest"] = sql.Literal(newest)
    connection.execute(_compose("remove_marked", parts))
    if job.phase != SWITCHED:
        _make_partitions(connection, job, connection.execute(_compose("periods_of_marked", parts)).fetchall())
    connection.execute(_compose("insert_marked", parts))
    connection.execute(_compose("remove_marks", parts))
    return newest


def count_marks(connection: AnyConnection, job: Job, limit: int) -> int:
    """How many marks wait, counted up to `limit`."""
    row = connection.execute(_SQL.compose("count_marks", marks=job.target.marks), {"limit": limit}).fetchone()
    return cast(int, row[0]) if row else 0


def verify(connection: AnyConnection, job: Job) -> Verdict:
    """Compare both tables period by period under one snapshot: count and order-free hash of every unmarked row."""
    with connection.transaction(force_rollback=True):
        connection.execute(_CATALOG["pin_output"])
        here, there = (_digest(connection, job, table) for table in (job.source, job.other))
        marked = count_marks(connection, job, 1_000_000)
    different = sorted(
        period for period in here.keys() | there.keys() if here.get(period) != there.get(period)
    )
    total = sum(int(content) for _, content in here.values()) % (1 << 128)
    return Verdict(
        sum(count for count, _ in here.values()), marked, len(here), f"{total:032x}", tuple(different)
    )


def mark_periods(connection: AnyConnection, job: Job, periods: tuple[str, ...]) -> None:
    """Have every row of these periods looked at again, on both sides."""
    parts = job.parts()
    with connection.transaction():
        for period in periods:
            for table in (job.source, job.other):
                connection.execute(
                    _compose("mark_period", {**parts, "table": table, "first_day": sql.Literal(period)})
                )


def _copy_batch(connection: AnyConnection, job: Job, batch_rows: int) -> Job:
    after: sql.Composable = sql.SQL("true")
    key = list(job.key)
    if job.copied_to is not None:
        after = sql.SQL("({}) > ({})").format(job.parts()["keys"], job.values(job.copied_to))
    batch = [sql.SQL("batch.") + sql.Identifier(name) for name in key]
    parts: dict[str, sql.Composable] = {
        **job.parts(),
        "after": after,
        "limit": sql.Literal(batch_rows),
        "keys_as_text": sql.SQL(", ").join(part + sql.SQL("::text") for part in batch),
        "keys_descending": sql.SQL(", ").join(part + sql.SQL(" DESC") for part in batch),
    }
    upper = cast("tuple[str, ...] | None", connection.execute(_compose("next_batch", parts)).fetchone())
    if upper is None:
        return job.save(connection, phase=COPIED)
    parts["upper"] = job.values(upper)
    _make_partitions(connection, job, connection.execute(_compose("periods_of_batch", parts)).fetchall())
    copied = connection.execute(_compose("copy_batch", parts)).rowcount
    return job.save(connection, copied_to=upper, copied_rows=job.copied_rows + copied)


def _make_partitions(connection: AnyConnection, job: Job, rows: list[tuple[object, ...]]) -> None:
    days = []
    for row in rows:
        try:
            days.append(datetime.date.fromisoformat(str(row[0])))
        except ValueError:
            raise RefusedError(
                f"{job.target.name} has rows whose {job.time} is {row[0]}, for which there is no "
                f"partition; correct them, "
                "then ask again"
            ) from None
    ensure_partitions(connection, job.target.work_schema, job.target.table, days, job.unit)


def _digest(connection: AnyConnection, job: Job, table: sql.Identifier) -> dict[str, tuple[int, str]]:
    parts = {**job.parts(), "table": table}
    rows = cast("list[Any]", connection.execute(_compose("digest_by_period", parts)).fetchall())
    return {period: (count, content) for period, count, content in rows}


def _compose(name: str, parts: "dict[str, sql.Composable]") -> sql.Composed:
    return _SQL.compose(name, **parts)


def _not_unique(job: Job, error: psycopg.Error) -> str:
    return (
        f"{job.target.name} holds rows that the other table cannot hold together "
        f"({error.diag.message_detail}); a key that "
        "held for the plain table no longer does: correct those rows, then ask again"
    )

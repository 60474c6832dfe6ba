"""Time partitions of a table: `<table>_y2026m11` and the like, in UTC, made ahead of time or when data needs one.

RANGE partitions over a date or timestamp, never a default one: a row without its partition is an error to
mend, not a row in the wrong place. Making one twice, or from two processes at once, makes it once. Dropping
and archiving are the lifecycle's. https://www.postgresql.org/docs/18/ddl-partitioning.html
"""

import datetime
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import psycopg
from psycopg import Connection, sql

from pipelines.catalog.lock_waits import lock_timeout_ms
from pipelines.catalog.model import Catalog, PartitionUnit
from resources.database import Database
from resources.errors import DatabaseBusyError, LongboxError, RetryableError
from resources.sql import Queries

AHEAD_PERIODS: dict[PartitionUnit, int] = {"day": 14, "week": 8, "month": 3, "quarter": 2, "year": 1}
ATTEMPTS = 12
_NAME_BYTES = 63  # NAMEDATALEN - 1: PostgreSQL would cut a longer name, and two cut names may be one
_BOUNDS = re.compile(r"^FOR VALUES FROM \((.+)\) TO \((.+)\)$")
_SQL = Queries.of("pipelines.catalog")

AnyConnection = Connection[tuple[object, ...]]


class PartitionError(LongboxError):
    """A table cannot be given the partition it needs."""


class PartitionsBusyError(RetryableError):
    """A table, or one its foreign keys point at, stayed locked; the same call may succeed later."""


@dataclass(frozen=True)
class Span:
    """The days [lower, upper) of one partition, and the end of its name (`y2026m11`)."""

    lower: datetime.date
    upper: datetime.date
    suffix: str


@dataclass(frozen=True)
class Partition:
    """A partition as PostgreSQL has it, [lower, upper) in UTC; unbounded ends are the ends of the calendar."""

    name: str
    lower: datetime.datetime
    upper: datetime.datetime


@dataclass(frozen=True)
class Gap:
    """A stretch of time, [lower, upper), that no partition of `schema.table` holds."""

    schema: str
    table: str
    lower: datetime.datetime
    upper: datetime.datetime


def span_of(day: datetime.date, interval: PartitionUnit) -> Span:
    """The partition that `day` (UTC) belongs to. Weeks are ISO weeks, from Monday."""
    if interval == "day":
        return Span(day, day + datetime.timedelta(days=1), f"y{day.year:04d}m{day.month:02d}d{day.day:02d}")
    if interval == "week":
        monday = day - datetime.timedelta(days=day.weekday())
        year, week, _ = day.isocalendar()
        return Span(monday, monday + datetime.timedelta(days=7), f"y{year:04d}w{week:02d}")
    months = {"month": 1, "quarter": 3, "year": 12}[interval]
    first = (day.year * 12 + day.month - 1) // months * months
    lower, upper = _month(first), _month(first + months)
    suffix = {
        "month": f"y{lower.year:04d}m{lower.month:02d}",
        "quarter": f"y{lower.year:04d}q{lower.month // 3 + 1}",
        "year": f"y{lower.year:04d}",
    }[interval]
    return Span(lower, upper, suffix)


def spans_around(day: datetime.date, interval: PartitionUnit, *, behind: int, ahead: int) -> list[Span]:
    """The span of `day`, `behind` spans before it and `ahead` after it, in order."""
    found = [span_of(day, interval)]
    for _ in range(behind):
        found.insert(0, span_of(found[0].lower - datetime.timedelta(days=1), interval))
    for _ in range(ahead):
        found.append(span_of(found[-1].upper, interval))
    return found


def list_partitions(connection: AnyConnection, schema: str, table: str) -> list[Partition]:
    """Partitions of `schema.table`, ordered by time. One catalogue query; a default partition is left out."""
    rows = connection.execute(_SQL["partition_bounds"], {"schema": schema, "table": table}).fetchall()
    found = []
    for name, text in cast("list[tuple[str, str]]", rows):
        match = _BOUNDS.match(text)
        if match:
            found.append(Partition(name, _bound(match[1]), _bound(match[2])))
    return sorted(found, key=lambda partition: partition.lower)


def missing_periods(
    connection: AnyConnection, schema: str, table: str, days: Iterable[datetime.date], interval: PartitionUnit
) -> set[datetime.date]:
    """The first days of the periods that `days` (UTC) need and no partition holds. One catalogue query."""
    missing = missing_spans(list_partitions(connection, schema, table), sorted(set(days)), interval)
    return {span.lower for span in missing}


def ensure_partitions(
    connection: AnyConnection, schema: str, table: str, days: Iterable[datetime.date], interval: PartitionUnit
) -> tuple[str, ...]:
    """Make the partitions that `days` (UTC) need and that are missing; returns the names of those made.

    In the caller's transaction, as a role that owns the table (longbox_owner). Holds an advisory lock of the
    table and the locks of ATTACH until the transaction ends. A day that an existing partition holds, whatever
    its name and length, needs none.
    """
    wanted = sorted(set(days))
    if not missing_spans(list_partitions(connection, schema, table), wanted, interval):
        return ()
    connection.execute(_SQL["lock_partitions"], {"name": f"longbox partitions of {schema}.{table}"})
    missing = missing_spans(list_partitions(connection, schema, table), wanted, interval)
    return tuple(_create(connection, schema, table, span) for span in missing)


def ensure_periods(
    owner_database: Database,
    schema: str,
    table: str,
    days: Iterable[datetime.date],
    interval: PartitionUnit,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """`ensure_partitions` in transactions of its own, one a partition, with short locks and another try when refused.

    When nothing is missing it is one catalogue query. Safe beside a transaction of the caller that has
    written to the table, but not beside one that has written to a table its foreign keys point at: call it
    before. Raises `PartitionsBusyError` after `ATTEMPTS` tries.
    """
    spans: dict[Span, list[datetime.date]] = {}
    for day in days:
        spans.setdefault(span_of(day, interval), []).append(day)
    with owner_database.connection() as connection:
        wanted = sorted(day for group in spans.values() for day in group)
        missing = missing_spans(list_partitions(connection, schema, table), wanted, interval)
    made: list[str] = []
    for span in missing:
        made.extend(_attempt(owner_database, schema, table, spans[span], interval, sleep))
    return tuple(made)


def ensure_months(
    owner_database: Database, schema: str, table: str, days: Iterable[datetime.date]
) -> tuple[str, ...]:
    """`ensure_periods` for a table partitioned by month."""
    return ensure_periods(owner_database, schema, table, days, "month")


def keep_ahead(
    owner_database: Database,
    catalog: Catalog,
    now: datetime.datetime,
    *,
    ahead_periods: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """Make, for every partitioned table, the period before `now`'s, its own and the next ones; returns `schema.name`s.

    `ahead_periods` overrides `AHEAD_PERIODS` (three months, 14 days, ...). Adopted tables are left to their
    owners unless they say `partitions_ahead: true`.
    """
    today = now.astimezone(datetime.UTC).date()
    made: list[str] = []
    for system in catalog.systems.values():
        for table in system.tables.values():
            if table.partition is None or not table.has_partitions_ahead:
                continue
            ahead = AHEAD_PERIODS[table.partition] if ahead_periods is None else ahead_periods
            days = [span.lower for span in spans_around(today, table.partition, behind=1, ahead=ahead)]
            names = ensure_periods(
                owner_database, system.name, table.name, days, table.partition, sleep=sleep
            )
            made.extend(f"{system.name}.{name}" for name in names)
    return tuple(made)


def find_gaps(
    connection: AnyConnection,
    schema: str,
    table: str,
    *,
    since: datetime.date | None = None,
    until: datetime.date | None = None,
) -> list[Gap]:
    """Stretches of time without a partition, in order.

    Looks from the first partition (or `since`) to the end of the last one (or to `until`, when that is later). A hole
    far back may be no fault: months without rows, and archived ones, have no partition until a row asks for one; what
    `keep_ahead` promises is the time since the period before today's.
    """
    partitions = list_partitions(connection, schema, table)
    reached = _midnight(since) if since else partitions[0].lower if partitions else None
    if reached is None:
        return []
    gaps = []
    for partition in partitions:
        if partition.lower > reached:
            gaps.append(Gap(schema, table, reached, partition.lower))
        reached = max(reached, partition.upper)
    if until is not None and reached < _midnight(until):
        gaps.append(Gap(schema, table, reached, _midnight(until)))
    return gaps


def missing_spans(
    partitions: Sequence[Partition], days: Sequence[datetime.date], interval: PartitionUnit
) -> list[Span]:
    """The spans of those `days` that none of `partitions` holds."""

    def is_held(day: datetime.date) -> bool:
        moment = _midnight(day)
        return any(partition.lower <= moment < partition.upper for partition in partitions)

    return list(dict.fromkeys(span_of(day, interval) for day in days if not is_held(day)))


def _attempt(
    owner_database: Database,
    schema: str,
    table: str,
    days: Sequence[datetime.date],
    interval: PartitionUnit,
    sleep: Callable[[float], None],
) -> tuple[str, ...]:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with owner_database.connection() as connection:
                patience = lock_timeout_ms(connection, attempt)
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{patience}ms"])
                return ensure_partitions(connection, schema, table, days, interval)
        except DatabaseBusyError as error:
            if not isinstance(
                error.__cause__, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected
            ):
                raise
            if attempt == ATTEMPTS:
                raise PartitionsBusyError(
                    f"no partition for {days[0]} could be attached to {schema}.{table} in {ATTEMPTS} tries "
                    f"({error.__cause__.diag.message_primary}); end the long transaction that holds it "
                    "(pg_stat_activity) and run again"
                ) from error
            sleep(min(1.0, 0.05 * 2**attempt))
    raise AssertionError("unreachable")


def _create(connection: AnyConnection, schema: str, table: str, span: Span) -> str:
    name = f"{table}_{span.suffix}"
    if len(name.encode()) > _NAME_BYTES:
        raise PartitionError(
            f"{schema}.{table}: the partition name {name} is longer than PostgreSQL's {_NAME_BYTES} bytes; "
            "rename the table to something shorter"
        )
    key_type = _key_type(connection, schema, table)
    exists = connection.execute(_SQL["relation_exists"], {"schema": schema, "table": name}).fetchone()
    if exists and exists[0]:
        raise PartitionError(
            f"{schema}.{name} exists, but is no partition of {schema}.{table}; rename it (a detached month is renamed "
            "so that late rows can make the month anew), or attach it"
        )
    partition, parent = sql.Identifier(schema, name), sql.Identifier(schema, table)
    bounds = {"lower": bound_literal(span.lower, key_type), "upper": bound_literal(span.upper, key_type)}
    connection.execute(_SQL.compose("create_partition_table", partition=partition, parent=parent))
    try:
        connection.execute(_SQL.compose("attach_partition", partition=partition, parent=parent, **bounds))
    except psycopg.errors.InvalidObjectDefinition as error:
        raise PartitionError(
            f"{schema}.{table} cannot take a partition for {span.lower} to {span.upper}: {error.diag.message_primary}; "
            "split the partition that is in the way, or let it hold the whole period"
        ) from error
    except psycopg.errors.CheckViolation as error:
        default = error.diag.table_name or "the default one"
        raise PartitionError(
            f"{schema}.{table} cannot take a partition for {span.lower} to {span.upper}: its default partition "
            f"{default} holds rows of that time; detach it (ALTER TABLE {schema}.{table} DETACH PARTITION "
            f"{schema}.{default}), run again, move its rows of that time into {schema}.{table} by INSERT and "
            "DELETE, and attach it again"
        ) from error
    return name


def _key_type(connection: AnyConnection, schema: str, table: str) -> str:
    row = cast(
        "tuple[str, int, str] | None",
        connection.execute(_SQL["partition_key"], {"schema": schema, "table": table}).fetchone(),
    )
    if row is None or row[0] != "r" or row[1] != 1:
        raise PartitionError(
            f"{schema}.{table} is not partitioned by RANGE over one column; correct `partition:` in its system.yaml, "
            "or make the table so in a migration"
        )
    return row[2]


def overlaps(span: Span, partitions: Sequence[Partition]) -> bool:
    """Whether one of `partitions` holds a part of `span`."""
    lower, upper = _midnight(span.lower), _midnight(span.upper)
    return any(partition.lower < upper and lower < partition.upper for partition in partitions)


def bound_literal(day: datetime.date, key_type: str) -> sql.Literal:
    """The beginning of `day` (UTC) as a bound of partitions by a column of `key_type`."""
    times = {"timestamp with time zone": " 00:00:00+00", "timestamp without time zone": " 00:00:00"}
    return sql.Literal(f"{day.isoformat()}{times.get(key_type, '')}")


def _bound(text: str) -> datetime.datetime:
    if text in ("MINVALUE", "'-infinity'"):
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)
    if text in ("MAXVALUE", "'infinity'"):
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)
    moment = datetime.datetime.fromisoformat(text.strip("'"))
    return moment.astimezone(datetime.UTC) if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)


def _month(number: int) -> datetime.date:
    return datetime.date(number // 12, number % 12 + 1, 1)

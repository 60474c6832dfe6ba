"""Reading a schema that somebody else made: tables, sizes, candidates for a time column, foreign keys. Only reads.

One READ ONLY snapshot; numbers come from the planner's statistics, and only small tables without any are
counted. What the numbers mean is `advice`'s. https://www.postgresql.org/docs/18/view-pg-stats.html
"""

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from psycopg import sql
from pydantic import TypeAdapter, ValidationError

from pipelines.catalog import values
from pipelines.catalog.errors import suggest
from pipelines.catalog.partitions import Partition, list_partitions
from pipelines.catalog.shape import TableShape, table_shapes
from pipelines.catalog.types import known_type
from resources.database import Connection, Database
from resources.errors import UserError
from resources.sql import Queries

COUNT_BELOW_BYTES = 256 << 20  # a second or two of reading
_SQL = Queries.of("pipelines.adoption")


@dataclass(frozen=True)
class TimeStatistics:
    """What is known of a column that holds times. `correlation` (-1..1) is with the physical order of the rows."""

    column: str
    is_indexed: bool
    correlation: float | None
    earliest: datetime.date | None
    latest: datetime.date | None


@dataclass(frozen=True)
class ForeignKey:
    """`schema.table (columns)` points at `target_schema.target`."""

    name: str
    schema: str
    table: str
    columns: tuple[str, ...]
    target_schema: str
    target: str


@dataclass(frozen=True)
class SurveyedTable:
    """One table as it was found. `rows` is None when it is too large to count and was never analysed."""

    shape: TableShape
    rows: int | None
    total_bytes: int
    inserted_rows: int
    changed_rows: int
    times: tuple[TimeStatistics, ...]
    keys_out: tuple[ForeignKey, ...]
    keys_in: tuple[ForeignKey, ...]
    partitions: tuple[Partition, ...]

    @property
    def name(self) -> str:
        """Its name in its schema."""
        return self.shape.name


@dataclass(frozen=True)
class Survey:
    """A schema: its tables by name, and the relations that are no tables with what they are."""

    schema: str
    tables: tuple[SurveyedTable, ...]
    others: Mapping[str, str]


@contextmanager
def read_only(database: Database) -> Iterator[Connection]:
    """A connection in one READ ONLY, REPEATABLE READ transaction: PostgreSQL refuses every change in it."""
    with database.connection() as connection:
        connection.execute(_SQL["begin_survey"])
        yield connection
        connection.rollback()


def survey_schema(connection: Connection, schema: str) -> Survey:
    """Everything `advice` needs to know about `schema`, tables ordered by name.

    Raises `UserError` when there is no such schema or its name cannot be a system's.
    """
    _require_schema(connection, schema)
    shapes = table_shapes(connection, schema)
    parameters = {"schema": schema}
    sizes = {row[0]: row[1:] for row in _rows(connection, "sizes", parameters)}
    times: dict[str, list[TimeStatistics]] = {}
    for table, column, indexed, correlation, earliest, latest in _rows(
        connection, "column_statistics", parameters
    ):
        found = TimeStatistics(column, indexed, correlation, _day(earliest), _day(latest))
        times.setdefault(table, []).append(found)
    keys = [
        ForeignKey(name, of, table, tuple(columns), to, target)
        for name, of, table, columns, to, target in _rows(connection, "foreign_keys", parameters)
    ]
    tables = tuple(
        _table(connection, shape, sizes[shape.name], times.get(shape.name, []), keys)
        for shape in shapes.values()
        if shape.name in sizes
    )
    others = {shape.name: shape.kind for shape in shapes.values() if shape.name not in sizes}
    return Survey(schema, tables, others)


def _table(
    connection: Connection,
    shape: TableShape,
    size: tuple[Any, ...],
    times: list[TimeStatistics],
    keys: list[ForeignKey],
) -> SurveyedTable:
    rows, total_bytes, inserted, changed = size
    if total_bytes < COUNT_BELOW_BYTES and (rows < 0 or any(time.earliest is None for time in times)):
        rows, times = _counted(connection, shape, times)
    return SurveyedTable(
        shape=shape,
        rows=None if rows < 0 else rows,
        total_bytes=total_bytes,
        inserted_rows=inserted,
        changed_rows=changed,
        times=tuple(times),
        keys_out=tuple(key for key in keys if (key.schema, key.table) == (shape.system, shape.name)),
        keys_in=tuple(key for key in keys if (key.target_schema, key.target) == (shape.system, shape.name)),
        partitions=tuple(list_partitions(connection, shape.system, shape.name)) if shape.partition_by else (),
    )


def _counted(
    connection: Connection, shape: TableShape, times: list[TimeStatistics]
) -> tuple[int, list[TimeStatistics]]:
    """Exact figures of a small table; the URL's user must be able to read it."""
    table = sql.Identifier(shape.system, shape.name)
    rows, found = 0, []
    for time in times:
        query = _SQL.compose("count_and_span", table=table, time=sql.Identifier(time.column))
        rows, earliest, latest = cast("tuple[int, Any, Any]", connection.execute(query).fetchone())
        found.append(
            TimeStatistics(time.column, time.is_indexed, time.correlation, _day(earliest), _day(latest))
        )
    if not times:
        row = cast(
            "tuple[int, None, None]", connection.execute(_SQL.compose("count_rows", table=table)).fetchone()
        )
        rows = row[0]
    return rows, found


def _require_schema(connection: Connection, schema: str) -> None:
    exists = connection.execute(_SQL["schema_exists"], {"schema": schema}).fetchone()
    if not exists or not exists[0]:
        known = [row[0] for row in _rows(connection, "schemas", {})]
        raise UserError(
            f"database {connection.info.dbname!r} has no schema {schema!r}; {suggest(schema, known, noun='schema')}"
        )
    try:
        TypeAdapter(values.SystemName).validate_python(schema)
    except ValidationError as error:
        reason = str(error.errors()[0]["ctx"]["error"]).partition(";")[0]
        raise UserError(
            f"schema {schema!r} cannot be adopted as it is named: a system has the name of its schema, and {reason}; "
            f"rename it (ALTER SCHEMA ... RENAME TO), or move its tables (ALTER TABLE ... SET SCHEMA) and let the "
            "search_path of its users find them: ALTER ROLE ... SET search_path = shop, public"
        ) from None


def _rows(connection: Connection, block: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
    return connection.execute(_SQL[block], parameters).fetchall()


def _day(text: str | None) -> datetime.date | None:
    """The date in front of a timestamp's text; None for infinity and years that Python's calendar lacks."""
    try:
        return None if text is None else datetime.date.fromisoformat(text[:10])
    except ValueError:
        return None


def is_known(type_name: str) -> bool:
    """Whether the catalogue can declare a type."""
    return known_type(type_name) is not None

"""`frame("comics/pricing_data_normalized")`: the rows of a table as a pandas DataFrame or an Arrow table, for analysts.

Works as `longbox_reader`, which may SELECT and nothing else, in one READ ONLY snapshot with a statement timeout.
Types stay what they are in PostgreSQL: numeric becomes a decimal, never a float; timestamptz is UTC; whole numbers
with NULLs stay whole. What a column is comes from the database, which column is its time from the catalogue.
"""

import contextlib
import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import psycopg
from psycopg import sql

from pipelines.catalog.errors import suggest
from pipelines.catalog.loader import load_catalog, system_folders
from pipelines.catalog.model import Catalog
from pipelines.catalog.shape import ColumnShape, TableShape, table_shapes
from resources.database import READER_ROLE, Connection, Database
from resources.errors import UserError
from resources.settings import Settings
from resources.sql import Queries

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHUNK_ROWS = 50_000
TIMEOUT_SECONDS = 300.0
Moment = str | datetime.date
_SQL = Queries.of("pipelines.catalog")
_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?")
_DECIMAL_DIGITS = 76  # of Arrow's widest decimal


@dataclass(frozen=True)
class _Query:
    """What is asked of one table, checked and composed."""

    shape: TableShape
    columns: tuple[ColumnShape, ...]
    parts: Mapping[str, sql.Composable]


@overload
def frame(
    table: str, columns: Sequence[str] | None = ..., *, where: Mapping[str, object] | None = ...,
    since: Moment | None = ..., until: Moment | None = ..., order_by: Sequence[str] = ..., limit: int | None = ...,
    as_arrow: Literal[False] = ..., settings: Settings | None = ..., timeout_seconds: float = ...,
) -> "pd.DataFrame": ...  # fmt: skip
@overload
def frame(
    table: str, columns: Sequence[str] | None = ..., *, where: Mapping[str, object] | None = ...,
    since: Moment | None = ..., until: Moment | None = ..., order_by: Sequence[str] = ..., limit: int | None = ...,
    as_arrow: Literal[True], settings: Settings | None = ..., timeout_seconds: float = ...,
) -> "pa.Table": ...  # fmt: skip
def frame(
    table: str,
    columns: Sequence[str] | None = None,
    *,
    where: Mapping[str, object] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    order_by: Sequence[str] = (),
    limit: int | None = None,
    as_arrow: bool = False,
    settings: Settings | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> "pd.DataFrame | pa.Table":
    """The rows of `system/table` (a table, aggregate or view), all columns unless some are named.

    `where` maps a column to a value, to a list of values, or to None for NULL. `since` (included) and `until`
    (excluded) bound the table's time; without a zone they are UTC. DataFrame columns have Arrow dtypes. `settings`
    None reads the environment, as every command does. For more rows than memory holds use `frame_batches`. Raises
    `UserError` naming the nearest table or column.
    """
    import pyarrow as pa

    asked = {"where": where, "since": since, "until": until, "order_by": order_by, "limit": limit}
    with _reading(settings, timeout_seconds) as (connection, catalog):
        query = _query(connection, catalog, table, columns, **asked)  # type: ignore[arg-type]
        schema = _schema(connection, query)
        result = pa.Table.from_batches(_batches(connection, query, schema, CHUNK_ROWS), schema=schema)
    if as_arrow:
        return result
    import pandas as pd

    return cast("pd.DataFrame", result.to_pandas(types_mapper=pd.ArrowDtype))


def frame_batches(
    table: str,
    columns: Sequence[str] | None = None,
    *,
    where: Mapping[str, object] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    chunk_rows: int = CHUNK_ROWS,
    settings: Settings | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> "Iterator[pa.RecordBatch]":
    """As `frame`, a record batch of at most `chunk_rows` rows at a time: memory does not grow with the table.

    One snapshot from the first batch to the last; the connection is held until the iterator ends or is closed.
    """
    with _reading(settings, timeout_seconds) as (connection, catalog):
        query = _query(connection, catalog, table, columns, where=where, since=since, until=until)
        yield from _batches(connection, query, _schema(connection, query), chunk_rows)


@contextlib.contextmanager
def _reading(settings: Settings | None, timeout_seconds: float) -> Iterator[tuple[Connection, Catalog]]:
    """A connection as longbox_reader in one READ ONLY snapshot, and the catalogue; closed with the block."""
    known = settings or Settings.load()
    catalog = load_catalog(system_folders(known))
    with Database(
        known.postgres_url, role=READER_ROLE, application_name="longbox frame", max_size=1
    ) as database:
        with database.connection() as connection:
            connection.execute(_SQL["begin_frame"])
            connection.execute(_SQL["frame_timeout"], {"milliseconds": int(timeout_seconds * 1000)})
            try:
                yield connection, catalog
            except psycopg.errors.InsufficientPrivilege as error:
                raise UserError(
                    f"longbox_reader may not read it ({error.diag.message_primary}); for an adopted "
                    f"table: GRANT USAGE ON "
                    "SCHEMA ... and GRANT SELECT ON ... TO longbox_reader"
                ) from error
            except psycopg.errors.QueryCanceled as error:
                raise UserError(
                    f"the query took longer than {timeout_seconds:g} s and was ended; ask for fewer "
                    f"rows (since, until, "
                    "where), or raise timeout_seconds"
                ) from error
            connection.rollback()


def _query(
    connection: Connection,
    catalog: Catalog,
    name: str,
    columns: Sequence[str] | None,
    *,
    where: Mapping[str, object] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    order_by: Sequence[str] = (),
    limit: int | None = None,
) -> _Query:
    system, shape = _find(connection, catalog, name)
    if isinstance(columns, str):
        raise UserError(f"columns is the text {columns!r}; give a list, as in columns=[{columns!r}]")
    chosen = tuple(shape.columns if columns is None else (shape.column(column) for column in columns))
    conditions: list[sql.Composable] = [sql.SQL("true")]
    conditions += [_equals(shape.column(column).name, value) for column, value in (where or {}).items()]
    conditions += _bounds(catalog, system, shape, since, until)
    order = sql.SQL(", ").join(sql.Identifier(shape.column(column).name) for column in order_by)
    if limit is not None and limit < 0:
        raise UserError(f"limit is {limit}; give the number of rows you want at most")
    return _Query(
        shape,
        chosen,
        {
            "table": sql.Identifier(system, shape.name),
            "condition": sql.SQL(" AND ").join(conditions),
            "order": sql.SQL("ORDER BY ") + order if order_by else sql.SQL(""),
            "limit": sql.SQL("") if limit is None else sql.SQL("LIMIT {}").format(sql.Literal(limit)),
        },
    )


def _find(connection: Connection, catalog: Catalog, name: str) -> tuple[str, TableShape]:
    system, _, table = name.replace(".", "/", 1).partition("/")
    shapes = table_shapes(connection, system) if system in catalog.systems else {}
    if table in shapes:
        return system, shapes[table]
    known = [f"{other}/{shape}" for other in catalog.systems for shape in table_shapes(connection, other)]
    raise UserError(f"there is no table {name!r}; {suggest(name, known, noun='table')}")


def _equals(column: str, value: object) -> sql.Composed:
    name = sql.Identifier(column)
    if value is None:
        return sql.SQL("{} IS NULL").format(name)
    if isinstance(value, list | tuple | set | frozenset):
        if not value:
            return sql.Composed([sql.SQL("false")])
        return sql.SQL("{} IN ({})").format(name, sql.SQL(", ").join(map(sql.Literal, value)))
    return sql.SQL("{} = {}").format(name, sql.Literal(value))


def _bounds(
    catalog: Catalog, system: str, shape: TableShape, since: Moment | None, until: Moment | None
) -> list[sql.Composable]:
    if since is None and until is None:
        return []
    table = catalog.systems[system].tables.get(shape.name)
    time = table.time if table else None
    if time is None:
        raise UserError(
            f"{system}/{shape.name} has no `time:` in its system.yaml for since and until to bound; "
            f"use where, or add it"
        )
    column = sql.Identifier(shape.column(time).name)
    found: list[sql.Composable] = []
    if since is not None:
        found.append(sql.SQL("{} >= {}").format(column, sql.Literal(_moment("since", since))))
    if until is not None:
        found.append(sql.SQL("{} < {}").format(column, sql.Literal(_moment("until", until))))
    return found


def _moment(name: str, value: Moment) -> datetime.date:
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        pass
    try:
        return _moment(name, datetime.datetime.fromisoformat(value))
    except ValueError:
        raise UserError(
            f"{name} is {value!r}; write a date or time as in 2026-11-01 or 2026-11-01T12:00Z"
        ) from None


def _schema(connection: Connection, query: _Query) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(column.name, _arrow_type(connection, query, column)) for column in query.columns])


def _arrow_type(connection: Connection, query: _Query, column: ColumnShape) -> "pa.DataType":
    """The Arrow type of a column; text for whatever Arrow has no type for."""
    import pyarrow as pa

    name = column.base_type_name
    element = name.removesuffix("[]")
    numeric = _NUMERIC.fullmatch(element)
    if numeric:
        digits = (int(numeric[1]), int(numeric[2])) if numeric[1] else None
        if digits is None and element == name:
            digits = _digits(connection, query, column.name)
        found = _decimal(digits) if digits else pa.string()
    else:
        found = _simple_types().get(element, pa.string)()
    is_text = element == "text" or element.startswith("character varying")
    return pa.list_(found) if element != name and (is_text or found != pa.string()) else found


def _simple_types() -> "Mapping[str, Callable[[], pa.DataType]]":
    import pyarrow as pa

    return {
        "smallint": pa.int16,
        "integer": pa.int32,
        "bigint": pa.int64,
        "real": pa.float32,
        "double precision": pa.float64,
        "boolean": pa.bool_,
        "date": pa.date32,
        "timestamp with time zone": lambda: pa.timestamp("us", tz="UTC"),
        "timestamp without time zone": lambda: pa.timestamp("us"),
        "time without time zone": lambda: pa.time64("us"),
        "bytea": pa.binary,
    }


def _digits(connection: Connection, query: _Query, column: str) -> tuple[int, int]:
    """Precision and scale that the values of an unbounded numeric need in these rows; one more reading of them."""
    parts = {**query.parts, "column": sql.Identifier(column)}
    row = connection.execute(_SQL.compose("frame_digits", **parts)).fetchone()
    whole, scale = cast("tuple[int, int]", row)
    return whole + scale, scale


def _decimal(digits: tuple[int, int]) -> "pa.DataType":
    import pyarrow as pa

    precision, scale = max(digits[0], 1), digits[1]
    if precision > _DECIMAL_DIGITS:
        return pa.string()
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _batches(
    connection: Connection, query: _Query, schema: "pa.Schema", chunk_rows: int
) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    columns = [_selected(column, field.type) for column, field in zip(query.columns, schema, strict=True)]
    parts = {**query.parts, "columns": sql.SQL(", ").join(columns)}
    with connection.cursor(name="longbox_frame") as cursor:
        cursor.execute(_SQL.compose("frame", **parts))
        while rows := _fetch(cursor, chunk_rows, query):
            values: list[Any] = list(zip(*rows, strict=True))
            arrays = [_array(query, field, column) for field, column in zip(schema, values, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _selected(column: ColumnShape, kind: Any) -> sql.Composed:
    """A column as it is read: by its value where Arrow has its type, else by the text PostgreSQL prints."""
    import pyarrow as pa

    cast_to = sql.SQL("::text") if kind == pa.string() else sql.SQL("")
    return sql.Identifier(column.name) + cast_to


def _fetch(
    cursor: "psycopg.ServerCursor[tuple[object, ...]]", rows: int, query: _Query
) -> list[tuple[object, ...]]:
    try:
        return cursor.fetchmany(rows)
    except psycopg.DataError as error:
        raise UserError(
            f"{query.shape.system}/{query.shape.name} holds a time that Python has no value for "
            f"({error}); leave such rows "
            "out with since and until"
        ) from error


def _array(query: _Query, field: Any, values: Sequence[object]) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(
            f"column {field.name!r} of {query.shape.system}/{query.shape.name} holds a value that {field.type} cannot "
            f"({error}); leave the column out, or such rows by where"
        ) from error

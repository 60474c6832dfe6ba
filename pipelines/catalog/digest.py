"""The canonical digest of a table: its row count and one hash over what its rows say, whatever their order.

Two tables agree when PostgreSQL prints their rows alike: NULL and empty text differ, 1.0 and 1.00 differ in a
numeric without scale and inside jsonb (PostgreSQL stores them apart), -0 and 0 differ in a float. Left out is
what a second run may change: identity columns, defaults that tell the time or draw a new id, lineage and
`run_id`. Keep rules of archives and proofs out; they build on the same text.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from pipelines.catalog.errors import suggest
from pipelines.catalog.model import Catalog
from pipelines.catalog.shape import ColumnShape, TableShape, table_shapes
from resources.database import Connection
from resources.errors import UserError
from resources.sql import Queries

LINEAGE_OF_LOADS = frozenset({"landing_day", "load_id", "line", "loaded_at"})
_KINDS = ("table", "partitioned table", "materialised view")
_VOLATILE_DEFAULT = re.compile(
    r"\b(now|clock_timestamp|transaction_timestamp|statement_timestamp|timeofday|nextval"
    r"|gen_random_uuid|uuidv4|uuidv7|uuid_generate_v\w+)\s*\(|\b(CURRENT_(DATE|TIME)|LOCALTIME)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TableDigest:
    """Count and hash of one table. `content_hash` is 32 hex digits; `left_out` are the columns it does not see."""

    system: str
    table: str
    rows: int
    content_hash: str
    left_out: tuple[str, ...]

    @property
    def key_name(self) -> str:
        """`comics/pricing_data_raw`."""
        return f"{self.system}/{self.table}"


def digest_tables(connection: Connection, catalog: Catalog, names: Sequence[str] = ()) -> list[TableDigest]:
    """Digest the tables `names` (`system/table`, or `system` for all of its), or every table of every system.

    Ordered by system and table. Reads under one snapshot when the connection has no transaction open yet, and
    leaves no setting behind. Needs SELECT only. Raises UserError for a name that no table has.
    """
    is_first = connection.info.transaction_status == TransactionStatus.IDLE
    with connection.transaction(force_rollback=True):  # only reads: rolled back to undo the pinned settings
        if is_first:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        tables = _tables_by_name(connection, catalog)
        chosen = _select(tables, catalog, names)
        connection.execute(Queries.of("pipelines.catalog")["pin_output"])
        return [
            _digest(connection, tables[key], _clock_names(tables[key], tables.values())) for key in chosen
        ]


def digest_columns(shape: TableShape, clocks: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The columns of a table that its digest sees, ordered by name so that their order in the table is free.

    `clocks` are names that tell the time in the tables a materialised view may copy them from.
    """
    unseen = {column.name for column in shape.columns if _is_volatile(column)} | {"run_id"}
    if set(shape.column_names) >= LINEAGE_OF_LOADS:
        unseen |= LINEAGE_OF_LOADS
    if shape.kind == "materialised view":
        unseen |= {column.name for column in shape.columns if column.name in clocks and _is_timestamp(column)}
    return tuple(
        sorted(
            column.name
            for column in shape.columns
            if column.name not in unseen and not _mentions(column.generation, unseen)
        )
    )


def _mentions(expression: str | None, names: set[str]) -> bool:
    return expression is not None and not names.isdisjoint(re.findall(r"\w+", expression))


def _is_timestamp(column: ColumnShape) -> bool:
    return column.type_name.startswith("timestamp")


def _is_volatile(column: ColumnShape) -> bool:
    return column.is_identity or (
        column.default is not None and bool(_VOLATILE_DEFAULT.search(column.default))
    )


def _clock_names(shape: TableShape, tables: Iterable[TableShape]) -> frozenset[str]:
    """Names of time columns left out of the tables beside a view; a view has no defaults to tell them by."""
    return frozenset({"refreshed_at"}) | {
        column.name
        for table in tables
        if table.system == shape.system
        for column in table.columns
        if _is_timestamp(column) and _is_volatile(column)
    }


def _digest(connection: Connection, shape: TableShape, clocks: frozenset[str]) -> TableDigest:
    columns = digest_columns(shape, clocks)
    query = Queries.of("pipelines.catalog").compose(
        "digest_table",
        table=sql.Identifier(shape.system, shape.name),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    try:
        row = connection.execute(query).fetchone()
    except psycopg.errors.ObjectNotInPrerequisiteState:
        name = f"{shape.system}/{shape.name}"
        raise UserError(f"materialised view {name} was never filled; refresh it, then digest again") from None
    rows, total = row if row is not None else (0, "0")
    text = "\n".join([*columns, f"{rows} {total}"])
    content_hash = hashlib.sha256(text.encode()).hexdigest()[:32]
    left_out = tuple(name for name in shape.column_names if name not in columns)
    return TableDigest(shape.system, shape.name, int(str(rows)), content_hash, left_out)


def _tables_by_name(connection: Connection, catalog: Catalog) -> Mapping[str, TableShape]:
    return {
        f"{system}/{shape.name}": shape
        for system in sorted(catalog.systems)
        for shape in table_shapes(connection, system).values()
        if shape.kind in _KINDS
    }


def _select(tables: Mapping[str, TableShape], catalog: Catalog, names: Sequence[str]) -> list[str]:
    """The chosen keys of `tables`, ordered. A name is a system, `system/table`, `system.table` or a bare table."""
    chosen: set[str] = set() if names else set(tables)
    for name in names:
        wanted = name.replace(".", "/", 1)
        by_system = {key for key in tables if key == wanted or key.partition("/")[0] == wanted}
        matching = by_system or {key for key in tables if key.partition("/")[2] == wanted}
        if not matching and wanted not in catalog.systems:
            remedy = suggest(wanted, [*catalog.systems, *tables], noun="table")
            raise UserError(f"there is no table {name!r} to digest; {remedy}")
        chosen |= matching
    return sorted(chosen)

"""What a table in PostgreSQL really looks like: columns, types, keys and partitioning, read from pg_catalog.

One query for a table or a whole schema. Stages plan their COPY, casts and Parquet schemas on this, not on the
YAML, since migrations may have made the table. See https://www.postgresql.org/docs/18/catalogs.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pipelines.catalog.errors import suggest
from resources.database import Connection
from resources.errors import UserError
from resources.sql import Queries

_KINDS = {"r": "table", "p": "partitioned table", "m": "materialised view", "v": "view", "f": "foreign table"}
_STRATEGIES = {"r": "range", "l": "list", "h": "hash"}


class TableMissingError(UserError):
    """A table that was asked for is not in the database."""


@dataclass(frozen=True)
class ColumnShape:
    """One column. `type_name` is `format_type`'s text, `base_type_name` the same below a domain."""

    name: str
    type_name: str
    base_type_name: str
    is_nullable: bool
    default: str | None
    generation: str | None
    is_identity: bool
    enum_labels: tuple[str, ...] | None
    description: str

    @property
    def is_generated(self) -> bool:
        """Whether PostgreSQL computes it from other columns (`generation` is how); it cannot be written."""
        return self.generation is not None

    @property
    def has_default(self) -> bool:
        """Whether PostgreSQL fills it when a row does not."""
        return self.default is not None or self.is_identity or self.is_generated


@dataclass(frozen=True)
class TableShape:
    """One relation. `kind` is table, partitioned table, materialised view, view or foreign table."""

    system: str
    name: str
    kind: str
    columns: tuple[ColumnShape, ...]
    primary_key: tuple[str, ...]
    partition_by: tuple[str, ...]
    partition_strategy: str | None
    description: str
    is_row_secured: bool = False  # row level security decides what the asking role sees and writes

    @property
    def column_names(self) -> tuple[str, ...]:
        """In the table's own order."""
        return tuple(column.name for column in self.columns)

    def has(self, column: str) -> bool:
        """Whether there is a column of that name."""
        return column in self.column_names

    def column(self, name: str) -> ColumnShape:
        """The column `name`; raises UserError naming the nearest."""
        for column in self.columns:
            if column.name == name:
                return column
        remedy = suggest(name, self.column_names, noun="column")
        raise UserError(f"table {self.system}.{self.name} has no column {name!r}; {remedy}")


def table_shape(connection: Connection, system: str, table: str) -> TableShape:
    """The shape of `system.table`. Raises `TableMissingError` when it is not there."""
    rows = _read(connection, system, table)
    if not rows:
        near = suggest(table, table_shapes(connection, system), noun="table")
        raise TableMissingError(
            f"table {system}.{table} is not in the database; run `longbox migrate` ({near})"
        )
    return rows[table]


def table_shapes(connection: Connection, system: str) -> Mapping[str, TableShape]:
    """Every relation of schema `system` by name, ordered; partitions stand with their parent."""
    return _read(connection, system, None)


def _read(connection: Connection, system: str, table: str | None) -> Mapping[str, TableShape]:
    query = Queries.of("pipelines.catalog")["shapes"]
    rows = connection.execute(query, {"schema": system, "table": table}).fetchall()
    return {shape.name: shape for shape in (_shape(system, row) for row in rows)}


def _shape(system: str, row: tuple[object, ...]) -> TableShape:
    name, kind, description, is_row_secured, strategy, partition_by, primary_key, columns = cast(
        "tuple[Any, ...]", row
    )
    return TableShape(
        system=system,
        name=name,
        kind=_KINDS[kind],
        columns=tuple(_column(column) for column in columns),
        primary_key=tuple(primary_key),
        partition_by=tuple(partition_by),
        partition_strategy=None if strategy is None else _STRATEGIES[strategy],
        description=description,
        is_row_secured=is_row_secured,
    )


def _column(fields: dict[str, Any]) -> ColumnShape:
    labels = fields.pop("enum_labels")
    return ColumnShape(**fields, enum_labels=None if labels is None else tuple(labels))

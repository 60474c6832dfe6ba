"""Partitions that one transaction makes, fills and attaches: until it commits, nobody sees them, and kills undo them.

A table of its own takes rows without indexes, which are built at the end from all of them. Nothing but the last moments
of the transaction holds a lock that another maker of partitions waits for. The ordinary way is `partitions`.
https://www.postgresql.org/docs/18/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-MAINTENANCE
"""

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import psycopg
from psycopg import sql

from pipelines.catalog.partitions import (
    AnyConnection,
    Partition,
    Span,
    bound_literal,
    list_partitions,
    overlaps,
)
from resources.sql import Queries

_SQL = Queries.of("pipelines.catalog")
_NAME_BYTES = 63
# The last, that a partitioned table cannot be told to lie in the database's own tablespace (`default_tablespace`).
_CANNOT_MAKE = (
    psycopg.errors.InsufficientPrivilege, psycopg.errors.DuplicateTable, psycopg.errors.FeatureNotSupported,
)  # fmt: skip


@dataclass(frozen=True)
class BulkTable:
    """A partitioned table whose partitions can be filled before they are attached, and what that takes."""

    schema: str
    table: str
    owner: str
    key_column: str
    key_type: str
    identity_column: str | None
    sequence: str | None
    constraints: tuple[str, ...]  # PRIMARY KEY (...), UNIQUE (...)
    indexes: tuple[str, ...]  # USING btree (...)
    statistics: tuple[str, ...]  # (mcv) ON ...
    columns: tuple[str, ...]

    @property
    def parent(self) -> sql.Identifier:
        """The partitioned table's name."""
        return sql.Identifier(self.schema, self.table)


@dataclass(frozen=True)
class FreshPartition:
    """A table of this transaction that is to be the partition of `span`."""

    span: Span
    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """Its name until it is attached."""
        return sql.Identifier(self.schema, self.name)


def bulk_table(connection: AnyConnection, schema: str, table: str, owner: str) -> BulkTable | None:
    """What filling partitions of a table before they are attached takes; None where that would not be the same.

    It would not where the session cannot work as `owner`, or the table is not `owner`'s; where triggers or foreign keys
    look at each row; where a unique index could refuse rows that are copied already (one without the identity column);
    where there is more than one identity column; where a publication sends the table's rows to others, which would get
    none of a table that is none of it yet.
    """
    row = connection.execute(
        _SQL["bulk_table"], {"schema": schema, "table": table, "owner": owner}
    ).fetchone()
    if row is None:
        return None
    key_column, key_type, identity, sequence, constraints, indexes, statistics, columns = cast(
        "tuple[str, str, str | None, str | None, list[str], list[str], list[str], list[str]]", row
    )
    return BulkTable(
        schema, table, owner, key_column, key_type, identity, sequence, tuple(constraints), tuple(indexes),
        tuple(statistics), tuple(columns),
    )  # fmt: skip


class FreshPartitions:
    """The partitions of a table that this transaction makes and fills, known by their first days.

    Until they are attached they are the partitions of a table that nobody else sees either, the `intake`: one COPY into
    it takes rows for all of them.
    """

    def __init__(self, connection: AnyConnection, table: BulkTable, name: str) -> None:
        """`name` is the intake's, and how theirs begin until they are attached."""
        self._connection = connection
        self._table = table
        self._name = name
        self.made: dict[dt.date, FreshPartition] = {}

    def told(self, message: str) -> str:
        """A message of PostgreSQL with the names that the partitions will have."""
        return message.replace(self._name, self._table.table)

    @property
    def intake(self) -> sql.Identifier:
        """The table that takes rows for all of them; there is none before the first is made."""
        return sql.Identifier(self._table.schema, self._name)

    def make(self, span: Span, partitions: Sequence[Partition]) -> bool:
        """Make the table that shall be the partition of `span`; False where it cannot be made.

        `partitions` are those there are. No lock is held that others wait for: nobody else can see the table.
        """
        final = {"schema": self._table.schema, "table": f"{self._table.table}_{span.suffix}"}
        exists = self._connection.execute(_SQL["relation_exists"], final).fetchone()
        if overlaps(span, partitions) or (exists and exists[0]) or len(final["table"].encode()) > _NAME_BYTES:
            return False
        fresh = FreshPartition(span, self._table.schema, f"{self._name}_{span.suffix}")
        user = _current_user(self._connection)
        try:
            with self._connection.transaction(), _as_role(self._connection, self._table.owner):
                if not self.made:
                    self._make_intake(user)
                self._make(fresh, user)
        except _CANNOT_MAKE:
            return False
        self.made[span.lower] = fresh
        return True

    def _make_intake(self, user: str) -> None:
        key = sql.Identifier(self._table.key_column)
        self._connection.execute(
            _SQL.compose("create_intake", intake=self.intake, parent=self._table.parent, key=key)
        )
        self._number_and_lend(self.intake, user)

    def _make(self, fresh: FreshPartition, user: str) -> None:
        table, partition = self._table, fresh.identifier
        bounds = _bounds(table, fresh.span)
        key = sql.Identifier(table.key_column)
        self._connection.execute(
            _SQL.compose("create_fresh", partition=partition, parent=table.parent, key=key, **bounds)
        )
        self._number_and_lend(partition, user)
        self._connection.execute(
            _SQL.compose("attach_partition", partition=partition, parent=self.intake, **bounds)
        )

    def _number_and_lend(self, made: sql.Identifier, user: str) -> None:
        if self._table.identity_column and self._table.sequence:
            column, sequence = sql.Identifier(self._table.identity_column), sql.Literal(self._table.sequence)
            self._connection.execute(
                _SQL.compose("number_fresh", partition=made, column=column, sequence=sequence)
            )
        self._connection.execute(_SQL.compose("lend_fresh", partition=made, role=sql.Identifier(user)))

    def attach(self) -> None:
        """Give them their indexes and attach them, as the last work of the transaction.

        Holds the table's advisory lock of partitions and the locks of ATTACH from then until the transaction ends.
        Where another has made the same partition in the meantime, the rows go over into it.
        """
        if not self.made:
            return
        connection, table = self._connection, self._table
        with _as_role(connection, table.owner):
            for fresh in self.made.values():
                connection.execute(
                    _SQL.compose("detach_fresh", partition=fresh.identifier, intake=self.intake)
                )
                _build_indexes(connection, table, fresh)
            connection.execute(_SQL.compose("drop_fresh", partition=self.intake))
            connection.execute(
                _SQL["lock_partitions"], {"name": f"longbox partitions of {table.schema}.{table.table}"}
            )
            partitions = list_partitions(connection, table.schema, table.table)
            for fresh in self.made.values():
                if overlaps(fresh.span, partitions):
                    _hand_over(connection, table, fresh)
                else:
                    _attach(connection, table, fresh)
        self.made.clear()


def _hand_over(connection: AnyConnection, table: BulkTable, fresh: FreshPartition) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    connection.execute(
        _SQL.compose("hand_over", parent=table.parent, partition=fresh.identifier, columns=columns)
    )
    connection.execute(_SQL.compose("drop_fresh", partition=fresh.identifier))


def _build_indexes(connection: AnyConnection, table: BulkTable, fresh: FreshPartition) -> None:
    for definition in table.indexes:
        connection.execute(
            _SQL.compose("index_fresh", partition=fresh.identifier, definition=_literally(definition))
        )
    for definition in table.constraints:
        connection.execute(
            _SQL.compose("constrain_fresh", partition=fresh.identifier, definition=_literally(definition))
        )


def _attach(connection: AnyConnection, table: BulkTable, fresh: FreshPartition) -> None:
    name = f"{table.table}_{fresh.span.suffix}"
    partition = sql.Identifier(table.schema, name)
    renames = connection.execute(
        _SQL["indexes_of"], {"schema": fresh.schema, "table": fresh.name, "final": name}
    ).fetchall()
    connection.execute(
        _SQL.compose("rename_fresh", partition=fresh.identifier, new_name=sql.Identifier(name))
    )
    for before, after in cast("list[tuple[str, str]]", renames):
        index = sql.Identifier(table.schema, before)
        connection.execute(_SQL.compose("rename_index", index=index, new_name=sql.Identifier(after)))
    for definition in table.statistics:
        connection.execute(
            _SQL.compose("describe_fresh", partition=partition, definition=_literally(definition))
        )
    if table.identity_column:
        column = sql.Identifier(table.identity_column)
        connection.execute(_SQL.compose("unnumber_fresh", partition=partition, column=column))
    bounds = _bounds(table, fresh.span)
    connection.execute(_SQL.compose("attach_partition", partition=partition, parent=table.parent, **bounds))
    connection.execute(_SQL.compose("forget_bounds", partition=partition))


def _bounds(table: BulkTable, span: Span) -> dict[str, sql.Composable]:
    return {
        "lower": bound_literal(span.lower, table.key_type),
        "upper": bound_literal(span.upper, table.key_type),
    }


def _literally(definition: str) -> sql.Composable:
    """A definition as PostgreSQL itself wrote it."""
    return sql.SQL(definition.replace("{", "{{").replace("}", "}}")).format()


@contextlib.contextmanager
def _as_role(connection: AnyConnection, role: str) -> Iterator[None]:
    """Work as another role of the same session until the end of the block, or of the transaction if that fails."""
    before = _current_user(connection)
    connection.execute(_SQL["become"], {"role": role})
    yield
    connection.execute(_SQL["become"], {"role": before})


def _current_user(connection: AnyConnection) -> str:
    row = connection.execute(_SQL["who_am_i"]).fetchone()
    return cast("tuple[str]", row)[0]

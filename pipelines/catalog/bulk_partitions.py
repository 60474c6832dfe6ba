"""Partitions that one transaction makes, fills and attaches: until it commits, nobody sees them, and kills undo them.

A table of its own takes rows without indexes, which are built at the end from all of them. Nothing but the last moments
of the transaction holds a lock that another maker of partitions waits for. The ordinary way is `partitions`.
https://www.postgresql.org/docs/18/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-MAINTENANCE
"""

import contextlib
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
    look at each row; where a unique index could refuse rows that are copied already (one without the identity column).
    """
    row = connection.execute(
        _SQL["bulk_table"], {"schema": schema, "table": table, "owner": owner}
    ).fetchone()
    if row is None:
        return None
    key_column, key_type, identity, sequence, constraints, indexes, columns = cast(
        "tuple[str, str, str | None, str | None, list[str], list[str], list[str]]", row
    )
    return BulkTable(
        schema, table, owner, key_column, key_type, identity, sequence, tuple(constraints), tuple(indexes),
        tuple(columns),
    )  # fmt: skip


def make_fresh(
    connection: AnyConnection, table: BulkTable, span: Span, partitions: Sequence[Partition], name: str
) -> FreshPartition | None:
    """Make the table that shall be the partition of `span`, called `name` until then; None where it cannot be made.

    `partitions` are those there are. No lock is held that others wait for: nobody else can see the table.
    """
    final = {"schema": table.schema, "table": f"{table.table}_{span.suffix}"}
    exists = connection.execute(_SQL["relation_exists"], final).fetchone()
    if overlaps(span, partitions) or (exists and exists[0]) or len(final["table"].encode()) > _NAME_BYTES:
        return None
    fresh = FreshPartition(span, table.schema, name)
    lower, upper = (bound_literal(day, table.key_type) for day in (span.lower, span.upper))
    user = _current_user(connection)
    try:
        with connection.transaction(), _as_role(connection, table.owner):
            connection.execute(
                _SQL.compose("create_fresh", partition=fresh.identifier, parent=table.parent,
                             key=sql.Identifier(table.key_column), lower=lower, upper=upper)
            )  # fmt: skip
            if table.identity_column and table.sequence:
                connection.execute(
                    _SQL.compose("number_fresh", partition=fresh.identifier,
                                 column=sql.Identifier(table.identity_column), sequence=sql.Literal(table.sequence))
                )  # fmt: skip
            connection.execute(
                _SQL.compose("lend_fresh", partition=fresh.identifier, role=sql.Identifier(user))
            )
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DuplicateTable):
        return None
    return fresh


def attach_fresh(connection: AnyConnection, table: BulkTable, made: Sequence[FreshPartition]) -> None:
    """Give fresh partitions their indexes and attach them, as the last work of the transaction.

    Holds the table's advisory lock of partitions and the locks of ATTACH from then until the transaction ends. Where
    another has made the same partition in the meantime, the rows go over into it.
    """
    if not made:
        return
    with _as_role(connection, table.owner):
        for fresh in made:
            _build_indexes(connection, table, fresh)
        connection.execute(
            _SQL["lock_partitions"], {"name": f"longbox partitions of {table.schema}.{table.table}"}
        )
        partitions = list_partitions(connection, table.schema, table.table)
        for fresh in made:
            if overlaps(fresh.span, partitions):
                columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
                connection.execute(
                    _SQL.compose(
                        "hand_over", parent=table.parent, partition=fresh.identifier, columns=columns
                    )
                )
                connection.execute(_SQL.compose("drop_fresh", partition=fresh.identifier))
            else:
                _attach(connection, table, fresh)


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
    if table.identity_column:
        column = sql.Identifier(table.identity_column)
        connection.execute(_SQL.compose("unnumber_fresh", partition=partition, column=column))
    bounds = {
        "lower": bound_literal(fresh.span.lower, table.key_type),
        "upper": bound_literal(fresh.span.upper, table.key_type),
    }
    connection.execute(_SQL.compose("attach_partition", partition=partition, parent=table.parent, **bounds))
    connection.execute(_SQL.compose("forget_bounds", partition=partition))


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

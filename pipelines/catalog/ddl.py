"""Makes the tables that YAML declares, and brings them along when a declaration grows.

Only what cannot lose or rewrite anything is done by itself: missing tables, added columns, defaults of later
rows, comments. Everything else is refused with what to do instead. Statements are in `statements`, partitions
in `partitions`; tables made by migrations and adopted ones are left alone.
"""

from collections.abc import Iterable, Mapping
from typing import cast

import psycopg
from psycopg import sql

from pipelines.catalog.check import reader_of, types_in_database
from pipelines.catalog.consistency import LINEAGE_COLUMN_NAMES, SURROGATE_KEY
from pipelines.catalog.document import Document
from pipelines.catalog.errors import CatalogError, Problem, YamlPath, format_path
from pipelines.catalog.model import Aggregate, Catalog, Gaps, System, Table
from pipelines.catalog.shape import ColumnShape, TableShape, table_shapes
from pipelines.catalog.statements import (
    LINEAGE_COLUMNS,
    ColumnDefinition,
    aggregate_definitions,
    column_definitions,
    comment_statements,
    create_computed_statements,
    create_table_statements,
    gap_definitions,
    primary_key,
    type_sql,
)
from resources.database import Connection
from resources.errors import RetryableError
from resources.sql import Queries

__all__ = ["LINEAGE_COLUMNS", "apply_declared_tables", "create_table_statements"]

_SQL = Queries.of("pipelines.catalog")


class TableBusyError(RetryableError):
    """A table is in use for longer than DDL may wait."""


def apply_declared_tables(connection: Connection, catalog: Catalog) -> list[str]:
    """Create missing generated tables, aggregates and gaps, add columns that were added; returns what was done.

    Run as longbox_owner, after migrations (an aggregate's types come from its source). Works in one
    transaction (a savepoint of the caller's if there is one). Waits at most 5 s for each lock, then raises
    `TableBusyError`. Running it again does nothing and returns []. Raises `CatalogError` with everything it
    will not do by itself; nothing is changed then.
    """
    with connection.transaction():
        done, _ = _change(connection, catalog)
    return done


def declared_sql(connection: Connection, catalog: Catalog) -> list[str]:
    """The statements that `apply_declared_tables` would run; they run and are rolled back, locks included."""
    with connection.transaction(force_rollback=True):
        _, statements = _change(connection, catalog)
    return statements


def _change(connection: Connection, catalog: Catalog) -> tuple[list[str], list[str]]:
    """Bring every system's tables to what it declares: what was done, and by which statements."""
    done: list[str] = []
    statements: list[str] = []
    problems: list[Problem] = []
    before = connection.execute(_SQL["limit_waiting"]).fetchone()
    for _, system in sorted(catalog.systems.items()):
        makes_tables = any(table.is_generated for table in system.tables.values())
        if makes_tables or system.aggregates or system.gaps:
            change = _SystemChange(connection, system)
            done.extend(change.run())
            statements.extend(change.statements)
            problems.extend(change.document.problems)
    if problems:
        raise CatalogError(problems)
    connection.execute(_SQL["restore_waiting"], before)
    return done, statements


class _SystemChange:
    """One system's declarations against its schema."""

    def __init__(self, connection: Connection, system: System) -> None:
        self._connection = connection
        self._system = system
        self._done: list[str] = []
        self.statements: list[str] = []
        self.document: Document = reader_of(system)

    def run(self) -> list[str]:
        exists = self._connection.execute(_SQL["schema_exists"], {"schema": self._system.name}).fetchone()
        if exists is not None and not exists[0]:
            self._run(_SQL.compose("create_schema", schema=sql.Identifier(self._system.name)))
            self._done.append(f"created schema {self._system.name}")
        shapes = table_shapes(self._connection, self._system.name)
        for name, table in sorted(self._system.tables.items()):
            if table.is_generated:
                self._bring_table(table, shapes.get(name))
        shapes = table_shapes(self._connection, self._system.name)
        for name, aggregate in sorted(self._system.aggregates.items()):
            self._bring_aggregate(aggregate, shapes.get(aggregate.from_), shapes.get(name))
        for name, gaps in sorted(self._system.gaps.items()):
            self._bring_gaps(gaps, shapes.get(gaps.from_), shapes.get(name))
        return self._done

    def _bring_table(self, table: Table, shape: TableShape | None) -> None:
        path: YamlPath = ("tables", table.name)
        if shape is None:
            self._execute(
                path, create_table_statements(self._system, table), f"created table {self._name(table.name)}"
            )
            return
        if not self._is_table(path, shape):
            return
        same_partitioning = not self._refuses_partitioning(path, table, shape)
        if same_partitioning and shape.primary_key != primary_key(self._system, table):
            was, wanted = _listed(shape.primary_key), _listed(primary_key(self._system, table))
            self._refuse(
                (*path, "primary_key"), f"the primary key is {was} in the database and {wanted} here"
            )
        own = {SURROGATE_KEY, *LINEAGE_COLUMN_NAMES}
        self._bring_columns(
            (*path, "columns"), column_definitions(self._system, table), shape, undeclared_ok=own
        )
        self._bring_comments(path, table.description, column_definitions(self._system, table), shape)

    def _bring_aggregate(
        self, aggregate: Aggregate, source: TableShape | None, shape: TableShape | None
    ) -> None:
        path: YamlPath = ("aggregates", aggregate.name)
        groups = [group.column for group in aggregate.groups]
        read = [*groups, *(column for call in aggregate.calls.values() for column in call.columns)]
        types = self._types_read(path, aggregate.from_, source, read)
        if types is None:
            return
        definitions = aggregate_definitions(aggregate, types)
        if shape is None:
            key = [group.name for group in aggregate.groups]
            statements = create_computed_statements(
                self._system.name, aggregate.name, aggregate.description, key, definitions
            )
            self._execute(path, statements, f"created aggregate {self._name(aggregate.name)}")
        elif self._is_table(path, shape):
            added = self._bring_columns((*path, "measures"), definitions, shape, undeclared_ok=set())
            if added:
                self._done.append(
                    f"{self._name(aggregate.name)}: materialise its days again to fill {_listed(added)}"
                )
            self._bring_comments(path, aggregate.description, definitions, shape)

    def _bring_gaps(self, gaps: Gaps, source: TableShape | None, shape: TableShape | None) -> None:
        path: YamlPath = ("gaps", gaps.name)
        types = self._types_read(path, gaps.from_, source, gaps.by)
        if types is None:
            return
        definitions = gap_definitions(gaps, types)
        if shape is None:
            statements = create_computed_statements(
                self._system.name, gaps.name, gaps.description, [*gaps.by, "gap_from"], definitions
            )
            self._execute(path, statements, f"created table of gaps {self._name(gaps.name)}")
        elif self._is_table(path, shape):
            self._bring_columns((*path, "by"), definitions, shape, undeclared_ok=set())
            self._bring_comments(path, gaps.description, definitions, shape)

    def _types_read(
        self, path: YamlPath, table: str, source: TableShape | None, columns: Iterable[str]
    ) -> Mapping[str, str] | None:
        """The types of the table that is computed from; None, and a report, if it or a column is not there."""
        if source is None:
            message = f"the table {table!r} it is computed from is not in the database"
            self.document.report((*path, "from"), message, "run its migrations first (`longbox migrate`)")
            return None
        types = types_in_database(source)
        missing = [name for name in columns if name not in types]
        if missing:
            message = f"table {table!r} has no column {_listed(missing)} in the database"
            remedy = "correct the name, or make the column first (`longbox migrate`)"
            self.document.report(path, message, remedy)
            return None
        return types

    def _bring_columns(
        self,
        path: YamlPath,
        wanted: Iterable[ColumnDefinition],
        shape: TableShape,
        *,
        undeclared_ok: set[str],
    ) -> list[str]:
        there = {column.name: column for column in shape.columns}
        table = sql.Identifier(self._system.name, shape.name)
        added = []
        definitions = {column.name: column for column in wanted}
        for name, column in definitions.items():
            where = (*path, name)
            if name in there:
                self._compare(where, column, there[name], shape)
            elif name in undeclared_ok:
                message = (
                    f"a feed loads {shape.name!r} now, but the table was made without the column {name!r}"
                )
                self.document.report(
                    path[:-1], message, f"load the feed into a new table, or {self._remedy(path)}"
                )
            elif not column.is_nullable and column.default is None:
                remedy = (
                    "give it a default (`{type: ..., not_null: true, default: ...}`) or leave `not_null` out"
                )
                self.document.report(
                    where, "rows that are there would have no value in the added column", remedy
                )
            else:
                add = _SQL.compose("add_column", table=table, definition=column.as_sql())
                statements = [add, *comment_statements(self._system.name, shape.name, "", [column])]
                done = f"added column {self._name(shape.name)}.{name} ({column.type_name})"
                self._execute(where, statements, done)
                added.append(name)
        for name in there.keys() - definitions.keys() - undeclared_ok:
            self._refuse(
                path,
                f"the column {name!r} is in the database but no longer declared",
                "declare it again",
            )
        return added

    def _compare(
        self, path: YamlPath, wanted: ColumnDefinition, there: ColumnShape, shape: TableShape
    ) -> None:
        if there.type_name != wanted.type_name:
            self._refuse(path, f"the type is {there.type_name} in the database and {wanted.type_name} here")
        elif there.is_nullable != wanted.is_nullable:
            may, must = "may be null", "must not be null"
            was, now = (may, must) if there.is_nullable else (must, may)
            self._refuse(path, f"the column {was} in the database and {now} here")
        elif not wanted.is_identity:
            self._bring_default(path, wanted, there, shape)

    def _bring_default(
        self, path: YamlPath, wanted: ColumnDefinition, there: ColumnShape, shape: TableShape
    ) -> None:
        column, table = sql.Identifier(wanted.name), sql.Identifier(self._system.name, shape.name)
        if wanted.default is None:
            if there.default is not None:
                statement = _SQL.compose("drop_default", table=table, column=column)
                self._execute(
                    path, [statement], f"dropped the default of {self._name(shape.name)}.{wanted.name}"
                )
            return
        if there.default is not None and self._same_value(there.default, wanted):
            return
        statement = _SQL.compose("set_default", table=table, column=column, value=wanted.default)
        self._execute(
            path, [statement], f"set the default of {self._name(shape.name)}.{wanted.name} for new rows"
        )

    def _same_value(self, actual: str, wanted: ColumnDefinition) -> bool:
        query = _SQL.compose(
            "same_value",
            actual=sql.SQL(actual.replace("{", "{{").replace("}", "}}")).format(),
            declared=cast(sql.Composable, wanted.default),
            type=type_sql(wanted.type_name),
        )
        row = self._connection.execute(query).fetchone()
        return row is not None and row[0] is True

    def _bring_comments(
        self, path: YamlPath, description: str, columns: Iterable[ColumnDefinition], shape: TableShape
    ) -> None:
        there = {column.name: column.description for column in shape.columns}
        changed = [
            column for column in columns if column.name in there and column.description != there[column.name]
        ]
        text = description if description != shape.description else ""
        statements = comment_statements(self._system.name, shape.name, text, changed)
        if statements:
            self._execute(path, statements, f"updated the descriptions of {self._name(shape.name)}")

    def _is_table(self, path: YamlPath, shape: TableShape) -> bool:
        if shape.kind in ("table", "partitioned table"):
            return True
        self._refuse(path, f"{self._name(shape.name)} is a {shape.kind} in the database")
        return False

    def _refuses_partitioning(self, path: YamlPath, table: Table, shape: TableShape) -> bool:
        wanted = (table.time,) if table.partition else ()
        if shape.partition_by != wanted:
            was = f"partitioned by {_listed(shape.partition_by)}" if shape.partition_by else "not partitioned"
            now = f"partitioned by {table.time}" if table.partition else "not partitioned"
            self._refuse((*path, "partition"), f"the table is {was} in the database and {now} here")
        return shape.partition_by != wanted

    def _refuse(self, path: YamlPath, message: str, instead: str = "put the declaration back") -> None:
        self.document.report(path, message, f"{instead}, or {self._remedy(path)}")

    def _remedy(self, path: YamlPath) -> str:
        if path[0] in ("aggregates", "gaps"):
            name = self._name(str(path[1]))
            return f"drop the table {name}, run `longbox migrate` and materialise its days again (nothing is lost)"
        return f"make the change in a migration in {self._system.folder / 'migrations'}"

    def _execute(self, path: YamlPath, statements: Iterable[sql.Composed], done: str) -> None:
        try:
            with self._connection.transaction():
                for statement in statements:
                    self._run(statement)
        except psycopg.errors.LockNotAvailable:
            raise TableBusyError(
                f"{self._system.file}: {format_path(path)}: the table is in use and its lock was not free within 5 s; "
                "run it again, or end the query that holds it (pg_stat_activity)"
            ) from None
        except (psycopg.DataError, psycopg.ProgrammingError) as error:
            message = f"PostgreSQL refuses it: {error.diag.message_primary}"
            self.document.report(path, message, "correct the declaration")
            return
        self._done.append(done)

    def _run(self, statement: sql.Composed) -> None:
        self._connection.execute(statement)
        self.statements.append(statement.as_string(self._connection).strip())

    def _name(self, table: str) -> str:
        return f"{self._system.name}.{table}"


def _listed(names: Iterable[str] | Mapping[str, object]) -> str:
    return ", ".join(names) or "none"

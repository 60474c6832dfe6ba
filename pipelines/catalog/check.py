"""The catalogue held against a real database: what it names must be there and be of use.

Read-only, with the same rules as `consistency`, now that the columns of migrated and adopted tables are known
too. Run it after migrations; what it finds is a fault of the YAML or of a migration, never of data.
"""

from collections.abc import Mapping

from pipelines.catalog.column_checks import Types
from pipelines.catalog.consistency import (
    LINEAGE_COLUMN_NAMES,
    check_aggregate,
    check_feed,
    check_gaps,
    check_table_columns,
)
from pipelines.catalog.document import Document, read_document
from pipelines.catalog.errors import Problem, suggest
from pipelines.catalog.feed_keys import Identity, changes, kept_identities
from pipelines.catalog.model import Catalog, Feed, Gaps, System, Table
from pipelines.catalog.shape import TableShape, table_shapes
from pipelines.catalog.types import SUPPORTED_TYPES, known_type
from pipelines.catalog.views import view_state
from resources.database import Connection


def check_against_database(connection: Connection, catalog: Catalog) -> list[Problem]:
    """Everything that the catalogue says and the database does not bear out. Empty is good. Only reads."""
    problems: list[Problem] = []
    for _, system in sorted(catalog.systems.items()):
        document = reader_of(system)
        shapes = table_shapes(connection, system.name)
        for table in system.tables.values():
            _check_table(document, system, table, shapes)
        kept = kept_identities(connection, system.name)
        for feed in system.feeds.values():
            _check_feed(document, feed, shapes.get(feed.table), kept)
        for name, aggregate in system.aggregates.items():
            source = shapes.get(aggregate.from_)
            if source is not None:
                check_aggregate(document, ("aggregates", name), aggregate, _kinds(source))
            if name not in shapes:
                message = f"the aggregate {name!r} has no table in the database"
                document.report(("aggregates", name), message, "run `longbox migrate`")
        for gaps in system.gaps.values():
            _check_gaps(document, system, gaps, shapes)
        for name in system.views:
            _check_view(connection, document, system, name)
        problems.extend(document.problems)
    return problems


def reader_of(system: System) -> Document:
    """The document of a system that was loaded before, to report on it by line; without lines if it is gone."""
    document = read_document(system.file)
    return Document(system.file) if document.problems else document


def types_in_database(shape: TableShape) -> Mapping[str, str]:
    """Column -> type as `format_type` prints it."""
    return {column.name: column.type_name for column in shape.columns}


def _kinds(shape: TableShape) -> Types:
    return {column.name: known_type(column.base_type_name) for column in shape.columns}


def _check_table(document: Document, system: System, table: Table, shapes: Mapping[str, TableShape]) -> None:
    path = ("tables", table.name)
    shape = shapes.get(table.name)
    if shape is None:
        near = suggest(table.name, shapes, noun="table")
        remedy = f"adopt an existing one: {near}" if table.adopt else f"run `longbox migrate` ({near})"
        document.report(path, f"the table {system.name}.{table.name} is not in the database", remedy)
        return
    check_table_columns(document, path, table, _kinds(shape))
    wanted = (table.time,) if table.partition else ()
    if table.partition and shape.partition_by != wanted:
        was = f"partitioned by {', '.join(shape.partition_by)}" if shape.partition_by else "not partitioned"
        remedy = f"partition it by RANGE ({table.time}) in a migration, or take `partition` and `archive` out"
        document.report((*path, "partition"), f"the table is {was} in the database", remedy)
    elif table.partition and shape.partition_strategy != "range":
        remedy = "Longbox keeps partitions by range of time only"
        document.report(
            (*path, "partition"), f"the table is partitioned by {shape.partition_strategy}", remedy
        )
    elif shape.partition_by and not table.partition:
        remedy = (
            f"declare `time: {shape.partition_by[0]}` and `partition:`, so that partitions are made ahead"
        )
        document.report(path, f"the table is partitioned by {', '.join(shape.partition_by)}", remedy)


def _check_gaps(document: Document, system: System, gaps: Gaps, shapes: Mapping[str, TableShape]) -> None:
    path = ("gaps", gaps.name)
    source = shapes.get(gaps.from_)
    if source is not None:
        check_gaps(document, path, gaps, system.tables[gaps.from_], _kinds(source))
    if gaps.name not in shapes:
        document.report(
            path, f"the gaps {gaps.name!r} have no table in the database", "run `longbox migrate`"
        )


def _check_view(connection: Connection, document: Document, system: System, name: str) -> None:
    state = view_state(connection, system.name, name)
    path = ("views", name)
    if state is None:
        message = f"there is no materialised view {system.name}.{name} in the database"
        document.report(path, message, f"make it in a migration in {system.folder / 'migrations'}")
    elif not state.has_key:
        remedy = "add `CREATE UNIQUE INDEX` over plain columns, without WHERE, in a migration"
        document.report(path, "the view has no unique index, which refreshing without blocking needs", remedy)


def _check_feed(
    document: Document, feed: Feed, shape: TableShape | None, kept: Mapping[str, Identity]
) -> None:
    path = ("feeds", feed.name)
    for change in changes(feed, kept):
        document.report((*path, change.name), change.message, change.remedy)
    if shape is None:
        return
    if shape.kind not in ("table", "partitioned table"):
        document.report((*path, "table"), f"{shape.name!r} is a {shape.kind}", "a feed loads into a table")
        return
    check_feed(document, path, feed, _kinds(shape))
    missing = [name for name in LINEAGE_COLUMN_NAMES if not shape.has(name)]
    if missing:
        remedy = "add them in a migration: every table of a feed carries the lineage of its rows"
        document.report((*path, "table"), f"table {shape.name!r} lacks {', '.join(missing)}", remedy)
    filled = {column: ("columns", landed) for landed, column in feed.columns.items()}
    for column in shape.columns:
        if column.name not in filled:
            continue
        where = (*path, *filled[column.name])
        if column.is_generated or column.is_identity:
            remedy = "take it out: PostgreSQL fills it, a file cannot"
            document.report(where, f"column {column.name!r} is generated", remedy)
        elif known_type(column.base_type_name) is None and column.enum_labels is None:
            remedy = f"the types are {', '.join(SUPPORTED_TYPES)} and enums"
            document.report(
                where, f"column {column.name!r} is {column.type_name}, which a feed cannot fill", remedy
            )

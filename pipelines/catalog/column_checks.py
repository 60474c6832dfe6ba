"""What can be said of one column, or of one table's name: it exists, and its type fits what is asked of it.

The parts that `consistency` (one file against itself) and `check` (against a database) are made of. A type that is
not known raises no fault: None stands for it.
"""

import datetime
from collections.abc import Mapping

from pipelines.catalog.document import Document
from pipelines.catalog.errors import YamlPath, suggest
from pipelines.catalog.model import Feed, System, Table
from pipelines.catalog.types import ColumnType, Kind, known_type
from pipelines.catalog.values import EPOCHS, bin_minutes

Types = Mapping[str, ColumnType | None]


def declared_types(table: Table) -> Types | None:
    """Column -> type as `columns:` lists them; None when migrations make the table."""
    if table.columns is None:
        return None
    return {name: known_type(column.type) for name, column in table.columns.items()}


def source_types(system: System, table: Table) -> Types | None:
    """Column -> type of a generated table, lineage columns included when a feed loads it; None if migrations do."""
    types = declared_types(table)
    if types is not None and system.feeds_of(table.name):
        return {**types, "landing_day": known_type("date"), "loaded_at": known_type("timestamptz")}
    return types


def check_column(
    document: Document, path: YamlPath, column: str, types: Types | None, table: str
) -> ColumnType | None:
    """Report `column` if the table is known not to have it; returns its type where that is known."""
    if types is None:
        return None
    if column not in types:
        document.report(
            path, f"table {table!r} has no column {column!r}", suggest(column, types, noun="column")
        )
        return None
    return types[column]


def check_rule(document: Document, path: YamlPath, feed: Feed, column: str, kind: ColumnType) -> None:
    """Report the conditions of a rule that make no sense for the column's type."""
    rule = feed.rules[column]
    if len({type(bound) for bound in rule.bounds.values()}) == 1 and rule.is_impossible:
        document.report(path, "no value can satisfy its limits", "exchange or correct them")
    for name, bound in rule.bounds.items():
        is_number_bound = not hasattr(bound, "year")
        if is_number_bound and not kind.is_number:
            document.report(
                (*path, name), f"column {column!r} is {kind.name}, not a number", limit_remedy(kind)
            )
        elif not is_number_bound and not kind.is_time:
            document.report(
                (*path, name), f"column {column!r} is {kind.name}, not a date", limit_remedy(kind)
            )
    for name in ("matches", "max_length"):
        if getattr(rule, name) is not None and kind.kind is not Kind.TEXT:
            document.report(
                (*path, name), f"column {column!r} is {kind.name}, not text", "take the condition out"
            )


def check_format(document: Document, path: YamlPath, column: str, form: str, kind: ColumnType) -> None:
    """Report a format of a column that has none, and one that does not tell a time of day what it needs."""
    if kind.name != "time without time zone":
        if not kind.is_time:
            document.report(
                path, f"column {column!r} is {kind.name}", "a format is for date, time and timestamp columns"
            )
        return
    remedy = "write it as %H:%M:%S or %I:%M %p"
    if form in EPOCHS:
        document.report(path, f"{form} is no time of day, which column {column!r} is", remedy)
        return
    afternoon = datetime.datetime(2001, 2, 3, 16, 5, 6, tzinfo=datetime.UTC)
    read = datetime.datetime.strptime(afternoon.strftime(form), form)
    if read.hour != afternoon.hour:
        document.report(path, f"{form!r} does not tell the hour of the day", remedy)
    elif read.tzinfo is not None:
        document.report(path, f"column {column!r} is a time of day, which has no zone", remedy)


def check_revision(document: Document, path: YamlPath, column: str, kind: ColumnType) -> None:
    """Report a revision that does not order versions."""
    if kind.kind is not Kind.INTEGER and kind.base != "timestamp with time zone":
        document.report(
            path, f"column {column!r} is {kind.name}", "a revision is a timestamptz or an integer"
        )


def check_measure(document: Document, path: YamlPath, function: str, column: str, kind: ColumnType) -> None:
    """Report a measure that cannot be taken of the column's type."""
    if function in ("min", "max"):
        if not kind.is_ordered:
            document.report(
                path, f"column {column!r} is {kind.name}, which has no {function}", "count it instead"
            )
    elif function not in ("count", "count_distinct", "first", "last") and not kind.is_number:
        document.report(
            path, f"column {column!r} is {kind.name}, not a number", f"{function} needs a number column"
        )


def check_bucket(document: Document, path: YamlPath, bucket: str, column: str, kind: ColumnType) -> None:
    """Report a group that cuts something other than a time, or a date into hours."""
    if not kind.is_time:
        document.report(
            path, f"column {column!r} is {kind.name}, not a time", f"{bucket} needs a date or timestamptz"
        )
    elif bin_minutes(bucket) is not None and kind.kind is Kind.DATE:
        document.report(
            path, f"column {column!r} is a date and has no hours", "use day, or a timestamptz column"
        )


def limit_remedy(kind: ColumnType) -> str:
    if kind.is_time:
        return "write a date such as 2024-01-01"
    return "write a number such as 0" if kind.is_number else "use one_of, matches or max_length"


def check_table_name(document: Document, path: YamlPath, name: str, declared: frozenset[str]) -> None:
    """Report the name of a table that is not there, but for one that is there and has a fault of its own."""
    if name not in declared:
        remedy = suggest(name, declared, noun="table")
        document.report(path, f"there is no table {name!r} under `tables:`", remedy)

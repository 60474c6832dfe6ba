"""What one file must agree on with itself: columns that exist, tables that are made, lifecycles that make sense.

Works on the parts that were valid by themselves; a part that was not is known by name only and raises no
second fault. What only the database can tell is in `check`.
"""

from collections.abc import Iterable, Mapping

from pipelines.catalog.column_checks import (
    Types,
    check_bucket,
    check_column,
    check_format,
    check_measure,
    check_revision,
    check_rule,
    check_table_name,
    declared_types,
    source_types,
)
from pipelines.catalog.document import Document
from pipelines.catalog.errors import YamlPath, suggest
from pipelines.catalog.model import Aggregate, Feed, Gaps, System, Table
from pipelines.catalog.types import Kind

LINEAGE_COLUMN_NAMES = ("key_hash", "content_hash", "landing_day", "load_id", "line", "loaded_at")
SURROGATE_KEY = "raw_id"
COMPUTED_AT = "computed_at"
GAP_COLUMNS = ("gap_from", "gap_to", "missing_count", COMPUTED_AT)


def check_system(system: System, declared: Mapping[str, frozenset[str]], document: Document) -> System:
    """Report every disagreement to `document`; returns the system with what follows from it filled in.

    Filled in: a feed requires its key columns and its table's time column (or what that is derived from),
    since a row without them can be neither identified nor placed in time.
    """
    for name, table in system.tables.items():
        _check_table(document, ("tables", name), system, table)
    feeds = {}
    for name, feed in system.feeds.items():
        table_or_none = system.tables.get(feed.table)
        if table_or_none is None:
            check_table_name(document, ("feeds", name, "table"), feed.table, declared["tables"])
        else:
            check_feed(document, ("feeds", name), feed, declared_types(table_or_none))
        feeds[name] = _with_implied_requirements(feed, table_or_none)
    for name, aggregate in system.aggregates.items():
        path = ("aggregates", name)
        if name in declared["tables"]:
            document.report(path, f"there is also a table {name!r}", "give the aggregate a name of its own")
        source = system.tables.get(aggregate.from_)
        if source is None:
            check_table_name(document, (*path, "from"), aggregate.from_, declared["tables"])
        else:
            check_aggregate(document, path, aggregate, source_types(system, source))
            _check_order(document, path, aggregate, source)
    _check_gaps(document, system, declared)
    _check_views(document, system, declared)
    return system.model_copy(update={"feeds": feeds})


def check_table_columns(document: Document, path: YamlPath, table: Table, types: Types | None) -> None:
    """Report a time or subject that the table does not have, and a time that is none."""
    if table.time is not None:
        kind = check_column(document, (*path, "time"), table.time, types, table.name)
        if kind is not None and not kind.is_time:
            remedy = "the time of a row is a date or a timestamptz"
            document.report((*path, "time"), f"column {table.time!r} is {kind.name}", remedy)
    if table.subject is not None:
        check_column(document, (*path, "subject"), table.subject, types, table.name)


def _check_table(document: Document, path: YamlPath, system: System, table: Table) -> None:
    check_table_columns(document, path, table, source_types(system, table))
    _check_making(document, path, system, table)
    _check_lifecycle(document, path, table)
    fresh = table.freshness
    if fresh is not None and fresh.warn_after is not None and fresh.warn_after >= fresh.fail_after:
        remedy = "a warning comes before a failure: make it shorter than fail_after"
        document.report(
            (*path, "freshness", "warn_after"), "warn_after is not shorter than fail_after", remedy
        )


def _check_making(document: Document, path: YamlPath, system: System, table: Table) -> None:
    has_feed = bool(system.feeds_of(table.name))
    if table.columns is None:
        if not table.adopt and not (system.folder / "migrations").is_dir():
            remedy = "list its `columns:`, put migrations/ beside the file, or set `adopt: true` if it exists already"
            document.report(path, f"nothing makes the table {table.name!r}", remedy)
        if table.primary_key:
            document.report(
                (*path, "primary_key"), "the table is not made from `columns:`", "declare it in its DDL"
            )
        return
    if table.adopt:
        document.report(
            (*path, "columns"), "an adopted table keeps its own DDL", "take out `columns:` or `adopt:`"
        )
    if not table.columns:
        document.report(
            (*path, "columns"), "the table has no column", "list at least one, as in `price: numeric`"
        )
    taken = (*LINEAGE_COLUMN_NAMES, SURROGATE_KEY) if has_feed else ()
    for name in table.columns:
        if name in taken:
            remedy = "Longbox adds it to every table a feed loads; choose another name"
            document.report((*path, "columns", name), f"the column {name!r} is taken", remedy)
    _check_primary_key(document, path, table, has_feed)


def _check_primary_key(document: Document, path: YamlPath, table: Table, has_feed: bool) -> None:
    where = (*path, "primary_key")
    for i, column in enumerate(table.primary_key):
        check_column(document, (*where, i), column, dict.fromkeys(table.columns or ()), table.name)
    if table.primary_key and has_feed:
        remedy = (
            "take it out: a feed's table keeps every version, its key is `raw_id`; say `key:` in the feed"
        )
        document.report(where, "a table that a feed loads has its own primary key", remedy)
    elif table.primary_key and table.partition and table.time not in table.primary_key:
        remedy = f"add {table.time!r} to it: PostgreSQL needs the partition column in every unique key"
        document.report(where, f"the table is partitioned by {table.time!r}", remedy)


def _check_lifecycle(document: Document, path: YamlPath, table: Table) -> None:
    life, where = table.lifecycle, (*path, "lifecycle")
    if table.partition and table.time is None:
        document.report(
            (*path, "partition"), "partition without time", "add `time:`, the column to partition by"
        )
    if table.partitions_ahead is not None and not table.partition:
        remedy = "add `partition:`, how long each of them is, or take `partitions_ahead` out"
        document.report((*path, "partitions_ahead"), "partitions_ahead without partition", remedy)
    if table.time is None and life.keep:
        document.report(
            (*where, "keep"), "keep without time", "add `time:`, the column that says how old a row is"
        )
    if life.archive and not table.partition:
        remedy = "add `partition: month` (and `time:`): whole partitions move to the archive"
        document.report((*where, "archive"), "archive without partition", remedy)
    if life.archive and life.hot is None:
        remedy = "add `hot:`, how long rows stay in PostgreSQL, as in `hot: 24 months`"
        document.report((*where, "archive"), "archive without hot", remedy)
    if life.hot and not life.archive:
        remedy = "add `archive: true`, or take `hot` out and use `keep` to delete old rows"
        document.report((*where, "hot"), "hot without archive", remedy)
    if life.hot and life.keep and life.keep.mean_days < life.hot.mean_days:
        remedy = "keep counts from the row's own time, hot included: make it at least as long as hot"
        document.report((*where, "keep"), f"keep ({life.keep}) is shorter than hot ({life.hot})", remedy)


def check_feed(document: Document, path: YamlPath, feed: Feed, types: Types | None) -> None:
    """Report columns that the feed's table does not have, and rules, derivations and formats that do not fit them."""
    _check_landed_names(document, (*path, "columns"), feed, types)
    for name, columns in (("key", feed.key), ("require", feed.require)):
        for i, column in enumerate(columns):
            is_implied = name == "require" and not document.has((*path, name, i))
            if not is_implied:
                check_column(document, (*path, name, i), column, types, feed.table)
    for column in feed.rules:
        kind = check_column(document, (*path, "rules", column), column, types, feed.table)
        if kind is not None:
            check_rule(document, (*path, "rules", column), feed, column, kind)
    if feed.revision is not None:
        kind = check_column(document, (*path, "revision"), feed.revision, types, feed.table)
        if kind is not None:
            check_revision(document, (*path, "revision"), feed.revision, kind)
    if feed.thousands == feed.decimal:
        message = f"{feed.thousands!r} parts off the decimals too"
        document.report(
            (*path, "thousands"), message, 'choose another, or give the feed another `decimal:`, as in ","'
        )
    _check_may_be_missing(document, (*path, "may_be_missing"), feed, types)
    _check_deletions(document, (*path, "deletions"), feed)
    _check_derived(document, path, feed, types)


def _check_landed_names(document: Document, path: YamlPath, feed: Feed, types: Types | None) -> None:
    """Report landed names that lead to no column, that a file cannot tell apart, or that hide a mark of deletion."""
    mark = feed.deletions.column if feed.deletions else None
    spellings: dict[str, str] = {}
    for landed, column in feed.columns.items():
        check_column(document, (*path, landed), column, types, feed.table)
        if landed != mark and mark in feed.columns and feed.columns[mark] == column:
            message = f"column {column!r} is filled from {mark!r}, by which deletions go, and from {landed!r}"
            document.report((*path, landed), message, "map one landed column to it")
        other = spellings.setdefault(landed.casefold(), landed)
        if other != landed:
            message = f"the landed names {other!r} and {landed!r} differ only in case"
            document.report((*path, landed), message, "keep one: files are read whatever the case")


def _check_may_be_missing(document: Document, path: YamlPath, feed: Feed, types: Types | None) -> None:
    for i, column in enumerate(feed.may_be_missing):
        check_column(document, (*path, i), column, types, feed.table)
        if column in (*feed.key, *feed.require):
            remedy = "take it out here, or out of `require:`"
            document.report((*path, i), f"column {column!r} is required", remedy)


def _check_deletions(document: Document, path: YamlPath, feed: Feed) -> None:
    """Report a mark of deletion that no file can carry, or that says nothing of which record is meant."""
    if feed.deletions is None:
        return
    landed = feed.deletions.column
    column = feed.columns.get(landed, landed)
    if not feed.key:
        document.report(
            path, "a deletion without a key deletes nothing", "add `key:`, the columns of a record"
        )
    names = [name for name, target in feed.columns.items() if target == landed]
    if names and landed not in feed.columns:
        remedy = f"write `column: {names[0]}`, as the files do"
        document.report((*path, "column"), f"the files call {landed!r} {names[0]!r}", remedy)
    if column in (*feed.key, feed.revision):
        remedy = "name the column whose value says that the record is deleted"
        role = "the revision" if column == feed.revision else "part of the key"
        document.report((*path, "column"), f"column {column!r} is {role}", remedy)


def _check_derived(document: Document, path: YamlPath, feed: Feed, types: Types | None) -> None:
    for column, call in feed.derivations.items():
        where = (*path, "derive", column)
        target = check_column(document, where, column, types, feed.table)
        source = check_column(document, where, str(call.column), types, feed.table)
        if target is not None and target.kind is not Kind.DATE:
            document.report(
                where, f"column {column!r} is {target.name}, not a date", f"{call.function} makes a date"
            )
        if source is not None and source.kind is not Kind.TIMESTAMP:
            remedy = f"{call.function} takes a timestamptz column"
            document.report(where, f"column {call.column!r} is {source.name}", remedy)
        if column in feed.columns.values():
            document.report(
                where, f"column {column!r} is also filled from the files", "take it out of `columns:`"
            )
    _check_uses_of_derived(document, path, feed)
    for column in feed.formats:
        where = (*path, "formats", column)
        kind = check_column(document, where, column, types, feed.table)
        if kind is not None:
            check_format(document, where, column, feed.formats[column], kind)


def _check_uses_of_derived(document: Document, path: YamlPath, feed: Feed) -> None:
    """Report what is asked of a derived column that only a landed one can give: it would never be looked at."""
    asked: list[tuple[YamlPath, str]] = [
        *(((*path, "key", i), column) for i, column in enumerate(feed.key)),
        *(((*path, "may_be_missing", i), column) for i, column in enumerate(feed.may_be_missing)),
        *(((*path, name, column), column) for name in ("rules", "formats") for column in getattr(feed, name)),
    ]
    for where, column in asked:
        if column in feed.derive:
            source = feed.derivations[column].column
            message = f"column {column!r} is derived from {source!r}, the files do not have it"
            document.report(where, message, f"say it of {source!r}, or take it out")


def _with_implied_requirements(feed: Feed, table: Table | None) -> Feed:
    implied: list[str] = [*feed.key]
    if table is not None and table.time is not None:
        call = feed.derivations.get(table.time)
        implied.append(table.time if call is None else str(call.column))
    types = None if table is None else table.column_types
    update = {"require": _unique([*feed.require, *implied]), "table_columns": types}
    return feed.model_copy(update=update)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def check_aggregate(document: Document, path: YamlPath, aggregate: Aggregate, types: Types | None) -> None:
    """Report groups and measures of columns that the source does not have or that do not fit them."""
    names: set[str] = set()
    for i, group in enumerate(aggregate.groups):
        where = (*path, "by", i)
        kind = check_column(document, where, group.column, types, aggregate.from_)
        if kind is not None and group.bucket is not None:
            check_bucket(document, where, group.bucket, group.column, kind)
        names.add(group.name)
    for name, call in aggregate.calls.items():
        where = (*path, "measures", name)
        if name in names or name == COMPUTED_AT:
            remedy = "Longbox adds it" if name == COMPUTED_AT else "it is a column of `by:`"
            document.report(where, f"the column {name!r} is taken", f"choose another name: {remedy}")
        for column in call.columns:
            kind = check_column(document, where, column, types, aggregate.from_)
            if kind is not None:
                check_measure(document, where, call.function, column, kind)


def _check_order(document: Document, path: YamlPath, aggregate: Aggregate, source: Table) -> None:
    """Report a first or last of rows that nothing puts in an order."""
    for name, call in aggregate.calls.items():
        if call.function in ("first", "last") and source.time is None:
            message = f"{call.function} needs an order, and the table {source.name!r} has no time"
            document.report(
                (*path, "measures", name), message, "give the table its `time:`, or use min or max"
            )


def check_gaps(document: Document, path: YamlPath, gaps: Gaps, source: Table, types: Types | None) -> None:
    """Report a series of columns that the table does not have, or over a time that does not know its step."""
    for i, column in enumerate(gaps.by):
        check_column(document, (*path, "by", i), column, types, gaps.from_)
        if column in GAP_COLUMNS:
            document.report(
                (*path, "by", i), f"the column {column!r} is taken", "Longbox adds it; rename yours"
            )
    if source.time is None:
        message = f"a series needs times, and the table {source.name!r} has no time"
        document.report((*path, "from"), message, "give the table its `time:`, the column that says when")
        return
    kind = None if types is None else types.get(source.time)
    if kind is not None:
        check_bucket(document, (*path, "every"), gaps.every, source.time, kind)


def _check_gaps(document: Document, system: System, declared: Mapping[str, frozenset[str]]) -> None:
    for name, gaps in system.gaps.items():
        path = ("gaps", name)
        if name in declared["tables"] | declared["aggregates"]:
            document.report(path, f"there is also a table {name!r}", "give the gaps a name of their own")
        source = system.tables.get(gaps.from_)
        if source is None:
            check_table_name(document, (*path, "from"), gaps.from_, declared["tables"])
        else:
            check_gaps(document, path, gaps, source, source_types(system, source))


def _check_views(document: Document, system: System, declared: Mapping[str, frozenset[str]]) -> None:
    """Report a view whose name is taken, or that is refreshed after what is not there or after itself."""
    tables = declared["tables"] | declared["aggregates"] | declared["gaps"]
    known = tables | declared["views"]
    for name, view in system.views.items():
        path = ("views", name)
        if name in tables:
            document.report(path, f"there is also a table {name!r}", "give the view a name of its own")
        for i, other in enumerate(view.after):
            if other not in known:
                remedy = suggest(other, known, noun="table or view")
                document.report((*path, "after", i), f"there is no table or view {other!r}", remedy)
        if name in _read_by(system, name):
            document.report((*path, "after"), f"the view {name!r} waits for itself", "break the circle")


def _read_by(system: System, view: str) -> set[str]:
    """Everything that a view is refreshed after, views of views included."""
    found: set[str] = set()
    waiting = list(system.views[view].after)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(system.views[name].after if name in system.views else ())
    return found

"""How a file's columns differ from those of the feed's files before it: noticed, told once, never loaded as nulls.

A column that nearly every earlier file had and this one lacks, while a name nobody has seen before is there, was most
likely renamed: loading the file would null its data, so it is put aside whole
(docs/decisions/0012-schema-changes.md). All other changes are reported and the file loads. Compared are the feed's
last files up to the landing day; a file that has none before it, with the columns that the feed could fill.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, cast

from pipelines.catalog.model import Feed
from pipelines.catalog.shape import TableShape
from pipelines.ingestion.binding import LINEAGE_NAMES
from pipelines.ingestion.csv_records import CsvRecords
from pipelines.ingestion.deletions import AnyRowMaker
from pipelines.ingestion.errors import UnreadableFileError, plain_name
from pipelines.ingestion.formats import JsonRecords, Records
from pipelines.ingestion.parquet_records import ParquetRecords
from pipelines.ingestion.writer import QUERIES
from resources.database import Connection, Database
from resources.sql import storable

COMPARED_FILES = 20
# Of difflib's ratio: itme and item, sold at and sold_at, currncy and currency are alike; title and item are not.
ALIKE = 0.75
SHOWN_COLUMNS = 5
USUAL_SHARE = 0.9  # of them have a column: one odd file does not keep a renaming from being seen
RETYPED_SHARE = 0.5  # of a file's rows whose value in one column no longer converts
_DICTIONARY = re.compile(r"dictionary<values=(.*?), indices=\w+, ordered=\d>")
_LAYOUT = re.compile(
    r"large_(?=(?:string|binary|list)\b)|(?<=string)_view\b|(?<=binary)_view\b|(?<=list)_view\b|(?<=list<)(?:item|element)(?=:)"
)
_CONVERSIONS = ("not_a_number", "not_a_date", "not_a_time", "wrong_type", "not_in_list")


@dataclass(frozen=True)
class SchemaChange:
    """One difference. `kind` is new, missing, renamed or retyped; `before` and `after` are in words."""

    kind: str
    column: str
    before: str
    after: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.column} is {self.kind}: before {self.before}, now {self.after}; {self.remedy}"


@dataclass(frozen=True)
class FileSchema:
    """The columns of one file: table column -> its landed name, unknown names, and types where the format has them."""

    columns: Mapping[str, str]
    unknown: frozenset[str]
    types: Mapping[str, str]

    @classmethod
    def of(cls, maker: AnyRowMaker, records: Records, unknown: Sequence[str]) -> "FileSchema":
        """Of a file that is bound; of JSON Lines when it was read to the end, as every record names its own columns."""
        columns = {name: records.header[index] for name, index in maker.sources.items()}
        if isinstance(records, JsonRecords):
            columns = {name: landed for name, landed in columns.items() if landed in records.seen}
        types = records.types if isinstance(records, ParquetRecords) else {}
        return cls(
            columns,
            frozenset(unknown),
            {name: types[column] for name, column in columns.items() if column in types},
        )

    @classmethod
    def read(cls, header: Mapping[str, Any]) -> "FileSchema":
        """As `described` wrote it."""
        return cls(header["columns"], frozenset(header["unknown"]), header["types"])

    def described(self) -> dict[str, Any]:
        """For the account of the load."""
        return {"columns": dict(self.columns), "unknown": sorted(self.unknown), "types": dict(self.types)}


def describe_header(records: Records) -> dict[str, Any]:
    """What a replay needs to read a quarantined row's text again."""
    kind = "csv" if isinstance(records, CsvRecords) else "json"
    described: dict[str, Any] = {"format": kind, "names": records.header}
    if isinstance(records, CsvRecords):
        described["delimiter"] = records.delimiter
    if isinstance(records, ParquetRecords) and records.decimals:
        described["decimals"] = records.decimals
    return described


def earlier_schemas(connection: Connection, feed_id: int, landing_day: dt.date) -> list[FileSchema]:
    """The columns of the feed's last files up to `landing_day`, newest first."""
    scope = {"feed_id": feed_id, "landing_day": landing_day, "limit": COMPARED_FILES}
    rows = connection.execute(QUERIES["earlier_headers"], scope)
    return [FileSchema.read(cast("dict[str, Any]", row[0])) for row in rows]


def compare(
    feed: Feed, shape: TableShape, schema: FileSchema, earlier: Sequence[FileSchema]
) -> list[SchemaChange]:
    """What is different in `schema`. Raises `UnreadableFileError` for a file in which a column was renamed."""
    if not earlier:
        return _compare_with_declared(feed, shape, schema)
    columns = Counter(column for file in earlier for column in file.columns)
    usual = {column for column, files in columns.items() if files >= USUAL_SHARE * len(earlier)}
    gone = sorted(usual - schema.columns.keys() - set(feed.may_be_missing))
    seen = {name.casefold() for file in earlier for name in (*file.unknown, *file.columns.values())}
    fresh = sorted(name for name in schema.unknown if name.casefold() not in seen)
    if gone and fresh:
        raise _renamed(feed, gone, fresh, earlier)
    changes = [
        SchemaChange(
            "missing", column, f"{_landed(column, earlier)!r} in {_how_many(column, earlier)}", "not in the file",
            f"rows load without it: ask who sends the feed, or list {column} under `may_be_missing`",
        )
        for column in gone
    ]  # fmt: skip
    remedy = "the rows load without it: map it under `columns` and run the day again, if it is wanted"
    changes += [SchemaChange("new", name, "in no file", "an unknown column", remedy) for name in fresh]
    return changes + _changed_columns(schema, earlier)


def _compare_with_declared(feed: Feed, shape: TableShape, schema: FileSchema) -> list[SchemaChange]:
    """Names that nothing reads, in a file that has none before it and lacks columns of the feed: misspelt ones?

    Nothing shows that the feed ever has those columns, so that the file loads, also where two names are alike.
    """
    absent = _fillable(feed, shape) - schema.columns.keys() - set(feed.may_be_missing)
    names = {column: feed.landed_names.get(column, [column])[0] for column in sorted(absent)}
    forms = {plain_name(form): column for column, name in names.items() for form in (column, name)}
    if not forms:
        return []
    changes = []
    for unread in sorted(schema.unknown):
        near = get_close_matches(plain_name(unread), forms, n=1, cutoff=ALIKE)
        after = f"{unread!r}, which nothing reads"
        if near:
            column = forms[near[0]]
            remedy = (
                f"did you mean {names[column]!r}? rows load without it: correct the name in the file, or map it under "
                f"`columns`, as in {unread}: {column}, and run the day again"
            )
            changes.append(SchemaChange("missing", column, "in no file", after, remedy))
        else:
            lacking = ", ".join([*names.values()][:SHOWN_COLUMNS]) + (
                ", ..." if len(names) > SHOWN_COLUMNS else ""
            )
            remedy = (
                f"the rows load without it: if it is one that the file lacks ({lacking}), map it under `columns` and "
                "run the day again"
            )
            changes.append(SchemaChange("new", unread, "in no file", "an unknown column", remedy))
    return changes


def _fillable(feed: Feed, shape: TableShape) -> set[str]:
    """The columns of the table that a file of the feed could fill."""
    own = {column.name for column in shape.columns if not (column.is_generated or column.is_identity)}
    return own - LINEAGE_NAMES - feed.derive.keys()


def _changed_columns(schema: FileSchema, earlier: Sequence[FileSchema]) -> list[SchemaChange]:
    """Columns that are there under another name or type than before, or for the first time."""
    changes = []
    for column, landed in sorted(schema.columns.items()):
        before = next((file for file in earlier if column in file.columns), None)
        if before is None:
            changes.append(
                SchemaChange("new", column, "in no file", repr(landed), "it is loaded: nothing to do")
            )
            continue
        was, type_was = before.columns[column], before.types.get(column)
        if was.casefold() != landed.casefold():
            remedy = "the feed maps both: nothing to do"
            changes.append(SchemaChange("renamed", column, repr(was), repr(landed), remedy))
        type_is = schema.types.get(column)
        if type_was and type_is and _meant(type_is) != _meant(type_was):
            remedy = "values that do not convert are in the quarantine; else nothing to do"
            changes.append(SchemaChange("retyped", column, type_was, type_is, remedy))
    return changes


def _meant(type_name: str) -> str:
    """A type of Arrow without what is but another layout of the same values, which differs from writer to writer."""
    return _LAYOUT.sub("", _DICTIONARY.sub(r"\1", type_name))


def _renamed(
    feed: Feed, gone: Sequence[str], fresh: Sequence[str], earlier: Sequence[FileSchema]
) -> UnreadableFileError:
    names = ", ".join(
        f"{_landed(column, earlier)!r} ({column}) was in {_how_many(column, earlier)} before"
        for column in gone
    )
    example = f", as in {fresh[0]}: {gone[0]}" if len(gone) == len(fresh) == 1 else ""
    return UnreadableFileError(
        "renamed_column",
        f"{names} and is missing, {', '.join(map(repr, fresh))} is new: renamed?",
        f"map the new name under `columns` of feed {feed.key_name}{example}; or, if it is another "
        f"thing, `may_be_missing: [{', '.join(gone)}]`; then run the day again",
    )


def _landed(column: str, earlier: Sequence[FileSchema]) -> str:
    """How the newest of the files that have a column call it."""
    return next(file.columns[column] for file in earlier if column in file.columns)


def _how_many(column: str, earlier: Sequence[FileSchema]) -> str:
    return "every file" if all(column in file.columns for file in earlier) else "nearly every file"


def retyped_columns(
    connection: Connection, shape: TableShape, load_id: int, landed_rows: int
) -> list[SchemaChange]:
    """Columns whose values no longer convert in most rows of a load: one change, however many rows it cost."""
    scope = {"load_id": load_id, "reasons": list(_CONVERSIONS), "least": max(1, landed_rows * RETYPED_SHARE)}
    return [
        SchemaChange(
            "retyped", cast(str, column), shape.column(cast(str, column)).type_name, f"{detail} ({rows} rows)",
            "declare its `formats`, or change the column's type, then `longbox quarantine replay`",
        )
        for column, rows, detail in connection.execute(QUERIES["faults_by_column"], scope)
        if shape.has(cast(str, column))
    ]  # fmt: skip


def report_of(unknown: Sequence[str], changes: Sequence[SchemaChange]) -> dict[str, Any]:
    """What the account of a load tells of its columns; nothing of a file like all others."""
    told: dict[str, list[Any]] = {
        "unknown_columns": list(unknown),
        "schema_changes": [asdict(change) for change in changes],
    }
    return {name: [_storable(item) for item in items] for name, items in told.items() if items}


def schema_changes(database: Database, feeds: Sequence[Feed], days: Sequence[dt.date]) -> list[str]:
    """The changes of the files of landing days in words, with feed and file; of each file as it was read last."""
    scope = {"systems": [f.system for f in feeds], "feeds": [f.name for f in feeds], "days": list(days)}
    with database.connection() as connection:
        rows = cast(
            "list[tuple[str, dt.date, str, Any]]",
            connection.execute(QUERIES["changes_of_days"], scope).fetchall(),
        )
    return [f"{feed} {day}/{name}: {SchemaChange(**change)}" for feed, day, name, change in rows]


def _storable(item: Any) -> Any:
    if isinstance(item, dict):
        return {name: storable(text) for name, text in item.items()}
    return storable(item)

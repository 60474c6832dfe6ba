"""How the records of one file become rows of one table: header to columns, converters, rules, identity.

`bind` is called once a file, `RowMaker.rows` once a batch: it is the hot loop of ingestion and does no I/O, and works
column by column, because a feed is regular (`bulk`) and its odd values few (`values`).
Identity and time follow DESIGN ("Rules that settle things"). Types are in `values`, file formats in `formats`.
"""

import datetime as dt
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType
from typing import Any

import pyarrow
import pyarrow.compute as pc

from pipelines.catalog.model import Feed, Rule, Table
from pipelines.catalog.shape import ColumnShape, TableShape
from pipelines.ingestion.bulk import Bulk, bulk_converter, ruled
from pipelines.ingestion.columns import (
    NULL,
    TEXT,
    Column,
    Row,
    Rows,
    hashed,
    joined,
    labelled,
    repeated,
    texts,
    where,
)  # fmt: skip
from pipelines.ingestion.csv_records import Record
from pipelines.ingestion.errors import BadValue, UnreadableFileError, shown
from pipelines.ingestion.names import same_name
from pipelines.ingestion.numbers import Notation
from pipelines.ingestion.times import ColumnFormat
from pipelines.ingestion.values import Converter, Value, converter
from resources.errors import LongboxError

# What ingestion itself writes beside a record's own columns; a file cannot bring them.
LINEAGE_NAMES = frozenset({"key_hash", "content_hash", "landing_day", "load_id", "line", "loaded_at"})
# Nothing that is landed happened before this day; older dates are typing errors (year 1, 0202).
EARLIEST_EVENT = dt.date(1900, 1, 1)
Check = Callable[[str, str], bool]  # of the canonical text and of the value as it was landed
_EARLIEST = EARLIEST_EVENT.isoformat()
_UTC_TIME = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00\z"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class FeedDefinitionError(LongboxError):
    """The catalogue and the database disagree about a feed's table."""


class FaultyColumn(BadValue):
    """A `BadValue` with the column it stood in."""

    def __init__(self, column: str, fault: BadValue) -> None:
        super().__init__(fault.reason, fault.detail, fault.remedy)
        self.column = column


Faults = dict[int, FaultyColumn]  # by position in a batch
Values = (
    Column | Sequence[Value]
)  # of one column of a batch: all of them texts, or as the file format yields them


@dataclass(frozen=True)
class _Field:
    """One bound column: where its value stands in a record, and how it is judged, one by one or all at once."""

    index: int
    name: str
    required: bool
    convert: Converter
    bulk: Bulk | None
    rule: Rule | None
    nulls: frozenset[str] = frozenset()

    def texts(self, values: Values, faults: Faults) -> Column:
        """Canonical texts of a column's values. A value that cannot be loaded gets an entry in `faults`."""
        if not isinstance(values, pyarrow.Array):
            if not _are_texts(values):
                return texts([self._text(value, position, faults) for position, value in enumerate(values)])
            values = texts([value or "" for value in values])
        if self.nulls:
            is_null = pc.is_in(pc.utf8_trim_whitespace(values), value_set=texts(sorted(self.nulls)))
            values = pc.if_else(is_null, pyarrow.scalar("", TEXT), values)
        found = self._canonical(values)
        odd = pc.is_null(found)
        places = pc.indices_nonzero(odd)
        if not len(places):
            return found
        return pc.replace_with_mask(found, odd, self._judged(values.take(places), places, faults))

    def _canonical(self, values: Column) -> Column:
        """The texts of values that surely are what the column takes, NULL for all that need a closer look."""
        if self.bulk is None:
            return pyarrow.nulls(len(values), TEXT)
        found = where(pc.not_equal(values, ""), self.bulk(values))
        return found if self.rule is None else ruled(self.rule, values, found)

    def _judged(self, values: Column, places: Column, faults: Faults) -> Column:
        """The texts of odd values, each different one converted once; `places` are their positions in the batch."""
        encoded = values.dictionary_encode()
        wrong: Faults = {}
        found = [self._text(value, n, wrong) for n, value in enumerate(encoded.dictionary.to_pylist())]
        if wrong:
            for position, n in zip(places.to_pylist(), encoded.indices.to_pylist(), strict=True):
                if n in wrong:
                    faults.setdefault(position, wrong[n])
        return texts(found).take(encoded.indices)

    def _is_null(self, value: Value) -> bool:
        return isinstance(value, str) and value.strip() in self.nulls

    def _text(self, value: Value, position: int, faults: Faults) -> str | None:
        try:
            if value is not None and value != "" and not (self.nulls and self._is_null(value)):
                return self.convert(value)
            if self.required:
                raise BadValue(
                    "missing_value",
                    f"{self.name} is empty",
                    "give every record a value",
                )
        except BadValue as fault:
            faults.setdefault(position, FaultyColumn(self.name, fault))
        return None


def _are_texts(values: Sequence[Value]) -> bool:
    """Whether all values are texts that UTF-8 can write, or missing."""
    if not set(map(type, values)) <= {str, NoneType}:
        return False
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        return False
    return True


class RowMaker:
    """Turns records of one file into rows. `columns` are the table columns that `Row.fields` carry, in order."""

    def __init__(
        self,
        feed: Feed,
        fields: Sequence[_Field],
        table: Table,
        landing_day: dt.date,
        file_key: str,
    ) -> None:
        self._fields = fields
        self._file_key = file_key
        names = [field.name for field in fields]
        self.sources = {field.name: field.index for field in fields}  # table column: its place in a record
        self._derived = [
            names.index(call.column) for call in feed.derivations.values() if call.column in names
        ]
        derived = [target for target, call in feed.derivations.items() if call.column in names]
        self.columns = (*names, *derived)
        self._key = [names.index(column) for column in feed.key]
        self._revision = names.index(feed.revision) if feed.revision in names else None
        self._time = self.columns.index(table.time) if table.time in self.columns else None
        self._content = sorted(range(len(names)), key=lambda index: names[index])
        self._landing_day = landing_day.isoformat()
        self._latest = (landing_day + dt.timedelta(days=1)).isoformat()
        keep = table.lifecycle.keep
        self._expiry = keep.before(landing_day).isoformat() if keep else ""

    def rows(self, records: Sequence[Record], lines: Sequence[int]) -> tuple[Rows, Faults]:
        """As `rows_of_columns`, of records (at least one) that are taken apart one by one."""
        return self.rows_of_columns(list(zip(*records, strict=True)), texts(map(str, lines)))

    def rows_of_columns(self, columns: Sequence[Values], lines: Column) -> tuple[Rows, Faults]:
        """The rows of records given as columns, which stand at `lines`, and the faults of those that cannot be loaded.

        Faults are by position; the row at such a position is meaningless.
        """
        faults: Faults = {}
        found = [field.texts(columns[field.index], faults) for field in self._fields]
        size = len(lines)
        keys = joined([found[i] for i in self._key] if self._key else [self._file_key, lines], "\t")
        # What a version is known by: its columns that have a value, by name; an added empty column changes nothing.
        # The text of a record depends on the record alone, never on the batch it is converted with.
        contents = labelled(
            [self._fields[i].name for i in self._content], [found[i] for i in self._content], size
        )
        revisions = (
            repeated(NULL, size) if self._revision is None else revision_numbers(found[self._revision])
        )
        found += [pc.utf8_slice_codeunits(found[source], 0, 10) for source in self._derived]
        days = self._event_days(found, size, faults)
        fields = pyarrow.StructArray.from_arrays(found, names=self.columns)
        nobody = pyarrow.repeat(pyarrow.scalar(False), size)
        made = [hashed(keys), hashed(contents), days, revisions, fields, nobody]
        return Rows(pyarrow.table(made, names=Row._fields)), faults

    def _event_days(self, found: Sequence[Column], size: int, faults: Faults) -> Column:
        if self._time is None:
            return repeated(self._landing_day, size)
        days = pc.fill_null(pc.utf8_slice_codeunits(found[self._time], 0, 10), NULL)
        if strange := [day for day in pc.unique(days).to_pylist() if not self._is_in_range(day)]:
            places = pc.indices_nonzero(pc.is_in(days, value_set=texts(strange)))
            for position, day in zip(places.to_pylist(), days.take(places).to_pylist(), strict=True):
                if position not in faults:
                    faults[position] = FaultyColumn(self.columns[self._time], self._strange_day(day))
        return days

    def _is_in_range(self, day: str) -> bool:
        return self._expiry <= day <= self._latest and day >= _EARLIEST

    def _strange_day(self, day: str) -> BadValue:
        if day > self._latest:
            return BadValue(
                "future",
                f"{day} is later than the landing day {self._landing_day} plus one",
                "correct the date",
            )
        if day < _EARLIEST:
            return BadValue("out_of_range", f"{day} is before {EARLIEST_EVENT}", "correct the year")
        return BadValue(
            "expired",
            f"{day} is older than the table keeps (since {self._expiry})",
            "nothing to do, or lengthen `lifecycle.keep` and replay",
        )


def bind(
    feed: Feed,
    table: Table,
    shape: TableShape,
    header: Sequence[str],
    *,
    landing_day: dt.date,
    file_key: str,
    only: frozenset[str] = frozenset(),
) -> tuple[RowMaker, tuple[str, ...]]:
    """Bind a file's `header` to the table. Returns the maker of rows and the header's unknown columns.

    `file_key` identifies the file: it is the key of records of a feed without one. `only`, if given, are the table
    columns to bind and to require, no others. Raises `UnreadableFileError` when the file lacks a needed column,
    `FeedDefinitionError` when the table cannot take the feed at all.
    """
    position: dict[str, int] = {}
    unknown: list[str] = []
    own = {column.name: column for column in shape.columns if not (column.is_generated or column.is_identity)}
    reserved = LINEAGE_NAMES | feed.derive.keys()
    by_landed_name = {landed.casefold(): column for landed, column in feed.columns.items()}
    columns = [by_landed_name.get(landed.casefold()) for landed in header]
    mapped = set(columns)
    for index, landed in enumerate(header):
        column = columns[index]
        if column is None and (named := same_name(landed, own)) not in mapped:
            column = named
        if column is None or column not in own or column in reserved:
            unknown.append(landed)
        elif column in position:
            raise UnreadableFileError(
                "duplicate_column",
                f"columns {header[position[column]]!r} and {landed!r} both mean {column}",
                "keep one of them, or map them under `columns` in the feed",
            )
        else:
            position[column] = index
    required = set(only) or needed_columns(feed, table, shape)
    if missing := sorted(required - position.keys()):
        landed_names = feed.landed_names
        wanted = ", ".join(" or ".join(landed_names.get(column, [column])) for column in missing)
        raise UnreadableFileError(
            "missing_column",
            f"no column {wanted}; the file has {', '.join(header) or 'none'}",
            "add it to the file, or map its name under `columns` in the feed; of CSV without a header line, name the "
            "columns under `header`",
        )
    if not position:
        raise UnreadableFileError(
            "missing_column",
            f"none of its columns is one of {feed.system}.{feed.table}; it has {', '.join(header) or 'none'}",
            "give it a header, or map its names under `columns` in the feed",
        )
    bound = position.keys() & only if only else position.keys()
    fields = [_field_of(feed, own[name], position[name], name in required) for name in own if name in bound]
    return RowMaker(feed, fields, table, landing_day, file_key), tuple(unknown)


def needed_columns(feed: Feed, table: Table, shape: TableShape) -> set[str]:
    """Table columns without which no row of the feed can be loaded."""
    derived = {target: call.column for target, call in feed.derivations.items()}
    needed = {*feed.require, *feed.key}
    if table.time is not None:
        needed.add(table.time)
    for column in shape.columns:
        given = (
            column.has_default or column.is_generated or column.is_identity or column.name in LINEAGE_NAMES
        )
        if not column.is_nullable and not given:
            needed.add(column.name)
    return {derived.get(column) or column for column in needed}


def _field_of(feed: Feed, column: ColumnShape, index: int, required: bool) -> _Field:
    name, type_name = column.name, column.base_type_name
    form = ColumnFormat(feed.formats.get(name), feed.time_zone, Notation(feed.decimal, feed.thousands))
    convert = converter(type_name, form, column.enum_labels or None)
    if convert is None:
        raise FeedDefinitionError(
            f"feed {feed.key_name}: column {name} of {feed.system}.{feed.table} has type {type_name}, which a feed "
            "cannot load; use one of the supported types, or leave the column out of the feed"
        )
    rule = feed.rules.get(name)
    bulk = None if column.enum_labels else bulk_converter(type_name, form)
    return _Field(
        index,
        name,
        required,
        convert if rule is None else _with_rule(convert, rule, name),
        bulk,
        rule,
        frozenset(text.strip() for text in feed.null_values),
    )


def _with_rule(convert: Converter, rule: Rule, name: str) -> Converter:
    checks = _checks(rule)

    def checked(value: object) -> str:
        text = convert(value)
        for holds, meaning in checks:
            if not holds(text, str(value)):
                raise BadValue(
                    "breaks_rule",
                    f"{name} is {shown(value)}, it must be {meaning}",
                    "correct the record",
                )
        return text

    return checked


def _checks(rule: Rule) -> list[tuple[Check, str]]:
    found: list[tuple[Check, str]] = [_bound_check(name, bound) for name, bound in rule.bounds.items()]
    if rule.one_of:
        allowed = frozenset(str(word) for word in rule.one_of)
        found.append(
            (
                lambda text, value: value in allowed or text in allowed,
                f"one of {', '.join(sorted(allowed))}",
            )
        )
    if rule.matches:
        pattern = re.compile(rule.matches)
        found.append(
            (
                lambda _, value: pattern.fullmatch(value) is not None,
                f"of the form {rule.matches}",
            )
        )
    if (limit := rule.max_length) is not None:
        found.append((lambda _, value: len(value) <= limit, f"at most {limit} characters"))
    return found


def _bound_check(name: str, bound: Decimal | dt.date) -> tuple[Check, str]:
    read: Callable[[str], Any] = Decimal if isinstance(bound, Decimal) else _read_date
    compare = {
        "greater_than": operator.gt,
        "at_least": operator.ge,
        "less_than": operator.lt,
        "at_most": operator.le,
    }
    holds = compare[name]
    return (lambda text, _: holds(read(text), bound)), f"{name.replace('_', ' ')} {bound}"


def _read_date(text: str) -> dt.date:
    return dt.date.fromisoformat(text[:10])


def revision_numbers(column: Column) -> Column:
    """The revisions of a column of canonical texts, as sortable integers; NULL is written as COPY writes it."""
    if pc.all(pc.match_substring_regex(column, _UTC_TIME)).as_py():  # whole seconds of UTC, all at once
        times = column.cast(pyarrow.timestamp("us", "UTC")).cast(pyarrow.int64())
        return pc.fill_null(times.cast(TEXT), NULL)
    return texts(NULL if text is None else _revision_number(text) for text in column.to_pylist())


def _revision_number(text: str) -> str:
    """A revision as one sortable integer: itself, or microseconds since 1970 for a time."""
    if text.lstrip("-").isdigit():
        return text
    moment = dt.datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return str((moment - _EPOCH) // dt.timedelta(microseconds=1))

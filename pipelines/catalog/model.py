"""The vocabulary of a system.yaml: feeds, tables, aggregates and cache entries, typed, checked and unchangeable.

Each class checks what it can see by itself; what needs two of them is in `consistency`, what needs the
database in `check`. A new key is a field here, with a description: that text is what an editor shows
(`schema`).
"""

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from pipelines.catalog import values
from pipelines.catalog.errors import CatalogError, Problem, suggest

LANDING = "landing/"
"""Where files land in the object store, by system, feed and day."""

PartitionUnit = Literal["day", "week", "month", "quarter", "year"]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Rule(_Declared):
    """What the values of one column must satisfy; a row that does not is quarantined with its text."""

    greater_than: values.Bound | None = None
    """Larger than this number or date."""
    at_least: values.Bound | None = None
    """This number or date, or larger."""
    less_than: values.Bound | None = None
    """Smaller than this number or date."""
    at_most: values.Bound | None = None
    """This number or date, or smaller."""
    one_of: values.Words | None = None
    """One of these values, spelled exactly so."""
    matches: values.Regex | None = None
    """The whole value matches this regular expression (Python's `re.fullmatch`)."""
    max_length: int | None = Field(default=None, ge=1, strict=True)
    """At most this many characters."""

    @property
    def bounds(self) -> Mapping[str, Decimal | datetime.date]:
        """The limits that are set, by name."""
        names = ("greater_than", "at_least", "less_than", "at_most")
        return {name: bound for name in names if (bound := getattr(self, name)) is not None}

    @property
    def is_impossible(self) -> bool:
        """Whether no value lies within its limits, which are of one kind."""
        limits: Mapping[str, Any] = self.bounds
        lowest = [limits[name] for name in ("greater_than", "at_least") if name in limits]
        highest = [limits[name] for name in ("less_than", "at_most") if name in limits]
        if not lowest or not highest:
            return False
        low, high = max(lowest), min(highest)
        is_left_out = low == limits.get("greater_than") or high == limits.get("less_than")
        return bool(low > high or (low == high and is_left_out))


class Deletions(_Declared):
    """How a feed says that a record is no longer: a row that carries this mark, whatever its case, is a tombstone."""

    column: values.LandedName
    """The column as the files name it; the table need not have it."""
    one_of: values.Words
    """The values in it that mean deleted."""


class Feed(_Declared):
    """Files that land day by day in `landing/<system>/<feed>/<YYYY-MM-DD>/` and are loaded into one table."""

    system: values.Name = Field(exclude=True)
    name: values.Name = Field(exclude=True)
    description: str = ""
    """What these files are and where they come from."""
    table: values.TableName
    """The table of this system that the rows are loaded into."""
    columns: dict[values.LandedName, values.ColumnName] = {}
    """Landed column name: table column. Names that are the same on both sides can be left out. Several names may
    lead to one column, as when its sender renamed it: a file has one of them."""
    key: values.ColumnNames = ()
    """Table columns that identify a record across files. Without a key a record is its file and line."""
    require: values.ColumnNames = ()
    """Table columns that must have a value. Key columns and the table's time column always must."""
    rules: dict[values.ColumnName, Rule] = {}
    """Conditions on table columns."""
    time_zone: values.TimeZone = "UTC"
    """Zone of times in the feed that do not name one, such as Europe/Berlin."""
    starts_on: values.Day
    """The first landing day."""
    revision: values.ColumnName | None = None
    """Table column (timestamptz or integer) that orders the versions of a record; else the last landed wins."""
    deletions: Deletions | None = None
    """Which rows delete their record, as in `{column: status, one_of: [deleted]}`; key and revision suffice."""
    may_be_missing: values.ColumnNames = ()
    """Table columns that files may leave out without being taken for renamed."""
    derive: dict[values.ColumnName, values.Derivation] = {}
    """Table columns computed from others, such as `sale_date: utc_date(sold_at)`."""
    formats: dict[values.ColumnName, values.TimeFormat] = {}
    """Format of date and time columns that are not ISO 8601: of strptime, such as `%m/%d/%Y` or `%I:%M %p`, or
    `epoch_seconds`, `epoch_milliseconds`, `epoch_microseconds` or `epoch_nanoseconds` for numbers since 1970."""
    null_values: values.NullValues = ()
    """Texts that mean that there is no value, as an empty field does, such as NA, "-" or '\\N'."""
    decimal: values.Decimals = "."
    """What stands before the decimals of numbers that are written as texts."""
    thousands: values.Thousands | None = None
    """What may stand between each three digits of numbers that are written as texts, as in 1.234,50."""
    encoding: values.Encoding = "utf-8"
    """Character encoding of text files."""
    delimiter: values.Delimiter | None = None
    """Field separator of CSV files; found out by itself when left out."""
    header: values.LandedNames = ()
    """Names of the columns, in their order, of CSV files that have no header line."""
    table_columns: dict[str, str] | None = (
        None  # filled in: the types its table declares, as they are part of
    )
    # how files are read; None when migrations make the table

    @property
    def key_name(self) -> str:
        """`comics/marketplace_sales`."""
        return f"{self.system}/{self.name}"

    @property
    def prefix(self) -> str:
        """Where its files land in the object store, with a closing slash."""
        return f"{LANDING}{self.key_name}/"

    @property
    def as_canonical(self) -> "Feed":
        """The feed, if it wrote its values as the table has them."""
        return self.model_copy(update={"formats": {}, "null_values": (), "decimal": ".", "thousands": None})

    @property
    def landed_names(self) -> Mapping[str, Sequence[str]]:
        """`columns` the other way round: the landed names of each mapped table column, in their order."""
        found: dict[str, list[str]] = {}
        for landed, column in self.columns.items():
            found.setdefault(column, []).append(landed)
        return found

    @property
    def derivations(self) -> Mapping[str, "Call"]:
        """`derive` taken apart: table column -> function and source column."""
        return {column: Call.parse(text) for column, text in self.derive.items()}

    @property
    def version(self) -> str:
        """Twelve hex digits that change when the feed reads files differently. Prose and `starts_on` do not count.

        The declared types of its table count, so that a day that is run again fills a column that was added
        since. Only what differs from the defaults is hashed, so that a key added to this model later changes
        no version.
        """
        definition = self.model_dump(mode="json", exclude_defaults=True, exclude={"description", "starts_on"})
        text = json.dumps(
            [self.key_name, definition], sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Lifecycle(_Declared):
    """How long rows stay in PostgreSQL, whether they move to the archive, and when they go for good."""

    hot: values.CalendarPeriod | None = None
    """How long rows stay in PostgreSQL before their partition moves to the archive, such as 24 months."""
    archive: StrictBool = False
    """Whether partitions past `hot` move to Parquet in the object store."""
    keep: values.CalendarPeriod | None = None
    """How long rows are kept in all, archive included, such as 7 years. Left out: for ever."""


class Freshness(_Declared):
    """How old the newest data may be."""

    fail_after: values.Duration
    """Older than this fails, such as 36 hours."""
    warn_after: values.Duration | None = None
    """Older than this warns."""


class Column(_Declared):
    """One column of a table whose DDL is generated."""

    type: values.TypeName
    """A PostgreSQL type."""
    not_null: StrictBool = False
    """Whether every row must have a value."""
    default: values.Default | None = None
    """Value of rows that do not give one: a literal, or now() for a timestamptz. Of landed rows: those of files without
    the column, and, where it is `not_null`, those whose field is empty."""
    description: str = ""
    """What it means, in plain words."""

    def __str__(self) -> str:
        return self.type


ColumnSpec = Annotated[Column, BeforeValidator(values.column_spec)]


class Table(_Declared):
    """One table: what a row is, when it happened, whose it is, and how long it lives."""

    name: values.TableName = Field(exclude=True)
    description: str = ""
    """What a row is, in plain words."""
    columns: dict[values.NewColumnName, ColumnSpec] | None = None
    """Column: type. Given, the table is made from it; left out, migrations make the table."""
    primary_key: values.ColumnNames = ()
    """Columns of the primary key of a generated table that no feed loads."""
    time: values.ColumnName | None = None
    """The date or timestamp that says when a row happened. Partitions and lifecycle follow it."""
    partition: PartitionUnit | None = None
    """Length of a partition over `time`."""
    subject: values.ColumnName | None = None
    """Column that says whose data a row is: export and erasure follow it."""
    lifecycle: Lifecycle = Lifecycle()
    """How long rows stay hot, whether they are archived, how long they are kept."""
    freshness: Freshness | None = None
    """How old its newest data may be."""
    adopt: StrictBool = False
    """An existing table of yours: used as it is, its DDL left alone."""
    partitions_ahead: StrictBool | None = None
    """Whether Longbox makes the partitions to come. Left out: yes, but not those of an adopted table."""

    @property
    def has_partitions_ahead(self) -> bool:
        """Whether `keep_ahead` looks after it."""
        wanted = not self.adopt if self.partitions_ahead is None else self.partitions_ahead
        return self.partition is not None and wanted

    @property
    def is_generated(self) -> bool:
        """Whether Longbox makes the table from `columns`."""
        return self.columns is not None

    @property
    def column_types(self) -> Mapping[str, str] | None:
        """Column -> canonical type, or None when the catalogue does not declare the columns."""
        return None if self.columns is None else {name: column.type for name, column in self.columns.items()}


@dataclass(frozen=True)
class Call:
    """`function(column)` as `derive`, `by` and `measures` write it; `column` is None for a bare `count`.

    `weight` is the second column of `mean(price, weight=quantity)`.
    """

    function: str
    column: str | None
    weight: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Call":
        """Take apart a text that `values` has already checked."""
        function, _, rest = text.partition("(")
        column, _, weight = rest.rstrip(") ").partition(", weight=")
        return cls(function.strip(), column.strip() or None, weight.strip() or None)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return tuple(name for name in (self.column, self.weight) if name is not None)


@dataclass(frozen=True)
class Group:
    """One column of an aggregate's key: the source column, cut to `bucket` (hour, 5 minutes, ...) if there is one."""

    name: str
    column: str
    bucket: str | None


class Aggregate(_Declared):
    """A table computed from another: one row a group, kept exact when late rows arrive."""

    name: values.TableName = Field(exclude=True)
    description: str = ""
    """What a row is, in plain words."""
    from_: values.TableName = Field(alias="from")
    """The table of this system it is computed from."""
    by: values.GroupColumns
    """Columns of a group, each a column name or `{name: hour(column)}`: minute, hour, day, week, month, quarter, year,
    or a number of minutes or hours that divides a day, as in `5 minutes(column)`."""
    measures: dict[values.NewColumnName, values.MeasureText] = Field(min_length=1)
    """Column: `count`, or sum, mean, median, min, max, stddev, p25, p75, p95, p99, count_distinct, first or last of a
    column. `mean(price, weight=quantity)` and `sum(...)` take a weight; first and last go by the table's `time`, equal
    times by the feed's key."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """`by` taken apart, in order."""
        found = []
        for item in self.by:
            if isinstance(item, str):
                found.append(Group(item, item, None))
            else:
                ((name, text),) = item.items()
                call = Call.parse(text)
                found.append(Group(name, str(call.column), call.function))
        return tuple(found)

    @property
    def calls(self) -> Mapping[str, Call]:
        """`measures` taken apart: output column -> function and source column."""
        return {name: Call.parse(text) for name, text in self.measures.items()}


class View(_Declared):
    """A materialised view that a migration makes: refreshed after what it reads, without blocking its readers."""

    name: values.TableName = Field(exclude=True)
    description: str = ""
    """What a row is, in plain words."""
    after: values.ColumnNames = Field(min_length=1)
    """The tables, aggregates and views of this system that it reads: it is refreshed once they are done."""


class Gaps(_Declared):
    """A table of the gaps in a series: stretches where a row is missing, kept exact when late rows close them."""

    name: values.TableName = Field(exclude=True)
    description: str = ""
    """What the series is, in plain words."""
    from_: values.TableName = Field(alias="from")
    """The table of this system whose rows are the series; its `time` is when."""
    by: values.ColumnNames = Field(min_length=1)
    """Columns that tell one series from another, such as [symbol]. A row without a value in one is in no series."""
    every: values.Step
    """A row is expected in each such step of UTC, without breaks, from the series' first row to its last."""

    def steps(self, time: str) -> Aggregate:
        """The steps of the series over its table's `time`, as groups: a landing day touches them as those of any."""
        return Aggregate.model_construct(
            name=self.name, from_=self.from_, measures={"missing_count": "count"},
            by=(*self.by, {"gap_from": f"{self.every}({time})"}),
        )  # fmt: skip


class CacheEntry(_Declared):
    """A kind of value kept in Redis: how long it is fresh, and how long a stale one may still be shown."""

    name: values.Name = Field(exclude=True)
    ttl: values.PositiveDuration
    """How long a value is fresh, such as 15 minutes."""
    stale: values.Duration = datetime.timedelta(0)
    """How long after that it may be shown while a new one is made."""
    tags: tuple[values.Name, ...] = ()
    """Names of groups that are invalidated together."""


class System(_Declared):
    """One folder: everything a product's data needs."""

    name: values.SystemName
    folder: Path
    description: str = ""
    feeds: dict[str, Feed] = {}
    tables: dict[str, Table] = {}
    aggregates: dict[str, Aggregate] = {}
    gaps: dict[str, Gaps] = {}
    views: dict[str, View] = {}
    cache: dict[str, CacheEntry] = {}

    @property
    def file(self) -> Path:
        """Its system.yaml."""
        return self.folder / "system.yaml"

    def feeds_of(self, table: str) -> tuple[Feed, ...]:
        """The feeds that load `table`."""
        return tuple(feed for feed in self.feeds.values() if feed.table == table)


class Catalog(_Declared):
    """All systems, by name."""

    systems: dict[str, System]

    def feeds(self) -> Iterator[Feed]:
        """Every feed of every system, ordered."""
        for _, system in sorted(self.systems.items()):
            yield from (feed for _, feed in sorted(system.feeds.items()))

    def system(self, name: str) -> System:
        """The system `name`; raises CatalogError naming the nearest."""
        if name not in self.systems:
            raise _unknown("system", name, self.systems)
        return self.systems[name]

    def feed(self, key_name: str) -> Feed:
        """The feed `system/feed`; raises CatalogError naming the nearest."""
        for feed in self.feeds():
            if feed.key_name == key_name:
                return feed
        raise _unknown("feed", key_name, [feed.key_name for feed in self.feeds()])

    def table(self, system: str, name: str) -> Table:
        """The table `name` of `system`; raises CatalogError naming the nearest."""
        tables = self.system(system).tables
        if name not in tables:
            raise _unknown("table", f"{system}/{name}", [f"{system}/{table}" for table in tables])
        return tables[name]


def _unknown(noun: str, name: str, known: "list[str] | dict[str, System]") -> CatalogError:
    remedy = suggest(name, known, noun=noun)
    return CatalogError([Problem(None, None, "", f"there is no {noun} {name!r}", remedy)])

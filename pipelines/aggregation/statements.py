"""An `Aggregate` of the catalogue as the parts of its SQL: groups, measures, bounds, and which rows are current.

Pure: makes SQL, runs nothing. A new measure is an entry in `_MEASURES` (and in the catalogue's list of them); a result
must not depend on the order of rows, so floats are summed as numeric, and first and last go by the table's `time`,
equal times by the feed's key, then by what is said; nor on the database's collation: texts go by the C collation.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pipelines.catalog.model import Aggregate, Call, Group, System
from pipelines.catalog.shape import TableShape
from pipelines.catalog.statements import type_sql
from pipelines.catalog.values import bin_minutes

_WEIGHTED: Mapping[str, str] = {
    "sum": "sum({exact} * {weight})",
    "mean": "sum({exact} * {weight}) / nullif(sum({weight}) FILTER (WHERE {value} IS NOT NULL), 0)",
}
_TEXTS = ("text", "character varying")
_BIN_ORIGIN = dt.datetime(2000, 1, 1)
_FLOATS = ("real", "double precision")
_CAST = {"real", "jsonb"}
_TIMESTAMPTZ = "timestamp with time zone"
_MEASURES: Mapping[str, str] = {
    "count_distinct": "count(DISTINCT {value})",
    "sum": "sum({exact})",
    "mean": "avg({exact})",
    "stddev": "stddev_samp({exact})",
    "min": "min({value})",
    "max": "max({value})",
    "first": "(array_agg({value} ORDER BY {order}) FILTER (WHERE {value} IS NOT NULL))[1]",
    "last": "(array_agg({value} ORDER BY {order_back}) FILTER (WHERE {value} IS NOT NULL))[1]",
    "median": "percentile_cont(0.5) WITHIN GROUP (ORDER BY {float})",
    "p25": "percentile_cont(0.25) WITHIN GROUP (ORDER BY {float})",
    "p75": "percentile_cont(0.75) WITHIN GROUP (ORDER BY {float})",
    "p95": "percentile_cont(0.95) WITHIN GROUP (ORDER BY {float})",
    "p99": "percentile_cont(0.99) WITHIN GROUP (ORDER BY {float})",
}


@dataclass(frozen=True)
class Statements:
    """The parts of one aggregate's SQL. `feed_ids`: the feeds that load its source; none for a table without one.

    `has_other_feeds`: the source may have rows of feeds that were taken out of the file, superseded ones among them.
    """

    system: System
    aggregate: Aggregate
    source: TableShape
    target: TableShape
    feed_ids: tuple[int, ...]
    has_other_feeds: bool = False

    @property
    def relation(self) -> str:
        """`system.aggregate`."""
        return f"{self.system.name}.{self.aggregate.name}"

    @property
    def time_group(self) -> Group | None:
        """The group column that cuts the source's own time, by which the work is done in pieces; None without one."""
        time = self.system.tables[self.aggregate.from_].time
        return next((group for group in self.aggregate.groups if group.column == time), None)

    def parts(self) -> dict[str, sql.Composable]:
        """Placeholders that are the same for every statement."""
        groups = [group.name for group in self.aggregate.groups]
        measures = list(self.aggregate.calls)
        columns = [*groups, *measures]
        numbers = sql.SQL(", ").join(_number("group", index) for index in range(len(groups)))
        assignments = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in measures]
        time = self.time_group
        return {
            "aggregate": sql.Identifier(self.system.name, self.aggregate.name),
            "source": sql.Identifier(self.system.name, self.aggregate.from_),
            "groups": _listed(groups),
            "columns": _listed(columns),
            "sampled_columns": sql.SQL(", ").join([*self._sampled_groups(), *map(sql.Identifier, measures)]),
            "kept_groups": _listed(groups, "kept"),
            "fresh_groups": _listed(groups, "fresh"),
            "kept_measures": _listed(measures, "kept"),
            "fresh_measures": _listed(measures, "fresh"),
            "fresh_columns": _listed(columns, "fresh"),
            "group_numbers": numbers,
            "group_values": sql.SQL(", ").join(self.group_value(group) for group in self.aggregate.groups),
            "numbered_values": self._numbered_values(),
            "measures": sql.SQL(", ").join(self._measures()),
            "time_group": sql.Identifier(time.name) if time else sql.SQL("NULL::date"),
            "placed": self._placed(),
            "is_current": self._is_current(),
            "assignments": sql.SQL(", ").join([*assignments, sql.SQL("computed_at = now()")]),
        }

    def bounds(self, first: Any = None, last: Any = None) -> dict[str, sql.Composable]:
        """Placeholders that keep a statement within groups from `first` to `last`; without a time, within nothing."""
        group = self.time_group
        if group is None:
            return self.bounds_left_open()
        column = sql.Identifier("source", group.column)
        type_name = self.source.column(group.column).base_type_name
        name = sql.Identifier("touched", group.name)
        if first is None:  # rows of an adopted table may be of no time
            is_null = sql.SQL("{} IS NULL")
            return {"within": is_null.format(column), "groups_within": is_null.format(name)}
        within = sql.SQL("{} >= {}").format(column, _literal(first, type_name))
        if group.bucket is None:
            within += sql.SQL(" AND {} <= {}").format(column, _literal(last, type_name))
        elif (end := _end_of(last, group.bucket)) is not None:
            within += sql.SQL(" AND {} < {}").format(column, _literal(end, type_name))
        groups_within = sql.SQL("{0} >= {1} AND {0} <= {2}").format(
            name, sql.Literal(first), sql.Literal(last)
        )
        return {"within": within, "groups_within": groups_within}

    @staticmethod
    def bounds_left_open() -> dict[str, sql.Composable]:
        """Placeholders that keep a statement within nothing."""
        return {"within": sql.SQL("true"), "groups_within": sql.SQL("true")}

    def same_group(self, values: Sequence[Any]) -> sql.Composed:
        """A condition on `source` that holds for the rows of one group; null is equal to null.

        `values` are those of `sampled_columns`.
        """
        conditions: list[sql.Composable] = []
        for group, value in zip(self.aggregate.groups, values, strict=True):
            type_name = self.source.column(group.column).base_type_name
            # PostgreSQL would take a bare 0.1 for another number than that of a real, and a bare text for no jsonb
            literal = sql.SQL("{}::" + type_name if type_name in _CAST else "{}").format(sql.Literal(value))
            conditions.append(sql.SQL("{} IS NOT DISTINCT FROM {}").format(self.group_value(group), literal))
            if group == self.time_group:
                conditions.append(self.bounds(value, value)["within"])
        return sql.SQL(" AND ").join(conditions)

    def _sampled_groups(self) -> list[sql.Composable]:
        """The aggregate's group columns; JSON as its text, as Python would take 1.50 for 1.5 and null for no value."""
        is_json = [
            self.source.column(group.column).base_type_name == "jsonb" for group in self.aggregate.groups
        ]
        return [
            sql.SQL("{}::text" if json else "{}").format(sql.Identifier(group.name))
            for group, json in zip(self.aggregate.groups, is_json, strict=True)
        ]

    def group_value(self, group: Group) -> sql.Composable:
        """The value of a group's column, from a row of `source`."""
        column = sql.Identifier("source", group.column)
        if group.bucket is None:
            return column
        minutes = bin_minutes(group.bucket)
        if minutes is not None and " " in group.bucket:
            origin = _literal(_BIN_ORIGIN, self.source.column(group.column).base_type_name)
            return sql.SQL("date_bin({}, {}, {})").format(
                sql.Literal(dt.timedelta(minutes=minutes)), column, origin
            )
        cut = sql.SQL("date_trunc({}, {})").format(sql.Literal(group.bucket), column)
        return sql.SQL("({})::date").format(cut) if minutes is None else cut

    def _numbered_values(self) -> sql.Composed:
        # Numbered, as a group may be called like another column of the source.
        values = [
            sql.SQL("{} AS {}").format(self.group_value(group), _number("group", index))
            for index, group in enumerate(self.aggregate.groups)
        ]
        values += [
            sql.SQL("{} AS {}").format(sql.Identifier("source", column), _number(kind, index))
            for index, call in enumerate(self.aggregate.calls.values())
            for kind, column in zip(("value", "weight"), call.columns, strict=False)
        ]
        values += [
            sql.SQL("{} AS {}").format(value, _number("order", index))
            for index, value in enumerate(self.order_values)
        ]
        return sql.SQL(", ").join(values)

    def _measures(self) -> Iterable[sql.Composable]:
        for index, (name, call) in enumerate(self.aggregate.calls.items()):
            yield self._measure(index, call, self.target.column(name).type_name)

    def _measure(self, index: int, call: Call, type_name: str) -> sql.Composable:
        if call.column is None:
            return sql.SQL("count(*)")
        value = _number("value", index)
        order = [_number("order", number) for number in range(len(self.order_values))]
        parts = {
            "value": value, "exact": self._exact(value, call.column), "float": sql.SQL("{}::float8").format(value),
            "order": sql.SQL(", ").join(order),
            "order_back": sql.SQL(", ").join(sql.SQL("{} DESC").format(each) for each in order),
        }  # fmt: skip
        if call.function in ("min", "max") and self.source.column(call.column).base_type_name in _TEXTS:
            parts["value"] = sql.SQL('{} COLLATE "C"').format(value)
        text = _MEASURES[call.function]  # the texts are this module's own
        if call.weight is not None:
            text = _WEIGHTED[call.function]
            parts["weight"] = self._exact(_number("weight", index), call.weight)
        return sql.SQL("({})::{}").format(sql.SQL(text).format(**parts), type_sql(type_name))

    def _exact(self, value: sql.Identifier, column: str) -> sql.Composable:
        is_float = self.source.column(column).base_type_name in _FLOATS
        return sql.SQL("{}::float8::numeric" if is_float else "{}::numeric").format(value)

    @property
    def order_values(self) -> tuple[sql.Composable, ...]:
        """What rows are put in order by for `first` and `last`: time, the feed's key, the version; () if none asks."""
        asking = [call.column for call in self.aggregate.calls.values() if call.function in ("first", "last")]
        if not asking:
            return ()
        feeds = self.system.feeds_of(self.aggregate.from_)
        key = feeds[0].key if len(feeds) == 1 else ()
        versions = ("key_hash", "content_hash") if self._has_versions else ()
        columns = dict.fromkeys([self.system.tables[self.aggregate.from_].time, *key, *versions, *asking])
        return tuple(self._ordered(name) for name in columns if name is not None)

    @property
    def order(self) -> sql.Composable:
        """`order_values` of rows of `source`, for ORDER BY."""
        return sql.SQL(", ").join(self.order_values or (sql.SQL("NULL::text"),))

    def _ordered(self, column: str) -> sql.Composable:
        name = sql.Identifier("source", column)
        is_text = self.source.column(column).base_type_name in _TEXTS
        return sql.SQL('{} COLLATE "C"').format(name) if is_text else name

    def _placed(self) -> sql.Composable:
        time = self.system.tables[self.aggregate.from_].time
        if time is None:
            return sql.SQL("true")
        column = sql.Identifier("source", time)
        return sql.SQL("{0} >= version.event_on AND {0} < version.event_on + 1").format(column)

    @property
    def _has_versions(self) -> bool:
        """Whether rows of the source are versions of records: a feed loads it, or did before it was taken out."""
        return all(self.source.has(name) for name in ("key_hash", "content_hash", "load_id")) and (
            bool(self.feed_ids) or self.has_other_feeds
        )

    def _is_current(self) -> sql.Composable:
        if not self._has_versions:
            return sql.SQL("true")
        feed: sql.Composable = sql.SQL(
            "(SELECT feed_id FROM longbox.loads WHERE loads.load_id = source.load_id)"
        )
        if len(self.feed_ids) == 1 and not self.has_other_feeds:
            feed = sql.Literal(self.feed_ids[0])
        return sql.SQL(
            "NOT EXISTS (SELECT FROM longbox.record_keys AS version WHERE version.feed_id = {} "
            "AND version.key_hash = source.key_hash AND version.content_hash = source.content_hash "
            "AND NOT version.is_current)"
        ).format(feed)


def _end_of(last: Any, bucket: str) -> Any:
    """The first moment after the group that begins at `last`; None where that would be beyond the year 9999."""
    minutes = bin_minutes(bucket)
    days = {"day": 1, "week": 7}
    try:
        if minutes is not None:
            return last + dt.timedelta(minutes=minutes)
        if bucket in days:
            return last + dt.timedelta(days=days[bucket])
        months = last.year * 12 + last.month - 1 + {"month": 1, "quarter": 3, "year": 12}[bucket]
        return dt.date(months // 12, months % 12 + 1, 1)
    except (OverflowError, ValueError):
        return None


def _literal(value: Any, type_name: str) -> sql.Literal:
    """`value` in the column's own type: the planner compares constants of that type alone with partition bounds."""
    zone = dt.UTC if type_name == _TIMESTAMPTZ else None
    if isinstance(value, dt.datetime):
        return sql.Literal(value.replace(tzinfo=zone) if value.tzinfo is None else value)
    if type_name == "date":
        return sql.Literal(value)
    return sql.Literal(dt.datetime(value.year, value.month, value.day, tzinfo=zone))


def _number(kind: str, index: int) -> sql.Identifier:
    return sql.Identifier(f"{kind}_{index}")


def _listed(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names
    )

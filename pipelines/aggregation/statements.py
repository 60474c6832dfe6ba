"""An `Aggregate` of the catalogue as the parts of its SQL: groups, measures, bounds, and which rows are current.

Pure: makes SQL, runs nothing. A new measure is an entry in `_MEASURES` (and in the catalogue's list of them); a result
must not depend on the order of rows, so floats are summed as numeric.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pipelines.catalog.model import Aggregate, Call, Group, System
from pipelines.catalog.shape import TableShape
from pipelines.catalog.statements import type_sql

_FLOATS = ("real", "double precision")
_TIMESTAMPTZ = "timestamp with time zone"
_MEASURES: Mapping[str, str] = {
    "count_distinct": "count(DISTINCT {value})",
    "sum": "sum({exact})",
    "mean": "avg({exact})",
    "stddev": "stddev_samp({exact})",
    "min": "min({value})",
    "max": "max({value})",
    "median": "percentile_cont(0.5) WITHIN GROUP (ORDER BY {float})",
    "p25": "percentile_cont(0.25) WITHIN GROUP (ORDER BY {float})",
    "p75": "percentile_cont(0.75) WITHIN GROUP (ORDER BY {float})",
    "p95": "percentile_cont(0.95) WITHIN GROUP (ORDER BY {float})",
    "p99": "percentile_cont(0.99) WITHIN GROUP (ORDER BY {float})",
}


@dataclass(frozen=True)
class Statements:
    """The parts of one aggregate's SQL. `feed_ids`: the feeds that load its source; none for a table without one."""

    system: System
    aggregate: Aggregate
    source: TableShape
    target: TableShape
    feed_ids: tuple[int, ...]

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
            "kept_groups": _listed(groups, "kept"),
            "fresh_groups": _listed(groups, "fresh"),
            "kept_measures": _listed(measures, "kept"),
            "fresh_measures": _listed(measures, "fresh"),
            "fresh_columns": _listed(columns, "fresh"),
            "group_numbers": numbers,
            "group_values": sql.SQL(", ").join(self._group_value(group) for group in self.aggregate.groups),
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
            return {"within": sql.SQL("true"), "groups_within": sql.SQL("true")}
        column = sql.Identifier("source", group.column)
        type_name = self.source.column(group.column).base_type_name
        end = _end_of(last, group.bucket)
        upper = sql.SQL("{} <= {}") if end is None else sql.SQL("{} < {}")
        within = sql.SQL("{} >= {} AND ").format(column, _literal(first, type_name)) + upper.format(
            column, _literal(last if end is None else end, type_name)
        )
        name = sql.Identifier("touched", group.name)
        groups_within = sql.SQL("{0} >= {1} AND {0} <= {2}").format(
            name, sql.Literal(first), sql.Literal(last)
        )
        return {"within": within, "groups_within": groups_within}

    def same_group(self, values: Sequence[Any]) -> sql.Composed:
        """A condition on `source` that holds for the rows of one group; null is equal to null."""
        conditions: list[sql.Composable] = []
        for group, value in zip(self.aggregate.groups, values, strict=True):
            literal = sql.Literal(value)
            conditions.append(sql.SQL("{} IS NOT DISTINCT FROM {}").format(self._group_value(group), literal))
            if group == self.time_group:
                conditions.append(self.bounds(value, value)["within"])
        return sql.SQL(" AND ").join(conditions)

    def _group_value(self, group: Group) -> sql.Composable:
        column = sql.Identifier("source", group.column)
        if group.bucket is None:
            return column
        cut = sql.SQL("date_trunc({}, {})").format(sql.Literal(group.bucket), column)
        return cut if group.bucket == "hour" else sql.SQL("({})::date").format(cut)

    def _numbered_values(self) -> sql.Composed:
        # Numbered, as a group may be called like another column of the source.
        values = [
            sql.SQL("{} AS {}").format(self._group_value(group), _number("group", index))
            for index, group in enumerate(self.aggregate.groups)
        ]
        values += [
            sql.SQL("{} AS {}").format(sql.Identifier("source", call.column), _number("value", index))
            for index, call in enumerate(self.aggregate.calls.values())
            if call.column is not None
        ]
        return sql.SQL(", ").join(values)

    def _measures(self) -> Iterable[sql.Composable]:
        for index, (name, call) in enumerate(self.aggregate.calls.items()):
            yield self._measure(_number("value", index), call, self.target.column(name).type_name)

    def _measure(self, value: sql.Identifier, call: Call, type_name: str) -> sql.Composable:
        if call.column is None:
            return sql.SQL("count(*)")
        is_float = self.source.column(call.column).base_type_name in _FLOATS
        as_float = sql.SQL("{}::float8").format(value)
        exact = sql.SQL("{}::numeric").format(as_float if is_float else value)
        # The texts are this module's own.
        measure = sql.SQL(_MEASURES[call.function]).format(value=value, exact=exact, float=as_float)
        return sql.SQL("({})::{}").format(measure, type_sql(type_name))

    def _placed(self) -> sql.Composable:
        time = self.system.tables[self.aggregate.from_].time
        if time is None:
            return sql.SQL("true")
        column = sql.Identifier("source", time)
        return sql.SQL("{0} >= version.event_on AND {0} < version.event_on + 1").format(column)

    def _is_current(self) -> sql.Composable:
        if not self.feed_ids:
            return sql.SQL("true")
        feed: sql.Composable = sql.Literal(self.feed_ids[0])
        if len(self.feed_ids) > 1:
            feed = sql.SQL("(SELECT feed_id FROM longbox.loads WHERE loads.load_id = source.load_id)")
        return sql.SQL(
            "NOT EXISTS (SELECT FROM longbox.record_keys AS version WHERE version.feed_id = {} "
            "AND version.key_hash = source.key_hash AND version.content_hash = source.content_hash "
            "AND NOT version.is_current)"
        ).format(feed)


def _end_of(last: Any, bucket: str | None) -> Any:
    """The first moment after the group that begins at `last`; None for a group that is one moment."""
    if bucket is None:
        return None
    if bucket == "hour":
        return last + dt.timedelta(hours=1)
    days = {"day": 1, "week": 7}
    if bucket in days:
        return last + dt.timedelta(days=days[bucket])
    months = last.year * 12 + last.month - 1 + {"month": 1, "quarter": 3, "year": 12}[bucket]
    return dt.date(months // 12, months % 12 + 1, 1)


def _literal(value: Any, type_name: str) -> sql.Literal:
    """`value` in the column's own type: the planner compares constants of that type alone with partition bounds."""
    if type_name == "date" or isinstance(value, dt.datetime):
        return sql.Literal(value)
    zone = dt.UTC if type_name == _TIMESTAMPTZ else None
    return sql.Literal(dt.datetime(value.year, value.month, value.day, tzinfo=zone))


def _number(kind: str, index: int) -> sql.Identifier:
    return sql.Identifier(f"{kind}_{index}")


def _listed(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names
    )

"""One batch of record keys, from winning raw versions to the target table, in the caller's transaction.

Everything that decides is read after the target's lock is held, so that a batch never writes what another run has
just superseded. Unchanged rows are not written: running a batch again leaves every row as it is.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from psycopg import sql

from pipelines.catalog.model import Feed, PartitionUnit, System
from pipelines.catalog.partitions import missing_periods, span_of
from pipelines.normalisation.locks import PARTS, lock_part, lock_relation
from pipelines.normalisation.rules import Rejected, Rules, TargetRow
from resources.database import Connection
from resources.errors import LongboxError
from resources.sql import Queries

QUERIES = Queries.of("pipelines.normalisation")
OWN_COLUMNS = ("key_hash", "content_hash", "rule_version")

MOST_STRETCHES = 12

Landed = tuple[str, str | None]


class UnaccountedRowsError(LongboxError):
    """A batch did not add up; nothing of it was kept."""


class PeriodsMissingError(Exception):
    """The target lacks partitions for `days`: make them outside of the transaction, then do the batch again."""

    def __init__(self, days: set[dt.date]) -> None:
        super().__init__(f"no partition for {sorted(days)}")
        self.days = days


@dataclass(frozen=True)
class BatchCounts:
    """What one batch did, and how its raw versions stand."""

    raw_rows: int = 0
    deleted_rows: int = 0
    superseded_rows: int = 0
    rejected_rows: int = 0
    normalised_rows: int = 0
    records: int = 0
    rows_written: int = 0
    rows_deleted: int = 0
    touched_groups: int = 0
    absent_rows: int = 0

    def __add__(self, other: "BatchCounts") -> "BatchCounts":
        return BatchCounts(
            *(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__)
        )


class BatchWriter:
    """The statements of one system's rules, composed once; `run` does a batch."""

    def __init__(self, system: System, feed: Feed, rules: Rules, feed_id: int, run_id: str | None) -> None:
        self.rules = rules
        self.relation = f"{system.name}.{rules.target}"
        time = system.tables[rules.target].time
        if time is None:
            raise LongboxError(
                f"table {self.relation} has no `time:` in {system.file}; add the column of its date"
            )
        self._system, self._time = system.name, time
        self._unit = system.tables[rules.target].partition
        self._raw_time, self._raw_unit = system.tables[feed.table].time, system.tables[feed.table].partition
        self._time_place = rules.writes.index(time)
        self.raw = sql.Identifier(system.name, feed.table)
        self.target = sql.Identifier(system.name, rules.target)
        columns = (*OWN_COLUMNS, *rules.writes)
        content = [name for name in columns if name != "rule_version"]
        self.parts: dict[str, sql.Composable] = {
            "raw": self.raw,
            "target": self.target,
            "time": sql.Identifier(time),
            "columns": _listed(columns),
            "kept_columns": _listed(columns, "kept"),
            "fresh_columns": _listed(columns, "fresh"),
            "kept_content": _listed(content, "kept"),
            "fresh_content": _listed(content, "fresh"),
            "groups": _listed(rules.groups),
            "fresh_groups": _listed(rules.groups, "fresh"),
            "kept_groups": _listed(rules.groups, "kept"),
            "timed_groups": _listed((time, *rules.groups)),
            "reads": _listed(rules.reads, "raw"),
            "placed": _placed(system.tables[feed.table].time),
            "assignments": _assignments(columns, rules.later_stages, {"key_hash", time}),
        }
        self._parameters = {
            "feed_id": feed_id, "run_id": run_id, "relation": self.relation, "rule_version": rules.rule_version,
        }  # fmt: skip

    def run(
        self,
        connection: Connection,
        landed: Sequence[Landed],
        landing_day: dt.date,
        known_periods: set[dt.date],
        part: int | None = None,
    ) -> BatchCounts:
        """Bring the target up to the registry for the keys of `landed`. Takes the target's lock; does not commit.

        With `part` the keys are all of that part (`in_parts`), and only that is locked. Raises `PeriodsMissingError`
        before anything is written when a row needs a period that is not in `known_periods`, and `UnaccountedRowsError`
        when a raw version ends up nowhere.
        """
        if part is None:
            lock_relation(connection, self.relation)
        else:
            lock_part(connection, self.relation, part)
        connection.execute(QUERIES.compose("create_batch", **self.parts))
        keys = {
            "keys": _array(key for key, _ in landed),
            "contents": _array(content for _, content in landed),
        }
        connection.execute(QUERIES["add_landed"], keys)
        self._execute(connection, "find_versions")
        events = {cast(dt.date, row[0]) for row in connection.execute(QUERIES["event_days"])}
        rows, rejected, absent = self._outcomes(connection, events, known_periods)
        _copy(connection, QUERIES.compose("copy_rows", **self.parts), rows)
        _copy(connection, QUERIES["copy_rejected"], rejected)
        if absent:
            keys = {
                "keys": _array(key for key, _ in absent),
                "contents": _array(content for _, content in absent),
            }
            connection.execute(QUERIES["find_absent"], keys)
        days = events | {row[len(OWN_COLUMNS) + self._time_place] for row in rows}
        return self._apply(connection, landing_day, days, len(rows) + len(rejected), len(absent))

    def _outcomes(
        self, connection: Connection, events: set[dt.date], known_periods: set[dt.date]
    ) -> tuple[list[TargetRow], list[TargetRow], list[tuple[Any, Any]]]:
        """Rows to be, rejections, and keys whose winning version is not in PostgreSQL any more."""
        stretch = {"raw_within": within(self._raw_time, events, self._raw_unit)}
        found = self._execute(connection, "current_rows", stretch).fetchall()
        absent = [(row[0], row[1]) for row in found if row[3] is None]
        present = [row for row in found if row[3] is not None]
        self._check_periods(connection, {row[2] for row in present}, known_periods)
        rows: list[TargetRow] = []
        rejected: list[TargetRow] = []
        outcomes = self.rules.normalise_batch(connection, [row[4:] for row in present])
        for row, outcome in zip(present, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                rejected.append((*row[:3], outcome.reason, outcome.detail))
            else:
                rows.append((row[0], row[1], self.rules.rule_version, *outcome))
        return rows, rejected, absent

    def _check_periods(self, connection: Connection, days: set[dt.date], known_periods: set[dt.date]) -> None:
        """Raise `PeriodsMissingError` unless every day has a partition; what is there is added to `known_periods`."""
        if self._unit is None:
            return
        needed = {span_of(day, self._unit).lower for day in days} - known_periods
        if not needed:
            return
        missing = missing_periods(connection, self._system, self.rules.target, needed, self._unit)
        if missing:
            raise PeriodsMissingError(missing)
        known_periods.update(needed)

    def _apply(
        self, connection: Connection, landing_day: dt.date, days: set[dt.date], records: int, absent: int
    ) -> BatchCounts:
        stretch = {"within": within(self._time, days, self._unit, "kept")}
        self._execute(connection, "find_changed", stretch)
        gone = self._execute(connection, "find_gone", stretch).rowcount
        if self.rules.groups:
            self._execute(connection, "find_touched", stretch)
        deleted = self._execute(connection, "delete_gone", stretch).rowcount if gone else 0
        written = self._write(connection, stretch)
        self._execute(connection, "clear_rejections")
        self._execute(connection, "add_rejections")
        account = self._execute(connection, "account_batch", stretch).fetchone()
        raw, removed, superseded, rejected, normalised = cast(tuple[int, int, int, int, int], account)
        if raw != removed + superseded + rejected + normalised:
            raise UnaccountedRowsError(
                f"{self.relation}, landing day {landing_day}: {raw} raw versions are not {normalised} normalised + "
                f"{superseded} superseded + {rejected} rejected + {removed} deleted; nothing of this batch was kept. "
                "The registry longbox.record_keys lacks some of them: load the day again, then run this again"
            )
        touched = 0
        if self.rules.groups:
            touched = self._execute(connection, "touch_groups", landing_day=landing_day).rowcount
        return BatchCounts(
            raw, removed, superseded, rejected, normalised, records, written, deleted, touched, absent
        )

    def _write(self, connection: Connection, stretch: Mapping[str, sql.Composable]) -> int:
        """Write what changed, each kind by its own statement and none for nothing; returns the rows written."""
        counts = self._execute(connection, "count_changed").fetchone()
        new, changed, same = cast(tuple[int, int, int], counts)
        if new:
            self._execute(connection, "insert_new")
        if changed:
            self._execute(connection, "upsert_changed")
        if same:
            self._execute(connection, "stamp_rules", stretch)
        return new + changed

    def _execute(
        self, connection: Connection, name: str, stretch: Mapping[str, sql.Composable] | None = None,
        **more: object,
    ) -> Any:  # fmt: skip
        query = QUERIES.compose(name, **self.parts, **(stretch or {}))
        return connection.execute(query, {**self._parameters, **more}, prepare=False)


def in_parts(landed: Sequence[Landed]) -> list[list[Landed]]:
    """`landed` by the part of the target that a key belongs to: keys are hashes, so that parts are about as large."""
    parts: list[list[Landed]] = [[] for _ in range(PARTS)]
    for each in landed:
        parts[int(each[0][:8], 16) * PARTS >> 32].append(each)
    return parts


def within(
    time: str | None, days: Collection[dt.date], unit: PartitionUnit | None, alias: str | None = None
) -> sql.Composable:
    """`days` as stretches of whole periods, in constants: the planner then leaves all other partitions out.

    Planning a statement over 84 partitions costs more than running it for the sales of a small day.
    """
    if time is None or unit is None or not days:
        return sql.SQL("true")
    column = sql.Identifier(alias, time) if alias else sql.Identifier(time)
    bounds = [
        sql.SQL("{0} >= {1} AND {0} < {2}").format(column, sql.Literal(lower), sql.Literal(upper))
        for lower, upper in _stretches(days, unit)
    ]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(bounds))


def _stretches(days: Collection[dt.date], unit: PartitionUnit) -> list[tuple[dt.date, dt.date]]:
    """The periods of `days` as [first day, day after the last), joined where they meet; one if they are very many."""
    stretches: list[tuple[dt.date, dt.date]] = []
    for span in sorted({span_of(day, unit) for day in days}, key=lambda span: span.lower):
        if stretches and stretches[-1][1] == span.lower:
            stretches[-1] = (stretches[-1][0], span.upper)
        else:
            stretches.append((span.lower, span.upper))
    return stretches if len(stretches) <= MOST_STRETCHES else [(stretches[0][0], stretches[-1][1])]


def _copy(connection: Connection, statement: Any, rows: Iterable[Sequence[Any]]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _array(hashes: Iterable[str | None]) -> str:
    """Hashes as the text of an array: in one piece, where a list would be taken value by value."""
    return f"{{{','.join('NULL' if each is None else each for each in hashes)}}}"


def _listed(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names
    )


def _placed(time: str | None) -> sql.Composable:
    """Where in time the raw row of a version lies: prunes partitions. Dates compare with timestamps at UTC midnight."""
    if time is None:
        return sql.SQL("true")
    return sql.SQL("{0} >= version.event_on AND {0} < version.event_on + 1").format(sql.Identifier(time))


def _assignments(columns: Iterable[str], later_stages: Iterable[str], key: set[str]) -> sql.Composed:
    own = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns if name not in key]
    reset = [sql.SQL("{} = DEFAULT").format(sql.Identifier(name)) for name in later_stages]
    return sql.SQL(", ").join([*own, *reset])

"""Judging a surveyed table: which column is its time, whether it would gain from partitions, whose rows they are.

Pure: figures in, choices with their reasons out. A choice is never a change; what costs rows (a lifecycle, a
subject to erase by) stays a suggestion for its owner to make.
"""

import datetime
import re
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from pipelines.adoption.survey import ForeignKey, SurveyedTable, TimeStatistics, is_known
from pipelines.catalog import values
from pipelines.catalog.model import PartitionUnit
from pipelines.catalog.shape import ColumnShape

LARGE_ROWS = 10_000_000
LARGE_BYTES = 1 << 30
_EVENT = re.compile(
    r"^(created|inserted|occurred|happened|logged|recorded|received|event|posted|placed|ordered|sold|sent)_?"
    r"(at|on|time|date|ts)?$|^(ts|time|timestamp|event_time|event_date|date|day)$",
    re.IGNORECASE,
)
_MUTABLE = re.compile(
    r"(updat|modif|chang|delet|expir|valid|birth|due|until|end|last_|cancel|close|finish)", re.IGNORECASE
)
_TIME_NAME = re.compile(r"(_at|_on|_date|_time|_ts)$", re.IGNORECASE)
_SUBJECT = re.compile(
    r"^(user|account|customer|member|person|subject|owner|client|author)_?id$", re.IGNORECASE
)
_PEOPLE = re.compile(r"^(users?|accounts?|customers?|members?|persons?|people|clients?)$", re.IGNORECASE)
_LEAST_SCORE = 3
_FEW_CHANGES_RATIO = 0.05
_UNIT_DAYS: tuple[tuple[PartitionUnit, int], ...] = (
    ("day", 1), ("week", 7), ("month", 30), ("quarter", 91), ("year", 365),
)  # fmt: skip


@dataclass(frozen=True)
class TimeChoice:
    """A candidate for the time of a row, with what speaks for and against it."""

    column: str
    score: int
    reasons: tuple[str, ...]
    statistics: TimeStatistics


@dataclass(frozen=True)
class Advice:
    """What a system.yaml should say about one table. `refusal` says why it can say nothing."""

    table: SurveyedTable
    refusal: str | None
    time: TimeChoice | None
    other_times: tuple[TimeChoice, ...]
    partition: PartitionUnit | None
    is_partitioned: bool
    partition_reason: str
    warnings: tuple[str, ...]
    subject: tuple[str, str] | None


def advise(table: SurveyedTable, *, large_rows: int = LARGE_ROWS, large_bytes: int = LARGE_BYTES) -> Advice:
    """Choices for one table. `large_rows`, `large_bytes`: from where on partitions are worth their upkeep."""
    choices = sorted((_judged(table, time) for time in table.times), key=lambda c: (-c.score, c.column))
    chosen = next((choice for choice in choices if choice.score >= _LEAST_SCORE), None)
    is_partitioned = bool(table.shape.partition_by)
    if is_partitioned:
        chosen = next((c for c in choices if (c.column,) == table.shape.partition_by), None)
    refusal = _refusal(table, chosen)
    unit, reason = _partitioning(table, chosen, large_rows, large_bytes)
    return Advice(
        table=table,
        refusal=refusal,
        time=chosen,
        other_times=tuple(choice for choice in choices if choice != chosen),
        partition=None if refusal else unit,
        is_partitioned=is_partitioned,
        partition_reason=reason,
        warnings=tuple(_warnings(table, unit is not None)),
        subject=_subject(table),
    )


def span_years(time: TimeStatistics) -> float | None:
    """Years between the first and the last time that is known."""
    if time.earliest is None or time.latest is None:
        return None
    return (time.latest - time.earliest).days / 365.2425


def _judged(table: SurveyedTable, time: TimeStatistics) -> TimeChoice:
    column = table.shape.column(time.column)
    score, reasons = _by_name(time.column)
    marks = [
        (3, not column.is_nullable, "NOT NULL", "may be NULL"),
        (2, _tells_the_time(column), "set when the row is made", ""),
        (2, time.is_indexed, "indexed", "no index begins with it"),
    ]
    for points, holds, good, bad in marks:
        score += points if holds else 0
        reasons += [text for text in [good if holds else bad] if text]
    if time.correlation is not None:
        follows = time.correlation > 0.9
        score += 3 if follows else 0
        verb = "follows" if follows else "does not follow"
        reasons.append(f"{verb} the physical order of the rows ({time.correlation:.2f})")
    return TimeChoice(time.column, score, (column.type_name, *reasons), time)


def _by_name(name: str) -> tuple[int, list[str]]:
    if _EVENT.search(name):
        return 4, ["named as the moment of an event"]
    if _MUTABLE.search(name):
        return -4, ["named as something that changes later"]
    return (2, []) if _TIME_NAME.search(name) else (0, [])


def _tells_the_time(column: ColumnShape) -> bool:
    return bool(
        column.default
        and re.search(r"now\(\)|CURRENT_|clock_timestamp|transaction_timestamp", column.default)
    )


def _refusal(table: SurveyedTable, chosen: TimeChoice | None) -> str | None:
    try:
        TypeAdapter(values.TableName).validate_python(table.name)
    except ValidationError as error:
        return str(error.errors()[0]["ctx"]["error"])
    if not table.shape.partition_by:
        return None
    if table.shape.partition_strategy != "range" or len(table.shape.partition_by) > 1 or chosen is None:
        how = f"{table.shape.partition_strategy} ({', '.join(table.shape.partition_by)})"
        return f"it is partitioned by {how}; Longbox keeps partitions by range of one date or timestamp only"
    return None


def _partitioning(
    table: SurveyedTable, time: TimeChoice | None, large_rows: int, large_bytes: int
) -> tuple[PartitionUnit | None, str]:
    if table.shape.partition_by:
        return _unit_of_partitions(table), f"partitioned already, {len(table.partitions)} partitions"
    if time is None or ((table.rows or 0) < large_rows and table.total_bytes < large_bytes):
        return None, ""
    if table.inserted_rows and table.changed_rows > table.inserted_rows * _FEW_CHANGES_RATIO:
        return (
            None,
            f"large, but {table.changed_rows:,} rows were changed or deleted against {table.inserted_rows:,} inserted",
        )
    years = span_years(time.statistics)
    unit = _unit_of_volume(table, years)
    return (
        unit,
        f"large and append-only in the statistics: partition: {unit} would let old rows go without a DELETE",
    )


def _unit_of_volume(table: SurveyedTable, years: float | None) -> PartitionUnit:
    """Months, unless a month would be huge (more than 50 GB) or tiny (less than 100,000 rows)."""
    if not years:
        return "month"
    months = max(years * 12, 1)
    if table.total_bytes / months > 50 << 30:
        return "day"
    return "year" if table.rows is not None and table.rows / months < 100_000 else "month"


def _unit_of_partitions(table: SurveyedTable) -> PartitionUnit:
    lengths = sorted(
        (partition.upper - partition.lower).days
        for partition in table.partitions
        if partition.lower.year > datetime.MINYEAR and partition.upper.year < datetime.MAXYEAR
    )
    middle = lengths[len(lengths) // 2] if lengths else 30
    return min(_UNIT_DAYS, key=lambda unit: abs(unit[1] - middle))[0]


def _warnings(table: SurveyedTable, is_candidate: bool) -> list[str]:
    found = [
        f"foreign key {key.name} of {key.schema}.{key.table} points at it: a referenced partition cannot be "
        "detached, drop that key before partitioning or archiving"
        for key in (table.keys_in if is_candidate else ())
    ]
    if is_candidate and not table.shape.primary_key:
        found.append("it has no primary key: `longbox partition` needs one to tell rows apart")
    odd = [c.name for c in table.shape.columns if c.enum_labels is None and not is_known(c.base_type_name)]
    if odd:
        kinds = ", ".join(f"{name} ({table.shape.column(name).type_name})" for name in odd)
        found.append(f"kept as they are, but no feed can fill them: {kinds}")
    return found


def _subject(table: SurveyedTable) -> tuple[str, str] | None:
    for key in table.keys_out:
        if len(key.columns) == 1 and _PEOPLE.match(key.target):
            return key.columns[0], _points_at(key)
    for column in table.shape.column_names:
        if _SUBJECT.match(column):
            return column, "by its name"
    if _PEOPLE.match(table.name) and len(table.shape.primary_key) == 1:
        return table.shape.primary_key[0], "the table is about people"
    return None


def _points_at(key: ForeignKey) -> str:
    return f"points at {key.target_schema}.{key.target}"

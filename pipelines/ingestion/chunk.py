"""Rows collected for one round trip to PostgreSQL, each content once; and the bad records met on the way."""

import datetime as dt
import functools
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow
import pyarrow.compute as pc

from pipelines.ingestion.columns import Column, Rows, copy_text, flat, joined

STAGED = (
    "ordinal", "last_ordinal", "line", "key_hash", "content_hash", "event_on", "revision", "is_repeated",
    "is_tombstone", "fields",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One record that did not load, with all that is needed to repair and replay it."""

    line: int
    ordinal: int
    column: str | None
    reason: str
    detail: str
    remedy: str
    raw_text: str


@dataclass
class Chunk:
    """Rows on their way. They are taken in with `extend`; the first look at `rows`, if any were, ends that."""

    quarantined: list[Quarantined] = field(default_factory=list)
    taken: int = 0  # rows, repetitions among them
    texts: Any = None  # what `direct` made of the rows beforehand
    _parts: list[Any] = field(default_factory=list)

    def extend(
        self,
        ordinals: Sequence[int] | Column,
        lines: Sequence[int] | Column,
        rows: Rows,
        faults: Container[int],
    ) -> None:
        """Take rows in, each with its place, save those whose positions are among `faults`."""
        table = rows.table
        for name, numbers in (("line", lines), ("ordinal", ordinals)):
            table = table.add_column(0, name, pyarrow.array(numbers, pyarrow.int64()))
        if faults:
            sound = [position for position in range(len(rows)) if position not in faults]
            table = table.take(pyarrow.array(sound, pyarrow.int64()))
        self.taken += table.num_rows
        self._parts.append(table)

    @functools.cached_property
    def rows(self) -> Any:
        """The rows as a table with the columns `STAGED`, in the order of their ordinals, each content once."""
        table = pyarrow.concat_tables(self._parts).combine_chunks()
        self._parts = []
        if pc.count_distinct(table["key_hash"]).as_py() == table.num_rows:
            nobody = pyarrow.repeat(pyarrow.scalar(False), table.num_rows)
            table = table.append_column("last_ordinal", table["ordinal"]).append_column("is_repeated", nobody)
        else:
            table = _each_content_once(table)
        return table.select(STAGED)

    @property
    def duplicates(self) -> int:
        """Rows whose content the chunk has in another row."""
        return self.taken - int(self.rows.num_rows) if self.taken else 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken in, neither rows nor bad records."""
        return not self.taken and not self.quarantined

    def event_days(self) -> set[dt.date]:
        """The days on which the rows' events happened; a deletion has none that a partition is needed for."""
        days = self.rows["event_on"].filter(pc.invert(self.rows["is_tombstone"]))
        return set(map(dt.date.fromisoformat, pc.unique(days).to_pylist()))


def _each_content_once(table: Any) -> Any:
    """The first row of each content, with the last ordinal of its repetitions; versions of one key are marked."""
    pair = joined([flat(table["key_hash"]), flat(table["content_hash"])], "")
    groups = pyarrow.table(
        {"pair": pair, "position": pyarrow.arange(0, table.num_rows), "ordinal": table["ordinal"]}
    ).group_by("pair", use_threads=False)
    kept = groups.aggregate([("position", "min"), ("ordinal", "max")]).sort_by("position_min")
    table = table.take(kept["position_min"]).append_column("last_ordinal", kept["ordinal_max"])
    counts = pc.value_counts(flat(table["key_hash"]))
    versions = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return table.append_column("is_repeated", pc.is_in(table["key_hash"], value_set=versions))


def staged_text(rows: Any) -> bytes:
    """Rows of a chunk in COPY's text format of the staging table."""
    *identity, fields = STAGED
    return copy_text([*(rows[name] for name in identity), *flat(rows[fields]).flatten()])

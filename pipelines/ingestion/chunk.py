"""Rows collected for one round trip to PostgreSQL, each content once; and the bad records met on the way."""

import datetime as dt
import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as pc

from pipelines.ingestion.columns import Column, Rows, copy_text, flat

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
    size_bytes: int = 0  # of the rows' columns and of bad records' texts, about
    prepared: Any = None  # what `direct` made of the rows beforehand
    _parts: list[Any] = field(default_factory=list)

    def extend(
        self,
        ordinals: Sequence[int] | Column,
        lines: Sequence[int] | Column,
        rows: Rows,
        faults: Collection[int],
    ) -> None:
        """Take rows in, each with its place, save those whose positions are among `faults`."""
        table = rows.table
        for name, numbers in (("line", lines), ("ordinal", ordinals)):
            table = table.add_column(0, name, pyarrow.array(numbers, pyarrow.int64()))
        if faults:
            is_sound = np.ones(len(rows), np.bool_)
            is_sound[list(faults)] = False
            table = table.filter(pyarrow.array(is_sound))
        self.taken += table.num_rows
        self.size_bytes += table.nbytes
        self._parts.append(table)

    def set_apart(self, record: Quarantined) -> None:
        """Take a bad record in."""
        self.quarantined.append(record)
        self.size_bytes += len(record.raw_text)

    @functools.cached_property
    def rows(self) -> Any:
        """The rows as a table with the columns `STAGED`, in the order of their ordinals, each content once."""
        table = pyarrow.concat_tables(self._parts).combine_chunks()
        self._parts = []
        keys = pc.value_counts(flat(table["key_hash"]))
        repeated = keys.field("values").filter(pc.greater(keys.field("counts"), 1))
        return _each_content_once(table, repeated).select(STAGED)

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


def _each_content_once(table: Any, repeated: Column) -> Any:
    """The first row of each content, with the last ordinal of its repetitions; versions of one key are marked.

    `repeated` are the keys of more than one row: few, as a rule, and no others are looked at.
    """
    places = pc.indices_nonzero(pc.is_in(table["key_hash"], value_set=repeated))
    some = table.select(["key_hash", "content_hash", "ordinal"]).take(places).append_column("place", places)
    contents = some.group_by(["key_hash", "content_hash"], use_threads=False)
    kept = contents.aggregate([("place", "min"), ("ordinal", "max")])
    versions = pc.value_counts(flat(kept["key_hash"]))
    versions = versions.field("values").filter(pc.greater(versions.field("counts"), 1))
    last_ordinals = flat(table["ordinal"]).to_numpy().copy()
    last_ordinals[kept["place_min"].to_numpy()] = kept["ordinal_max"].to_numpy()
    is_kept = np.ones(table.num_rows, np.bool_)
    is_kept[places.to_numpy()] = False
    is_kept[kept["place_min"].to_numpy()] = True
    table = table.append_column("last_ordinal", pyarrow.array(last_ordinals))
    table = table.append_column("is_repeated", pc.is_in(table["key_hash"], value_set=versions))
    return table if is_kept.all() else table.filter(pyarrow.array(is_kept))


def staged_text(rows: Any) -> bytes:
    """Rows of a chunk in COPY's text format of the staging table."""
    *identity, fields = STAGED
    return copy_text([*(rows[name] for name in identity), *flat(rows[fields]).flatten()])

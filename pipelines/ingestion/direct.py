"""Rows that need no staging: new ones are copied straight into the table, known ones are noted in the registry.

A chunk's keys are first looked up in the registry. Rows whose key is new there, and in the chunk, cannot be duplicates
nor versions: each goes by one COPY into the table and by one into the registry, in the order in which those lay it out.
Rows that are the only known version of their record only land again. All others are left to `writer`, and what the
table refuses sends the whole chunk back to it, which finds the row that is at fault.
"""

import contextlib
import datetime as dt
import itertools
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import psycopg
import pyarrow
import pyarrow.compute as pc
from psycopg import sql

from pipelines.ingestion.columns import NULL, Column, copy_lines, flat, text_of, texts
from pipelines.ingestion.periods import Periods, Target
from pipelines.ingestion.registry import Entries, Registry
from resources.database import Connection
from resources.sql import Queries

QUERIES = Queries.of("pipelines.ingestion")
_CONSTANT = re.compile(r"^('[^']*'(::[\w \[\]()]+)?|-?[0-9.]+|true|false|now\(\))$", re.IGNORECASE)


class Texts(NamedTuple):
    """Rows in COPY's formats: the table's lines with the rows they are of, in the table's order; registry entries."""

    places: Any
    periods: Any
    lines: Column
    entries: Entries


class DirectCopy:
    """Writes the rows of chunks of one file that are simply new or known. Works under the feed's lock."""

    def __init__(
        self, connection: Connection, target: Target, periods: Periods, columns: Sequence[str],
        parameters: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """`parameters`: feed_id, load_id, landing_day and file_name."""
        self._connection = connection
        self._target, self._periods = target, periods
        self._names = sql.SQL(", ").join(map(sql.Identifier, columns))
        self._registry = Registry(connection, parameters)
        self._day, self._load_id = parameters["landing_day"].isoformat(), str(parameters["load_id"])
        # An empty field of a NOT NULL column means its default; COPY has to be told the text.
        needed = {
            index: column.default
            for index, column in enumerate(map(target.shape.column, columns))
            if column.default is not None and not column.is_nullable
        }
        self._defaults = {index: text for index, text in needed.items() if _CONSTANT.match(text)}
        self._without_default = needed.keys() - self._defaults.keys()
        self._default_texts: dict[int, str] = {}
        self._expects_new = True
        self._read_defaults()

    def prepare(self, rows: Any) -> "Texts | None":
        """The texts of a chunk's rows for when they are new, which nothing has to be asked for.

        None where that is not to be expected: most rows of the chunk before were none.
        """
        return self._texts_of(rows) if self._expects_new else None

    def write(self, rows: Any, prepared: "Texts | None") -> tuple[int, Any]:
        """Write the rows of a chunk that are new or known. Returns how many were new, and the rows that are neither.

        If the table refuses a new row, all new ones are among those returned.
        """
        known = self._registry.find(rows)
        needs_more = pc.or_(rows["is_repeated"], rows["is_tombstone"])
        again = pc.and_(known.as_they_are, pc.invert(needs_more))
        if pc.any(again).as_py():
            self._registry.land_again(rows.filter(again))
        is_new = pc.invert(pc.or_(needs_more, known.by_key))
        number = pc.sum(is_new).as_py() or 0
        self._expects_new = 2 * number > rows.num_rows
        if number and self._copy(rows, is_new, prepared):
            return number, rows.filter(pc.invert(pc.or_(again, is_new)))
        return 0, rows.filter(pc.invert(again))

    def _copy(self, rows: Any, is_new: Column, prepared: "Texts | None") -> bool:
        """Copy new rows into the table and the registry; False if one is refused, nothing is copied then."""
        if prepared is None:
            rows = rows.filter(is_new)
            prepared = self._texts_of(rows)
        elif not pc.all(is_new).as_py():
            prepared = _only(prepared, flat(is_new).to_numpy(zero_copy_only=False))
        if prepared is None:
            return False
        try:
            with self._connection.transaction():
                self._copy_into_table(prepared)
                self._registry.add(prepared.entries.text())
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.RaiseException):
            return False
        return True

    def _copy_into_table(self, texts: Texts) -> None:
        """One COPY into each table that takes some of the rows: the partitioned one, and partitions being filled."""
        runs = pc.run_end_encode(texts.periods)
        starts = [dt.date.fromisoformat(period) for period in runs.values.to_pylist()]
        ends = zip(map(self._periods.home_of, starts), runs.run_ends.to_pylist(), strict=True)
        first = 0
        for home, of_home in itertools.groupby(ends, key=operator.itemgetter(0)):
            last = [end for _, end in of_home][-1]
            statement = QUERIES.compose("copy_new_rows", table=home, columns=self._names)
            with self._connection.cursor().copy(statement) as copy:
                copy.write(text_of(texts.lines.slice(first, last - first)))
            first = last

    def _texts_of(self, rows: Any) -> "Texts | None":
        """None where the direct way is not open: a default that PostgreSQL has to make, a revision past 64 bits."""
        with contextlib.suppress(_NoDefaultError, pyarrow.ArrowInvalid):
            periods = self._period_of_each(rows)
            order = pc.sort_indices(
                pyarrow.table({"period": periods, "key": rows["key_hash"]}),
                sort_keys=[("period", "ascending"), ("key", "ascending")],
            )
            return Texts(order.to_numpy(), periods.take(order), self._lines(rows.take(order)),
                         self._registry.entries(rows))  # fmt: skip
        return None

    def _period_of_each(self, rows: Any) -> Column:
        """The first day of each row's partition."""
        days = flat(rows["event_on"]).dictionary_encode()
        starts = [
            NULL if day == NULL else self._target.period_of(dt.date.fromisoformat(day)).isoformat()
            for day in days.dictionary.to_pylist()
        ]
        return texts(starts).take(days.indices)

    def _lines(self, rows: Any) -> Column:
        """By partition, so that each takes its rows at once, and then by key, as an index on it would have them."""
        fields = flat(rows["fields"])
        if self._defaults or self._without_default:
            fields = self._with_all_defaults(fields)
        return copy_lines(
            [fields, rows["key_hash"], rows["content_hash"], self._day, self._load_id, rows["line"]]
        )

    def _with_all_defaults(self, fields: Column) -> Column:
        lacking = pc.match_substring(fields, NULL)  # or a text that looks like it: then nothing changes
        if not pc.any(lacking).as_py():
            return fields
        return pc.replace_with_mask(
            fields, lacking, texts(map(self._with_defaults, fields.filter(lacking).to_pylist()))
        )

    def _with_defaults(self, fields: str) -> str:
        values = fields.split("\t")
        if any(values[index] == NULL for index in self._without_default):
            raise _NoDefaultError
        for index, text in self._default_texts.items():
            if values[index] == NULL:
                values[index] = text
        return "\t".join(values)

    def _read_defaults(self) -> None:
        """Ask PostgreSQL for the texts of the constant defaults; now, as nothing can be asked during a COPY."""
        for index, expression in self._defaults.items():
            query = sql.SQL("SELECT ({})::text").format(sql.SQL(expression))
            row = cast("tuple[object]", self._connection.execute(query).fetchone())
            self._default_texts[index] = _escaped(str(row[0]))


def _only(texts: Texts, wanted: Any) -> Texts:
    """The texts of the rows whose positions are true in `wanted`."""
    mask = pyarrow.array(wanted[texts.places])
    return Texts(
        texts.places[wanted[texts.places]], texts.periods.filter(mask), texts.lines.filter(mask),
        Entries([(places[wanted[places]], entries[wanted[places]]) for places, entries in texts.entries.parts]),
    )  # fmt: skip


class _NoDefaultError(Exception):
    """A row leaves out a value whose default differs from row to row: PostgreSQL has to make it."""


def _escaped(text: str) -> str:
    for character, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(character, escape)
    return text

"""Rows that need no staging: new ones are copied straight into the table, known ones are noted in the registry.

A chunk's keys are first looked up in the registry. Rows whose key is new there, and in the chunk, cannot be duplicates
nor versions: each goes by one COPY into the table and by one into the registry, in the order in which those lay it out.
Rows that are the only known version of their record only land again. All others are left to `writer`, and what the
table refuses sends the whole chunk back to it, which finds the row that is at fault.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import psycopg
import pyarrow
import pyarrow.compute as pc
from psycopg import sql

from pipelines.ingestion import binary
from pipelines.ingestion.columns import NULL, Column, copy_lines, flat, text_of, texts
from pipelines.ingestion.periods import Periods, Target
from pipelines.ingestion.registry import Entries, Registry
from pipelines.ingestion.values import escape
from resources.database import Connection
from resources.sql import Queries

QUERIES = Queries.of("pipelines.ingestion")
# What a table says to a row that it does not take; the last, that a text is too long for an index.
REFUSALS = (
    psycopg.DataError, psycopg.IntegrityError, psycopg.errors.RaiseException, psycopg.errors.ProgramLimitExceeded,
)  # fmt: skip
# So many partitions COPY fills without putting its slots down in between (MAX_PARTITION_BUFFERS of its source).
_PARTITIONS_AT_HAND = 32
_CONSTANT = re.compile(r"^('[^']*'(::[\w \[\]()]+)?|-?[0-9.]+|true|false|now\(\))$", re.IGNORECASE)


class Copies(NamedTuple):
    """Rows as COPY takes them: the table's lines in its order, with their places in the chunk; registry entries.

    `form` is COPY's format of `lines`.
    """

    places: Any
    periods: Any
    lines: Column
    form: Literal["binary", "text"]
    entries: Entries


class Prepared(NamedTuple):
    """What can be made of a chunk's rows beforehand.

    `candidates` are the keys that the registry may have; `copies` is None where most rows are expected to be known.
    """

    candidates: Column
    copies: "Copies | None"


class DirectCopy:
    """Writes the rows of chunks of one file that are simply new or known. Works under the feed's lock."""

    def __init__(
        self, connection: Connection, target: Target, periods: Periods, columns: Sequence[str],
        parameters: Mapping[str, Any], bulk_bytes: int | None,
    ) -> None:  # fmt: skip
        """`parameters`: feed_id, load_id, landing_day and file_name; `bulk_bytes`: the size of a large file."""
        self._connection = connection
        self._target, self._periods = target, periods
        self._names = sql.SQL(", ").join(map(sql.Identifier, columns))
        shapes = [target.shape.column(name) for name in columns]
        self._encoders = [binary.encoder(shape.base_type_name, shape.enum_labels) for shape in shapes]
        self._registry = Registry(connection, parameters, bulk_bytes)
        self._day, self._load_id = parameters["landing_day"], parameters["load_id"]
        # An empty field of a NOT NULL column means its default; COPY has to be told the text.
        needed = {
            index: shape.default
            for index, shape in enumerate(shapes)
            if shape.default is not None and not shape.is_nullable
        }
        self._defaults = {index: text for index, text in needed.items() if _CONSTANT.match(text)}
        self._without_default = needed.keys() - self._defaults.keys()
        self._default_texts: dict[int, str] = {}
        self._expects_new = True
        self._read_defaults()

    def prepare(self, rows: Any) -> Prepared:
        """What `write` needs of a chunk's rows. Asks PostgreSQL for nothing. Of every chunk, in their order."""
        copies = self._copies_of(rows) if self._expects_new else None
        return Prepared(self._registry.candidates(rows), copies)

    def write(self, rows: Any, prepared: Prepared) -> tuple[int, Any]:
        """Write the rows of a chunk that are new or known. Returns how many were new, and the rows that are neither.

        If the table refuses a new row, all new ones are among those returned.
        """
        known = self._registry.find(rows, prepared.candidates)
        needs_more = pc.or_(rows["is_repeated"], rows["is_tombstone"])
        again = pc.and_(known.as_they_are, pc.invert(needs_more))
        if pc.any(again).as_py():
            self._registry.land_again(rows.filter(again))
        is_new = pc.invert(pc.or_(needs_more, known.by_key))
        number = pc.sum(is_new).as_py() or 0
        self._expects_new = 2 * number > rows.num_rows
        if number and self._copy(rows, is_new, prepared.copies):
            return number, rows.filter(pc.invert(pc.or_(again, is_new)))
        return 0, rows.filter(pc.invert(again))

    def _copy(self, rows: Any, is_new: Column, copies: "Copies | None") -> bool:
        """Copy new rows into the table and the registry; False if one is refused, nothing is copied then."""
        if copies is None:
            rows = rows.filter(is_new)
            copies = self._copies_of(rows)
        elif not pc.all(is_new).as_py():
            copies = _only(copies, flat(is_new).to_numpy(zero_copy_only=False))
        if copies is None:
            return False
        try:
            with self._connection.transaction():
                self._copy_into_table(copies)
                self._registry.add(copies.entries)
        except REFUSALS:
            return False
        return True

    def _copy_into_table(self, copies: Copies) -> None:
        """One COPY into the table, and one for all partitions that the file is filling."""
        is_fresh = pc.is_in(copies.periods, value_set=texts(day.isoformat() for day in self._periods.fresh))
        self._copy_lines(self._target.identifier, copies, pc.invert(is_fresh))
        self._copy_lines(self._periods.intake, copies, is_fresh)

    def _copy_lines(self, home: sql.Identifier, copies: Copies, wanted: Column) -> None:
        if not pc.any(wanted).as_py():
            return
        lines = copies.lines if pc.all(wanted).as_py() else copies.lines.filter(wanted)
        statement = QUERIES.compose(
            "copy_new_rows", table=home, columns=self._names, form=sql.SQL(copies.form)
        )
        with self._connection.cursor().copy(statement) as copy:
            copy.write(binary.message(lines) if copies.form == "binary" else text_of(lines))

    def _copies_of(self, rows: Any) -> "Copies | None":
        """None where the direct way is not open: a default that PostgreSQL has to make, a revision past 64 bits.

        By key, as indexes lie. A partition at a time, so that few pages are in use, but where the file fills some that
        have no indexes yet: of COPY PostgreSQL makes up to 1,000 slots for each that takes its rows at once.
        """
        with contextlib.suppress(_NoDefaultError, pyarrow.ArrowInvalid):
            periods = self._period_of_each(rows)
            is_mixed = self._periods.fresh and len(pc.unique(periods)) <= _PARTITIONS_AT_HAND
            names = ["key"] if is_mixed else ["period", "key"]
            order = pc.sort_indices(
                pyarrow.table({"period": periods, "key": rows["key_hash"]}),
                sort_keys=[(name, "ascending") for name in names],
            )
            lines, form = self._lines(rows)
            return Copies(
                order.to_numpy(), periods.take(order), lines.take(order), form, self._registry.entries(rows)
            )
        return None

    def _period_of_each(self, rows: Any) -> Column:
        """The first day of each row's partition."""
        days = flat(rows["event_on"]).dictionary_encode()
        starts = [
            NULL if day == NULL else self._target.period_of(dt.date.fromisoformat(day)).isoformat()
            for day in days.dictionary.to_pylist()
        ]
        return texts(starts).take(days.indices)

    def _lines(self, rows: Any) -> tuple[Column, Literal["binary", "text"]]:
        """In COPY's binary format where every value has one."""
        fields = self._with_defaults(flat(rows["fields"]).flatten())
        identity = [flat(rows[name]) for name in ("key_hash", "content_hash", "line")]
        key_hashes, content_hashes, lines = identity
        with contextlib.suppress(pyarrow.ArrowInvalid):
            encoded = [encode(field) for encode, field in zip(self._encoders, fields, strict=True) if encode]
            if len(encoded) == len(fields):
                lineage = [binary.hashes(key_hashes), binary.hashes(content_hashes), binary.integers(">i8", lines),
                           binary.day(self._day), np.array(self._load_id, ">i8")]  # fmt: skip
                return binary.records([*lineage, *encoded], rows.num_rows), "binary"
        return copy_lines([*identity, self._day.isoformat(), str(self._load_id), *fields]), "text"

    def _with_defaults(self, fields: list[Column]) -> list[Column]:
        if any(fields[index].null_count for index in self._without_default):
            raise _NoDefaultError
        for index, text in self._default_texts.items():
            fields[index] = pc.fill_null(fields[index], text)
        return fields

    def _read_defaults(self) -> None:
        """Ask PostgreSQL for the texts of the constant defaults; now, as nothing can be asked during a COPY."""
        for index, expression in self._defaults.items():
            query = sql.SQL("SELECT ({})::text").format(sql.SQL(expression))
            row = cast("tuple[object]", self._connection.execute(query).fetchone())
            self._default_texts[index] = escape(str(row[0]))


def _only(copies: Copies, wanted: Any) -> Copies:
    """What is of the rows whose positions are true in `wanted`."""
    is_wanted = wanted[copies.places]
    mask = pyarrow.array(is_wanted)
    return Copies(
        copies.places[is_wanted], copies.periods.filter(mask), copies.lines.filter(mask), copies.form,
        copies.entries.only(wanted),
    )  # fmt: skip


class _NoDefaultError(Exception):
    """A row leaves out a value whose default differs from row to row: PostgreSQL has to make it."""

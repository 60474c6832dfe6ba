"""Rows that no earlier landing can meet, copied straight into the table and the registry, without staging.

A chunk's keys are first looked up in the registry. Rows whose key is new there, and in the chunk, cannot be duplicates
nor versions: each goes by one COPY into the table and by one into the registry, in the order in which those lay it out.
What the table refuses sends the whole chunk back to `writer`, which finds the row that is at fault.
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import psycopg
from psycopg import sql

from pipelines.ingestion.binding import NULL
from resources.database import Connection
from resources.sql import Queries

if TYPE_CHECKING:
    from pipelines.ingestion.writer import Chunk, Target

QUERIES = Queries.of("pipelines.ingestion")
_CONSTANT = re.compile(r"^('[^']*'(::[\w \[\]()]+)?|-?[0-9.]+|true|false|now\(\))$", re.IGNORECASE)


class DirectCopy:
    """Copies the new rows of chunks of one file. Works inside the file's transaction, under the feed's lock."""

    def __init__(
        self, connection: Connection, target: "Target", columns: Sequence[str], *, load_id: int, landing_day: dt.date
    ) -> None:  # fmt: skip
        self._connection = connection
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        self._copy = QUERIES.compose("copy_new_rows", table=target.identifier, columns=names)
        self._day, self._load_id, self._feed_id = landing_day.isoformat(), load_id, target.feed_id
        self._has_probe = False
        # An empty field of a NOT NULL column means its default; COPY has to be told the text.
        needed = {
            index: column.default
            for index, column in enumerate(map(target.shape.column, columns))
            if column.default is not None and not column.is_nullable
        }
        self._defaults = {index: text for index, text in needed.items() if _CONSTANT.match(text)}
        self._without_default = needed.keys() - self._defaults.keys()
        self._texts: dict[int, str] = {}
        self._read_defaults()

    def write(self, chunk: "Chunk") -> frozenset[int]:
        """Copy the rows whose key is new; returns their positions in the chunk. None of them if one is refused."""
        positions = chunk.new_positions(self._known(chunk))
        if not positions:
            return frozenset()
        try:
            with self._connection.transaction():
                with self._connection.cursor().copy(self._copy) as copy:
                    copy.write("".join(self._table_lines(chunk, positions)).encode())
                with self._connection.cursor().copy(QUERIES["copy_new_keys"]) as copy:
                    copy.write("".join(self._registry_lines(chunk, positions)).encode())
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.RaiseException, _NoDefaultError):
            return frozenset()
        return frozenset(positions)

    def _known(self, chunk: "Chunk") -> set[int]:
        """Where rows stand whose key the registry has. One probe of its primary key a row, in its own order."""
        if not self._has_probe:
            self._connection.execute(QUERIES["drop_probe"])
            self._connection.execute(QUERIES["create_probe"])
            self._has_probe = True
        keys = sorted((row.key_hash, index) for index, (_, _, row) in enumerate(chunk.rows))
        with self._connection.cursor().copy(QUERIES["copy_probe"]) as copy:
            copy.write("".join([f"{index}\t{key}\n" for key, index in keys]).encode())
        rows = self._connection.execute(QUERIES["probe_registry"], {"feed_id": self._feed_id}).fetchall()
        self._connection.execute(QUERIES["empty_probe"])
        return {cast(int, row[0]) for row in rows}

    def _table_lines(self, chunk: "Chunk", positions: Sequence[int]) -> Iterator[str]:
        """By event day, so that each partition takes its rows at once."""
        constant = f"{self._day}\t{self._load_id}"
        rows = chunk.rows
        for index in sorted(positions, key=lambda index: rows[index][2].event_on):
            _, line, row = rows[index]
            fields = row.fields
            if NULL in fields and (self._defaults or self._without_default):
                fields = self._with_defaults(fields)
            yield f"{fields}\t{row.key_hash}\t{row.content_hash}\t{constant}\t{line}\n"

    def _registry_lines(self, chunk: "Chunk", positions: Sequence[int]) -> Iterator[str]:
        """By key, as the registry's primary key is ordered."""
        rows = chunk.rows
        for index in sorted(positions, key=lambda index: rows[index][2].key_hash):
            ordinal, _, row = rows[index]
            last = chunk.last_ordinal(index, ordinal)
            yield (
                f"{self._feed_id}\t{row.key_hash}\t{row.content_hash}\t{row.event_on}\t{row.revision}\t{self._day}"
                f"\t{self._load_id}\t{last}\n"
            )

    def _with_defaults(self, fields: str) -> str:
        values = fields.split("\t")
        if any(values[index] == NULL for index in self._without_default):
            raise _NoDefaultError
        for index, text in self._texts.items():
            if values[index] == NULL:
                values[index] = text
        return "\t".join(values)

    def _read_defaults(self) -> None:
        """Ask PostgreSQL for the texts of the constant defaults; now, as nothing can be asked during a COPY."""
        for index, expression in self._defaults.items():
            query = sql.SQL("SELECT ({})::text").format(sql.SQL(expression))
            row = cast("tuple[object]", self._connection.execute(query).fetchone())
            self._texts[index] = _escaped(str(row[0]))


class _NoDefaultError(Exception):
    """A row leaves out a value whose default differs from row to row: PostgreSQL has to make it."""


def _escaped(text: str) -> str:
    for character, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(character, escape)
    return text

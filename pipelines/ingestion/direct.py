"""Rows that no earlier landing can meet, copied straight into the table and the registry, without staging.

A chunk's keys are first looked up in the registry. Rows whose key is new there, and in the chunk, cannot be duplicates
nor versions: each goes by one COPY into the table and by one into the registry, in the order in which those lay it out.
What the table refuses sends the whole chunk back to `writer`, which finds the row that is at fault.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import psycopg
import pyarrow
import pyarrow.compute as pc
from psycopg import sql

from pipelines.ingestion.columns import NULL, Column, copy_text, flat, texts
from resources.database import Connection
from resources.sql import Queries

if TYPE_CHECKING:
    from pipelines.ingestion.writer import Target

QUERIES = Queries.of("pipelines.ingestion")
_CONSTANT = re.compile(r"^('[^']*'(::[\w \[\]()]+)?|-?[0-9.]+|true|false|now\(\))$", re.IGNORECASE)


class Texts(NamedTuple):
    """Rows in COPY's text format, as the table and as the registry takes them."""

    table: bytes
    registry: bytes


class DirectCopy:
    """Copies the new rows of chunks of one file. Works inside the file's transaction, under the feed's lock."""

    def __init__(
        self, connection: Connection, target: "Target", columns: Sequence[str], *, load_id: int, landing_day: dt.date
    ) -> None:  # fmt: skip
        self._connection = connection
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        self._copy = QUERIES.compose("copy_new_rows", table=target.identifier, columns=names)
        self._day, self._load_id, self._feed_id = landing_day.isoformat(), load_id, target.feed_id
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
        """The texts of a chunk's rows for when all of them are new, which nothing has to be asked for.

        None where that is not to be expected: rows of the chunk before were known, or `rows` repeat or delete records.
        """
        if not self._expects_new or pc.any(_needs_more(rows)).as_py():
            return None
        with contextlib.suppress(_NoDefaultError):
            return self._texts_of(rows)
        return None

    def write(self, rows: Any, prepared: "Texts | None") -> Any:
        """Copy those of a chunk's rows whose key is new; returns the others. All of them if one is refused."""
        others = pc.or_(_needs_more(rows), self._known(rows))
        self._expects_new = not pc.any(others).as_py()
        new = rows if self._expects_new else rows.filter(pc.invert(others))
        if not new.num_rows:
            return rows
        try:
            table, registry = prepared if prepared and self._expects_new else self._texts_of(new)
            with self._connection.transaction():
                with self._connection.cursor().copy(self._copy) as copy:
                    copy.write(table)
                with self._connection.cursor().copy(QUERIES["copy_new_keys"]) as copy:
                    copy.write(registry)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.RaiseException, _NoDefaultError):
            return rows
        return rows.filter(others)

    def _texts_of(self, rows: Any) -> "Texts":
        return Texts(self._table_text(rows), self._registry_text(rows))

    def _known(self, rows: Any) -> Column:
        """Whether the registry has each row's key. One probe of its primary key a row, in its own order."""
        order = pc.sort_indices(flat(rows["key_hash"]))
        keys = b"{" + b",".join(copy_text([flat(rows["key_hash"]).take(order)]).split()) + b"}"
        parameters = {"feed_id": self._feed_id, "keys": keys.decode()}
        found = self._connection.execute(QUERIES["probe_registry"], parameters).fetchall()
        if not found:
            return pyarrow.repeat(pyarrow.scalar(False), rows.num_rows)
        places = order.take(pyarrow.array([cast(int, row[0]) - 1 for row in found], pyarrow.int64()))
        return pc.is_in(pyarrow.arange(0, rows.num_rows), value_set=places.cast(pyarrow.int64()))

    def _table_text(self, rows: Any) -> bytes:
        """By event day, so that each partition takes its rows at once."""
        rows = rows.take(
            pc.sort_indices(rows, sort_keys=[("event_on", "ascending"), ("ordinal", "ascending")])
        )
        fields = flat(rows["fields"])
        if self._defaults or self._without_default:
            fields = self._with_all_defaults(fields)
        return copy_text(
            [fields, rows["key_hash"], rows["content_hash"], self._day, str(self._load_id), rows["line"]]
        )

    def _registry_text(self, rows: Any) -> bytes:
        """By key, as the registry's primary key is ordered."""
        rows = rows.take(pc.sort_indices(flat(rows["key_hash"])))
        return copy_text(
            [str(self._feed_id), *(rows[name] for name in ("key_hash", "content_hash", "event_on", "revision")),
             self._day, str(self._load_id), rows["last_ordinal"]]
        )  # fmt: skip

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


def _needs_more(rows: Any) -> Column:
    """Which rows are more than new ones: versions of one record within the chunk, deletions."""
    return pc.or_(rows["is_repeated"], rows["is_tombstone"])


class _NoDefaultError(Exception):
    """A row leaves out a value whose default differs from row to row: PostgreSQL has to make it."""


def _escaped(text: str) -> str:
    for character, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(character, escape)
    return text

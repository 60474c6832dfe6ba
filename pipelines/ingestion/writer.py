"""Chunks of rows on their way into PostgreSQL: staged, identified, inserted; what the table refuses is set apart.

A `ChunkWriter` lives within the transaction of one file. It is used by the loader and by the replay of quarantined
rows. The statements are in `sql/load.sql`; converting records to rows is in `binding`.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from pipelines.catalog.shape import TableShape
from pipelines.ingestion.binding import NULL, Row
from pipelines.ingestion.direct import DirectCopy
from resources.database import Connection
from resources.errors import LongboxError
from resources.sql import Queries, storable

QUERIES = Queries.of("pipelines.ingestion")
_COPY_LINE = re.compile(r"COPY ingest_rows, line (\d+)")
_UNESCAPES = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


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
    """Rows collected for one round trip, each content once; and the bad records met on the way."""

    rows: list[tuple[int, int, Row]] = field(default_factory=list)  # ordinal, line, row
    quarantined: list[Quarantined] = field(default_factory=list)
    duplicates: int = 0
    _keys: set[str] = field(default_factory=set)
    _seen: dict[str, int] = field(default_factory=dict)
    _first_content: dict[str, str] = field(default_factory=dict)
    _repeated: set[str] = field(default_factory=set)
    _last_ordinal: dict[int, int] = field(default_factory=dict)

    def extend(self, places: Sequence[tuple[int, int]], rows: Sequence[Row]) -> None:
        """Take rows in, each with its place (ordinal, line); as `add` does, but at once where no key repeats."""
        keys = {row.key_hash for row in rows}
        if len(keys) == len(rows) and not self._seen and self._keys.isdisjoint(keys):
            self._keys |= keys
            self.rows.extend((ordinal, line, row) for (ordinal, line), row in zip(places, rows, strict=True))
            return
        if not self._seen:
            so_far, self.rows = self.rows, []
            for ordinal, line, row in so_far:
                self.add(ordinal, line, row)
        for (ordinal, line), row in zip(places, rows, strict=True):
            self.add(ordinal, line, row)

    def add(self, ordinal: int, line: int, row: Row) -> None:
        """Take a row in; a content that the chunk has already is counted as a duplicate."""
        index = self._seen.setdefault(row.key_hash + row.content_hash, len(self.rows))
        if index < len(self.rows):
            self.duplicates += 1
            self._last_ordinal[index] = ordinal
            return
        if self._first_content.setdefault(row.key_hash, row.content_hash) != row.content_hash:
            self._repeated.add(row.key_hash)
        self.rows.append((ordinal, line, row))

    def last_ordinal(self, index: int, ordinal: int) -> int:
        """The ordinal of the last row with the content of the row at `index`, whose own is `ordinal`."""
        return self._last_ordinal.get(index, ordinal)

    @property
    def has_repeats(self) -> bool:
        """Whether two versions of one record are in the chunk."""
        return bool(self._repeated)

    def event_days(self) -> set[dt.date]:
        """The days on which the rows' events happened; a deletion has none that a partition is needed for."""
        days = {row.event_on for _, _, row in self.rows if not row.is_tombstone}
        return set(map(dt.date.fromisoformat, days))

    @property
    def has_tombstones(self) -> bool:
        """Whether a row of the chunk deletes its record."""
        return any(row.is_tombstone for _, _, row in self.rows)

    def new_positions(self, known: set[int]) -> list[int]:
        """Where rows stand whose key neither the registry (`known`) nor another row of the chunk has; no deletions."""
        return [
            index
            for index, (_, _, row) in enumerate(self.rows)
            if index not in known and row.key_hash not in self._repeated and not row.is_tombstone
        ]

    def copy_lines(self, skip: Collection[int]) -> Iterable[str]:
        """The rows in COPY's text format of the staging table, without those at the positions in `skip`."""
        for index, (ordinal, line, row) in enumerate(self.rows):
            if index not in skip:
                last = self._last_ordinal.get(index, ordinal)
                repeated = "t" if row.key_hash in self._repeated else "f"
                yield (
                    f"{ordinal}\t{last}\t{line}\t{row.key_hash}\t{row.content_hash}\t{row.event_on}\t{row.revision}"
                    f"\t{repeated}\t{'t' if row.is_tombstone else 'f'}\t{row.fields}\n"
                )


@dataclass(frozen=True)
class Target:
    """The table that a feed loads, as the database has it."""

    feed_id: int
    schema: str
    table: str
    shape: TableShape
    ensure_partitions: Callable[[set[dt.date]], None]

    @property
    def identifier(self) -> sql.Identifier:
        """The table's qualified, quoted name."""
        return sql.Identifier(self.schema, self.table)


class ChunkWriter:
    """Writes chunks of one file. `columns` are the table columns that the rows' fields carry, in order."""

    def __init__(
        self, connection: Connection, target: Target, columns: Sequence[str], *, load_id: int, landing_day: dt.date,
        file_name: str, run_id: str | None,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._target = target
        self._columns = tuple(columns)
        self._parameters = {
            "feed_id": target.feed_id, "load_id": load_id, "landing_day": landing_day, "file_name": file_name,
        }  # fmt: skip
        self._run_id = run_id
        names = sql.SQL(", ").join(map(sql.Identifier, self._columns))
        self._direct = DirectCopy(connection, target, self._columns, load_id=load_id, landing_day=landing_day)
        self._staging = QUERIES.compose("create_staging", table=target.identifier, columns=names)
        self._has_staging = False
        self._copy = QUERIES.compose("copy_rows", columns=names)
        self._insert = QUERIES.compose(
            "insert_new",
            table=target.identifier,
            columns=names,
            values=_values(target.shape, self._columns),
        )

    def write(self, chunk: Chunk) -> tuple[int, int]:
        """Write a chunk. Returns how many rows were new, and how many more the table refused (now quarantined)."""
        loaded, refused = self.write_without_quarantine(chunk)
        self.quarantine(sorted([*chunk.quarantined, *refused.values()], key=lambda row: row.ordinal))
        return loaded, len(refused)

    def write_without_quarantine(self, chunk: Chunk) -> tuple[int, dict[int, Quarantined]]:
        """Write a chunk's rows. Returns how many were new, and those that the table refused, by ordinal."""
        if not chunk.rows:
            return 0, {}
        self._target.ensure_partitions(chunk.event_days())
        done = self._direct.write(chunk)
        if len(done) == len(chunk.rows):
            return len(done), {}
        self._make_staging()
        refused = self._stage(chunk, done)
        loaded = len(done)
        if len(refused) + len(done) < len(chunk.rows):
            loaded += self._insert_range(chunk, chunk.rows[0][0], chunk.rows[-1][0], refused, done)
        self._connection.execute("TRUNCATE ingest_rows, ingest_known")
        return loaded, {row.ordinal: row for row in refused.values()}

    def _make_staging(self) -> None:
        if not self._has_staging:
            self._connection.execute(QUERIES["drop_staging"])
            self._connection.execute(self._staging)
            self._connection.execute(QUERIES["create_known"])
            self._has_staging = True

    def quarantine(self, rows: Sequence[Quarantined]) -> None:
        """Keep bad records with their text."""
        if not rows:
            return
        p = self._parameters
        with self._connection.cursor().copy(QUERIES["copy_quarantine"]) as copy:
            for row in rows:
                copy.write_row(
                    (p["feed_id"], p["load_id"], p["landing_day"], p["file_name"], row.line, row.ordinal, row.column,
                     row.reason, storable(row.detail), storable(row.remedy), storable(row.raw_text), self._run_id)
                )  # fmt: skip

    def _stage(self, chunk: Chunk, done: Set[int]) -> dict[int, Quarantined]:
        """COPY the rows that are not `done` into staging. Returns those that PostgreSQL cannot read, by position."""
        refused: dict[int, Quarantined] = {}
        while True:
            try:
                with (
                    self._connection.transaction(),
                    self._connection.cursor().copy(self._copy) as copy,
                ):
                    copy.write("".join(chunk.copy_lines(refused.keys() | done)).encode())
                return refused
            except psycopg.DataError as error:
                found = _COPY_LINE.search(error.diag.context or "")
                if found is None:
                    raise
                kept = [
                    index for index in range(len(chunk.rows)) if index not in refused and index not in done
                ]
                index = kept[int(found[1]) - 1]
                refused[index] = self._refusal(chunk.rows[index], error)

    def _insert_range(
        self, chunk: Chunk, first: int, last: int, refused: dict[int, Quarantined], done: Set[int]
    ) -> int:
        """Insert the staged rows from ordinal `first` to `last`; halve the range until a refused row stands alone."""
        try:
            with self._connection.transaction():
                return self._insert_new(first, last, chunk.has_repeats, chunk.has_tombstones)
        except (
            psycopg.IntegrityError,
            psycopg.DataError,
            psycopg.errors.RaiseException,
        ) as error:
            if isinstance(error, psycopg.errors.CheckViolation) and not error.diag.constraint_name:
                raise LongboxError(
                    f"table {self._target.schema}.{self._target.table} has no partition for a row "
                    f"({error.diag.message_primary}); run `longbox migrate` and then this again"
                ) from error
            inside = [
                index
                for index, row in enumerate(chunk.rows)
                if first <= row[0] <= last and index not in refused and index not in done
            ]
            if len(inside) == 1:
                refused[inside[0]] = self._refusal(chunk.rows[inside[0]], error)
                return 0
            middle = chunk.rows[inside[len(inside) // 2]][0]
            before = self._insert_range(chunk, first, middle - 1, refused, done)
            return before + self._insert_range(chunk, middle, last, refused, done)

    def _insert_new(self, first: int, last: int, has_repeats: bool, has_tombstones: bool) -> int:
        parameters = {**self._parameters, "first": first, "last": last}
        known = self._connection.execute(QUERIES["find_known"], parameters).rowcount
        self._connection.execute(QUERIES["register_new"], parameters)
        inserted = self._connection.execute(self._insert, parameters).rowcount
        if has_tombstones:
            inserted += self._connection.execute(QUERIES["insert_tombstones"], parameters).rowcount
        if known:
            self._connection.execute(QUERIES["land_again"], parameters)
        if known or has_repeats:
            self._connection.execute(QUERIES["switch_versions"], parameters)
        return inserted

    def _refusal(self, staged: tuple[int, int, Row], error: psycopg.Error) -> Quarantined:
        ordinal, line, row = staged
        message = error.diag.message_primary or str(error)
        return Quarantined(
            line=line,
            ordinal=ordinal,
            column=error.diag.column_name,
            reason="refused_by_table",
            detail=message,
            remedy="correct the record, or change the table's constraint, then `longbox quarantine replay`",
            raw_text=self._as_json(row),
        )

    def _as_json(self, row: Row) -> str:
        values = dict(zip(self._columns, row.fields.split("\t"), strict=True))
        return json.dumps(
            {name: _unescape(text) for name, text in values.items() if text != NULL},
            ensure_ascii=False,
        )


def _values(shape: TableShape, columns: Sequence[str]) -> sql.Composed:
    """The staged columns as INSERT takes them: an empty field of a NOT NULL column means its default."""
    parts: list[sql.Composable] = []
    for name in columns:
        column = shape.column(name)
        staged = sql.SQL("r.{}").format(sql.Identifier(name))
        if column.default is not None and not column.is_nullable:
            staged = sql.SQL("coalesce({}, {})").format(staged, sql.SQL(column.default))
        parts.append(staged)
    return sql.SQL(", ").join(parts)


def _unescape(text: str) -> str:
    return re.sub(r"\\[\\tnr]", lambda found: _UNESCAPES[found[0]], text)

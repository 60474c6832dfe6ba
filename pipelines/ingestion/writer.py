"""Chunks of rows on their way into PostgreSQL: staged, identified, inserted; what the table refuses is set apart.

A `ChunkWriter` lives within the transaction of one file. It is used by the loader and by the replay of quarantined
rows. The statements are in `sql/load.sql`; converting records to rows is in `binding`.
"""

import datetime as dt
import json
import re
from collections.abc import Sequence
from typing import Any

import psycopg
import pyarrow
import pyarrow.compute as pc
from psycopg import sql

from pipelines.catalog.shape import TableShape
from pipelines.ingestion.chunk import Chunk, Quarantined, staged_text
from pipelines.ingestion.direct import REFUSALS, DirectCopy
from pipelines.ingestion.periods import Periods, Target
from pipelines.ingestion.values import unescape
from resources.database import Connection
from resources.errors import LongboxError
from resources.sql import Queries, storable

QUERIES = Queries.of("pipelines.ingestion")
_ARRAY_ITEM = re.compile(r'NULL|"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COPY_LINE = re.compile(r"COPY ingest_rows, line (\d+)(?:, column column_(\d+))?")


class ChunkWriter:
    """Writes chunks of one file. `columns` are the table columns that the rows' fields carry, in order."""

    def __init__(
        self, connection: Connection, target: Target, columns: Sequence[str], *, load_id: int, landing_day: dt.date,
        file_name: str, run_id: str | None, bulk_bytes: int | None = None,
    ) -> None:  # fmt: skip
        """`bulk_bytes`: the size of a large file, which fills the new partitions it needs by itself."""
        self._connection = connection
        self._target = target
        self._columns = tuple(columns)
        self._parameters = {
            "feed_id": target.feed_id, "load_id": load_id, "landing_day": landing_day, "file_name": file_name,
        }  # fmt: skip
        self._run_id = run_id
        names = sql.SQL(", ").join(map(sql.Identifier, self._columns))
        self._periods = Periods(connection, target, load_id=load_id, fills_new=bulk_bytes is not None)
        self._direct = DirectCopy(
            connection, target, self._periods, self._columns, self._parameters, bulk_bytes
        )
        staged = _staged_names(self._columns)
        columns_as_staged = sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(name), place)
            for name, place in zip(self._columns, staged, strict=True)
        )
        self._staging = QUERIES.compose("create_staging", table=target.identifier, columns=columns_as_staged)
        self._has_staging = False
        self._copy = QUERIES.compose("copy_rows", columns=sql.SQL(", ").join(staged))
        self._names, self._values = names, _values(target.shape, self._columns)

    def prepare(self, chunk: Chunk) -> Chunk:
        """Do the part of `write` that PostgreSQL is not needed for, while it may still work on the chunk before."""
        if chunk.taken and chunk.prepared is None:
            chunk.prepared = self._direct.prepare(chunk.rows)
        return chunk

    def write(self, chunk: Chunk) -> tuple[int, int]:
        """Write a chunk. Returns how many rows were new, and how many more the table refused (now quarantined)."""
        loaded, refused = self.write_without_quarantine(chunk)
        self.quarantine(sorted([*chunk.quarantined, *refused.values()], key=lambda row: row.ordinal))
        return loaded, len(refused)

    def write_without_quarantine(self, chunk: Chunk) -> tuple[int, dict[int, Quarantined]]:
        """Write a chunk's rows. Returns how many were new, and those that the table refused, by ordinal."""
        if not chunk.taken:
            return 0, {}
        self._periods.ensure(chunk.event_days())
        loaded, rest = self._direct.write(chunk.rows, self.prepare(chunk).prepared)
        if not rest.num_rows:
            return loaded, {}
        self._make_staging()
        rest, refused = self._stage(rest)
        if rest.num_rows:
            loaded += self._insert_rows(rest, refused)
        self._connection.execute("TRUNCATE ingest_rows, ingest_known")
        return loaded, refused

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

    def _stage(self, rows: Any) -> tuple[Any, dict[int, Quarantined]]:
        """COPY rows into staging. Returns those that are there, and by ordinal those that PostgreSQL cannot read."""
        refused: dict[int, Quarantined] = {}
        while rows.num_rows:
            try:
                with (
                    self._connection.transaction(),
                    self._connection.cursor().copy(self._copy) as copy,
                ):
                    copy.write(staged_text(rows))
                break
            except (psycopg.DataError, psycopg.IntegrityError) as error:  # the latter of a domain
                found = _COPY_LINE.search(error.diag.context or "")
                if found is None:
                    raise
                place = int(found[1]) - 1
                refusal = self._refusal(rows.slice(place, 1), error)
                refused[refusal.ordinal] = refusal
                rows = pyarrow.concat_tables([rows.slice(0, place), rows.slice(place + 1)])
        return rows, refused

    def _insert_rows(self, rows: Any, refused: dict[int, Quarantined]) -> int:
        """Insert staged rows, which are in the order of their ordinals; halve them until a refused row stands alone."""
        first, last = rows["ordinal"][0].as_py(), rows["ordinal"][-1].as_py()
        has_repeats, has_tombstones = (
            pc.any(rows["is_repeated"]).as_py(),
            pc.any(rows["is_tombstone"]).as_py(),
        )
        try:
            with self._connection.transaction():
                return self._insert_new(first, last, has_repeats, has_tombstones)
        except REFUSALS as error:
            if isinstance(error, psycopg.errors.CheckViolation) and not error.diag.constraint_name:
                said = self._periods.told(error.diag.message_primary or "")
                raise LongboxError(
                    f"table {self._target.schema}.{self._target.table} has no partition for a row ({said}); "
                    "run `longbox migrate` and then this again"
                ) from error
            if rows.num_rows == 1:
                refusal = self._refusal(rows, error)
                refused[refusal.ordinal] = refusal
                return 0
            middle = rows.num_rows // 2
            before = self._insert_rows(rows.slice(0, middle), refused)
            return before + self._insert_rows(rows.slice(middle), refused)

    def _insert_new(self, first: int, last: int, has_repeats: bool, has_tombstones: bool) -> int:
        parameters = {**self._parameters, "first": first, "last": last}
        known = self._connection.execute(QUERIES["find_known"], parameters).rowcount
        self._connection.execute(QUERIES["register_new"], parameters)
        inserted = self._insert_into_homes(parameters)
        if has_tombstones:
            inserted += self._connection.execute(QUERIES["insert_tombstones"], parameters).rowcount
        if known:
            self._connection.execute(QUERIES["land_again"], parameters)
        if known or has_repeats:
            self._connection.execute(QUERIES["switch_versions"], parameters)
        return inserted

    def _insert_into_homes(self, parameters: dict[str, Any]) -> int:
        """Insert staged rows that are new where they belong: into the table, and into partitions being filled."""
        fresh = list(self._periods.fresh.values())
        spans = {"lowers": [one.span.lower for one in fresh], "uppers": [one.span.upper for one in fresh]}
        homes = {False: self._target.identifier} | ({True: self._periods.intake} if fresh else {})
        inserted = 0
        for is_inside, home in homes.items():
            insert = QUERIES.compose("insert_new", table=home, columns=self._names, values=self._values)
            inserted += self._connection.execute(
                insert, parameters | spans | {"is_inside": is_inside}
            ).rowcount
        return inserted

    def close(self) -> None:
        """End the writing of a file: attach the partitions that it filled."""
        self._periods.close()

    def _refusal(self, row: Any, error: psycopg.Error) -> Quarantined:
        ordinal, line, fields = (row[name][0].as_py() for name in ("ordinal", "line", "fields"))
        message = self._periods.told(error.diag.message_primary or str(error))
        return Quarantined(
            line=line,
            ordinal=ordinal,
            column=self._column_of(error),
            reason="refused_by_table",
            detail=message,
            remedy="correct the record, or change the table's constraint, then `longbox quarantine replay`",
            raw_text=self._as_json(fields),
        )

    def _column_of(self, error: psycopg.Error) -> str | None:
        """The column that was refused: of the staged text, as the table says, or the only one of a constraint."""
        place, said = _COPY_LINE.search(error.diag.context or ""), error.diag
        if place is not None and place[2]:
            return self._columns[int(place[2])]
        if said.column_name or not said.constraint_name:
            return said.column_name
        names = {"schema": said.schema_name, "table": said.table_name, "constraint": said.constraint_name}
        row = self._connection.execute(QUERIES["constrained_column"], names).fetchone()
        return None if row is None else str(row[0])

    def _as_json(self, fields: dict[str, str | None]) -> str:
        values: dict[str, object] = {}
        for name, text in fields.items():
            if text is not None:
                is_array = self._target.shape.column(name).base_type_name.endswith("[]")
                values[name] = _items(unescape(text)) if is_array else unescape(text)
        return json.dumps(values, ensure_ascii=False)


def _items(array: str) -> list[str | None]:
    """The items of an array as `values` writes it: each quoted, or NULL."""
    return [
        None if item[0] == "NULL" else re.sub(r"\\(.)", r"\1", item[1], flags=re.DOTALL)
        for item in _ARRAY_ITEM.finditer(array)
    ]


def _staged_names(columns: Sequence[str]) -> list[sql.Identifier]:
    """Names of a table's columns in staging: by place, as staging has an `ordinal`, a `revision` of its own."""
    return [sql.Identifier(f"column_{place}") for place in range(len(columns))]


def _values(shape: TableShape, columns: Sequence[str]) -> sql.Composed:
    """The staged columns as INSERT takes them: an empty field of a NOT NULL column means its default."""
    parts: list[sql.Composable] = []
    for name, place in zip(columns, _staged_names(columns), strict=True):
        column = shape.column(name)
        staged = sql.SQL("r.{}").format(place)
        if column.default is not None and not column.is_nullable:
            staged = sql.SQL("coalesce({}, {})").format(staged, sql.SQL(column.default))
        parts.append(staged)
    return sql.SQL(", ").join(parts)

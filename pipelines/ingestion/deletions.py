"""Rows that delete their record: told by the feed's mark, turned into tombstones beside the rows that load.

A tombstone is a version of its record like any other: it wins or loses by the feed's revision, else by its landing. It
needs the key (and the revision), nothing else of it is read, so that it may lack what the table requires
(docs/decisions/0011-deletions-are-versions.md). Which rows they are is decided here, what becomes of them in `writer`.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow
import pyarrow.compute as pc

from pipelines.catalog.model import Deletions, Feed, Table
from pipelines.catalog.shape import TableShape
from pipelines.ingestion.binding import Faults, FaultyColumn, RowMaker, Values, bind
from pipelines.ingestion.columns import NULL, Column, Row, Rows, hashed, joined, texts
from pipelines.ingestion.csv_records import Record
from pipelines.ingestion.errors import BadValue, UnreadableFileError, plain_name
from pipelines.ingestion.numbers import decimal_of


class MarkedRowMaker:
    """Makes rows of a file that may carry deletions. `columns` are the table columns that `Row.fields` carry."""

    def __init__(
        self,
        mark: int,
        deletions: Deletions,
        live: RowMaker | UnreadableFileError,
        gone: RowMaker | UnreadableFileError,
    ) -> None:
        """`live` and `gone` make the rows of either kind, or say why the file cannot hold rows of that kind."""
        self._mark = mark
        self._words = {_folded(word) for word in deletions.one_of}
        self._live, self._gone = live, gone
        maker = gone if isinstance(live, UnreadableFileError) else live
        assert isinstance(maker, RowMaker), "a file that can hold rows of neither kind is not bound"
        self.columns = maker.columns
        self.sources = maker.sources

    def rows(self, records: Sequence[Record], lines: Sequence[int]) -> tuple[Rows, Faults]:
        """As `RowMaker.rows`."""
        return self.rows_of_columns(list(zip(*records, strict=True)), texts(map(str, lines)))

    def rows_of_columns(self, columns: Sequence[Values], lines: Column) -> tuple[Rows, Faults]:
        """As `RowMaker.rows_of_columns`.

        Raises `UnreadableFileError` for a record that the file lacks needed columns for.
        """
        deleted = self._positions(columns[self._mark])
        if not deleted:
            return self._live_rows(columns, lines)
        kept = [position for position in range(len(lines)) if position not in deleted]
        tables, order = [], []
        faults: Faults = {}
        for positions, make in ((kept, self._live_rows), (sorted(deleted), self._tombstones)):
            if positions:
                places = pyarrow.array(positions)
                made, bad = make([_taken(column, places) for column in columns], lines.take(places))
                tables.append(made.table)
                order += positions
                faults.update((positions[i], fault) for i, fault in bad.items())
        return Rows(pyarrow.concat_tables(tables).take(pc.sort_indices(pyarrow.array(order)))), faults

    def _positions(self, values: Values) -> set[int]:
        if not isinstance(values, pyarrow.Array):
            return {i for i, value in enumerate(values) if self._is_mark(value)}
        # A column has few different marks: fold each once.
        hits = [value for value in pc.unique(values).to_pylist() if self._is_mark(value)]
        return set(pc.indices_nonzero(pc.is_in(values, value_set=texts(hits))).to_pylist()) if hits else set()

    def _is_mark(self, value: Any) -> bool:
        return value is not None and _folded(value) in self._words

    def _live_rows(self, columns: Sequence[Values], lines: Column) -> tuple[Rows, Faults]:
        if isinstance(self._live, UnreadableFileError):
            raise self._live
        return self._live.rows_of_columns(columns, lines)

    def _tombstones(self, columns: Sequence[Values], lines: Column) -> tuple[Rows, Faults]:
        """All deletions of a record with the same revision are one version: what else they say does not matter."""
        if isinstance(self._gone, UnreadableFileError):
            fault = BadValue(
                "missing_value", f"a deletion needs more: {self._gone.detail}", self._gone.remedy
            )
            empty = Row("", "", "", NULL, dict.fromkeys(self.columns), is_tombstone=True)
            return Rows.of([empty] * len(lines)), {i: FaultyColumn("", fault) for i in range(len(lines))}
        rows, faults = self._gone.rows_of_columns(columns, lines)
        return Rows.of(
            map(self._tombstone, rows, hashed(joined(["deleted", rows.table["revision"]], "\t")))
        ), faults

    def _tombstone(self, row: Row, content_hash: Any) -> Row:
        assert isinstance(self._gone, RowMaker), "it made the row"
        fields = {name: row.fields.get(name) for name in self.columns}
        return row._replace(content_hash=content_hash.as_py(), fields=fields, is_tombstone=True)


AnyRowMaker = RowMaker | MarkedRowMaker


def bind_feed(
    feed: Feed, table: Table, shape: TableShape, header: Sequence[str], *, landing_day: dt.date, file_key: str
) -> tuple[AnyRowMaker, tuple[str, ...]]:
    """As `binding.bind`, for a feed that may carry deletions too.

    A file that lacks needed columns can still hold deletions alone: whether it does is seen when its rows are.
    """

    def made(only: frozenset[str]) -> tuple[RowMaker | UnreadableFileError, tuple[str, ...]]:
        try:
            return bind(feed, table, shape, header, landing_day=landing_day, file_key=file_key, only=only)
        except UnreadableFileError as fault:
            if fault.reason != "missing_column":
                raise
            return fault, ()

    mark = _place_of_mark(feed.deletions, header)
    if feed.deletions is None or mark is None:
        return bind(feed, table, shape, header, landing_day=landing_day, file_key=file_key)
    live, unknown = made(frozenset())
    gone, unknown_of_gone = made(frozenset((*feed.key, *([feed.revision] if feed.revision else []))))
    if isinstance(live, UnreadableFileError):
        if isinstance(gone, UnreadableFileError):
            raise live
        unknown = unknown_of_gone
    return (
        MarkedRowMaker(mark, feed.deletions, live, gone),
        tuple(name for name in unknown if name != header[mark]),
    )


def _folded(mark: Any) -> str:
    """A mark as it is compared: whatever its case, and a number whatever its form, as 1.0 is what pandas makes of 1."""
    text = str(mark).strip().casefold()
    try:
        return f"{decimal_of(text).normalize():f}"
    except BadValue:
        return text


def _place_of_mark(deletions: Deletions | None, header: Sequence[str]) -> int | None:
    """Where the mark stands in a record; None for a file without it, which deletes nothing."""
    if deletions is None:
        return None
    wanted = _plain(deletions.column)
    return next((index for index, name in enumerate(header) if _plain(name) == wanted), None)


def _plain(name: str) -> str:
    return plain_name(name) or name.casefold()


def _taken(values: Values, places: Column) -> Values:
    if isinstance(values, pyarrow.Array):
        return values.take(places)
    return [values[place] for place in places.to_pylist()]

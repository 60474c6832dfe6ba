"""Records on their way to the table: gathered into batches and chunks, made ready while PostgreSQL works on others.

Between `formats` (records) and `writer` (PostgreSQL). Memory is bounded by three chunks, whatever the size of the file
or of its rows.
"""

import collections
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow

from pipelines.ingestion.binding import FaultyColumn
from pipelines.ingestion.chunk import Chunk, Quarantined
from pipelines.ingestion.columns import TEXT, Column
from pipelines.ingestion.csv_records import Block
from pipelines.ingestion.deletions import AnyRowMaker
from pipelines.ingestion.errors import BadRecord, BadValue
from pipelines.ingestion.formats import Records
from pipelines.ingestion.writer import ChunkWriter
from resources.runtime import collector_at_rest, threads_alternate

CHUNK_ROWS = 40_000  # a round trip to PostgreSQL; measured: fewer cost it more a row, more cost memory
CHUNK_BYTES = 20 << 20  # of rows as they are held; 40,000 sales of 170 bytes as they land are 16 MiB
FIRST_CHUNK_ROWS = (
    5_000  # of a file, so that PostgreSQL soon has work; each chunk may be twice the one before it
)
BATCH_ROWS = 5_000  # converted together
BATCH_CHARACTERS = 4 << 20  # of their texts; a batch of wide records ends with them
CHUNKS_AHEAD = 2  # that are read while the last one is: one is made ready, one is written


@dataclass
class Counts:
    """The account of one file: landed = loaded + duplicate + quarantined."""

    landed: int = 0
    loaded: int = 0
    duplicate: int = 0
    quarantined: int = 0


def collect(maker: AnyRowMaker, records: Records, pieces: Iterator[Any], chunk_rows: int) -> Iterator[Chunk]:
    """Turn pieces of a file into chunks, bad records set apart.

    The first one has at most `FIRST_CHUNK_ROWS` records, none more than `chunk_rows`; one of wide rows ends earlier.
    """
    collector = _Collector(maker, records, chunk_rows)
    for piece in pieces:
        if isinstance(piece, Block):
            yield from collector.take_block(piece)
        elif (chunk := collector.take_record(piece)) is not None:
            yield chunk
    if (chunk := collector.end()) is not None:
        yield chunk


class _Collector:
    """Fills one chunk after the other. Single records wait until there are enough of them to be converted together."""

    def __init__(self, maker: AnyRowMaker, records: Records, chunk_rows: int) -> None:
        self._maker, self._records, self._chunk_rows = maker, records, chunk_rows
        self._chunk, self._limit = Chunk(), min(FIRST_CHUNK_ROWS, chunk_rows)
        self._held = 0  # records of the chunk
        self._ordinal = 0
        self._batch: list[tuple[int, int, Any, Any]] = []  # ordinal, line, record, what its text is made of
        self._batch_size = 0

    def take_block(self, block: Block) -> Iterator[Chunk]:
        """Take a block in, a chunk's share at a time; yields each chunk that it fills."""
        self._convert_batch()
        start = 0
        while start < len(block):
            size = min(len(block) - start, self._limit - self._held)
            lines = _count_from(block.first_line + start, size)
            rows, faults = self._maker.rows_of_columns(
                [column.slice(start, size) for column in block.columns], lines.cast(TEXT)
            )
            first = self._ordinal + 1
            self._ordinal += size
            self._held += size
            for position, fault in sorted(faults.items()):
                self._set_apart(
                    first + position,
                    block.first_line + start + position,
                    fault,
                    block.text_of(start + position),
                )
            self._chunk.extend(_count_from(first, size), lines, rows, faults)
            start += size
            if (chunk := self._full_chunk()) is not None:
                yield chunk

    def take_record(self, record: Any) -> Chunk | None:
        """Take the record in that was just read, or what is wrong with it; returns the chunk if it is full."""
        self._ordinal += 1
        self._held += 1
        if isinstance(record, BadRecord):
            self._set_apart(self._ordinal, self._records.line, record, self._records.raw_text())
        else:
            raw = self._records.raw_lines()
            self._batch.append((self._ordinal, self._records.line, record, raw))
            self._batch_size += _size_of(raw)
        if len(self._batch) == BATCH_ROWS or self._batch_size >= BATCH_CHARACTERS:
            self._convert_batch()
        return self._full_chunk()

    def end(self) -> Chunk | None:
        """The last chunk, if there is anything in it."""
        self._convert_batch()
        return None if self._chunk.is_empty else self._chunk

    def _full_chunk(self) -> Chunk | None:
        if self._held < self._limit and self._chunk.size_bytes < CHUNK_BYTES:
            return None
        self._convert_batch()
        chunk, self._chunk, self._held = self._chunk, Chunk(), 0
        self._limit = min(2 * self._limit, self._chunk_rows)
        return chunk

    def _convert_batch(self) -> None:
        if not self._batch:
            return
        ordinals, lines, records, raw = zip(*self._batch, strict=True)
        self._batch, self._batch_size = [], 0
        rows, faults = self._maker.rows(records, lines)
        for position, fault in sorted(faults.items()):
            self._set_apart(ordinals[position], lines[position], fault, self._records.text_of(raw[position]))
        self._chunk.extend(ordinals, lines, rows, faults)

    def _set_apart(self, ordinal: int, line: int, fault: BadValue, raw_text: str) -> None:
        column = fault.column or None if isinstance(fault, FaultyColumn) else None
        self._chunk.set_apart(
            Quarantined(line, ordinal, column, fault.reason, fault.detail, fault.remedy, raw_text)
        )


def _size_of(raw: Any) -> int:
    """How long the texts are that a record's text is made of: one, several lines, or the values of a row."""
    parts = (raw,) if isinstance(raw, str | bytes) else raw
    return sum(len(part) for part in parts if isinstance(part, str | bytes))


def _count_from(first: int, size: int) -> Column:
    return pyarrow.arange(first, first + size)


def write_all(writer: ChunkWriter, chunks: Iterator[Chunk], on_rows: Callable[[int], None]) -> Counts:
    """Write chunks one after the other, each while the next is made ready and the one after it is read.

    A thread for each: Arrow and the driver leave the GIL. `on_rows` is told the rows of the file that are dealt with,
    on the caller's thread.
    """
    counts = Counts()
    pending: collections.deque[tuple[Chunk, Future[tuple[int, int]]]] = collections.deque()
    with (
        collector_at_rest(),
        threads_alternate(),
        _thread("ingest-prepare") as preparing,
        _thread("ingest-write") as writing,
    ):
        for chunk in chunks:
            ready = preparing.submit(writer.prepare, chunk)
            pending.append((chunk, writing.submit(_write, writer, ready)))
            if len(pending) == CHUNKS_AHEAD:
                _count(counts, *pending.popleft())
                on_rows(counts.landed)
        while pending:
            _count(counts, *pending.popleft())
    return counts


def _thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)


def _write(writer: ChunkWriter, ready: "Future[Chunk]") -> tuple[int, int]:
    return writer.write(ready.result())


def _count(counts: Counts, chunk: Chunk, written: "Future[tuple[int, int]]") -> None:
    loaded, refused = written.result()
    counts.loaded += loaded
    counts.duplicate += chunk.taken - loaded - refused
    counts.quarantined += len(chunk.quarantined) + refused
    counts.landed += chunk.taken + len(chunk.quarantined)

"""Records on their way to the table: gathered into batches and chunks, parsed while PostgreSQL works on the last chunk.

Between `formats` (records) and `writer` (PostgreSQL). Memory is bounded by two chunks, whatever the size of the file.
"""

import contextlib
import gc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipelines.ingestion.deletions import AnyRowMaker
from pipelines.ingestion.errors import BadRecord, BadValue
from pipelines.ingestion.formats import Records
from pipelines.ingestion.writer import Chunk, ChunkWriter, Quarantined

CHUNK_ROWS = 50_000  # a round trip to PostgreSQL
BATCH_ROWS = 5_000  # converted together


@dataclass
class Counts:
    """The account of one file: landed = loaded + duplicate + quarantined."""

    landed: int = 0
    loaded: int = 0
    duplicate: int = 0
    quarantined: int = 0


def collect(maker: AnyRowMaker, records: Records, stream: Iterator[Any], chunk_rows: int) -> Iterator[Chunk]:
    """Turn records into chunks of at most `chunk_rows` records, bad ones set apart."""
    chunk, batch = Chunk(), _Batch()
    for ordinal, record in enumerate(stream, start=1):
        if isinstance(record, BadRecord):
            chunk.quarantined.append(_quarantined(records.line, ordinal, record, None, records.raw_text()))
        else:
            batch.append(record, ordinal, records.line, records.raw_lines())
        if len(batch.records) == BATCH_ROWS or ordinal % chunk_rows == 0:
            batch.move_to(chunk, maker, records)
        if ordinal % chunk_rows == 0:
            yield chunk
            chunk = Chunk()
    batch.move_to(chunk, maker, records)
    if chunk.rows or chunk.quarantined:
        yield chunk


class _Batch:
    """Records that are converted together. Their raw lines are kept until it is known that they are good."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self._places: list[tuple[int, int]] = []
        self._raw: list[Any] = []

    def append(self, record: Any, ordinal: int, line: int, raw: Any) -> None:
        self.records.append(record)
        self._places.append((ordinal, line))
        self._raw.append(raw)

    def move_to(self, chunk: Chunk, maker: AnyRowMaker, records: Records) -> None:
        """Put the batch's rows into `chunk`, what is wrong with the others into its quarantine; and be empty."""
        if not self.records:
            return
        rows, faults = maker.rows(self.records, [line for _, line in self._places])
        for position, fault in sorted(faults.items()):
            ordinal, line = self._places[position]
            text = records.text_of(self._raw[position])
            chunk.quarantined.append(_quarantined(line, ordinal, fault, fault.column or None, text))
        if faults:
            sound = [position for position in range(len(rows)) if position not in faults]
            chunk.extend(
                [self._places[position] for position in sound], [rows[position] for position in sound]
            )
        else:
            chunk.extend(self._places, rows)
        self.__init__()  # type: ignore[misc]


def write_all(writer: ChunkWriter, chunks: Iterator[Chunk]) -> Counts:
    """Write chunks one after the other, each while the next is parsed (the driver waits without the GIL)."""
    counts = Counts()
    with _collector_at_rest(), ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingest") as worker:
        pending: tuple[Chunk, Future[tuple[int, int]]] | None = None
        for chunk in chunks:
            if pending is not None:
                _count(counts, *pending)
            pending = (chunk, worker.submit(writer.write, chunk))
        if pending is not None:
            _count(counts, *pending)
    return counts


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Rows make no cycles, but hundreds of thousands of them make the cyclic collector take half of all the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _count(counts: Counts, chunk: Chunk, written: "Future[tuple[int, int]]") -> None:
    loaded, refused = written.result()
    counts.loaded += loaded
    counts.duplicate += chunk.duplicates + len(chunk.rows) - loaded - refused
    counts.quarantined += len(chunk.quarantined) + refused
    counts.landed += len(chunk.rows) + chunk.duplicates + len(chunk.quarantined)


def _quarantined(line: int, ordinal: int, fault: BadValue, column: str | None, raw_text: str) -> Quarantined:
    return Quarantined(line, ordinal, column, fault.reason, fault.detail, fault.remedy, raw_text)

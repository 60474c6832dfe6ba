"""Chunks: few rows at first, then more, fewer where rows are wide; every record is in one of them, in order."""

import itertools

import pytest

from pipelines.ingestion import stream
from pipelines.ingestion.columns import Row, Rows
from pipelines.ingestion.formats import open_records
from pipelines.ingestion.stream import collect


class Maker:
    """Rows of one column, known by it."""

    def rows(self, records, lines):
        return Rows.of([Row(key, key, "2026-01-01", "1", {"note": note}) for key, note in records]), {}

    def rows_of_columns(self, columns, lines):
        return self.rows(list(zip(*(column.to_pylist() for column in columns), strict=True)), lines)


def chunks_of(data, name="x.csv", chunk_rows=80):
    pieces = (data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20))  # as files are read
    records = open_records(
        pieces, data, name, encoding="utf-8", delimiter=None, wanted={"key", "note"}, others=set()
    )
    return list(collect(Maker(), records, records.pieces(), chunk_rows))


def csv_of(rows, note="n", bad_every=0):
    lines = [
        f"{n},{note}" if not bad_every or n % bad_every else f"{n},{note},too many"
        for n in range(1, rows + 1)
    ]
    return "\n".join(["key,note", *lines, ""]).encode()


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(stream, "FIRST_CHUNK_ROWS", 10)


@pytest.mark.parametrize("bad_every", [0, 7])
def test_chunks_double_up_to_their_limit_and_hold_every_record_once(small, bad_every):
    chunks = chunks_of(csv_of(333, bad_every=bad_every))
    sizes = [chunk.taken + len(chunk.quarantined) for chunk in chunks]
    assert sizes == [10, 20, 40, 80, 80, 80, 23]
    ordinals = [
        sorted([*chunk.rows["ordinal"].to_pylist(), *(row.ordinal for row in chunk.quarantined)])
        for chunk in chunks
    ]
    assert list(itertools.chain(*ordinals)) == list(range(1, 334))


def test_the_first_chunk_is_no_larger_than_chunks_may_be(small):
    assert [chunk.taken for chunk in chunks_of(csv_of(12), chunk_rows=5)] == [5, 5, 2]


@pytest.mark.parametrize("bad_every", [0, 1])
@pytest.mark.parametrize("quote", ["", '"'])
def test_wide_rows_end_a_chunk_early_good_ones_and_bad_ones(monkeypatch, bad_every, quote):
    monkeypatch.setattr(stream, "CHUNK_BYTES", 100_000)
    wide = quote + "w" * 10_000 + quote
    chunks = chunks_of(csv_of(600, wide, bad_every), chunk_rows=1_000)
    assert sum(chunk.taken + len(chunk.quarantined) for chunk in chunks) == 600 and len(chunks) >= 5

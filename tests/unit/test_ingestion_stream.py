"""Chunks: few rows at first, then more, fewer where rows are wide; every record is in one of them, in order."""

import itertools
import json

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
    records = open_records(pieces, data, name, encoding="utf-8", delimiter=None, wanted=["key", "note"])
    return list(collect(Maker(), records, records.pieces(), chunk_rows))


def ordinals_of(chunk):
    """Of all its records; the good ones are in their order."""
    good = chunk.rows["ordinal"].to_pylist() if chunk.taken else []
    assert good == sorted(good)
    return sorted([*good, *(record.ordinal for record in chunk.quarantined)])


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
    assert list(itertools.chain(*map(ordinals_of, chunks))) == list(range(1, 334))


def test_the_first_chunk_is_no_larger_than_chunks_may_be(small):
    assert [chunk.taken for chunk in chunks_of(csv_of(12), chunk_rows=5)] == [5, 5, 2]


def json_of(rows, note):
    return "".join(json.dumps({"key": str(n), "note": note}) + "\n" for n in range(1, rows + 1)).encode()


WIDE = {
    "lines": csv_of(600, "w" * 10_000),
    "bad lines": csv_of(600, "w" * 10_000, bad_every=1),
    "some bad lines": csv_of(600, "w" * 10_000, bad_every=7),
    "quoted": csv_of(600, '"' + "w" * 10_000 + '"'),
    "records of two lines": csv_of(600, '"' + "w" * 5_000 + "\n" + "w" * 5_000 + '"', bad_every=7),
    "JSON": json_of(600, "w" * 10_000),
}


@pytest.mark.parametrize("data", WIDE.values(), ids=WIDE.keys())
def test_wide_rows_end_a_chunk_early_good_ones_and_bad_ones(monkeypatch, data):
    monkeypatch.setattr(stream, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(stream, "BATCH_CHARACTERS", 75_000)
    chunks = chunks_of(data, "x.jsonl" if data.startswith(b"{") else "x.csv", chunk_rows=1_000)
    assert list(itertools.chain(*map(ordinals_of, chunks))) == list(range(1, 601))
    # a block of a MiB is taken as a whole; single records end a chunk at once
    assert max(chunk.size_bytes for chunk in chunks) < 2_500_000 and len(chunks) >= 5

"""A chunk holds each content once, remembers where it stood last, and knows which keys have several versions."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingestion.chunk import Chunk
from pipelines.ingestion.columns import Row, Rows, copy_text, hashed, texts

PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=12)


def chunk_of(pairs, faults=(), part=5):
    chunk = Chunk()
    for start in range(0, len(pairs), part):
        rows = Rows.of(
            [
                Row(key, content, "2026-01-01", "1", {"text": key + content})
                for key, content in pairs[start : start + part]
            ]
        )
        ordinals = list(range(start + 1, start + 1 + len(rows)))
        here = {fault - start for fault in faults if 0 <= fault - start < len(rows)}
        chunk.extend(ordinals, [10 * ordinal for ordinal in ordinals], rows, here)
    return chunk


@settings(deadline=None)  # no test asserts a wall time
@given(PAIRS)
def test_repetitions_are_counted_and_versions_marked(pairs):
    chunk = chunk_of(pairs)
    first = {pair: pairs.index(pair) + 1 for pair in pairs}
    last = {pair: place for place, pair in enumerate(pairs, start=1)}
    wanted = [
        (place, last[pair], 10 * place, *pair, len({content for key, content in first if key == pair[0]}) > 1)
        for pair, place in first.items()
    ]
    names = ("ordinal", "last_ordinal", "line", "key_hash", "content_hash", "is_repeated")
    found = zip(*(chunk.rows[name].to_pylist() for name in names), strict=True)
    assert list(found) == wanted and chunk.duplicates == len(pairs) - len(wanted)


def test_rows_at_fault_are_left_out():
    chunk = chunk_of([("a", "x"), ("b", "x"), ("c", "x")], faults={0, 2})
    assert chunk.rows["ordinal"].to_pylist() == [2] and chunk.taken == 1
    assert chunk_of([("a", "x")], faults={0}).is_empty


def test_copy_text_has_a_line_for_each_row_and_null_as_copy_writes_it():
    assert copy_text([texts(["a", None]), "7", texts(["", "ü"])]) == "a\t7\t\n\\N\t7\tü\n".encode()


def test_a_hash_is_of_the_text_alone():
    whole = hashed(texts(["one", "", "two"])).to_pylist()
    assert whole == [hashed(texts([text])).to_pylist()[0] for text in ("one", "", "two")]
    assert whole[1] == "cae66941d9efbd404e4d88758ea67670"  # BLAKE2b-128 of nothing

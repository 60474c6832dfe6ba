"""Files of every sane dialect are taken apart; a bad record costs itself and nothing else."""

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import math
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.ingestion import csv_records, decode, lines
from pipelines.ingestion.decode import decompressed, fingerprint
from pipelines.ingestion.errors import BadRecord, UnreadableFileError
from pipelines.ingestion.formats import open_records
from pipelines.ingestion.numbers import ExactDecimal

WANTED = ("a", "b", "c")


def pieces(data, size=7):
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data, name="x.csv", encoding="utf-8", delimiter=None, size=7, names=()):
    records = open_records(
        pieces(data, size),
        data[:4096],
        name,
        encoding=encoding,
        delimiter=delimiter,
        wanted=WANTED,
        names=names,
    )
    found = []
    for record in records:
        bad = isinstance(record, BadRecord)
        found.append((records.line, (record.reason, records.raw_text()) if bad else list(record)))
    return records.header, found


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_line_ends_are_found_out(delimiter, end):
    data = end.join(delimiter.join(row) for row in (WANTED, "123", ("x y", '"q""q"', ""))).encode()
    assert read(data) == (["a", "b", "c"], [(2, ["1", "2", "3"]), (3, ["x y", 'q"q', ""])])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("before", ["", "\n \r\n", "a{0}x{0}c\n", "\ufeffA{0} x{0}c\n\n"])
def test_a_file_without_a_header_has_the_declared_names_also_where_it_has_them_after_all(before, delimiter):
    before = before.format(delimiter)
    data = f"{before}{delimiter.join('123')}\n{delimiter.join(('p q', '', 'r'))}".encode()
    line = before.count("\n") + 1
    names = ["A" if "A" in before else "a", "x", "c"]
    expected = names, [(line, ["1", "2", "3"]), (line + 1, ["p q", "", "r"])]
    assert read(data, names=("a", "x", "c")) == expected


def test_a_header_in_another_order_than_the_declared_one_is_believed():
    assert read(b"c,b,new,a\n1,2,3,4\n", names=("a", "b", "c")) == (
        ["c", "b", "new", "a"],
        [(2, ["1", "2", "3", "4"])],
    )


@pytest.mark.parametrize(
    ("first", "reason"),
    [('1,"2,3', "malformed"), ("1,\0,3", "nul_byte"), ("1,2", "column_count"), ("1,2,3,4", "column_count")],
)
def test_a_bad_first_line_of_a_file_without_a_header_costs_only_itself(first, reason):
    found = read(f"{first}\n4,5,6\n".encode(), names=("a", "b", "c"))[1]
    assert found == [(1, (reason, f"{first}\n")), (2, ["4", "5", "6"])]


def test_the_header_in_the_middle_of_files_joined_without_one_is_no_record():
    found = read(b"1,2,3\na,b,c\n4,5,6\n", names=("a", "b", "c"))[1]
    assert found == [(1, ["1", "2", "3"]), (2, ("repeated_header", "a,b,c\n")), (3, ["4", "5", "6"])]


def test_lines_that_end_in_a_lone_carriage_return_make_a_file_without_a_header_unreadable():
    with pytest.raises(UnreadableFileError, match="lone carriage return"):
        read(b"1,2,3\r4,5,6\r", names=("a", "b", "c"))


def test_an_empty_file_has_no_records_where_its_columns_are_declared():
    assert read(b"", names=("a", "b", "c")) == (["a", "b", "c"], [])


def test_a_byte_order_mark_is_not_part_of_the_first_column():
    assert read(b"\xef\xbb\xbfa,b,c\n1,2,3\n")[0] == ["a", "b", "c"]


def test_utf_16_with_a_byte_order_mark_is_read():
    assert read("a,b,c\n1,ü,3\n".encode("utf-16"))[1] == [(2, ["1", "ü", "3"])]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_knows_better_than_the_declared_encoding(encoding):
    assert read("a,b,c\n1,ü,3\n".encode(encoding), encoding="latin-1")[1] == [(2, ["1", "ü", "3"])]
    assert read('{"a": "ü"}\n'.encode(encoding), encoding="latin-1")[1] == [(1, ["ü", None, None])]


def test_a_declared_encoding_is_read():
    assert read("a,b,c\n1,ü,3\n".encode("latin-1"), encoding="latin-1")[1] == [(2, ["1", "ü", "3"])]


def test_quoted_newlines_belong_to_their_record_and_lines_are_still_counted():
    _, found = read(b'a,b,c\n1,"x\ny",3\n4,5,6\n')
    assert found == [(2, ["1", "x\ny", "3"]), (4, ["4", "5", "6"])]


def test_a_bad_line_costs_only_itself():
    data = b'a,b,c\n1,2\n\n4,5,6\n7,"8"x,9\n7,\xff,9\n7,\x00,9\n1,2,3,4\n10,11,12'
    _, found = read(data)
    assert [(line, value if isinstance(value, list) else value[0]) for line, value in found] == [
        (2, "column_count"), (4, ["4", "5", "6"]), (5, "malformed"), (6, "invalid_text"), (7, "nul_byte"),
        (8, "column_count"), (9, ["10", "11", "12"]),
    ]  # fmt: skip


def test_a_quote_that_is_never_closed_costs_one_line(monkeypatch):
    monkeypatch.setattr(csv_records, "MAX_RECORD_BYTES", 3000)
    rows = "".join(f"{n},x,y\n" for n in range(200))
    _, found = read(f'a,b,c\n1,"open,3\n{rows}'.encode())
    assert found[0] == (2, ("malformed", '1,"open,3\n'))
    assert [values[0] for _, values in found[1:]] == [str(n) for n in range(200)]
    assert found[-1][0] == 202


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quoted_field_of_many_lines_is_one_record(end):
    text = end.join(f"line {n}" for n in range(30_000))
    _, found = read(f'a,b,c{end}1,"{text}",3{end}4,5,6{end}'.encode(), size=1 << 16)
    assert found == [(2, ["1", text, "3"]), (30_002, ["4", "5", "6"])]


def test_a_quote_that_is_not_closed_before_the_limit_of_a_field_costs_one_line():
    data = b'a,b,c\n1,"open,3\n' + b"x,y,z" * 500 + b"\n" + b"x,y,z\n" * 3000
    records = open_records(pieces(data, 1000), data, "x.csv", encoding="utf-8", delimiter=None, wanted=WANTED)
    limit = csv.field_size_limit(4000)
    try:
        first, wide, *others = records
    finally:
        csv.field_size_limit(limit)
    assert first.reason == "malformed" and "not closed within 16777216 characters" in first.detail
    assert wide.reason == "column_count" and others == [["x", "y", "z"]] * 3000


def test_a_line_past_the_limit_is_put_aside_with_bounded_memory(monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(lines, "RAW_TEXT_LIMIT", 500)
    data = b"a,b,c\n" + b'1,"' + b"z" * 100_000 + b"\n4,5,6\n"
    _, found = read(data, size=100)
    assert [value if isinstance(value, list) else value[0] for _, value in found] == [
        "too_long",
        ["4", "5", "6"],
    ]


def test_json_lines_keep_decimals_and_report_unknown_names():
    data = b'{"a": 1.50, "c": null}\n[1]\n{"a": NaN}\n\n{"b": {"k": [1]}, "z": 1}\n'
    records = open_records(pieces(data), data, "x", encoding="utf-8", delimiter=None, wanted=WANTED)
    found = list(records)
    assert [str(found[0][0]), found[0][1:]] == ["1.50", [None, None]]
    assert [found[1].reason, found[2].reason] == ["malformed", "malformed"]
    assert found[3] == [None, {"k": [1]}, None] and records.unknown == {"z"}


def parquet_of(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_parquet_rows_come_typed_and_keep_their_values_as_text():
    data = parquet_of(a=[1, 2], b=["x", "nul\x00"], c=[b"\x1f", None], d=[float("nan"), 0.5])
    records = open_records(pieces(data), data, "x.bin", encoding="utf-8", delimiter=None, wanted=WANTED)
    assert records.header == ["a", "b", "c", "d"] and next(iter(records))[:3] == (1, "x", b"\x1f")
    assert json.loads(records.raw_text()) == {"a": 1, "b": "x", "c": "\\x1f", "d": "NaN"}
    assert json.loads(records.text_of((2, "nul\x00", None, 0.5)))["b"] == "nul\x00", "a replay finds it again"


def test_what_is_nested_in_parquet_has_the_digits_and_times_that_whole_columns_have():
    single, nano = pa.float32(), pa.timestamp("ns", "UTC")
    data = parquet_of(
        items=pa.array([[0.1, None, 123456792.0, float("nan")]], pa.list_(single)),
        fields=pa.array([{"x": 1.1, "at": 1_001}], pa.struct([("x", single), ("at", nano)])),
        entries=pa.array([[("k", -0.3)]], pa.map_(pa.string(), single)),
        of_day=pa.array([1_001], pa.time64("ns")),
        lasts=pa.array([86_400_000_000_001], pa.duration("ns")),
    )
    ((_, (items, fields, entries, of_day, lasts)),) = read(data, "x.parquet")[1]
    assert items[:3] == [Decimal("0.1"), None, 123456792] and math.isnan(items[3])
    assert fields == {"x": Decimal("1.1"), "at": dt.datetime(1970, 1, 1, microsecond=1, tzinfo=dt.UTC)}
    assert entries == {"k": Decimal("-0.3")}
    assert (of_day, lasts) == (dt.time(0, 0, 0, 1), dt.timedelta(days=1))


def test_what_is_no_number_in_single_precision_is_named_as_postgresql_names_it():
    data = parquet_of(a=pa.array([float("nan"), float("inf"), float("-inf")], pa.float32()))
    assert [values for _, values in read(data, "x.parquet")[1]] == [["NaN"], ["Infinity"], ["-Infinity"]]


def test_decimals_of_parquet_are_exact_to_their_last_digit():
    kind, number = pa.decimal128(17, 15), Decimal("19.990000000000002")
    data = parquet_of(a=pa.array([number], kind), b=pa.array([[number]], pa.list_(kind)), c=[Decimal("1.5")])
    ((_, (whole, items, short)),) = read(data, "x.parquet")[1]
    assert [type(whole), type(items[0]), type(short)] == [ExactDecimal, ExactDecimal, Decimal]


@pytest.mark.parametrize("name", ["x.parquet"])
def test_a_file_that_is_no_parquet_is_unreadable(name):
    with pytest.raises(UnreadableFileError, match="not a Parquet"):
        read(b"a,b,c\n", name)


def test_a_parquet_cut_short_is_unreadable():
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(1000))}), buffer)
    with pytest.raises(UnreadableFileError):
        read(buffer.getvalue()[:-100], "x.parquet")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"a,b,c", b"a,b,c\n", b"a,b,c\r\n\r\n"])
def test_an_empty_file_and_one_with_only_a_header_have_no_records(data):
    assert read(data)[1] == []


COMPRESS = {"gzip": gzip.compress, "bzip2": bz2.compress, "zstd": decode.zstd.compress, "plain": bytes}


@pytest.mark.parametrize("kind", COMPRESS)
def test_compression_is_told_by_content_and_changes_no_identity(kind):
    data = b"hello\n" * 10_000
    assert fingerprint(decompressed(pieces(COMPRESS[kind](data), 1000))).sha256 == fingerprint([data]).sha256


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "zstd"])
def test_members_joined_end_to_end_are_all_read(kind):
    data = COMPRESS[kind](b"one\n") + COMPRESS[kind](b"two\n")
    assert b"".join(decompressed(pieces(data))) == b"one\ntwo\n"


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "zstd"])
@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_compressed_file_cut_short_is_told_as_truncated(kind, cut):
    data = COMPRESS[kind](bytes(range(256)) * 400)
    with pytest.raises(UnreadableFileError) as caught:
        list(decompressed(pieces(data[:-cut])))
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_flipped_byte_in_a_compressed_file_makes_it_unreadable(kind):
    data = bytearray(COMPRESS[kind](b"0123456789" * 5000 + bytes(range(256)) * 10))
    data[-6] ^= 0xFF
    if kind == "zstd":
        data = bytearray(
            decode.zstd.compress(b"x" * 100, options={decode.zstd.CompressionParameter.checksum_flag: 1})
        )
        data[-1] ^= 0xFF
    with pytest.raises(UnreadableFileError):
        list(decompressed(pieces(bytes(data))))


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=3, max_size=3))
)
def test_what_csv_writes_is_read_back_whatever_it_holds(rows):
    import csv

    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(WANTED)
    writer.writerows(rows)
    assert [value for _, value in read(text.getvalue().encode(), size=3)[1]] == rows


@given(st.binary(), st.sampled_from([(), WANTED]))
def test_any_bytes_are_read_or_refused_never_crash(data, names):
    try:
        read(data, names=names)
        read(data, "x.jsonl", names=names)
    except UnreadableFileError as fault:
        assert fault.remedy


FIELDS = st.sampled_from(
    ["", "x", " ", "1.5", '"q"', '"a,b"', '"a""b"', 'a"b', '"two\nlines"', '"open', "ü", "\r", "N"]
)
TEXTS = st.lists(
    st.tuples(
        st.lists(FIELDS, max_size=4).map(",".join)
        | st.sampled_from(["a,b,c", "a,b,x", "\ufeffa,b,c", '"a",b,c']),
        st.sampled_from(["\n", "\n", "\r\n"]),
    ),
    max_size=12,
).map(lambda lines: "a,b,c\n" + "".join(line + end for line, end in lines))


@settings(deadline=None)  # no test asserts a wall time
@given(TEXTS, st.sampled_from([11, 40, 1 << 20]), st.booleans())
def test_a_block_taken_apart_at_once_gives_the_records_that_one_by_one_gives(text, size, is_cut):
    data = text.removesuffix("\n").encode() if is_cut else text.encode()
    records = open_records(pieces(data, size), data, "x.csv", encoding="utf-8", delimiter=",", wanted=WANTED)
    found = []
    for piece in records.pieces():
        if isinstance(piece, csv_records.Block):
            rows = zip(*(column.to_pylist() for column in piece.columns), strict=True)
            found += [(piece.first_line + n, list(row), piece.text_of(n)) for n, row in enumerate(rows)]
        else:
            what = piece.reason if isinstance(piece, BadRecord) else list(piece)
            found.append((records.line, what, records.raw_text()))
    again = open_records(pieces(data, size), data, "x.csv", encoding="utf-8", delimiter=",", wanted=WANTED)
    assert found == [
        (again.line, one.reason if isinstance(one, BadRecord) else list(one), again.raw_text())
        for one in again
    ]


@given(TEXTS, st.sampled_from([11, 40, 1 << 20]))
def test_a_file_without_a_header_gives_the_records_that_it_gives_with_one(text, size):
    """Unless its first line is a header: that is one then, and the header again with another before it."""
    rest = text.removeprefix("a,b,c\n")
    first = next((line for line in rest.split("\n") if line.strip()), "")
    assume(len({"a", "b", "c"} & {cell.strip('\r"\ufeff ') for cell in first.split(",")}) < 2)
    try:
        headed = read(text.encode(), size=size, delimiter=",")
    except UnreadableFileError:
        return
    assert read(rest.encode(), size=size, delimiter=",", names=WANTED) == (
        headed[0],
        [(line - 1, record) for line, record in headed[1]],
    )


def test_regular_lines_are_taken_apart_as_one_block():
    data = b"a,b,c\n" + b'1,2,3\n4,"5",6\n' * 50
    records = open_records(pieces(data, 200), data, "x.csv", encoding="utf-8", delimiter=None, wanted=WANTED)
    found = list(records.pieces())
    assert all(isinstance(piece, csv_records.Block) for piece in found) and sum(map(len, found)) == 100


@pytest.mark.parametrize("again", ["a, b ,c", "a,b,c", "\ufeffa,b,c", '"a","b","c"'])
@pytest.mark.parametrize("around", ["", '"open'], ids=["regular block", "record by record"])
def test_the_header_again_is_no_record_and_a_line_like_it_is_one(again, around):
    lines = ["1,2,3", "a,b,4", again, "a,,", around, "5,6,7"]
    found = read("\n".join(["a, b ,c", *filter(None, lines), ""]).encode(), size=1 << 20)[1]
    rows = [value for _, value in found if isinstance(value, list)]
    assert rows == [["1", "2", "3"], ["a", "b", "4"], ["a", "", ""], ["5", "6", "7"]]
    faults = [(line, value) for line, value in found if not isinstance(value, list)]
    assert faults[0] == (4, ("repeated_header", again + "\n")) and len(faults) == 1 + bool(around)


def test_a_column_of_values_like_its_name_leaves_its_block_regular():
    data = b"a,b,c\n" + b"a,b,3\n" * 50
    records = open_records(pieces(data, 200), data, "x.csv", encoding="utf-8", delimiter=None, wanted=WANTED)
    assert all(isinstance(piece, csv_records.Block) for piece in records.pieces())


def test_numbers_of_single_precision_keep_their_digits_and_large_ones_every_digit():
    numbers = [1.1, -0.3, 16777216.0, 123456792.0, 2147483520.0, -2147483520.0, 3.4e38, None]
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array(numbers, pa.float32())}), sink)
    found = [values[0] for _, values in read(sink.getvalue(), "x.parquet")[1]]
    assert found[:6] == ["1.1", "-0.3", "16777216", "123456792", "2147483520", "-2147483520"]
    assert float(found[6]) == 3.4e38 and found[7] is None

"""Landed values become canonical text or a reason why not: strict where PostgreSQL is lenient."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.types import SUPPORTED_TYPES, parse_type
from pipelines.ingestion.bulk import bulk_converter
from pipelines.ingestion.columns import texts
from pipelines.ingestion.errors import BadValue
from pipelines.ingestion.numbers import ExactDecimal, Notation
from pipelines.ingestion.times import ColumnFormat
from pipelines.ingestion.values import converter


def convert(type_name, value, **column):
    return converter(type_name, ColumnFormat(**column))(value)


def reason(type_name, value, **column):
    with pytest.raises(BadValue) as caught:
        convert(type_name, value, **column)
    assert caught.value.detail and caught.value.remedy
    return caught.value.reason


@pytest.mark.parametrize(
    ("landed", "kept"),
    [
        ("12.50", "12.50"),
        ("12.5", "12.50"),
        ("12", "12.00"),
        ("007.5", "7.50"),
        (".5", "0.50"),
        ("+3.", "3.00"),
        (" 4.10 ", "4.10"),
        ("1e3", "1000.00"),
        ("-0.00", "0.00"),
        (12, "12.00"),
        (12.5, "12.50"),
        (Decimal("12.500"), "12.50"),
        ("19.990000000000002", "19.99"),
        (0.1 + 0.2, "0.30"),
        (Decimal("19.990000000000002"), "19.99"),  # as JSON has it
        (ExactDecimal("19.990000000000000"), "19.99"),
        ("99.99999999999999", "100.00"),
        (0.1 + 0.2 - 0.3, "0.00"),
        ("1234567890.12", "1234567890.12"),
    ],
)
def test_equal_prices_get_equal_text_however_they_were_written(landed, kept):
    assert convert("numeric(12,2)", landed) == kept


@pytest.mark.parametrize(
    ("landed", "why"),
    [
        ("$1,234.50", "not_a_number"),
        ("1.234,50", "not_a_number"),
        ("NaN", "not_a_number"),
        ("Infinity", "not_a_number"),
        ("-inf", "not_a_number"),
        (float("nan"), "not_a_number"),
        ("1e308", "out_of_range"),
        ("1e400", "out_of_range"),
        ("1e99999", "out_of_range"),
        ("1e-308", "too_many_decimals"),
        ("1_000", "not_a_number"),
        ("tomorrow", "not_a_number"),
        ("١٢", "not_a_number"),
        ("12345678901", "out_of_range"),
        ("9999999999.999", "out_of_range"),
        ("19.999", "too_many_decimals"),
        ("123456789.994", "too_many_decimals"),  # what a tolerance by size would round
        ("0.0000000004", "too_many_decimals"),
        ("1.00000000000000001", "too_many_decimals"),  # more digits than a double has
        (Decimal("1234567890.12345"), "too_many_decimals"),
        (ExactDecimal("19.990000000000002"), "too_many_decimals"),  # of a format that keeps decimals
        (True, "not_a_number"),
        ([1], "not_a_number"),
    ],
)
def test_a_price_that_is_no_plain_number_is_refused(landed, why):
    assert reason("numeric(12,2)", landed) == why


@pytest.mark.parametrize(
    ("landed", "kept"),
    [
        ("2026-10-30T12:00:00Z", "2026-10-30T12:00:00+00:00"),
        ("2026-10-30 12:00:00+02:00", "2026-10-30T10:00:00+00:00"),
        ("2026-10-30", "2026-10-30T00:00:00+00:00"),
        (dt.datetime(2026, 10, 30, 12), "2026-10-30T12:00:00+00:00"),
    ],
)
def test_times_are_kept_in_utc(landed, kept):
    assert convert("timestamp with time zone", landed) == kept


def test_a_naive_time_is_in_the_feeds_zone_and_an_ambiguous_one_is_the_earlier():
    zone = {"time_zone": "Europe/Berlin"}
    assert convert("timestamp with time zone", "2026-07-01T12:00:00", **zone) == "2026-07-01T10:00:00+00:00"
    assert convert("timestamp with time zone", "2026-10-25T02:30:00", **zone) == "2026-10-25T00:30:00+00:00"


def test_a_time_that_the_clocks_skipped_is_refused():
    assert (
        reason("timestamp with time zone", "2026-03-29T02:30:00", time_zone="Europe/Berlin") == "not_a_time"
    )


@pytest.mark.parametrize(
    "landed", ["tomorrow", "now", "2026-02-30T00:00:00", "30.10.2026", "20261030", "2026-W01-1", ""]
)
def test_a_time_that_is_none_is_refused(landed):
    assert reason("timestamp with time zone", landed) == "not_a_time"


@pytest.mark.parametrize("landed", ["2026-02-30", "tomorrow", "2026-10-30T12:00:00", 20261030, "0000-01-01"])
def test_a_date_that_is_none_is_refused(landed):
    assert reason("date", landed) == "not_a_date"


def test_declared_formats_are_read():
    assert convert("date", "10/30/2026", format="%m/%d/%Y") == "2026-10-30"
    assert (
        convert("timestamp with time zone", "1761825600", format="epoch_seconds")
        == "2025-10-30T12:00:00+00:00"
    )
    for unit, landed in {
        "milli": 1761825600250,
        "micro": "1761825600250000",
        "nano": "1761825600250000999",
    }.items():
        kept = convert("timestamp with time zone", landed, format=f"epoch_{unit}seconds")
        assert kept == "2025-10-30T12:00:00.250000+00:00"
    with pytest.raises(
        BadValue, match="as `epoch_milliseconds` says, or change the column's entry under `formats`"
    ):
        convert("date", "2026-10-30", format="epoch_milliseconds")
    assert reason("date", "30/10/2026", format="%m/%d/%Y") == "not_a_date"
    hours = {"format": "%I:%M %p"}
    assert convert("time without time zone", "08:15 pm", **hours) == "20:15:00"
    assert convert("time without time zone", dt.time(20, 15), **hours) == "20:15:00"  # as Parquet has it
    assert reason("time without time zone", "20:15", **hours) == "not_a_time"


@pytest.mark.parametrize(
    ("type_name", "landed", "why"),
    [
        ("integer", "3000000000", "out_of_range"),
        ("integer", "1" * 30, "out_of_range"),
        ("bigint", Decimal("1e30"), "out_of_range"),
        ("smallint", 1e30, "out_of_range"),
        ("integer", "1.5", "not_a_number"),
        ("boolean", "maybe", "wrong_type"),
        ("uuid", "12", "wrong_type"),
        ("jsonb", "{", "wrong_type"),
        ("jsonb", '{"a": NaN}', "wrong_type"),
        ("jsonb", '{"a": 1, "b": {"c": 1, "c": 2}}', "wrong_type"),
        ("jsonb", '"\\u0000"', "nul_byte"),
        ("character varying(3)", "abcd", "too_long"),
        ("jsonb", '{"a\\u0000": 1}', "nul_byte"),
        ("jsonb", '"\\ud800"', "invalid_text"),
        ("text", "a\0b", "nul_byte"),
        ("character varying(9)", "a\0b", "nul_byte"),
        ("text[]", ["a\0b"], "nul_byte"),
        ("double precision", "1e999", "out_of_range"),
        ("double precision", "1e-999", "out_of_range"),
        ("real", "3.5e38", "out_of_range"),
        ("real", "-1e39", "out_of_range"),
        ("real", "1e-46", "out_of_range"),
        ("real[]", [1, 1e39], "out_of_range"),
        ("text", {"a": 1}, "wrong_type"),
        ("text[]", "a", "wrong_type"),
        ("text[]", ["a", ["b"]], "wrong_type"),
        ("integer[]", "[1, 2.5]", "not_a_number"),
        ("numeric(5,2)[]", ["1", "x"], "not_a_number"),
        ("inet", "300.1.1.1", "wrong_type"),
        ("inet", "fe80::1%eth0", "wrong_type"),
        ("bytea", "1f8b", "wrong_type"),
        ("bytea", "\\x1f8", "wrong_type"),
        ("time without time zone", "24:30", "not_a_time"),
        ("time without time zone", "08:15+02:00", "not_a_time"),
    ],
)
def test_each_type_names_what_it_refuses(type_name, landed, why):
    assert reason(type_name, landed) == why


@pytest.mark.parametrize(
    ("type_name", "landed", "kept"),
    [
        ("inet", "10.0.0.1/8", "10.0.0.1/8"),
        ("inet", "10.0.0.1/32", "10.0.0.1"),
        ("inet", "2001:DB8:0::1", "2001:db8::1"),
        ("bytea", b"\x1f\x8b", r"\\x1f8b"),
        ("bytea", r"\x1F8B", r"\\x1f8b"),
        ("bytea", "0x", r"\\x"),
        ("time without time zone", "08:15", "08:15:00"),
        ("time without time zone", dt.time(8, 15, 0, 500), "08:15:00.000500"),
        ("integer[]", "[1, 2.0, null]", '{"1","2",NULL}'),
        ("integer[]", [], "{}"),
        ("numeric(5,2)[]", ["1", Decimal("2.5")], '{"1.00","2.50"}'),
        ("boolean[]", [True, "no"], '{"t","f"}'),
    ],
)
def test_each_type_has_one_spelling_of_a_value(type_name, landed, kept):
    assert convert(type_name, landed) == kept


@pytest.mark.parametrize(
    ("type_name", "landed", "bounds"),
    [
        ("numeric(12,2)", "1e308", "from -9999999999.99 to 9999999999.99"),
        ("numeric(5,0)", 100000, "from -99999 to 99999"),
        ("numeric", "1e308", "from 1e-130 to 1e130"),
        ("smallint", "32768", "from -32768 to 32767"),
        ("integer", "1" * 30, "from -2147483648 to 2147483647"),
        ("bigint", Decimal("1e30"), "from -9223372036854775808 to 9223372036854775807"),
        ("real", "1e39", "from -3.40282e+38 to 3.40282e+38"),
        ("double precision", "1e309", "from -1.79769e+308 to 1.79769e+308"),
    ],
)
def test_what_is_out_of_range_is_told_with_the_bounds_of_its_type(type_name, landed, bounds):
    with pytest.raises(BadValue, match="out_of_range") as caught:
        convert(type_name, landed)
    told = f"{caught.value.detail}; {caught.value.remedy}"
    assert bounds in told and type_name.partition("(")[0] in told


@pytest.mark.parametrize(
    ("type_name", "landed", "kept"),
    [
        ("integer", "0" * 40 + "7.0", "7"),
        ("numeric(300,2)", "9" * 250, "9" * 250 + ".00"),
        ("double precision", "1.7e308", "1.7e+308"),
        ("double precision", "5e-324", "5e-324"),
        ("real", "3.4028235e38", "3.4028235e+38"),
        ("jsonb", r'"\\u0000"', r'"\\\\u0000"'),  # a backslash and four digits, no NUL byte
    ],
)
def test_what_a_type_holds_at_its_ends_is_kept(type_name, landed, kept):
    assert convert(type_name, landed) == kept


@pytest.mark.parametrize("declared", SUPPORTED_TYPES)
@pytest.mark.parametrize("suffix", ["", "[]"])
def test_a_feed_can_load_every_type_that_a_table_can_have(declared, suffix):
    declared = declared.replace("(n)", "(9)").replace("(p,s)", "(9,2)")
    assert converter(parse_type(declared + suffix).name, ColumnFormat()) is not None


@pytest.mark.parametrize(
    ("type_name", "landed", "why", "words"),
    [
        ("text", b"\x1f\x8b", "wrong_type", r"the bytes \x1f8b is not a text; write it as a string in UTF-8"),
        (
            "text",
            dt.timedelta(days=1),
            "wrong_type",
            "the duration 1 day, 0:00:00 is not a text; write it as",
        ),
        (
            "integer",
            dt.timedelta(days=1),
            "not_a_number",
            "the duration 1 day, 0:00:00 is not a whole number",
        ),
        ("numeric(12,2)", b"12", "not_a_number", r"the bytes \x3132 is not a plain number"),
        ("jsonb", {"a": b"x"}, "wrong_type", "JSON has no bytes"),
        ("jsonb", dt.timedelta(days=1), "wrong_type", "JSON has no durations"),
        ("date", b"x" * 40, "not_a_date", r"the bytes \x78"),
    ],
)
def test_a_value_that_only_parquet_has_is_named_for_what_it_is(type_name, landed, why, words):
    with pytest.raises(BadValue, match=why) as caught:
        convert(type_name, landed)
    assert words in f"{caught.value.detail}; {caught.value.remedy}"


@pytest.mark.parametrize(
    ("landed", "kept"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (dt.time(8, 15), "08:15:00"),
        (0.5, "0.5"),
    ],
)
def test_a_value_of_parquet_is_in_a_text_what_postgresql_would_write(landed, kept):
    assert convert("text", landed) == kept


@pytest.mark.parametrize(
    ("notation", "landed", "kept"),
    [
        ((",", None), "1234,5", "1234.50"),
        ((",", None), "-,5", "-0.50"),
        ((",", None), "+3,", "3.00"),
        ((",", None), " 4 ", "4.00"),
        ((",", None), "1,5e2", "150.00"),
        ((",", None), Decimal("4.10"), "4.10"),
        ((",", None), 12.5, "12.50"),
        ((",", "."), "1.234.567,89", "1234567.89"),
        ((",", "."), "1234567,89", "1234567.89"),
        ((",", "."), "-1.234", "-1234.00"),
        ((".", ","), "1,234.50", "1234.50"),
        ((".", ","), "1234.50", "1234.50"),
        ((".", " "), "1\u00a0234\u202f567", "1234567.00"),
        ((".", "'"), "1’234.50", "1234.50"),
    ],
)
def test_numbers_are_read_as_the_feed_says_that_it_writes_them(notation, landed, kept):
    assert convert("numeric(12,2)", landed, notation=Notation(*notation)) == kept


@pytest.mark.parametrize(
    ("notation", "landed"),
    [
        ((",", None), "1.5"),
        ((",", None), "1.234,50"),
        ((",", "."), "1.5"),
        ((",", "."), "1.23.456"),
        ((",", "."), "1234.567"),
        ((",", "."), ".123"),
        ((",", "."), "1,234.5"),
        ((",", "."), ","),
        ((",", "."), "-"),
        ((",", "."), "e5"),
        ((",", "."), "1e400000"),
        ((".", ","), "1,5"),
        ((".", ","), "1,,234"),
        ((".", None), "1_000"),
        ((",", None), "NaN"),
    ],
)
@pytest.mark.parametrize("type_name", ["numeric(12,2)", "numeric", "integer", "double precision", "real"])
def test_a_number_that_is_written_otherwise_than_the_feed_says_is_refused(type_name, notation, landed):
    assert reason(type_name, landed, notation=Notation(*notation)) == "not_a_number"


@pytest.mark.parametrize(
    ("landed", "remedy"),
    [
        ("N/A", "list 'N/A' under `null_values` of the feed"),
        ("\\N", "under `null_values`"),
        ("1.234,50", "declare `decimal` and `thousands` of the feed"),
        ("12 apples", "write digits"),
    ],
)
@pytest.mark.parametrize("type_name", ["numeric(12,2)", "integer", "real"])
def test_a_text_that_is_no_number_comes_with_what_the_feed_could_say_of_it(type_name, landed, remedy):
    with pytest.raises(BadValue) as caught:
        convert(type_name, landed)
    assert remedy in caught.value.remedy


def test_a_nested_value_is_shown_as_the_feed_wrote_it():
    with pytest.raises(BadValue, match=r'\{"a": null\} is not a plain number'):
        convert("numeric(12,2)", {"a": None})


def test_whole_numbers_doubles_and_lists_follow_the_feeds_notation_too():
    german = Notation(",", ".")
    assert convert("bigint", "1.234.567", notation=german) == "1234567"
    assert convert("integer", "42,0", notation=german) == "42"
    assert convert("double precision", "1.000,25", notation=german) == "1000.25"
    assert convert("numeric(12,2)[]", '["1,5", 2.5]', notation=german) == '{"1.50","2.50"}'
    assert bulk_converter("numeric(12,2)", ColumnFormat(notation=german)) is None


def test_labels_of_an_enum_are_the_only_ones_taken():
    label = converter("mood", ColumnFormat(), ("sad", "ok"))
    assert label("ok") == "ok"
    with pytest.raises(BadValue, match="not_in_list"):
        label("happy")


def test_an_unsupported_type_has_no_converter():
    assert converter("point", ColumnFormat()) is None


@given(
    st.text(),
    st.sampled_from(
        [
            "numeric(12,2)",
            "numeric",
            "integer",
            "date",
            "timestamp with time zone",
            "jsonb",
            "boolean",
            "uuid",
            "double precision",
            "text[]",
            "character varying(9)",
            "inet",
            "bytea",
            "time without time zone",
            "numeric(5,2)[]",
        ]
    ),
)
def test_any_text_is_either_converted_or_refused_with_a_reason(text, type_name):
    try:
        kept = convert(type_name, text)
    except BadValue as fault:
        assert fault.reason and fault.remedy
    else:
        assert "\t" not in kept and "\n" not in kept


@given(st.decimals(min_value=-9999999999, max_value=9999999999, places=2, allow_nan=False))
def test_every_decimal_survives_unchanged(number):
    assert Decimal(convert("numeric(12,2)", str(number))) == number
    assert convert("numeric(12,2)", str(number)) == convert("numeric(12,2)", number)


COLUMN_TEXTS = st.one_of(
    st.text(max_size=8),
    st.from_regex(r"\A(0|[1-9][0-9]{0,4})\.[0-9]{2}\Z"),
    st.from_regex(r"\A20[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](Z|\+00:00|)\Z"),
    st.from_regex(r"\A20[0-9]{2}-[01][0-9]-[0-3][0-9]\Z"),
    st.from_regex(r"\A[0-9]{4}[-:][0-9]{2}-[0-9é]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9/:]{2}[Zz]\Z"),
)


@given(
    st.lists(COLUMN_TEXTS.filter(bool), min_size=1, max_size=6),
    st.sampled_from(["numeric(12,2)", "numeric(5,0)", "text", "timestamp with time zone"]),
)
def test_a_column_converted_at_once_is_the_same_as_value_by_value(values, type_name):
    one = converter(type_name, ColumnFormat())
    bulk = bulk_converter(type_name, ColumnFormat())
    for text, found in zip(values, bulk(texts(values)).to_pylist(), strict=True):
        assert found is None or found == one(text)


def test_a_nul_byte_is_left_to_the_closer_look_when_a_column_is_converted_at_once():
    assert bulk_converter("text", ColumnFormat())(texts(["a", "b\0", "\0"])).to_pylist() == ["a", None, None]

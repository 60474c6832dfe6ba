"""PostgreSQL reads from binary records what it reads from the text of the same values."""

from decimal import Decimal

import psycopg
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from pipelines.ingestion import binary
from pipelines.ingestion.columns import copy_text, texts
from pipelines.ingestion.times import ColumnFormat
from pipelines.ingestion.values import converter, escape, unescape

MOMENTS = [
    "2026-10-31T23:59:59Z",
    "1900-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "2024-02-29T12:00:00.5Z",
]
LANDED = {
    "text": ["", "plain", "tab\tback\\slash\nline", "\\N", "ünïcode 😀", "a" * 300],
    "character varying(5)": ["", "abc", "ü\\"],
    "character(4)": ["ab", "abcd"],
    "json": ['{"b": 1, "a": "x\\ty"}'],
    "jsonb": ['{"b": 1, "a": "x\\\\y"}', "[]", '"\\""'],
    "boolean": ["true", "no", "1"],
    "smallint": ["-32768", "0", "32767"],
    "integer": ["-2147483648", "7", "2147483647"],
    "bigint": ["-9223372036854775808", "0", "9223372036854775807"],
    "numeric(12,2)": ["0", "0.01", "-0.5", "9999999999.99", "-12345.60", "10000"],
    "numeric(20,8)": ["0.00000001", "-1234567.5", "10000.0001"],
    "numeric(5,0)": ["0", "-99999"],
    "numeric": ["0", "12.5", "-0.00012", "100000000", "3", "0.5000"],
    "double precision": ["0", "1e-120", "-1.7976931348623157e308", "5e-324", "0.1"],
    "real": ["0.1", "-3.5", "16777217", "3.4028235e38", "-1e-45"],
    "date": ["2026-10-31", "1900-01-01", "9999-12-31"],
    "timestamp with time zone": MOMENTS,
    "timestamp without time zone": MOMENTS,
    "uuid": ["6f1c2d3e-0000-4000-8000-00000000000a", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"],
}  # fmt: skip


def canonical(type_name, values):
    convert = converter(type_name, ColumnFormat(None, "UTC"))
    return [None if value is None else convert(value) for value in values]


def assert_read_alike(connection, type_name, fields, labels=None):
    encode = binary.encoder(type_name, labels)
    assert encode is not None, f"{type_name} goes as text"
    column = texts(fields)
    lines = binary.records(
        [encode(column), binary.integers(">i8", pyarrow.arange(0, len(column)))], len(column)
    )
    connection.execute("DROP TABLE IF EXISTS sent, written")
    for table in ("sent", "written"):
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} (value {}, place bigint)").format(
                sql.Identifier(table), sql.SQL(type_name)
            )
        )
    with connection.cursor().copy("COPY sent FROM STDIN (FORMAT binary)") as copy:
        copy.write(binary.message(lines))
    with connection.cursor().copy("COPY written FROM STDIN") as copy:
        copy.write(copy_text([column, pyarrow.arange(0, len(column))]))
    both = connection.execute(
        "SELECT s.value::text, w.value::text FROM sent s JOIN written w USING (place) ORDER BY place"
    ).fetchall()
    assert len(both) == len(fields)
    assert [sent for sent, _ in both] == [written for _, written in both]


@pytest.fixture(scope="module")
def connection(postgres_admin_url):
    with psycopg.connect(postgres_admin_url, autocommit=True) as opened:
        opened.execute("SET timezone = 'UTC'")
        yield opened


@pytest.mark.parametrize("type_name", LANDED)
def test_a_value_is_the_same_in_binary_and_as_text(connection, type_name):
    fields = canonical(type_name, LANDED[type_name])
    assert_read_alike(connection, type_name, fields)
    assert_read_alike(connection, type_name, [None, *fields, None])
    assert_read_alike(connection, type_name, [None, None])


def test_a_label_is_the_same_in_binary_and_as_text(connection):
    connection.execute(
        "DROP TYPE IF EXISTS pg_temp.mood; CREATE TYPE pg_temp.mood AS ENUM ('glad', 'back\\slash')"
    )
    assert_read_alike(
        connection, "pg_temp.mood", ["glad", escape("back\\slash"), None], ("glad", "back\\slash")
    )


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, min_value=1 - 10**9, max_value=10**9 - 1, places=6)
    )
)
def test_any_numbers_are_the_same_in_binary_and_as_text(connection, numbers):
    for type_name in ("numeric", "numeric(15,6)"):
        assert_read_alike(connection, type_name, canonical(type_name, [*numbers, Decimal(0)]))


@given(st.text(st.sampled_from("\\tnr\t\n\rx")))
def test_unescape_takes_back_what_escape_did(text):
    assert unescape(escape(text)) == text


@pytest.mark.parametrize(
    ("type_name", "value"),
    [("numeric", "1" * 30), ("numeric(12,2)", "1.234"), ("date", "10/31/2026")],
)  # fmt: skip
def test_a_value_without_an_encoding_is_told_and_left_to_the_text(type_name, value):
    with pytest.raises(pyarrow.ArrowInvalid):
        binary.encoder(type_name)(texts([value]))


def test_a_type_without_an_encoding_has_none():
    assert binary.encoder("text[]") is None and binary.encoder("interval") is None

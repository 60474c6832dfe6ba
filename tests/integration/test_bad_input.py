"""What the world sends: every fault ends in quarantine with its place, reason and remedy, and everything else loads.

One row of `CASES` is one landed file between two good ones, on a landing day of its own; a system, `bazaar`, and a
database serve them all. `@` in a content stands for the case's own shop, so that no case meets another's records.
"""

import bz2
import datetime as dt
import gzip
import io
import itertools
import lzma
import re
import zipfile
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ingestion import Loader, reconcile
from pipelines.ingestion.decode import zstd
from pipelines.ingestion.errors import REASONS
from pipelines.ingestion.quarantine import list_quarantine
from tests.shop import SHOP_YAML, csv_of, open_shop

FIRST_DAY = dt.date(2026, 3, 1)
HEADER = "shop,id,item,price,sold_at"
T = "2026-02-01T12:00:00Z"
ROW = f"@,1,chair,10.00,{T}"
YAML = SHOP_YAML.replace(
    "tables:\n",
    "  zoned:\n    table: sales\n    columns: {id: sale_id}\n    key: [shop, sale_id]\n    require: [price]\n"
    '    derive: {sold_on: utc_date(sold_at)}\n    formats: {opens: "%I:%M %p"}\n'
    "    time_zone: Europe/Berlin\n    starts_on: 2026-01-01\ntables:\n",
    1,
).replace(
    "      extra: jsonb\n",
    "      extra: jsonb\n      weight: real\n      length: double precision\n"
    "      pieces: integer\n      opens: time\n",
)


@dataclass(frozen=True)
class Case:
    """A landed file, the account of it (landed, loaded, duplicate, quarantined), and what the quarantine says."""

    name: str
    content: bytes | str
    account: tuple[int, int, int, int]
    faults: tuple[tuple[int | None, str | None, str, str], ...] = ()  # line, column, reason, words
    file_name: str = "m.csv"
    feed: str = "sales"
    sold_at: tuple[str, ...] = ()  # in UTC, of the rows that load
    unknown: tuple[str, ...] = ()


def csv_file(*lines, header=HEADER, end="\n"):
    return end.join((header, *lines, ""))


def parquet(**columns):
    """A Parquet file; columns left out are good."""
    good = {"shop": ["@"], "id": ["1"], "item": ["chair"], "price": [Decimal("10.00")]}
    moment = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)
    given = {**good, "sold_at": pa.array([moment], pa.timestamp("us", "UTC")), **columns}
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: values for name, values in given.items() if values is not None}), buffer)
    return buffer.getvalue()


def zipped(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", text)
    return buffer.getvalue()


def field(name, column, value, reason, words):
    """A second row whose `column` holds `value`, and why that is refused."""
    values = {"shop": "@", "id": "2", "item": "desk", "price": "5.00", "sold_at": T} | {column: f'"{value}"'}
    place = (
        "sale_id"
        if column == "id"
        else "sold_on"
        if reason in ("future", "out_of_range", "expired")
        else column
    )
    place = "price" if column == "price" else place
    return Case(name, csv_file(ROW, ",".join(values.values())), (2, 1, 0, 1), ((3, place, reason, words),))


def json_field(name, column, value, reason, words):
    """A second JSON object whose `column` holds `value`, as JSON spells it, and why that is refused."""
    rows = (f'{{"shop":"@","id":"{n}","price":1,"sold_at":"{T}"' for n in (1, 2))
    content = "{}}}\n{},{}}}\n".format(*rows, f'"{column}":{value}')
    return row_case(name, content, 2, reason, words, file_name="m.jsonl", column=column)


def more(name, column, value, reason, words):
    """A second row with a further column that is empty in the first."""
    content = csv_file(f"{ROW},", f"@,2,desk,5.00,{T},{value}", header=f"{HEADER},{column}")
    return row_case(name, content, 3, reason, words, column=column)


def whole(name, content, reason, words, file_name="m.csv"):
    return Case(name, content, (0, 0, 0, 0), ((None, None, reason, words),), file_name)


def row_case(name, content, line, reason, words, landed=2, file_name="m.csv", column=None):
    """A file of which one record is bad."""
    return Case(name, content, (landed, landed - 1, 0, 1), ((line, column, reason, words),), file_name)


def good(name):
    """Two good rows that no other case has."""
    return GOOD.replace("@", re.sub(r"[^a-z0-9]+", "-", name)).encode()


def halves(name, compress):
    content = good(name)
    return compress(content[:40]) + compress(content[40:])


GOOD = csv_file(ROW, ROW.replace(",1,", ",2,"))
FILES = [
    whole("truncated gzip", gzip.compress(GOOD.encode())[:-9], "truncated", "land the complete file again"),
    whole("truncated bzip2", bz2.compress(GOOD.encode())[:-9], "truncated", "complete file"),
    whole("truncated xz", lzma.compress(GOOD.encode())[:-9], "truncated", "complete file"),
    whole("truncated zstd", zstd.compress(GOOD.encode())[:-9], "truncated", "complete file"),
    whole("damaged gzip", b"\x1f\x8b" + b"junk" * 10, "unreadable", "undamaged"),
    whole("damaged bzip2", b"BZh9" + b"junk" * 10, "unreadable", "undamaged"),
    whole("damaged xz", b"\xfd7zXZ\x00" + b"junk" * 10, "unreadable", "undamaged"),
    whole("damaged zstd", b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "unreadable", "undamaged"),
    whole("zip archive", zipped(GOOD), "unreadable", "ZIP archive; land the files in it"),
    whole("garbage after gzip", gzip.compress(GOOD.encode()) + b"garbage", "unreadable", "undamaged"),
    whole("garbage after bzip2", bz2.compress(GOOD.encode()) + b"garbage", "unreadable", "undamaged"),
    whole("garbage after zstd", zstd.compress(GOOD.encode()) + b"garbage", "unreadable", "undamaged"),
    whole("decompression bomb", zstd.compress(bytes(300 << 20), 1), "bomb", "land it uncompressed"),
    whole("no required column", csv_file("@,1", header="shop,id"), "missing_column", "map its name"),
    whole("two columns for one", csv_file("@,1,2", header="shop,id,ID"), "duplicate_column", "keep one"),
    whole("UTF-16 that is none", b"\xff\xfe\xfd\x00,\x80\n1,2\n", "unreadable", "declare `encoding`"),
    whole("header of bytes", b"\xfd\x80,\xff\n1,2\n", "unreadable", "header line is not valid text"),
    whole("one JSON list", f'[\n {{"shop":"@","id":"1","price":1,"sold_at":"{T}"}}\n]\n', "unreadable", "JSON list"),
    whole("one JSON list on one line", f'[{{"shop":"@","id":"1","price":1,"sold_at":"{T}"}}]', "unreadable", "jq -c",
          "m.json"),
    whole("pretty-printed JSON", f'{{\n  "shop": "@",\n  "id": "1",\n  "price": 1,\n  "sold_at": "{T}"\n}}\n',
          "unreadable", "written over several lines", "m.json"),
    whole("lines of a lone carriage return", GOOD.replace("\n", "\r"), "unreadable", "line feed"),
    whole("not a Parquet", GOOD, "unreadable", "not a Parquet file; land a Parquet file", "m.parquet"),
    whole("truncated Parquet", parquet()[:-20], "unreadable", "not a readable Parquet file", "m.parquet"),
    whole("Parquet without a column", parquet(price=None), "missing_column", "no column price", "m.parquet"),
    *(Case(f"{kind} of two members", halves(kind, compress), (2, 2, 0, 0)) for kind, compress in
      (("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress), ("zstd", zstd.compress))),
    Case("xz padded with zeros", lzma.compress(good("padded")) + bytes(64), (2, 2, 0, 0)),
    Case("header only", csv_file(), (0, 0, 0, 0)),
    Case("empty", "", (0, 0, 0, 0)),
    Case("byte order mark", "\ufeff" + GOOD, (2, 2, 0, 0)),
    Case("UTF-16", GOOD.encode("utf-16"), (2, 2, 0, 0)),
    Case("CRLF", csv_file(ROW, ROW.replace(",1,", ",2,"), end="\r\n"), (2, 2, 0, 0)),
    Case("quoted newlines and delimiters", csv_file(f'@,1,"a ""chair"",\nor\r\ntwo",10.00,{T}'), (1, 1, 0, 0)),
    Case("unknown extra column", csv_file(f"{ROW},red", header=f"{HEADER},colour"), (1, 1, 0, 0), unknown=("colour",)),
    Case("the same key within a file", csv_file(ROW, ROW, ROW.replace("10.00", "11.00")), (3, 2, 1, 0)),
]  # fmt: skip
ROWS = [
    row_case("too few columns", csv_file(ROW, "@,2,desk,5.00"), 3, "column_count", "4 fields, the header has 5"),
    row_case("too many columns", csv_file(ROW, f"@,2,desk,5,00,{T}"), 3, "column_count", "quote fields"),
    row_case("NUL byte", csv_file(ROW, f"@,2,de\0sk,5.00,{T}"), 3, "nul_byte", "remove it in the feed"),
    row_case("invalid UTF-8", csv_file(ROW).encode() + b"@,2,caf\xe9,5.00," + T.encode() + b"\n", 3, "invalid_text",
             "declare `encoding`"),
    row_case("a quote never closed", csv_file(ROW, f'@,2,"desk,5.00,{T}', f"@,3,x,5.00,{T}"), 3, "malformed",
             "close it", landed=3),
    Case("a field of 12,000 lines", csv_file(ROW, f'@,2,"{chr(10).join(["a desk"] * 12_000)}",5.00,{T}'), (2, 2, 0, 0)),
    row_case("a line of 50 MB", csv_file(f"@,2,{'x' * (50 << 20)},5.00,{T}", ROW), 2, "too_long", "split it"),
    row_case("JSON cut short", f'{{"shop":"@","id":"1","price":1,"sold_at":"{T}"}}\n{{"shop":"@","id":\n', 2,
             "malformed", "one JSON object a line", file_name="m.jsonl"),
    row_case("a name that a JSON object has twice", f'{{"shop":"@","id":"1","price":1,"sold_at":"{T}"}}\n'
             f'{{"shop":"@","id":"2","id":"3","price":1,"sold_at":"{T}"}}\n', 2, "malformed", "'id' stands twice",
             file_name="m.jsonl"),
    row_case("a JSON list", f'{{"shop":"@","id":"1","price":1,"sold_at":"{T}"}}\n[1, 2]\n', 2, "malformed",
             "not a JSON object", file_name="m.jsonl"),
    row_case("nested JSON in a text", f'{{"shop":"@","id":"1","price":1,"sold_at":"{T}","extra":{{"a":[1]}}}}\n'
             f'{{"shop":"@","id":"2","item":{{"name":"desk"}},"price":1,"sold_at":"{T}"}}\n', 2, "wrong_type",
             "not a nested value", file_name="m.jsonl", column="item"),
    row_case("JSON that is no JSON", f'{{"shop":"@","id":"1","price":1,"sold_at":"{T}"}}\n'
             f'{{"shop":"@","id":"2","price":NaN,"sold_at":"{T}"}}\n', 2, "malformed", "NaN", file_name="m.jsonl"),
    row_case("half a character", f'{{"shop":"@","id":"1","price":1,"sold_at":"{T}"}}\n'
             f'{{"shop":"@","id":"2","item":"\\ud800","price":1,"sold_at":"{T}"}}\n', 2, "invalid_text",
             "whole characters", file_name="m.jsonl", column="item"),
    Case("Parquet with other types", parquet(id=pa.array([7], pa.int64()), price=["10.00"],
         sold_at=pa.array([dt.date(2026, 2, 1)], pa.date32())), (1, 1, 0, 0), (), "m.parquet",
         sold_at=("2026-02-01 00:00:00",)),
    Case("Parquet with a truth for a price", parquet(price=[True]), (1, 0, 0, 1),
         ((1, "price", "not_a_number", "plain number"),), "m.parquet"),
    Case("Parquet with a list for a text", parquet(item=[["a", "b"]]), (1, 0, 0, 1),
         ((1, "item", "wrong_type", "not a text"),), "m.parquet"),
    Case("Parquet of single precision", parquet(price=pa.array([1.1], pa.float32())), (1, 1, 0, 0), (), "m.parquet"),
    Case("Parquet with a NUL byte", parquet(item=["de\0sk"]), (1, 0, 0, 1),
         ((1, "item", "nul_byte", "character 3; remove it"),), "m.parquet"),
    Case("Parquet with bytes for a text", parquet(item=[b"chair"]), (1, 0, 0, 1),
         ((1, "item", "wrong_type", "write it as a string in UTF-8"),), "m.parquet"),
    Case("Parquet with a duration", parquet(item=pa.array([5], pa.duration("ns"))), (1, 0, 0, 1),
         ((1, "item", "wrong_type", "the duration 0:00:00 is not a text"),), "m.parquet"),
    Case("Parquet with NaN in a text", parquet(item=[float("nan")]), (1, 1, 0, 0), (), "m.parquet"),
    Case("Parquet with decimals that are no noise",
         parquet(price=pa.array([Decimal("19.990000000000002")], pa.decimal128(17, 15))), (1, 0, 0, 1),
         ((1, "price", "too_many_decimals", "round it to 2 decimals"),), "m.parquet"),
    Case("Parquet with NaN", parquet(price=[float("nan")]), (1, 0, 0, 1),
         ((1, "price", "not_a_number", "finite"),), "m.parquet"),
]  # fmt: skip
FIELDS = [
    field("dollars", "price", "$1,234.50", "not_a_number", "digits and a point only, as in 1234.50"),
    field("a comma for a point", "price", "1.234,50", "not_a_number", "1234.50"),
    field("NaN", "price", "NaN", "not_a_number", "'NaN'"),
    field("Infinity", "price", "Infinity", "not_a_number", "'Infinity'"),
    field("1e400", "price", "1e400", "out_of_range", "1e400"),
    field("1_000", "price", "1_000", "not_a_number", "1_000"),
    field("negative price", "price", "-1", "breaks_rule", "greater than 0; correct the record"),
    field("price of zero", "price", "0.00", "breaks_rule", "greater than 0"),
    field("no price", "price", "", "missing_value", "price is empty; give every record a value"),
    field("no key", "id", "", "missing_value", "sale_id is empty"),
    field("30 February", "sold_at", "2026-02-30", "not_a_time", "day"),
    field("tomorrow", "sold_at", "tomorrow", "not_a_time", "YYYY-MM-DD"),
    field("year 1", "sold_at", "0001-01-01", "out_of_range", "before 1900-01-01; correct the year"),
    field("beyond what is kept", "sold_at", "2015-01-01", "expired", "older than the table keeps"),
    field("year 9999", "sold_at", "9999-12-31", "future", "correct the date"),
    field("a future day", "sold_at", "2026-12-01T00:00:00Z", "future", "later than the landing day"),
    field("an hour that is none", "sold_at", "2026-02-01T25:00:00Z", "not_a_time", "hour"),
]
TYPES = [
    json_field("NUL in a JSON text", "item", '"de\\u0000sk"', "nul_byte", "character 3; remove it"),
    json_field("NUL in a JSON object", "extra", '{"a": "\\u0000"}', "nul_byte", "remove it in the feed"),
    json_field(
        "half a character in a JSON object", "extra", '{"a": "\\ud800"}', "invalid_text", "whole characters"
    ),
    more("NUL in JSON within CSV", "extra", '"{""a"": ""\\u0000""}"', "nul_byte", "remove it in the feed"),
    more("too large for real", "weight", "1e39", "out_of_range", "from -3.40282e+38 to 3.40282e+38"),
    more("too near to 0 for real", "weight", "1e-50", "out_of_range", "too near to 0 for real"),
    more("too large for double precision", "length", "1e309", "out_of_range", "1.79769e+308"),
    more("30 digits into an integer", "pieces", "1" * 30, "out_of_range", "from -2147483648 to 2147483647"),
    field("1e308", "price", "1e308", "out_of_range", "from -9999999999.99 to 9999999999.99"),
]
ZONES = [
    Case("a naive time is in the feed's zone", csv_file("@,1,chair,1,2026-02-01 00:30:00"), (1, 1, 0, 0),
         feed="zoned", sold_at=("2026-01-31 23:30:00",)),
    Case("an offset of its own wins", csv_file("@,1,chair,1,2026-02-01T00:30:00-05:00"), (1, 1, 0, 0), feed="zoned",
         sold_at=("2026-02-01 05:30:00",)),
    Case("a time that is twice is the earlier", csv_file("@,1,chair,1,2025-10-26 02:30:00"), (1, 1, 0, 0),
         feed="zoned", sold_at=("2025-10-26 00:30:00",)),
    Case("a time that the clocks skip", csv_file("@,1,chair,1,2026-02-01 12:00:00", "@,2,desk,1,2025-03-30 02:30:00"),
         (2, 1, 0, 1), ((3, "sold_at", "not_a_time", "does not exist in Europe/Berlin"),), feed="zoned",
         sold_at=("2026-02-01 11:00:00",)),
]  # fmt: skip
HOURS = [
    Case("times of day in the feed's format", csv_file(f"{ROW},8:15 pm", f"@,2,desk,5.00,{T},20:15",
         header=f"{HEADER},opens"), (2, 1, 0, 1), ((3, "opens", "not_a_time", "does not match '%I:%M %p'"),),
         feed="zoned"),
]  # fmt: skip
CASES = [*FILES, *ROWS, *FIELDS, *TYPES, *HOURS, *ZONES]
_days = itertools.count()


@pytest.fixture(scope="module")
def bazaar(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bazaar")
    with clone() as url:
        (folder / "objects").mkdir()
        opened = open_shop(url, (folder / "objects").as_uri(), folder, YAML)
        yield opened
        opened.close()


def shop_of(case):
    return re.sub(r"[^a-z0-9]+", "-", case.name.lower())


def content_of(case):
    """The case's file with its own shop in it, also where it is compressed or Parquet."""
    data = case.content.encode() if isinstance(case.content, str) else case.content
    name = shop_of(case).encode()
    if case.file_name.endswith(".parquet") and data.startswith(b"PAR1"):
        return data
    if data.startswith(b"\xff\xfe@") or case.name == "UTF-16":
        return data.decode("utf-16").replace("@", name.decode()).encode("utf-16")
    return data.replace(b"@,", name + b",").replace(b'"@"', b'"' + name + b'"')


def load(bazaar, case, day):
    feed = bazaar.system.feeds[case.feed]
    files = {
        "a.csv": csv_of((f"{shop_of(case)}-g", "1", "bench", "3.00", T)).encode(),
        case.file_name: content_of(case),
        "z.csv": csv_of((f"{shop_of(case)}-g", "2", "bench", "4.00", T)).encode(),
    }
    for name, content in files.items():
        bazaar.store.put(f"{feed.prefix}{day}/{name}", content)
    loader = Loader(bazaar.database, bazaar.owner, bazaar.store, bazaar.system, feed)
    return loader.load_day(day)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_thing_costs_itself_and_is_told_with_its_place_reason_and_remedy(bazaar, case):
    day = FIRST_DAY + dt.timedelta(days=next(_days))
    done = load(bazaar, case, day)
    landed, loaded, duplicate, quarantined = case.account
    assert (done.landed_rows, done.loaded_rows, done.duplicate_rows, done.quarantined_rows) == (
        landed + 2, loaded + 2, duplicate, quarantined,
    )  # fmt: skip
    feed = bazaar.system.feeds[case.feed]
    assert reconcile(bazaar.database, feed, day).problems == ()
    found = list_quarantine(bazaar.database, feed=feed.key_name, landing_day=day)
    assert [(row.file_name, row.line, row.column, row.reason) for row in found] == [
        (case.file_name, line, column, reason) for line, column, reason, _ in case.faults
    ]
    for row, (line, _, reason, words) in zip(found, case.faults, strict=True):
        assert words in f"{row.detail}; {row.remedy}"
        assert reason in REASONS and row.remedy, "every fault says what would be right"
        assert (row.raw_text is None) == (line is None), "a row keeps its text"
    assert done.outcome == ("incomplete" if any(fault[0] is None for fault in case.faults) else "complete")
    assert bazaar.rows("SELECT count(*) FROM shop.sales WHERE shop = %s", f"{shop_of(case)}-g") == [(2,)]
    middle = next(file for file in done.files if file.file_name == case.file_name)
    assert middle.unknown_columns == case.unknown
    if case.sold_at:
        query = (
            "SELECT (sold_at AT TIME ZONE 'UTC')::text FROM shop.sales JOIN longbox.loads USING (load_id) "
            "WHERE loads.landing_day = %s AND file_name = %s ORDER BY 1"
        )
        assert tuple(row[0] for row in bazaar.rows(query, day, case.file_name)) == case.sold_at
    assert load(bazaar, case, day).rows_written == 0, "running again changes nothing"

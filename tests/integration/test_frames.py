"""`frame()`: an analyst gets a table's rows with their types as they are, as the reader, in bounded memory."""

import datetime
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.catalog.frames import frame, frame_batches
from pipelines.migration import migrate
from resources.errors import UserError
from resources.settings import Settings
from tests.integration.migration_support import execute

YAML = """\
system: shop
tables:
  sales: {adopt: true, time: sold_at}
  untimed: {adopt: true}
"""
TABLES = """
CREATE TABLE shop.sales (
  id bigint, small smallint, price numeric(12,2), weight numeric,
  ratio double precision, sold_at timestamptz, sold_on date,
  is_paid boolean, note text, doc jsonb, tags text[], raw bytea, counts int[]);
CREATE TABLE shop.untimed (n int);
CREATE VIEW shop.paid AS SELECT id FROM shop.sales WHERE is_paid;
INSERT INTO shop.sales VALUES
  (1, NULL, 10.50, 1.000000000000000000001, 0.5, '2026-10-01 12:00+02', '2026-10-01',
   true, 'a', '{"k": 1}', '{x,y}', '\\x01', '{1,2}'),
  (NULL, 2, NULL, 123456789012345678901234567890.5, NULL, '2026-11-01 00:00+00',
   NULL, NULL, NULL, NULL, NULL, NULL, NULL);
GRANT SELECT ON ALL TABLES IN SCHEMA shop TO longbox_reader;
"""


@pytest.fixture
def shop(settings: Settings, database_url: str, tmp_path: Path) -> Settings:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "system.yaml").write_text(YAML, encoding="utf-8")
    migrate(database_url, [folder])
    execute(database_url, TABLES)
    return Settings.load(
        {
            "LONGBOX_HOME": str(tmp_path / "home"),
            "LONGBOX_POSTGRES_URL": database_url,
            "LONGBOX_SYSTEMS": str(folder),
        }
    )


def test_types_stay_what_they_are_in_postgresql(shop: Settings) -> None:
    table = frame("shop/sales", order_by=["sold_at"], as_arrow=True, settings=shop)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "id": "int64", "small": "int16", "price": "decimal128(12, 2)", "weight": "decimal256(51, "
              "21)", "ratio": "double",
        "sold_at": "timestamp[us, tz=UTC]", "sold_on": "date32[day]", "is_paid": "bool", "note": "string",
        "doc": "string", "tags": "list<item: string>", "raw": "binary", "counts": "list<item: int32>",
    }  # fmt: skip
    rows = table.to_pylist()
    assert rows[0]["weight"] == Decimal("1.000000000000000000001")
    assert rows[0]["sold_at"] == datetime.datetime(2026, 10, 1, 10, tzinfo=datetime.UTC)
    assert (rows[0]["doc"], rows[0]["counts"], rows[1]["id"]) == ('{"k": 1}', [1, 2], None)


def test_a_dataframe_keeps_decimals_and_whole_numbers_with_nulls(shop: Settings) -> None:
    found = frame("shop/sales", ["id", "price"], order_by=["sold_at"], settings=shop)
    assert [str(kind) for kind in found.dtypes] == ["int64[pyarrow]", "decimal128(12, 2)[pyarrow]"]
    assert found["price"].iloc[0] == Decimal("10.50") and found["id"].isna().tolist() == [False, True]


def test_rows_are_chosen_by_value_by_time_and_by_number(shop: Settings) -> None:
    def ids(**asked: object) -> list[object]:
        return list(frame("shop/sales", ["id"], settings=shop, as_arrow=True, **asked)["id"].to_pylist())  # type: ignore[call-overload]

    assert ids(since="2026-11-01") == [None]
    assert ids(until="2026-11-01") == [1]
    assert ids(since="2026-10-01T10:00:01Z", until=datetime.date(2026, 10, 31)) == []
    assert ids(where={"note": ["a", "b"]}) == [1]
    assert ids(where={"note": None}) == [None]
    assert ids(where={"note": []}) == []
    assert ids(where={"note": "' OR true --"}) == []
    assert len(ids(limit=1)) == 1
    assert len(frame("shop.paid", settings=shop)) == 1


def test_no_rows_still_have_their_columns_and_types(shop: Settings) -> None:
    assert [str(kind) for kind in frame("shop/untimed", settings=shop).dtypes] == ["int32[pyarrow]"]


@pytest.mark.parametrize(
    ("table", "asked", "reason"),
    [
        ("shop/sale", {}, "did you mean 'shop/sales'?"),
        ("shopp/sales", {}, "did you mean 'shop/sales'?"),
        ("shop/sales", {"columns": ["prise"]}, "did you mean 'price'?"),
        ("shop/sales", {"columns": "price"}, "give a list"),
        ("shop/sales", {"where": {"prise": 1}}, "did you mean 'price'?"),
        ("shop/sales", {"since": "yesterday"}, "write a date or time"),
        ("shop/untimed", {"since": "2026-01-01"}, "has no `time:`"),
        ("shop/sales", {"limit": -1}, "limit is -1"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(
    shop: Settings, table: str, asked: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason.replace("?", r"\?")):
        frame(table, settings=shop, **asked)  # type: ignore[call-overload]


def test_a_value_that_no_decimal_holds_is_told_and_not_made_null(shop: Settings, database_url: str) -> None:
    execute(database_url, "UPDATE shop.sales SET price = 'NaN' WHERE id = 1")
    with pytest.raises(UserError, match="column 'price' of shop/sales holds a value"):
        frame("shop/sales", ["price"], settings=shop)


def test_the_reader_is_not_given_more_than_its_role_may_read(shop: Settings, database_url: str) -> None:
    execute(database_url, "REVOKE SELECT ON shop.sales FROM longbox_reader")
    with pytest.raises(UserError, match="longbox_reader may not read it"):
        frame("shop/sales", settings=shop)


def test_a_query_that_takes_too_long_is_ended_by_postgresql(shop: Settings, database_url: str) -> None:
    execute(database_url, "CREATE VIEW shop.endless AS SELECT pg_sleep(60)::text AS nothing;"
                          "GRANT SELECT ON shop.endless TO longbox_reader")  # fmt: skip
    with pytest.raises(UserError, match=r"took longer than 0\.2 s"):
        frame("shop/endless", settings=shop, timeout_seconds=0.2)


def test_batches_hold_no_more_than_their_rows_in_memory(shop: Settings, database_url: str) -> None:
    execute(
        database_url,
        "INSERT INTO shop.sales (id, note) SELECT n, repeat('x', 1000) FROM generate_series(1, 60000) n",
    )
    tracemalloc.start()
    rows = sum(
        batch.num_rows
        for batch in frame_batches("shop/sales", ["id", "note"], chunk_rows=2000, settings=shop)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 60002
    assert peak < 25_000_000  # the notes alone are 60 MB
    assert pa.total_allocated_bytes() < 60_000_000


def test_an_iterator_that_is_given_up_gives_its_connection_back(shop: Settings, database_url: str) -> None:
    execute(database_url, "INSERT INTO shop.sales (id) SELECT generate_series(1, 1000)")
    batches = frame_batches("shop/sales", ["id"], chunk_rows=10, settings=shop)
    assert next(batches).num_rows == 10
    batches.close()  # type: ignore[attr-defined]
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'longbox frame' AND state <> 'idle'"
    )
    assert execute(database_url, sessions) == [(0,)]

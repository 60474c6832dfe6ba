"""A feed whose files change their columns: told once a file with what to do, and no column is silently nulled."""

import datetime as dt
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.catalog.shape import table_shape
from pipelines.ingestion import schema_changes
from pipelines.ingestion.quarantine import list_quarantine
from pipelines.ingestion.schema_changes import FileSchema, compare
from tests.shop import HEADER, SHOP_YAML, csv_of, open_shop

DAYS = ("2026-10-01", "2026-10-02", "2026-10-03")
SALE = ("north", "1", "chair", "10.00", "2026-09-29T12:00:00Z")


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path)
    yield opened
    opened.close()


def sales(*numbers, header=HEADER, **more):
    return csv_of(*((SALE[0], str(n), *SALE[2:]) for n in numbers), header=header)


def day(text):
    return dt.date.fromisoformat(text)


def land(shop, landing_day, content, name="a.csv"):
    shop.land(landing_day, name, content)
    return shop.load(landing_day)


def kinds(shop, landing_day):
    found = shop.rows(
        "SELECT report->'schema_changes' FROM longbox.loads WHERE landing_day = %s", landing_day
    )
    return [(change["kind"], change["column"]) for row in found for change in row[0] or []]


def test_files_with_the_same_columns_in_any_order_and_spelling_change_nothing(shop):
    land(shop, DAYS[0], sales(1))
    load = land(shop, DAYS[1], "sold_at;PRICE;Item;ID;Shop\n2026-09-29;1;x;2;north\n")
    assert load.files[0].schema_changes == () and kinds(shop, DAYS[1]) == []


MISSPELT = csv_of(SALE, header="shop,id,Itme,price,sold_at")
MISSPELT_JSON = (
    json.dumps({"shop": "north", "id": "1", "Itme": "chair", "price": 5, "sold_at": SALE[4]}) + "\n"
)


@pytest.mark.parametrize(("content", "name"), [(MISSPELT, "a.csv"), (MISSPELT_JSON, "a.jsonl")])
def test_a_column_misspelt_in_the_first_file_is_told_with_the_one_that_was_meant_and_loads(
    shop, content, name
):
    load = land(shop, DAYS[0], content, name)
    assert (load.outcome, load.loaded_rows, load.quarantined_rows) == ("complete", 1, 0)
    told = (
        f"shop/sales {DAYS[0]}/{name}: item is missing: before in no file, now 'Itme', which nothing reads; did you "
        "mean 'item'? rows load without it: correct the name in the file, or map it under `columns`, as in Itme: item, "
        "and run the day again"
    )
    assert schema_changes(shop.database, [shop.feed], [day(DAYS[0])]) == [told]
    again = content.replace("chair", "desk").replace('"1"', '"2"').replace(",1,", ",2,")
    assert land(shop, DAYS[1], again, name).schema_changes == (), "told once"
    shop.reload(SHOP_YAML.replace("{id: sale_id}", "{id: sale_id, Itme: item}"))
    shop.load(DAYS[0])
    assert ("chair",) in shop.rows("SELECT item FROM shop.sales WHERE sale_id = '1'")
    assert told not in schema_changes(shop.database, [shop.feed], [day(DAYS[0])]), (
        "the file is read another way now"
    )


def test_a_first_files_name_that_is_like_none_is_told_with_the_columns_that_the_file_lacks(shop):
    load = land(shop, DAYS[0], csv_of(SALE, header="shop,id,article,price,sold_at"))
    assert load.loaded_rows == 1 and kinds(shop, DAYS[0]) == [("new", "article")]
    assert "if it is one that the file lacks (extra, item), map it" in load.schema_changes[0]


def test_a_first_file_that_lacks_nothing_or_has_nothing_unread_is_like_it_should_be(shop):
    full = f"{HEADER},extra"
    assert land(shop, DAYS[0], csv_of((*SALE, "", "x"), header=f"{full},itm")).schema_changes == ()
    shop.rows("DELETE FROM longbox.loads RETURNING 1")
    lacking = csv_of(("north", "2", "5.00", SALE[4]), header="shop,id,price,sold_at")
    assert land(shop, DAYS[1], lacking).schema_changes == ()
    shop.rows("DELETE FROM longbox.loads RETURNING 1")
    shop.reload(SHOP_YAML.replace("    starts_on", "    may_be_missing: [item, extra]\n    starts_on"))
    assert land(shop, DAYS[2], MISSPELT).schema_changes == ()


def test_a_new_column_is_reported_once_and_loaded_without(shop):
    land(shop, DAYS[0], sales(1))
    row = (*SALE[:1], "2", *SALE[2:], "red")
    load = land(shop, DAYS[1], csv_of(row, header=f"{HEADER},colour"))
    assert load.outcome == "complete" and load.loaded_rows == 1
    assert kinds(shop, DAYS[1]) == [("new", "colour")]
    assert schema_changes(shop.database, [shop.feed], [day(DAYS[1])]) == [
        "shop/sales 2026-10-02/a.csv: colour is new: before in no file, now an unknown column; the rows load without "
        "it: map it under `columns` and run the day again, if it is wanted"
    ]
    land(shop, DAYS[2], csv_of((*SALE[:1], "3", *SALE[2:], "red"), header=f"{HEADER},colour"))
    assert kinds(shop, DAYS[2]) == []


def test_an_optional_column_that_disappears_is_reported_and_its_rows_load(shop):
    land(shop, DAYS[0], sales(1))
    content = csv_of(("north", "2", "5.00", SALE[4]), header="shop,id,price,sold_at")
    load = land(shop, DAYS[1], content)
    assert (load.outcome, load.loaded_rows) == ("complete", 1)
    assert kinds(shop, DAYS[1]) == [("missing", "item")]
    assert "before 'item' in every file, now not in the file" in load.schema_changes[0]
    shop.reload(SHOP_YAML.replace("    starts_on", "    may_be_missing: [item]\n    starts_on"))
    assert (
        kinds(shop, DAYS[2]) == [] and land(shop, DAYS[2], content.replace("2,5", "3,5")).schema_changes == ()
    )


RENAMED = csv_of(("north", "2", "desk", "5.00", SALE[4]), header="shop,id,article,price,sold_at")
RENAMED_JSON = (
    json.dumps({"shop": "north", "id": "2", "article": "desk", "price": 5, "sold_at": SALE[4]}) + "\n"
)


@pytest.mark.parametrize(("content", "name"), [(RENAMED, "b.csv"), (RENAMED_JSON, "b.jsonl")])
def test_a_renamed_column_puts_its_file_aside_until_it_is_mapped(shop, content, name):
    land(shop, DAYS[0], sales(1))
    land(shop, DAYS[1], sales(3))
    load = land(shop, DAYS[1], content, name)
    assert (load.outcome, load.loaded_rows) == ("incomplete", 1)
    (entry,) = list_quarantine(shop.database)
    assert (entry.file_name, entry.line, entry.reason) == (name, None, "renamed_column")
    assert "'item' (item) was in every file before and is missing, 'article' is new" in entry.detail
    assert "article: item" in entry.remedy and "may_be_missing: [item]" in entry.remedy
    assert shop.rows("SELECT count(*) FROM shop.sales WHERE item IS NULL") == [(0,)]
    shop.reload(SHOP_YAML.replace("{id: sale_id}", "{id: sale_id, article: item}"))
    load = shop.load(DAYS[1])
    assert load.outcome == "complete"
    assert list_quarantine(shop.database) == []
    assert shop.rows("SELECT item FROM shop.sales WHERE sale_id = '2'") == [("desk",)]
    assert ("renamed", "item") in kinds(shop, DAYS[1])


def test_a_name_that_is_mapped_later_takes_nothing_from_the_files_that_came_before(shop):
    earlier = json.dumps(dict(zip(HEADER.split(","), ("north", "4", *SALE[2:]), strict=True))) + "\n"
    land(shop, DAYS[0], sales(1))
    land(shop, DAYS[0], earlier, "b.jsonl")
    shop.reload(SHOP_YAML.replace("{id: sale_id}", "{id: sale_id, article: item}"))
    load = shop.load(DAYS[0])
    assert (load.landed_rows, load.loaded_rows) == (4, 2), "read again under the new mapping, the same rows"
    assert shop.rows("SELECT count(*) FROM shop.sales WHERE item IS NULL") == [(0,)]
    both = csv_of((*SALE[:1], "7", *SALE[2:], "desk"), header=f"{HEADER},article")
    as_json = json.dumps(
        {"item": "chair", "shop": "north", "id": "8", "price": 5, "sold_at": SALE[4], "article": "desk"}
    )
    for content, name in ((both, "c.csv"), (as_json + "\n", "d.jsonl")):
        assert land(shop, DAYS[1], content, name).outcome == "complete"
    assert shop.rows("SELECT item FROM shop.sales WHERE sale_id IN ('7', '8')") == [("desk",), ("desk",)], (
        "the landed name comes before the column's own"
    )


def test_a_column_that_may_be_missing_is_not_taken_for_renamed(shop):
    shop.reload(SHOP_YAML.replace("    starts_on", "    may_be_missing: [item]\n    starts_on"))
    land(shop, DAYS[0], sales(1))
    load = land(shop, DAYS[1], RENAMED)
    assert (load.outcome, load.loaded_rows, kinds(shop, DAYS[1])) == ("complete", 1, [("new", "article")])


def test_a_column_that_some_files_never_had_is_not_taken_for_renamed(shop):
    land(shop, DAYS[0], sales(1))
    land(shop, DAYS[0], csv_of(("north", "4", "5.00", SALE[4]), header="shop,id,price,sold_at"), "b.csv")
    assert land(shop, DAYS[1], RENAMED).outcome == "complete"


def test_one_file_without_a_column_does_not_keep_its_renaming_from_being_seen(shop):
    for number in range(10, 20):
        land(shop, DAYS[0], sales(number), f"{number}.csv")
    odd = csv_of(("north", "4", "5.00", SALE[4]), header="shop,id,price,sold_at")
    assert land(shop, DAYS[0], odd, "odd.csv").outcome == "complete"
    load = land(shop, DAYS[1], RENAMED)
    assert load.outcome == "incomplete" and "was in nearly every file before" in load.problems[0]


def test_a_column_whose_values_no_longer_convert_is_one_change_however_many_rows_it_costs(shop):
    land(shop, DAYS[0], sales(1, 2))
    rows = ((*SALE[:1], str(n), "chair", f"{n},00 EUR", SALE[4]) for n in range(10, 30))
    load = land(shop, DAYS[1], csv_of(*rows, (*SALE[:1], "5", *SALE[2:])))
    assert (load.loaded_rows, load.quarantined_rows) == (1, 20)
    assert kinds(shop, DAYS[1]) == [("retyped", "price")]
    assert "before numeric(12,2)" in load.schema_changes[0] and "(20 rows)" in load.schema_changes[0]


def parquet(number, price):
    buffer = io.BytesIO()
    columns = {"shop": ["north"], "id": [str(number)], "item": ["x"], "price": price, "sold_at": [SALE[4]]}
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_another_type_in_a_parquet_file_is_reported_though_its_values_convert(shop):
    land(shop, DAYS[0], parquet(1, pa.array([1.5])), "a.parquet")
    load = land(shop, DAYS[1], parquet(2, pa.array(["1.50"])), "a.parquet")
    assert load.loaded_rows == 1
    assert kinds(shop, DAYS[1]) == [("retyped", "price")]
    assert "before double, now string" in load.schema_changes[0]


def test_the_same_type_as_another_tool_writes_it_to_parquet_is_no_change(shop):
    land(shop, DAYS[0], parquet(1, pa.array(["1.50"])), "a.parquet")
    for number, other in enumerate(
        (pa.large_string(), pa.dictionary(pa.int8(), pa.large_string()), pa.string()), 2
    ):
        load = land(shop, DAYS[1], parquet(number, pa.array(["2.50"]).cast(other)), f"{number}.parquet")
        assert load.loaded_rows == number - 1
    assert kinds(shop, DAYS[1]) == []


def test_types_of_parquet_are_the_same_whatever_their_layout(shop):
    with shop.database.connection() as connection:
        shape = table_shape(connection, "shop", "sales")

    def is_retyped(one, other):
        before, now = (
            FileSchema({"item": "item"}, frozenset(), {"item": str(each)}) for each in (one, other)
        )
        return bool(compare(shop.feed, shape, now, [before]))

    assert not is_retyped(pa.string_view(), pa.large_string())
    assert not is_retyped(pa.dictionary(pa.int8(), pa.decimal128(5, 2)), pa.decimal128(5, 2))
    assert not is_retyped(pa.list_(pa.field("element", pa.string())), pa.large_list(pa.large_string()))
    assert not is_retyped(pa.struct({"a": pa.string()}), pa.struct({"a": pa.large_string()}))
    assert is_retyped(pa.struct({"a": pa.string()}), pa.struct({"b": pa.string()}))
    assert is_retyped(pa.dictionary(pa.int8(), pa.string()), pa.int64())
    assert is_retyped(pa.list_(pa.string()), pa.list_(pa.int64()))
    assert is_retyped(pa.timestamp("us"), pa.timestamp("us", "UTC"))

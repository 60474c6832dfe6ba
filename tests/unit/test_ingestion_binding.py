"""Records become rows: identity depends on the record alone, and every fault names its column."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.loader import load_catalog
from pipelines.catalog.shape import ColumnShape, TableShape
from pipelines.ingestion.binding import bind
from pipelines.ingestion.errors import UnreadableFileError
from tests.shop import make_shop

DAY = dt.date(2026, 10, 30)
TYPES = {"shop": "text", "sale_id": "text", "item": "text", "price": "numeric(12,2)",
         "sold_at": "timestamp with time zone", "sold_on": "date", "extra": "jsonb"}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return load_catalog([make_shop(tmp_path_factory.mktemp("shop"))]).systems["shop"]


def maker(shop, header, **feed):
    columns = tuple(
        ColumnShape(name, type_name, type_name, name not in ("shop", "sale_id"), None, None, False, None, "")
        for name, type_name in TYPES.items()
    )
    shape = TableShape("shop", "sales", "partitioned table", columns, (), ("sold_on",), "range", "")
    declared = shop.feeds["sales"].model_copy(update=feed)
    return bind(declared, shop.tables["sales"], shape, header, landing_day=DAY, file_key="f")


HEADER = ("shop", "id", "item", "price", "sold_at")


def test_a_derived_column_is_the_utc_day_of_its_source(shop):
    rows, faults = maker(shop, HEADER)[0].rows([("n", "1", "x", "2", "2026-10-29T23:30:00-05:00")], [2])
    assert not faults and rows[0].fields["sold_on"] == rows[0].event_on == "2026-10-30"


def test_the_order_of_columns_and_an_added_empty_one_change_no_identity(shop):
    plain = maker(shop, HEADER)[0].rows([("n", "1", "x", "2", "2026-10-29")], [2])[0][0]
    other = maker(shop, ("extra", "price", "sold_at", "item", "id", "shop"))[0]
    moved = other.rows([("", "2.00", "2026-10-29T00:00:00Z", "x", "1", "n")], [9])[0][0]
    assert (moved.key_hash, moved.content_hash) == (plain.key_hash, plain.content_hash)


def test_values_swapped_between_columns_are_another_content(shop):
    one, two = maker(shop, HEADER)[0].rows(
        [("n", "1", "x", "2", "2026-10-29"), ("n", "x", "1", "2", "2026-10-29")], [2, 3]
    )[0]
    assert one.content_hash != two.content_hash and one.key_hash != two.key_hash


def test_a_missing_key_is_told_with_its_column(shop):
    _, faults = maker(shop, HEADER)[0].rows([("n", "", "x", "2", "2026-10-29")], [2])
    assert (faults[0].column, faults[0].reason) == ("sale_id", "missing_value")


def test_what_the_feed_writes_for_no_value_is_none_in_every_column_of_every_format(shop):
    made = maker(shop, (*HEADER, "extra"), null_values=("NA", "-"))[0]
    landed = [
        ("n", "1", "NA", "-", "2026-10-29", " NA "),
        ("n", "1", "", "", "2026-10-29", ""),
        ("n", "1", "NAN", "1", "2026-10-29", "{}"),
        ("-", "2", "x", "2", "2026-10-29", ""),
    ]
    bulk, bulk_faults = made.rows(landed, [1, 2, 3, 4])
    single = [made.rows([(*record[:5], None if record[5] == "" else record[5])], [1]) for record in landed]
    assert [row.fields["item"] for row in bulk][:3] == [None, None, "NAN"]
    assert (bulk[0].fields["price"], bulk[0].fields["extra"]) == (None, None)
    assert bulk[0].content_hash == bulk[1].content_hash
    assert [rows[0].fields for rows, _ in single][:3] == [row.fields for row in bulk][:3]
    assert {n: (fault.column, fault.reason) for n, fault in bulk_faults.items()} == {
        0: ("price", "missing_value"), 1: ("price", "missing_value"), 3: ("shop", "missing_value"),
    }  # fmt: skip


@pytest.mark.parametrize("header", [("shop", "id"), (), ("a", "b")])
def test_a_file_without_a_needed_column_is_unreadable(shop, header):
    with pytest.raises(UnreadableFileError) as caught:
        maker(shop, header)
    assert caught.value.reason == "missing_column" and "price" in caught.value.detail


def test_two_columns_for_one_are_refused(shop):
    with pytest.raises(UnreadableFileError, match="both mean sale_id"):
        maker(shop, (*HEADER, "ID"))


RECORDS = st.lists(
    st.tuples(st.sampled_from("ns"), st.sampled_from("12"), st.sampled_from(["", "x", "\\N", "a\tb"]),
              st.sampled_from(["2", "2.00", "3.5"]), st.sampled_from(["2026-10-29", "2026-10-29T00:00:00Z"])),
    min_size=1, max_size=6,
)  # fmt: skip


@given(RECORDS)
def test_the_identity_of_a_record_does_not_depend_on_its_neighbours(shop, records):
    rows = maker(shop, HEADER)[0]
    together, _ = rows.rows(records, list(range(len(records))))
    alone = [rows.rows([record], [0])[0][0] for record in records]
    assert list(together) == alone

"""A tombstone is a version of its record: it wins and loses like one, in any order of days (ADR 0011)."""

import csv
import datetime as dt
import io
import itertools

import pytest

from assets.comics.recompute import recompute_sample
from pipelines.aggregation import AggregateJob, aggregate_days
from pipelines.ingestion import reconcile
from pipelines.ingestion.quarantine import list_quarantine, replay
from tests.comics_market import COLUMNS, day, open_market
from tests.shop import SHOP_YAML, csv_of, open_shop

DELETING = SHOP_YAML.replace(
    "    starts_on", "    deletions: {column: op, one_of: [delete, withdrawn]}\n    starts_on"
)
REVISED = DELETING.replace("    starts_on", "    revision: changed_at\n    starts_on").replace(
    "      extra: jsonb", "      extra: jsonb\n      changed_at: timestamptz"
)
HEADER = "shop,id,item,price,sold_at,op"
SALE = ("north", "1", "chair", "10.00", "2026-09-29T12:00:00Z", "")
OTHER = ("north", "2", "desk", "20.00", "2026-09-29T12:00:00Z", "")
GONE = ("north", "1", "", "", "", "delete")
DAYS = ("2026-10-01", "2026-10-02", "2026-10-03")
SPIDER = "Amazing Spider-Man #300 CGC 9.8"


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path, DELETING)
    yield opened
    opened.close()


def land(shop, landing_day, *rows, header=HEADER, name=None):
    shop.land(landing_day, name or f"{landing_day}.csv", csv_of(*rows, header=header))
    return shop.load(landing_day)


def account(load):
    return (load.landed_rows, load.loaded_rows, load.duplicate_rows, load.quarantined_rows)


def aggregate(shop, *days):
    return aggregate_days(
        AggregateJob(shop.database, shop.system, shop.system.aggregates["sales_by_day"]), list(map(day, days))
    )


def sound(shop, *days):
    """What must hold of landing days, in words when it does not."""
    return [problem for d in days for problem in reconcile(shop.database, shop.feed, day(d)).problems]


def current(shop):
    query = """
        SELECT sale_id, price::text FROM shop.sales JOIN longbox.record_keys USING (key_hash, content_hash)
        WHERE is_current ORDER BY 1"""
    return shop.rows(query)


def test_a_deletion_is_a_loaded_row_that_is_in_no_table_and_takes_its_record_away(shop):
    land(shop, DAYS[0], SALE, OTHER)
    assert aggregate(shop, DAYS[0]).rows_written == 1
    load = land(shop, DAYS[1], GONE)
    assert (account(load), load.outcome) == ((1, 1, 0, 0), "complete")
    assert (current(shop), shop.rows("SELECT count(*) FROM shop.sales")) == ([("2", "20.00")], [(2,)])
    aggregate(shop, DAYS[1])
    assert shop.rows("SELECT sales, volume::text FROM shop.sales_by_day") == [(1, "20.00")]
    found = reconcile(shop.database, shop.feed, day(DAYS[1]))
    assert (found.table_rows, found.tombstones, found.problems) == (0, 1, ())
    assert shop.rows("SELECT landing_day::text, line FROM longbox.tombstones") == [(DAYS[1], 2)]


def test_a_record_that_lands_again_after_its_deletion_is_back_and_can_be_deleted_again(shop):
    days = ("2026-10-01", "2026-10-02", "2026-10-03", "2026-10-04")
    seen = []
    for landing_day, row in zip(days, (SALE, GONE, SALE, (*GONE[:5], "WITHDRAWN ")), strict=True):
        land(
            shop, landing_day, row, OTHER, (*OTHER[:4], f"{landing_day}T00:00:00Z", "")
        )  # no file is like another
        aggregate(shop, landing_day)
        seen.append([row[0] for row in current(shop)])
    assert seen == [["1", "2"], ["2"], ["1", "2"], ["2"]]
    assert sound(shop, *days) == []


@pytest.mark.parametrize("order", list(itertools.permutations(DAYS)))
def test_any_order_of_days_ends_with_the_same_records(shop, order):
    landed = {
        DAYS[0]: [SALE, OTHER, (*SALE[:1], "3", *SALE[2:])],
        DAYS[1]: [GONE, ("north", "4", "", "", "", "delete"), ("north", "3", "", "", "", "delete")],
        DAYS[2]: [(*SALE[:3], "11.00", *SALE[4:]), ("north", "2", "", "", "", "withdrawn")],
    }
    for landing_day in order:
        land(shop, landing_day, *landed[landing_day])
        aggregate(shop, landing_day)
    assert current(shop) == [("1", "11.00")]
    assert shop.rows("SELECT sales, volume::text FROM shop.sales_by_day") == [(1, "11.00")]
    assert sound(shop, *DAYS) == []
    for landing_day in order:
        assert shop.load(landing_day).rows_written == 0
        assert aggregate(shop, landing_day).rows_written == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_revision_decides_whether_a_deletion_or_a_newer_version_wins(
    database_url, object_store_url, tmp_path, order
):
    shop = open_shop(database_url, object_store_url, tmp_path, REVISED)
    header = f"{HEADER},changed_at"
    files = [
        [(*SALE, "2026-10-02T00:00:00Z"), (*OTHER, "2026-10-02T00:00:00Z")],
        [(*GONE, "2026-10-01T00:00:00Z"), ("north", "2", "", "", "", "delete", "2026-10-03T00:00:00Z")],
    ]
    for number in order:
        land(shop, DAYS[number], *files[number], header=header)
    assert current(shop) == [("1", "10.00")]
    load = land(shop, DAYS[2], (*GONE, ""), header=header)
    assert account(load) == (1, 0, 0, 1)
    entry = list_quarantine(shop.database)[0]
    shop.close()
    assert (entry.column, entry.reason) == ("changed_at", "missing_value")


def test_a_file_of_deletions_needs_no_other_column_and_one_with_sales_is_put_aside_whole(shop):
    land(shop, DAYS[0], SALE, OTHER)
    load = land(shop, DAYS[1], ("delete", "north", "1"), ("delete", "", "2"), header="Op,shop,id")
    assert account(load) == (2, 1, 0, 1)
    entry = list_quarantine(shop.database)[0]
    assert (entry.line, entry.column, entry.reason) == (3, "shop", "missing_value")
    load = land(shop, DAYS[2], ("delete", "north", "2"), ("", "north", "9"), header="op,shop,id")
    assert (account(load), load.outcome) == ((0, 0, 0, 0), "incomplete")
    assert "missing_column" in load.problems[0] and "price" in load.problems[0]
    assert current(shop) == [("2", "20.00")]
    assert replay(shop.loader()).remaining == 1
    assert sound(shop, *DAYS) == []


def test_a_deletion_may_hold_junk_beside_its_key_and_a_file_without_the_mark_deletes_nothing(shop):
    land(shop, DAYS[0], SALE, OTHER)
    assert account(land(shop, DAYS[1], (*GONE[:3], "n/a", "yesterday", "delete"))) == (1, 1, 0, 0)
    assert account(land(shop, DAYS[2], SALE[:5], header=HEADER.removesuffix(",op"))) == (1, 0, 1, 0)
    assert current(shop) == [("1", "10.00"), ("2", "20.00")]


@pytest.mark.parametrize("mark", ['"delete"', "true", "1"])
def test_json_lines_carry_deletions_by_text_truth_or_number(shop, mark):
    shop.reload(DELETING.replace("[delete, withdrawn]", '[delete, "true", 1]'))
    lines = '{"shop":"north","id":"1","price":1,"sold_at":"2026-09-29"}\n{"shop":"north","id":"1","op":%s}\n'
    shop.land(DAYS[0], "a.jsonl", lines % mark)
    load = shop.load(DAYS[0])
    assert (account(load), load.files[0].unknown_columns, current(shop)) == ((2, 2, 0, 0), (), [])
    assert sound(shop, DAYS[0]) == []


def comics_file(*rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({"marketplace": "ebay", **row} for row in rows)
    return text.getvalue().encode()


def sold(listing_id, price, changed, **more):
    return {
        "listing_id": listing_id, "title": SPIDER, "price": price, "currency": "USD",
        "sold_at": "2026-09-05T12:00:00Z", "updated_at": f"2026-09-{changed}T00:00:00Z", **more,
    }  # fmt: skip


def gone(listing_id, changed):
    return {"listing_id": listing_id, "status": "deleted", "updated_at": f"2026-09-{changed}T00:00:00Z"}


COMICS = {
    "2026-10-06": [
        sold("A", "100", "06"),
        sold("B", "50", "06"),
        sold("C", "70", "09"),
        sold("D", "80", "06"),
    ],
    "2026-10-07": [gone("A", "07"), gone("B", "07"), gone("C", "08"), gone("E", "07")],
    "2026-10-10": [
        sold("B", "55", "08", sold_at="2026-08-01T00:00:00Z"),
        sold("A", "90", "05"),
        gone("D", "10"),
    ],
}


@pytest.fixture
def markets(clone, tmp_path):
    import contextlib

    with contextlib.ExitStack() as stack:

        def make(name):
            (tmp_path / name).mkdir()
            made = open_market(stack.enter_context(clone()), (tmp_path / name).as_uri())
            stack.callback(made.close)
            made.set_rates("2026-07-31", "2026-09-04")
            return made

        yield make


def test_deleted_sales_leave_prices_and_statistics_exactly_whatever_the_order(markets):
    outcomes = {}
    for order in itertools.permutations(COMICS):
        market = markets("-".join(order))
        for landing_day in order:
            market.store.put(f"{market.feed.prefix}{landing_day}/a.csv", comics_file(*COMICS[landing_day]))
            load = market.load(landing_day)
            assert (load.outcome, load.quarantined_rows) == ("complete", 0)
            market.run(landing_day)
        outcomes[order] = market.digest()
        found = market.rows(
            "SELECT source_record_id, price::text FROM comics.pricing_data_normalized ORDER BY 1"
        )
        assert found == [("B", "55.00"), ("C", "70.00")]
        days = [market.normaliser.reconcile(day(landing_day)) for landing_day in COMICS]
        assert [problem for found in days for problem in found.problems] == []
        counts = [(d.raw_rows, d.normalised_rows, d.superseded_rows, d.deleted_rows) for d in days]
        assert counts == [(4, 1, 1, 2), (0, 0, 0, 0), (2, 1, 0, 1)]
        assert recompute_sample(market.database, 200) == []
        written = market.written()
        market.run(*COMICS)
        assert market.written() == written
    assert len({tuple(sorted(outcome.items())) for outcome in outcomes.values()}) == 1


def test_a_day_accounts_for_deleted_versions_when_it_is_normalised(markets):
    market = markets("one")
    market.store.put(f"{market.feed.prefix}2026-10-06/a.csv", comics_file(*COMICS["2026-10-06"]))
    market.load("2026-10-06")
    market.run("2026-10-06")
    market.store.put(f"{market.feed.prefix}2026-10-07/a.csv", comics_file(*COMICS["2026-10-07"]))
    market.load("2026-10-07")
    (result,) = market.normalise("2026-10-07")
    assert (result.raw_rows, result.rows_deleted, result.rows_written) == (0, 2, 0)
    (first,) = market.normalise("2026-10-06")
    assert (first.raw_rows, first.deleted_rows, first.normalised_rows) == (4, 2, 2)
    assert isinstance(first.landing_day, dt.date)

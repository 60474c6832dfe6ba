"""Landed sales become prices, exactly and whatever the order (promises 2, 3, 4, 7), on a real PostgreSQL."""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from assets.comics.aggregate import aggregate_days
from assets.comics.normalise import ComicsRules, grade_band, match_comics
from assets.comics.recompute import recompute_sample
from pipelines.catalog.days import record_day
from pipelines.normalisation.engine import normalise_days
from tests.comics_market import SPIDER, day, random_sales, sale


def test_a_sale_becomes_a_comic_a_row_in_dollars_and_its_periods(market):
    market.land(
        "2026-10-06", sale(SPIDER, "100.00"), sale("AMAZING SPIDERMAN 300 cgc 9.8", "170.00", currency="GBP")
    )
    (result,) = market.normalise("2026-10-06")
    assert (result.raw_rows, result.normalised_rows, result.rows_written, result.outcome) == (
        2,
        2,
        2,
        "complete",
    )
    run = market.aggregate("2026-10-06")
    assert (run.windows, run.periods_written) == (1, 3)
    assert market.rows("SELECT title FROM comics.comics") == [("Amazing Spider-Man #300",)]
    found = market.rows(
        "SELECT period_type, period_start::text, sale_count, volume_usd, median_usd, stddev_usd "
        "FROM comics.pricing_data_aggregated ORDER BY 1"
    )
    assert [tuple(map(str, row)) for row in found] == [
        ("day", "2026-10-05", "2", "320.00", "160.00", "84.85"),
        ("month", "2026-10-01", "2", "320.00", "160.00", "84.85"),
        ("week", "2026-10-05", "2", "320.00", "160.00", "84.85"),
    ]
    assert market.normaliser.reconcile(day("2026-10-06")).problems == ()


def test_running_everything_again_writes_no_row(market):
    market.land(
        "2026-10-06",
        *(sale(SPIDER, f"{n}.00") for n in range(10, 30)),
        sale("nonsense"),
        sale("Hulk 1-10 lot"),
    )
    market.run("2026-10-06")
    written, digest = market.written(), market.digest()
    (again,) = market.normalise("2026-10-06")
    run = market.aggregate("2026-10-06")
    assert (again.rows_written, again.rows_deleted, again.rejected_rows, again.normalised_rows) == (
        0,
        0,
        1,
        21,
    )
    assert (run.periods_written, run.periods_deleted, run.flags_changed) == (0, 0, 0)
    assert (market.written(), market.digest()) == (written, digest)


def corrected_days():
    """Landing days with a correction to another month, price and comic, a late row, a loser that arrives late."""
    first = {"listing_id": "A", "updated_at": "2026-10-05T00:00:00Z"}
    moved = {"listing_id": "A", "updated_at": "2026-10-07T00:00:00Z", "sold_at": "2026-09-30T23:59:00Z"}
    newer = {"listing_id": "B", "updated_at": "2026-10-09T00:00:00Z"}
    older = {"listing_id": "B", "updated_at": "2026-10-01T00:00:00Z", "sold_at": "2026-08-03T10:00:00Z"}
    return {
        "2026-10-06": [
            sale(SPIDER, "100.00", **first),
            sale("X-Men #1", "50.00"),
            sale("Hulk 181", "9.00", **newer),
        ],
        "2026-10-07": [sale("Amazing Spider-man 301 CGC 9.8", "120.00", **moved), sale("x men 1", "60.00")],
        "2026-10-10": [sale("Hulk 180", "7.00", **older), sale("X-Men #1", "70.00", "2026-07-15T12:00:00Z")],
    }


def outcome(market, days, order, at_once):
    """Digest after landing `days` in `order`, each normalised and aggregated at once or all together."""
    for landing_day in order:
        market.land(landing_day, *days[landing_day])
        if not at_once:
            market.run(landing_day)
    if at_once:
        market.run(*sorted(order))
    return market.digest()


@pytest.mark.parametrize("order", list(itertools.permutations(["2026-10-06", "2026-10-07", "2026-10-10"])))
def test_corrections_and_late_rows_end_the_same_in_any_order_as_landed_at_once(markets, order):
    days = corrected_days()
    expected = outcome(markets("at_once"), days, sorted(days), at_once=True)
    one_by_one = markets("one_by_one")
    assert outcome(one_by_one, days, order, at_once=False) == expected
    for landing_day in days:
        assert one_by_one.normaliser.reconcile(day(landing_day)).problems == ()
    assert recompute_sample(one_by_one.database, 200) == []


def test_a_correction_that_moves_a_sale_leaves_no_row_and_no_period_behind(market):
    market.land("2026-10-06", sale(SPIDER, listing_id="A"))
    market.run("2026-10-06")
    market.land("2026-10-07", sale(SPIDER, listing_id="A", sold_at="2026-09-10T12:00:00Z"))
    (result,) = market.normalise("2026-10-07")
    assert (result.rows_written, result.rows_deleted, result.touched_groups) == (1, 1, 2)
    market.aggregate("2026-10-07")
    assert market.rows("SELECT sale_date::text FROM comics.pricing_data_normalized") == [("2026-09-10",)]
    found = market.rows("SELECT period_start::text FROM comics.pricing_data_aggregated ORDER BY 1")
    assert found == [("2026-09-01",), ("2026-09-07",), ("2026-09-10",)]
    first = market.normaliser.reconcile(day("2026-10-06"))
    assert (first.raw_rows, first.superseded_rows, first.normalised_rows) == (1, 1, 0)


def test_a_loser_that_arrives_late_is_superseded_and_changes_nothing(market):
    market.land("2026-10-07", sale(SPIDER, "200.00", listing_id="A", updated_at="2026-10-07T00:00:00Z"))
    market.run("2026-10-07")
    digest = market.digest()
    market.land("2026-10-08", sale(SPIDER, "1.00", listing_id="A", updated_at="2026-10-01T00:00:00Z"))
    (result,) = market.normalise("2026-10-08")
    market.aggregate("2026-10-08")
    assert (result.raw_rows, result.superseded_rows, result.rows_written) == (1, 1, 0)
    assert market.digest() == digest


def test_a_version_that_can_no_longer_be_normalised_takes_its_row_and_periods_away(market):
    market.land("2026-10-06", sale(SPIDER, listing_id="A"))
    market.run("2026-10-06")
    market.land("2026-10-07", sale("???", listing_id="A"))
    (result,) = market.normalise("2026-10-07")
    market.aggregate("2026-10-07")
    assert (result.rejected_rows, result.rows_deleted) == (1, 1)
    assert market.rows("SELECT * FROM comics.pricing_data_aggregated") == []
    market.land("2026-10-08", sale(SPIDER, "5.00", listing_id="A"))
    market.run("2026-10-08")
    assert market.rows("SELECT * FROM longbox.rejections") == []


def test_sales_without_a_rate_wait_and_are_replayed_by_the_next_run_once_rates_are_there(market):
    october = {"currency": "GBP", "sold_at": "2026-11-10T12:00:00Z"}
    market.land(
        "2026-11-11", sale(SPIDER, "85.00", **october), sale(SPIDER, "1.00", **october | {"currency": "ZZZ"})
    )
    (result,) = market.normalise("2026-11-11")
    market.aggregate("2026-11-11")
    assert (result.rejected_rows, result.normalised_rows) == (2, 0)
    assert market.rows("SELECT reason FROM longbox.rejections ORDER BY 1") == [
        ("no_rate",),
        ("unknown_currency",),
    ]
    market.set_rates("2026-11-09")
    market.land("2026-11-12", sale("X-Men #1"))
    market.run("2026-11-12")
    found = market.rows(
        "SELECT price_usd::text, fx_rate_on::text FROM comics.pricing_data_normalized WHERE currency = 'GBP'"
    )
    assert found == [("110.00", "2026-11-09")]
    assert (
        len(market.rows("SELECT FROM comics.pricing_data_aggregated WHERE period_start = '2026-11-10'")) == 1
    )
    assert market.normaliser.replay(day("2026-11-12")).records == 0


def test_a_sale_converted_with_an_older_rate_is_converted_again_when_a_nearer_one_comes(market):
    market.land("2026-11-03", sale(SPIDER, "85.00", currency="GBP", sold_at="2026-11-02T12:00:00Z"))
    market.run("2026-11-03")
    query = "SELECT price_usd::text, fx_rate_on::text FROM comics.pricing_data_normalized"
    assert market.rows(query) == [("110.00", "2026-10-30")]
    market.set_rates("2026-11-02", rates={"GBP": "0.80", "USD": "1.00"})
    market.land("2026-11-04", sale("X-Men #1"))
    market.run("2026-11-04")
    assert ("106.25", "2026-11-02") in market.rows(query)
    assert recompute_sample(market.database, 50) == []


def test_two_runs_of_the_same_and_of_other_days_at_once_end_as_one_after_the_other(markets):
    together, apart = markets("together"), markets("apart")
    days = {
        "2026-10-30": list(random_sales(400)),
        "2026-10-31": [row | {"price": "5.00"} for row in random_sales(200)],
    }
    for each in (together, apart):
        for landing_day, sales in days.items():
            each.land(landing_day, *sales)
    apart.run(*days)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: _run_small(together, text), [*days, *days]))
    together.aggregate(*days)
    assert together.digest() == apart.digest()


def _run_small(market, text):
    normaliser = dataclasses.replace(market.normaliser, batch_rows=37)
    match_comics(normaliser, day(text))
    normaliser.normalise_day(day(text))
    aggregate_days(market.database, [day(text)], batch_days=7)


def test_a_day_that_failed_to_load_is_left_out_named_and_does_not_stop_the_others(market):
    market.land("2026-10-06", sale(SPIDER))
    market.land("2026-10-07", sale(SPIDER))
    with market.database.connection() as connection:
        record_day(connection, "comics/pricing_data_raw", day("2026-10-06"), "failed", {}, ["disk"], None)
    results = normalise_days(market.normaliser, [day("2026-10-06"), day("2026-10-07")])
    assert [result.outcome for result in results] == ["failed", "complete"]
    assert "failed at comics/pricing_data_raw" in str(results[0].error)
    run = market.aggregate("2026-10-06", "2026-10-07")
    assert run.failed_days == (day("2026-10-06"),)
    assert run.days == (day("2026-10-07"),)


def test_a_changed_rule_normalises_what_older_rules_made(market, monkeypatch):
    market.land("2026-10-06", sale(SPIDER), sale("???"))
    market.run("2026-10-06")
    monkeypatch.setattr(ComicsRules, "rule_version", 99)
    done = market.normaliser.renormalise(day("2026-10-07"))
    assert (done.records, done.rows_written) == (2, 0), "the row says 99 now, and nothing else of it changed"
    assert market.rows("SELECT rule_version FROM comics.pricing_data_normalized") == [(99,)]
    assert market.rows("SELECT rule_version FROM longbox.rejections") == [(99,)]
    assert market.normaliser.renormalise(day("2026-10-07")).records == 0


def test_the_spelling_that_is_shown_does_not_depend_on_which_came_first(markets):
    spellings = [
        "AMAZING SPIDERMAN 300",
        "amazing spider-man #300 (1988)",
        "The Amazing Spider-Man #300 (Marvel)",
    ]
    digests = set()
    for index, order in enumerate(itertools.permutations(spellings)):
        each = markets(f"m{index}")
        for number, title in enumerate(order):
            each.land(f"2026-10-{number + 10}", sale(title, listing_id=title))
            each.run(f"2026-10-{number + 10}")
        digests.add(
            tuple(
                (table, value)
                for table, value in each.digest().items()
                if table in ("publishers", "series", "comics")
            )
        )
    assert len(digests) == 1


def test_grade_bands_are_the_same_in_python_and_in_sql(market):
    for tenth in range(3, 101):
        grade = Decimal(tenth) / 10
        assert market.rows("SELECT comics.grade_band(%s)", grade) == [(grade_band(grade),)]

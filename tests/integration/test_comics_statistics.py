"""Flags and price statistics of landed sales against other computations, and what is pending of them after a kill."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import psycopg
import pytest

from assets.comics.aggregate import aggregate_days, refresh_views
from assets.comics.normalise import match_comics
from assets.comics.recompute import recompute_sample
from pipelines.normalisation import batch
from tests.comics_market import SPIDER, day, random_sales, sale


def test_the_same_sale_on_two_marketplaces_counts_once_and_is_flagged_not_deleted(market):
    twice = {"sold_at": "2026-10-05T12:00:30Z"}
    market.land(
        "2026-10-06",
        sale(SPIDER, "100.00", marketplace="heritage", **twice),
        sale(SPIDER, "100.00", marketplace="ebay", sold_at="2026-10-05T12:00:01Z"),
        sale(SPIDER, "100.00", marketplace="ebay", sold_at="2026-10-05T12:00:59Z"),
        sale(SPIDER, "100.00", marketplace="comiclink", sold_at="2026-10-05T12:01:00Z"),
    )
    market.run("2026-10-06")
    flagged = market.rows(
        "SELECT source_marketplace FROM comics.pricing_data_normalized WHERE is_cross_listed"
    )
    assert flagged == [("heritage",)]
    counts = "SELECT DISTINCT sale_count, cross_listed_count FROM comics.pricing_data_aggregated"
    assert market.rows(counts) == [(3, 1)]


def test_outliers_are_flagged_by_their_window_and_left_out(market):
    prices = ["100", "101", "99", "102", "98", "100.50", "5000", "1"]
    market.land("2026-10-06", *(sale(SPIDER, price) for price in prices))
    market.run("2026-10-06")
    found = market.rows(
        "SELECT price::text FROM comics.pricing_data_normalized WHERE is_outlier ORDER BY price"
    )
    assert found == [("1.00",), ("5000.00",)]
    assert market.rows(
        "SELECT DISTINCT sale_count, outlier_count, median_usd::text FROM comics.pricing_data_aggregated"
    ) == [(6, 2, "100.25")]
    # the neighbours change: what was far is no longer
    market.land(
        "2026-10-07", *(sale(SPIDER, str(price)) for price in (3000, 4000, 4500, 5500, 6000, 10, 5, 2, 3))
    )
    market.run("2026-10-07")
    assert market.rows("SELECT FROM comics.pricing_data_normalized WHERE is_outlier") == []
    assert recompute_sample(market.database, 50) == []


def test_prices_that_are_mostly_equal_have_no_spread_and_still_show_the_one_that_is_far(market):
    market.land(
        "2026-10-06", *(sale(SPIDER, "100") for _ in range(9)), sale(SPIDER, "900"), sale("Hulk 181", "3")
    )
    market.land("2026-10-07", *(sale("Hulk 181", "3") for _ in range(6)))
    market.run("2026-10-06", "2026-10-07")
    assert market.rows("SELECT price::text FROM comics.pricing_data_normalized WHERE is_outlier") == [
        ("900.00",)
    ]


def test_the_statistics_equal_a_recomputation_with_pandas(market):
    market.land("2026-10-30", *random_sales(2000))
    market.run("2026-10-30")
    rows = market.rows(
        "SELECT comic_id::text, grade_band, sale_date, price_usd::float8, is_outlier "
        "FROM comics.pricing_data_normalized WHERE NOT is_lot"
    )
    frame = pd.DataFrame(rows, columns=["comic", "band", "day", "price", "is_outlier"])
    moments = pd.to_datetime(frame["day"])
    window = [frame["comic"], frame["band"], moments.dt.to_period("M")]
    logs = np.log(frame["price"])
    deviations = (logs - logs.groupby(window).transform("median")).abs()
    far = 0.6745 * deviations / deviations.groupby(window).transform("median") > 3.5
    far &= frame["price"].groupby(window).transform("size") >= 5
    assert list(far) == list(frame["is_outlier"])
    assert far.sum() > 20
    kept = frame[~far]
    for kind, period in (("day", "D"), ("week", "W-SUN"), ("month", "M")):
        start = pd.to_datetime(kept["day"]).dt.to_period(period).dt.start_time.dt.date
        fresh = kept.groupby(["comic", "band", start])["price"].describe()
        table = pd.DataFrame(
            market.rows(
                "SELECT comic_id::text, grade_band, period_start, sale_count, mean_usd::float8, stddev_usd::float8, "
                "min_usd::float8, p25_usd::float8, median_usd::float8, p75_usd::float8, max_usd::float8 "
                "FROM comics.pricing_data_aggregated WHERE period_type = %s AND sale_count > 0 ORDER BY 1, 2, 3",
                kind,
            )
        ).set_index([0, 1, 2])
        assert len(table) == len(fresh) > 10
        fresh = fresh.reindex(table.index)
        np.testing.assert_allclose(table.to_numpy(float), fresh.to_numpy(float), atol=0.00501)
    assert recompute_sample(market.database, 50) == []


class Killed(RuntimeError):
    """Stands for a process that dies between two transactions."""


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_killed_between_batches_and_run_again_equals_undisturbed(markets, monkeypatch, batches):
    sales, more = (
        list(random_sales(300)),
        [row | {"price": "77.00"} for row in itertools.islice(random_sales(300), 90)],
    )
    quiet, killed = markets("quiet"), markets("killed")
    for each in (quiet, killed):
        each.land("2026-10-30", *sales)
        each.run("2026-10-30")
        each.land("2026-10-31", *more)
    quiet.run("2026-10-31")
    normaliser = dataclasses.replace(killed.normaliser, batch_rows=20)
    run, done = batch.BatchWriter.run, itertools.count()

    def dying(*arguments):
        if next(done) == batches:
            raise Killed
        return run(*arguments)

    monkeypatch.setattr(batch.BatchWriter, "run", dying)
    match_comics(normaliser, day("2026-10-31"))
    with pytest.raises(Killed):
        normaliser.normalise_day(day("2026-10-31"))
    monkeypatch.undo()
    assert normaliser.normalise_day(day("2026-10-31")).problems == ()
    with pytest.raises(Killed):
        aggregate_days(killed.database, [day("2026-10-31")], on_batch=_die, batch_days=3)
    killed.aggregate("2026-10-31")
    assert killed.digest() == quiet.digest()
    assert pending(killed) == pending(quiet) == 0
    assert killed.aggregate("2026-10-30", "2026-10-31").periods_written == 0


def _die(_):
    raise Killed


def pending(market):
    """How many touched days of groups wait to be aggregated."""
    return market.rows("SELECT count(*) FROM longbox.touched")[0][0]


def test_what_is_pending_does_not_grow_with_the_days_and_a_kill_leaves_the_rest_of_it(market):
    for number, landing_day in enumerate(["2026-10-28", "2026-10-29", "2026-10-30"]):
        market.land(landing_day, *random_sales(60, seed=number))
        market.normalise(landing_day)
        before = pending(market)
        with pytest.raises(Killed):
            aggregate_days(market.database, [day(landing_day)], on_batch=_die, batch_days=1)
        assert 0 < pending(market) < before
        market.aggregate(landing_day)
        assert pending(market) == 0
    assert recompute_sample(market.database, 50) == []


def test_a_landing_day_that_is_aggregated_again_mends_what_was_changed_by_hand(market):
    market.land("2026-10-30", *random_sales(200))
    market.run("2026-10-30")
    undisturbed = market.digest()
    with market.owner.connection() as connection:
        connection.execute("DELETE FROM comics.pricing_data_aggregated WHERE period_start > '2026-09-01'")
        connection.execute("UPDATE comics.pricing_data_aggregated SET sale_count = sale_count + 1")
        connection.execute(
            "INSERT INTO comics.pricing_data_aggregated (comic_id, grade_band, period_type, period_start, sale_count, "
            "volume_usd) SELECT DISTINCT ON (comic_id) comic_id, grade_band, 'day', date_trunc('month', sale_date) "
            "+ interval '27 days', 1, 1 FROM comics.pricing_data_normalized WHERE NOT is_lot ON CONFLICT DO NOTHING"
        )
    assert market.digest() != undisturbed
    market.aggregate("2026-10-30")
    assert market.digest() == undisturbed


PERCENTILES = """
WITH sale AS (
    SELECT comic_id, grade_band, date_trunc('month', sale_date)::date AS period_start, min(price_usd) AS low,
           max(price_usd) AS high,
           percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY price_usd::float8) AS shares
    FROM comics.pricing_data_normalized WHERE NOT (is_lot OR is_outlier OR is_cross_listed) GROUP BY 1, 2, 3)
SELECT count(*), count(*) FILTER (
           WHERE (p25_usd, median_usd, p75_usd, min_usd, max_usd) IS DISTINCT FROM
                 (round(shares[1]::numeric, 2), round(shares[2]::numeric, 2), round(shares[3]::numeric, 2), low, high))
FROM sale JOIN comics.pricing_data_aggregated USING (comic_id, grade_band, period_start) WHERE period_type = 'month'
"""


def test_percentiles_are_those_of_percentile_cont_to_the_cent(market):
    market.land("2026-10-30", *random_sales(1500))
    market.run("2026-10-30")
    ((periods, differing),) = market.rows(PERCENTILES)
    assert periods > 10
    assert differing == 0


def test_the_views_are_refreshed_from_the_aggregates(market):
    market.land("2026-10-06", *(sale(SPIDER, str(price)) for price in (90, 100, 110)))
    market.run("2026-10-06")
    views = {view.name: view.rows for view in refresh_views(market.database)}
    assert views["market_prices"] == 1
    assert views["trending_comics"] == 1
    assert market.rows("SELECT current_price_usd::text FROM comics.market_prices") == [("100.00",)]


@pytest.mark.parametrize(
    "change", ["DELETE FROM comics.comics", "UPDATE comics.comics SET comic_id = gen_random_uuid()"]
)
def test_a_comic_stays_while_its_statistics_stand_also_when_its_sales_are_archived(market, change):
    market.land("2026-10-06", sale(SPIDER))
    market.run("2026-10-06")
    with market.owner.connection() as connection:
        connection.execute("DELETE FROM comics.pricing_data_normalized")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="has price statistics"):
        with market.owner.connection() as connection:
            connection.execute(change)
    with market.owner.connection() as connection:
        connection.execute("DELETE FROM comics.pricing_data_aggregated")
        assert connection.execute(change).rowcount == 1

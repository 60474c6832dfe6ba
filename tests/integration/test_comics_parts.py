"""Normalising and aggregating in parts at the same time equals doing it in one, whatever stops or meets it."""

import dataclasses
import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from assets.comics.aggregate import ASSET, SOURCE, TARGET, aggregate_days, refresh_views
from assets.comics.normalise import match_comics
from assets.comics.parts import all_parts
from assets.comics.recompute import recompute_sample
from deploy.local.processes import wait_until
from pipelines.normalisation.engine import DayFailure, normalise_days
from pipelines.normalisation.locks import lock_relation
from tests.comics_market import day, sale

DAY, LATER = "2026-10-30", "2026-10-31"
IN_PARTS = {"parts_from": 0, "batch_days": 7}
SMALL_PARTS = {"parts_from": 0, "batch_rows": 30}
MADE_WHOLE: dict[str, tuple] = {}  # the same for every test of this module


def sales_of_many(count=240, price=0):
    """Sales of forty comics, which are in both parts, over three months."""
    first = dt.datetime(2026, 7, 27, 12, tzinfo=dt.UTC)
    return [
        sale(f"X-Men #{number % 40}", f"{price or 20 + number}", (first + dt.timedelta(days=number % 90)).isoformat(),
             listing_id=f"p{number}")
        for number in range(count)
    ]  # fmt: skip


def landed(market):
    """Two days of which nothing is aggregated yet; the second corrects sales of the first."""
    market.land(DAY, *sales_of_many())
    market.land(LATER, *sales_of_many(90, price=33))
    market.normalise(DAY, LATER)
    return market


def pending(market):
    """How many sale days wait to be aggregated, by part."""
    query = "SELECT count(*) FROM longbox.touched WHERE split_part(group_key, '|', 1)::uuid BETWEEN %s AND %s"
    return [market.rows(query, part.first, part.last)[0][0] for part in all_parts()]


def outcomes(market):
    """Of the landing days, as aggregating them recorded it."""
    query = "SELECT DISTINCT outcome FROM longbox.day_results WHERE asset = %s"
    return [row[0] for row in market.rows(query, ASSET)]


def in_parts(market):
    return aggregate_days(market.database, [day(DAY), day(LATER)], **IN_PARTS)


@pytest.fixture
def truth(markets):
    """What aggregating the same days in one part makes, and its account."""
    if "aggregated" not in MADE_WHOLE:
        whole = landed(markets("whole"))
        MADE_WHOLE["aggregated"] = whole.aggregate(DAY, LATER).counts(), whole.digest()
    return MADE_WHOLE["aggregated"]


def test_in_parts_the_tables_and_the_account_are_those_of_one(market, truth):
    landed(market)
    assert min(pending(market)) > 20
    assert (in_parts(market).counts(), market.digest()) == truth
    assert pending(market) == [0, 0]
    assert recompute_sample(market.database, 50) == []
    again = in_parts(market)
    assert (again.flags_changed, again.periods_written, again.periods_deleted) == (0, 0, 0)
    assert market.digest() == truth[1]


def test_days_that_are_aggregated_again_in_parts_mend_what_was_changed_by_hand(market, truth):
    landed(market)
    in_parts(market)
    with market.owner.connection() as connection:
        connection.execute("DELETE FROM comics.pricing_data_aggregated WHERE period_start > '2026-09-01'")
        connection.execute("UPDATE comics.pricing_data_aggregated SET sale_count = sale_count + 1")
    in_parts(market)
    assert market.digest() == truth[1]


def test_two_runs_in_parts_at_once_make_what_one_makes(market, truth):
    landed(market)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(in_parts, market) for _ in range(2)]
    assert [run.result().failed_days for run in runs] == [(), ()]
    assert pending(market) == [0, 0]
    assert market.digest() == truth[1]
    assert in_parts(market).periods_written == 0


def waiting_locks(market):
    """How many sessions wait for an advisory lock of this database."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return market.rows(query)[0][0]


def test_a_part_waits_for_its_own_lock_alone(market, truth):
    landed(market)
    first, second = all_parts()
    with market.database.connection() as holder, ThreadPoolExecutor(1) as pool:
        first.lock(holder, SOURCE, TARGET)
        run = pool.submit(in_parts, market)
        assert wait_until(lambda: pending(market)[second.number] == 0 or None, seconds=180)
        assert pending(market)[first.number] > 20
        assert not run.done()
        holder.commit()
        run.result(timeout=180)
    assert market.digest() == truth[1]


def test_no_part_begins_while_the_sales_are_being_normalised_and_the_reverse(market, truth):
    landed(market)
    before = pending(market)
    with market.database.connection() as writer, ThreadPoolExecutor(1) as pool:
        lock_relation(writer, SOURCE)
        run = pool.submit(in_parts, market)
        assert wait_until(lambda: waiting_locks(market) == len(all_parts()) or None, seconds=180)
        assert pending(market) == before
        writer.commit()
        run.result(timeout=180)
    assert market.digest() == truth[1]
    with market.database.connection() as reader, market.database.connection() as writer:
        all_parts()[1].lock(reader, SOURCE, TARGET)
        writer.execute("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            lock_relation(writer, SOURCE)
        writer.rollback()


def refuse(market, table, rows):
    """Let a table refuse some of its new rows."""
    with market.owner.connection() as connection:
        connection.execute(
            "CREATE FUNCTION comics.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE check_violation USING MESSAGE = 'no such price'; END $$;"
            f"CREATE TRIGGER refuse BEFORE INSERT ON comics.{table} FOR EACH ROW WHEN ({rows}) "
            "EXECUTE FUNCTION comics.refuse()"
        )


def accept(market):
    """Undo `refuse`."""
    with market.owner.connection() as connection:
        connection.execute("DROP FUNCTION comics.refuse CASCADE")


def test_a_part_that_fails_fails_the_day_and_leaves_what_the_other_has_done(market, truth):
    landed(market)
    refuse(market, "pricing_data_aggregated", f"new.comic_id >= '{all_parts()[1].first}'")
    before = pending(market)
    with pytest.raises(psycopg.errors.CheckViolation, match="no such price"):
        in_parts(market)
    assert outcomes(market) == ["failed"]
    done, left = pending(market)
    assert done <= before[0]
    assert left == before[1]
    kept = market.rows(
        "SELECT count(*) FROM comics.pricing_data_aggregated WHERE comic_id >= %s", all_parts()[1].first
    )
    assert kept == [(0,)]
    accept(market)
    in_parts(market)
    assert outcomes(market) == ["complete"]
    assert pending(market) == [0, 0]
    assert market.digest() == truth[1]


def test_views_that_do_not_read_each_other_are_refreshed_from_the_same_prices(market):
    landed(market)
    in_parts(market)
    names = [view.name for view in refresh_views(market.database)]
    assert names.index("market_prices") < names.index("collection_values")
    assert names.index("market_prices") < names.index("market_insights")
    query = (
        "SELECT (SELECT count(*) FROM comics.market_prices), "
        "(SELECT count(DISTINCT as_of) FROM (SELECT as_of FROM comics.market_prices UNION "
        "SELECT as_of FROM comics.trending_comics UNION SELECT as_of FROM comics.market_insights) AS moments)"
    )
    assert market.rows(query) == [(40, 1)]


def loaded(market):
    """The same two days, matched and not normalised."""
    market.land(DAY, *sales_of_many())
    market.land(LATER, *sales_of_many(90, price=33))
    for text in (DAY, LATER):
        match_comics(market.normaliser, day(text))
    return market


def normalise_in_parts(market):
    return normalise_days(dataclasses.replace(market.normaliser, **SMALL_PARTS), [day(DAY), day(LATER)])


def counts_of(results):
    """The accounts of days; those that failed have none."""
    return [result.counts() for result in results if not isinstance(result, DayFailure)]


@pytest.fixture
def normalised(markets):
    """What normalising the same days whole makes, what it notes for aggregation, and its account."""
    if "normalised" not in MADE_WHOLE:
        whole = loaded(markets("normalised"))
        counts = counts_of(normalise_days(whole.normaliser, [day(DAY), day(LATER)]))
        MADE_WHOLE["normalised"] = whole.digest(), pending(whole), counts
    return MADE_WHOLE["normalised"]


def test_normalising_in_parts_makes_the_rows_and_the_account_of_normalising_whole(market, normalised):
    loaded(market)
    counts = counts_of(normalise_in_parts(market))
    assert (market.digest(), pending(market), counts) == normalised
    assert all(market.normaliser.reconcile(day(text)).problems == () for text in (DAY, LATER))
    before = market.written()
    normalise_in_parts(market)
    assert market.written() == before


def test_two_runs_that_normalise_in_parts_and_one_that_aggregates_meet_and_nothing_is_missed(
    market, normalised, truth
):
    loaded(market)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(normalise_in_parts, market) for _ in range(2)]
        runs.append(pool.submit(aggregate_days, market.database, [day(DAY), day(LATER)], **IN_PARTS))
        results = [run.result() for run in runs]
    assert not [each for days in results[:2] for each in days if isinstance(each, DayFailure)]
    in_parts(market)
    assert pending(market) == [0, 0]
    assert market.digest() == truth[1]
    assert recompute_sample(market.database, 50) == []


def test_a_part_that_cannot_be_normalised_fails_the_day_and_running_again_completes(market, normalised):
    loaded(market)
    refuse(market, "pricing_data_normalized", "new.key_hash >= '80000000-0000-0000-0000-000000000000'")
    failed, later = normalise_in_parts(market)
    assert (type(failed), type(later)) == (DayFailure, DayFailure)
    assert "no such price" in str(failed.error)
    halves = "SELECT DISTINCT left(key_hash::text, 1) < '8' FROM comics.pricing_data_normalized"
    assert market.rows(halves) == [(True,)]
    accept(market)
    assert counts_of(normalise_in_parts(market)) != []
    assert (market.digest(), pending(market)) == normalised[:2]
    assert all(market.normaliser.reconcile(day(text)).problems == () for text in (DAY, LATER))

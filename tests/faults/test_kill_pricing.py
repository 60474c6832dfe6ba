"""kill -9 in the middle of normalising and aggregating: nothing is lost or doubled, and running again completes."""

import itertools
import random
import signal

import psycopg
import pytest

from assets.comics.recompute import recompute_sample
from deploy.local.processes import wait_until
from tests import forks
from tests.comics_market import day, open_market, sale
from tests.faults.kill_worker import run_pricing

DAY, LATER = "2026-10-30", "2026-10-31"


@pytest.fixture
def market(database_url, object_store_url):
    opened = open_market(database_url, object_store_url)
    sales = [
        sale(
            f"X-Men #{number % 40}",
            f"{10 + number}",
            f"2026-{7 + number % 4:02d}-{1 + number % 28:02d}",
            listing_id=str(number),
        )
        for number in range(1500)
    ]
    opened.land(DAY, *sales)
    opened.land(
        LATER,
        *(row | {"price": "500", "sold_at": "2026-06-15"} for row in itertools.islice(sales, 0, None, 3)),
    )
    yield opened
    opened.close()


@pytest.mark.parametrize("table", ["pricing_data_normalized", "pricing_data_aggregated"])
def test_a_killed_run_that_is_run_again_equals_an_undisturbed_one(
    market, database_url, object_store_url, table
):
    place = database_url, object_store_url
    killed = [_run_and_kill(place, market, table, least) for least in (1, 200, 400)]
    assert killed == [-signal.SIGKILL] * 3
    last = forks.start(run_pricing, *place, (DAY, LATER))
    last.join()
    assert last.exitcode == 0
    disturbed = market.digest()
    for landing_day in (DAY, LATER):
        assert market.normaliser.reconcile(day(landing_day)).problems == ()
    assert recompute_sample(market.database, 100, seed=random.randrange(1000)) == []
    with market.owner.connection() as connection:
        connection.execute(
            "TRUNCATE comics.pricing_data_aggregated, comics.pricing_data_normalized, longbox.touched"
        )
    market.run(DAY, LATER)
    assert market.digest() == disturbed
    assert market.aggregate(DAY, LATER).periods_written == 0


def _run_and_kill(place, market, table, least):
    """Kill the run once the table has so many rows, or when it comes to its end; returns its exit code."""
    with psycopg.connect(place[0]) as holder:
        # the row in which the run notes the outcome of the day, so that it cannot end before it is killed
        holder.execute(
            "INSERT INTO longbox.day_results (asset, landing_day, outcome) VALUES (%s, %s, 'failed')",
            [f"comics/{table}", DAY],
        )
        process = forks.start(run_pricing, *place, (DAY, LATER))
        progress = (
            f"SELECT (SELECT count(*) FROM comics.{table}) >= %s "
            "OR EXISTS (SELECT FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid)))"
        )

        def is_far_enough():
            [(is_there,)] = market.rows(progress, least, holder.info.backend_pid)
            return True if is_there or process.exitcode is not None else None

        assert wait_until(is_far_enough, seconds=240)
        process.kill()
        process.join()
        holder.rollback()
    return process.exitcode

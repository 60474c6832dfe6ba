"""kill -9 in the middle of normalising and aggregating: nothing is lost or doubled, and running again completes."""

import itertools
import os
import random
import signal
import subprocess
import sys

import pytest

from assets.comics.recompute import recompute_sample
from deploy.local.processes import wait_until
from resources.settings import PROJECT_ROOT
from tests.comics_market import day, open_market, sale

DAY, LATER = "2026-10-30", "2026-10-31"
STEPS = """
import dataclasses, sys
from assets.comics.aggregate import aggregate_days
from assets.comics.normalise import match_comics
from tests.comics_market import day, open_market
market = open_market(sys.argv[1], sys.argv[2])
normaliser = dataclasses.replace(market.normaliser, batch_rows=25)
days = [day(text) for text in sys.argv[3:]]
for landing_day in days:
    match_comics(normaliser, landing_day)
    normaliser.normalise_day(landing_day)
aggregate_days(market.database, days, batch_days=5)
"""


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
    command = [sys.executable, "-c", STEPS, database_url, object_store_url, DAY, LATER]
    killed = [_run_and_kill(command, market, table, least) for least in (1, 200, 400)]
    assert killed[0] == -signal.SIGKILL
    subprocess.run(command, cwd=PROJECT_ROOT, env=_environment(), check=True)
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


def _run_and_kill(command, market, table, least):
    """Kill the run once the table has so many rows; returns its exit code."""
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=_environment())

    def is_far_enough():
        done = (
            market.rows(f"SELECT count(*) FROM comics.{table}")[0][0] >= least or process.poll() is not None
        )
        return True if done else None

    assert wait_until(is_far_enough, seconds=240)
    process.send_signal(signal.SIGKILL)
    return process.wait()


def _environment():
    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}

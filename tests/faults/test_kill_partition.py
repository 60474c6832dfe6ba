"""kill -9 at every named step of carrying a table over under writers: nothing is lost or doubled, and it goes on."""

import signal
import subprocess
import sys

import pytest

from pipelines.adoption.repartition import Repartition
from resources.settings import PROJECT_ROOT
from tests.integration.migration_support import value
from tests.order_writers import difference, is_partitioned, open_shop, writing

KILLED = """
import os, signal, sys
from pipelines.adoption.repartition import Repartition
url, method, fatal, count = sys.argv[1:]
left = int(count)
def step(name):
    global left
    if name == fatal:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
work = Repartition(url, "shop", "orders", step=step, batch_rows=200)
getattr(work, method)(*(("placed_at", "month") if method == "build" else ()))
"""
BUILD_STEPS = [
    ("schemas made", 1),
    ("twin made", 1),
    ("batch copied", 1),
    ("batch copied", 7),
    ("marks applied", 1),
    ("verified", 1),
]


def kill(url: str, method: str, step: str, count: int = 1) -> None:
    """Run `method` in a process of its own that is killed at the `count`th time of `step`."""
    command = [sys.executable, "-c", KILLED, url, method, step, str(count)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_at_every_step_with_writers_at_work_it_goes_on_and_no_row_is_lost_or_doubled(
    database_url: str,
) -> None:
    open_shop(database_url)
    work = Repartition(database_url, "shop", "orders", batch_rows=200)
    with writing(database_url) as team:
        for step, count in BUILD_STEPS:
            kill(database_url, "build", step, count)
            team.wait_for(5)
        assert work.build("placed_at", "month").phase == "verified"
        kill(database_url, "switch", "before switch commits")
        assert not is_partitioned(database_url)
        kill(database_url, "switch", "switched")
        assert is_partitioned(database_url)
        team.wait_for(20)
        assert work.switch().phase == "switched"  # checks the foreign keys that the killed one had left
        kill(database_url, "undo", "before switch commits")
        assert is_partitioned(database_url)
        kill(database_url, "undo", "switched")
        assert not is_partitioned(database_url)
        team.wait_for(20)
        work.sync()
        work.switch()
        team.wait_for(20)
        kill(database_url, "finish", "before finish commits")
        assert value(database_url, "SELECT to_regclass('longbox_old_shop.orders') IS NOT NULL")
        assert work.finish().phase is None
    assert difference(database_url) == 0
    assert (
        value(database_url, "SELECT bool_and(convalidated) FROM pg_constraint WHERE conname = 'orders_user'")
        is True
    )
    assert value(database_url, "SELECT count(*) FROM longbox.ledger WHERE relation = 'shop.orders'") == 1


@pytest.mark.parametrize("step", ["twin made", "verified"])
def test_killed_and_then_taken_back_the_original_was_never_touched(database_url: str, step: str) -> None:
    open_shop(database_url, rows=400)
    kill(database_url, "build", step)
    work = Repartition(database_url, "shop", "orders")
    assert work.undo().phase is None
    assert difference(database_url) == 0
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass AND NOT tgisinternal"
    assert value(database_url, triggers) == 0
    assert work.build("placed_at", "month").phase == "verified"

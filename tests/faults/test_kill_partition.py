"""kill -9 at every named step of carrying a table over under writers: nothing is lost or doubled, and it goes on."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipelines.adoption.errors import RefusedError
from pipelines.adoption.repartition import Repartition
from resources.settings import PROJECT_ROOT
from tests.integration.migration_support import value
from tests.order_writers import difference, is_partitioned, open_shop, writing

# One process that has everything imported and forks a child for each line: `method step count`.
SPAWNER = """
import os, signal, sys
from pipelines.adoption.repartition import Repartition
def work(method, fatal, left):
    def step(name):
        nonlocal left
        left -= name == fatal
        if name == fatal and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    getattr(Repartition(sys.argv[1], "shop", "orders", step=step, batch_rows=200), method)(
        *(("placed_at", "month") if method == "build" else ()))
for line in sys.stdin:
    method, fatal, count = line.rstrip().split("|")
    child = os.fork()
    if child == 0:
        work(method, fatal, int(count))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
BUILD_STEPS = [
    ("schemas made", 1),
    ("twin made", 1),
    ("batch copied", 1),
    ("batch copied", 4),
    ("marks applied", 1),
    ("verified", 1),
]


class Kills:
    """Runs one step after the other, each in a process that is killed on the way."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-c", SPAWNER, url]
        self.process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, method: str, step: str, count: int = 1) -> None:
        """Run `method` and kill it at the `count`th time of `step`."""
        assert self.process.stdin and self.process.stdout
        print(method, step, count, sep="|", file=self.process.stdin, flush=True)
        assert self.process.stdout.readline().strip() == str(-signal.SIGKILL)


@pytest.fixture
def kill(database_url: str) -> Iterator[Kills]:
    kills = Kills(database_url)
    yield kills
    with kills.process:
        assert kills.process.stdin
        kills.process.stdin.close()


def test_killed_at_every_step_with_writers_at_work_it_goes_on_and_no_row_is_lost_or_doubled(
    database_url: str, kill: Kills
) -> None:
    open_shop(database_url, rows=1500)
    work = Repartition(database_url, "shop", "orders", batch_rows=200)
    with writing(database_url) as team:
        for step, count in BUILD_STEPS:
            kill("build", step, count)
            team.wait_for(5)
        assert work.build("placed_at", "month").phase == "verified"
        kill("switch", "before switch commits")
        assert not is_partitioned(database_url)
        kill("switch", "switched")
        assert is_partitioned(database_url)
        team.wait_for(20)
        assert work.switch().phase == "switched"  # checks the foreign keys that the killed one had left
        kill("undo", "before switch commits")
        assert is_partitioned(database_url)
        kill("undo", "switched")
        assert not is_partitioned(database_url)
        team.wait_for(20)
        work.sync()
        work.switch()
        team.wait_for(20)
        kill("finish", "before finish commits")
        assert value(database_url, "SELECT to_regclass('longbox_old_shop.orders') IS NOT NULL")
        assert work.finish().phase is None
    assert difference(database_url) == 0
    assert (
        value(database_url, "SELECT bool_and(convalidated) FROM pg_constraint WHERE conname = 'orders_user'")
        is True
    )
    assert value(database_url, "SELECT count(*) FROM longbox.ledger WHERE relation = 'shop.orders'") == 1


def test_killed_before_anything_but_schemas_was_made_undoing_leaves_nothing(
    database_url: str, kill: Kills
) -> None:
    open_shop(database_url, rows=5)
    kill("build", "schemas made")
    with pytest.raises(RefusedError, match="nothing is under way"):
        Repartition(database_url, "shop", "orders").undo()
    assert value(database_url, "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^longbox_(new|old)'") == 0


@pytest.mark.parametrize("step", ["twin made", "verified"])
def test_killed_and_then_taken_back_the_original_was_never_touched(
    database_url: str, kill: Kills, step: str
) -> None:
    open_shop(database_url, rows=400)
    kill("build", step)
    work = Repartition(database_url, "shop", "orders")
    assert work.undo().phase is None
    assert difference(database_url) == 0
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass AND NOT tgisinternal"
    assert value(database_url, triggers) == 0
    assert work.build("placed_at", "month").phase == "verified"

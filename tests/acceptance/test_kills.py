"""kill -9 of the process of a run in the middle of a stage, and a run that fails.

Every stage and step is killed in tests/faults; here it is the process that Dagster started, and Dagster that notices.

The middle is made sure of, not hoped for: the test holds the row in which the stage notes the outcome of one day of
the range, so that the run stands there, its backend waiting, when it is killed.
"""

import contextlib
import signal
from collections.abc import Iterator

import psycopg
import pytest

from deploy.local.processes import wait_until
from tests.acceptance.conftest import Platform
from tests.daily_runs import sales

FIRST, HELD, LAST = "2026-10-01", "2026-10-04", "2026-10-06"
STAGE = "comics/pricing_data_normalized"


def land_a_week(platform: Platform) -> None:
    for number in range(1, 7):
        day = f"2026-10-0{number}"
        platform.daily.land(day, "a.csv", sales(f"2026-09-1{number}", 40, price=40.0 + number))
        platform.daily.land(
            day, "b.csv", sales(f"2026-09-2{number}", 40, title="X-Men #94 VF/NM", price=70.0 + number)
        )


@pytest.fixture(scope="module")
def undisturbed(platform: Platform) -> object:
    """The digest after a run that nobody disturbed."""
    platform.start_over()
    land_a_week(platform)
    platform.succeed(platform.launch(FIRST, LAST))
    return platform.daily.digest()


@contextlib.contextmanager
def held_outcome(platform: Platform) -> Iterator[psycopg.Connection]:
    """Holds the row in which the stage notes the outcome of the day HELD."""
    with psycopg.connect(platform.stack.settings.postgres_url) as connection:
        connection.execute(
            "INSERT INTO longbox.day_results (asset, landing_day, outcome) VALUES (%s, %s, 'failed')",
            [STAGE, HELD],
        )
        yield connection
        connection.rollback()


def test_a_run_killed_in_the_middle_is_completed_by_the_next(platform: Platform, undisturbed: object) -> None:
    platform.daily.forget_everything()
    with held_outcome(platform) as holder:
        run_id = platform.launch(FIRST, LAST)
        with psycopg.connect(platform.stack.settings.postgres_url, autocommit=True) as observer:
            waiting = wait_until(
                lambda: observer.execute(
                    "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))",
                    [holder.info.backend_pid],
                ).fetchone(),
                seconds=120,
            )
        assert waiting is not None, platform.client.failures(run_id)
        platform.run_worker().send_signal(signal.SIGKILL)
    assert platform.finish(run_id).status == "FAILURE"
    assert "was killed by signal 9" in platform.client.failures(run_id)["run"]
    platform.succeed(platform.launch(FIRST, LAST))
    assert platform.daily.digest() == undisturbed
    assert platform.daily.count("comics.pricing_data_raw") == 480


def test_a_run_that_failed_is_told_once(platform: Platform) -> None:
    platform.daily.forget_everything()
    platform.daily.land("2026-10-09", "cut.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03cut off")
    for _ in range(2):
        run_id = platform.client.launch("daily_pipeline", partition="2026-10-09")
        assert platform.finish(run_id).status == "FAILURE"
    assert "cut.csv.gz" in platform.client.failures(run_id)["platform__landing_verdict"]
    title = "ALERT critical: daily_pipeline of 2026-10-09 failed"
    log = platform.stack.home.logs / "code-server.log"
    told = wait_until(lambda: text if title in (text := log.read_text("utf-8")) else None, seconds=90)
    assert told is not None, log.read_text("utf-8")[-3000:]
    ticks_later = platform.client.sensor_ticks("run_failure_sensor")[0]["timestamp"]
    assert wait_until(
        lambda: (
            True if platform.client.sensor_ticks("run_failure_sensor")[0]["timestamp"] > ticks_later else None
        ),
        seconds=90,
        poll_seconds=0.5,
    )
    assert log.read_text("utf-8").count(title) == 1

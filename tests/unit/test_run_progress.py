"""What `longbox run` prints while it waits: each step once it has ended, long ones meanwhile."""

import pytest

from cli.dagster_client import Run, Step
from cli.run_progress import Progress


def run(*steps: Step) -> Run:
    return Run("1", "daily_pipeline", "STARTED", steps, None)


def test_a_step_is_told_once_when_it_has_ended_and_how(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(clock=lambda: 100.0)
    waiting, bad = Step("shop__sales", "IN_PROGRESS", None, None), Step("shop__daily", "FAILURE", 90.0, 92.0)
    for _ in range(2):
        progress(run(waiting, bad))
    progress(run(Step("shop__sales", "SUCCESS", 99.0, 100.5), bad))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed == [["shop/daily", "2.0", "s", "FAILURE"], ["shop/sales", "1.5", "s"]]


def test_a_step_that_takes_long_is_told_ever_more_rarely(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    progress = Progress(clock=lambda: now[0])
    for now[0] in range(0, 600, 10):
        progress(run(Step("shop__sales", "IN_PROGRESS", 0.0, None)))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed == [["shop/sales", f"{s}.0", "s", "so", "far"] for s in (30, 60, 120, 240, 480)]


def test_nothing_is_told_once_there_is_nothing_left_to_wait_for(capsys: pytest.CaptureFixture[str]) -> None:
    def gone() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Progress(gone)(run(Step("shop__sales", "SUCCESS", 1.0, 2.0)))
    assert not capsys.readouterr().out

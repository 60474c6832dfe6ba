"""How a run is told on the terminal: each step once it has ended, and meanwhile those that take long."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cli.dagster_client import Run

LONG_SECONDS = 30.0  # and again after twice as long, so that hours are a dozen lines


class Progress:
    """Called with a run as it is now; `check` is called first and raises when there is nothing left to wait for."""

    def __init__(
        self, check: Callable[[], None] = lambda: None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._check, self._clock = check, clock
        self._told: set[str] = set()
        self._tell_at: dict[str, float] = {}  # seconds after which a running step is told

    def __call__(self, run: "Run") -> None:
        self._check()
        for step in run.steps:
            if step.key in self._told or step.started_at is None:
                continue
            if step.seconds is not None:
                self._told.add(step.key)
                _tell(step.key, step.seconds, "" if step.status == "SUCCESS" else step.status)
                continue
            seconds = self._clock() - step.started_at
            if seconds >= self._tell_at.get(step.key, LONG_SECONDS):
                self._tell_at[step.key] = 2 * seconds
                _tell(step.key, seconds, "so far")


def _tell(step: str, seconds: float, mark: str) -> None:
    typer.echo(f"  {step.replace('__', '/'):<44}{seconds:>7.1f} s  {mark}".rstrip())

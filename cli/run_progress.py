"""How a run is told on the terminal: each step once, when it has ended."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cli.dagster_client import Run


class Progress:
    """Called with a run as it is now; `check` is called first and raises when there is nothing left to wait for."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._told: set[str] = set()

    def __call__(self, run: "Run") -> None:
        self._check()
        for step in run.steps:
            if step.seconds is not None and step.key not in self._told:
                self._told.add(step.key)
                mark = "" if step.status == "SUCCESS" else f"  {step.status}"
                typer.echo(f"  {step.key.replace('__', '/'):<44}{step.seconds:>7.1f} s{mark}")

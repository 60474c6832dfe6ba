"""A process of the stack with what its keeper needs: how it is stopped, and what starts another in its place."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.local.postgres import Steps
from deploy.local.processes import Child

RESTART_SECONDS = 5.0  # between two starts of a part


@dataclass
class Member:
    """`child` now plays `part`. `start` starts another; None where nothing else works without this one."""

    part: str
    child: Child
    steps: Steps
    whole_group: bool
    start: Callable[[], Child] | None
    clock: Callable[[], float] = time.monotonic
    _started_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._started_at = self.clock()

    def is_due(self) -> bool:
        """Whether another may be started by now."""
        return self.start is not None and self.clock() - self._started_at >= RESTART_SECONDS

    def start_again(self) -> None:
        """Start another."""
        assert self.start is not None, "asked for where nothing works without it"
        self.child, self._started_at = self.start(), self.clock()

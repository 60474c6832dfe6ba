"""How far a landing day is, told now and then: it may be thousands of files, or one of gigabytes."""

import datetime as dt
import time
from collections.abc import Callable

EVERY_SECONDS = 10.0


class DayProgress:
    """Gives `tell` a line at most once in `EVERY_SECONDS`."""

    def __init__(
        self,
        landing_day: dt.date,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._day, self._tell = landing_day, tell
        self._clock = clock
        self._told_at = clock()
        self._files = self._rows = 0

    def in_file(self, name: str, rows: int) -> None:
        """`rows` of a file that is being loaded have been dealt with."""
        self._say(f"; {name}: {rows:,} rows so far")

    def file_done(self, rows: int) -> None:
        """Another file has ended, with `rows` rows."""
        self._files += 1
        self._rows += rows
        self._say()

    def _say(self, more: str = "") -> None:
        now = self._clock()
        if now - self._told_at >= EVERY_SECONDS:
            self._told_at = now
            self._tell(f"{self._day}: files done: {self._files:,} ({self._rows:,} rows){more}")

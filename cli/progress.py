"""Progress of a long act on stderr: one line that is rewritten on a terminal, one line each ten per cent elsewhere."""

import sys
import time

from pipelines.backup.engine import Progress


class ProgressLine:
    """Takes `Progress`; `close` ends the line."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._act, self._tenths = "", -1

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        if progress.act != self._act:
            self.close()
            self._act, self._tenths, self._started = progress.act, -1, time.monotonic()
        text = self._text(progress)
        if self._is_terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            return
        tenths = int(10 * progress.done_bytes / progress.total_bytes) if progress.total_bytes else 0
        if tenths > self._tenths:
            self._tenths = tenths
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if self._is_terminal and self._act:
            print(file=sys.stderr)
        self._act = ""

    def _text(self, progress: Progress) -> str:
        if not progress.total_bytes:
            return f"{progress.act} ..."
        text = f"{progress.act}: {progress.done_bytes / 1e6:,.0f} of {progress.total_bytes / 1e6:,.0f} MB"
        elapsed = time.monotonic() - self._started
        if progress.done_bytes and elapsed > 1.0:
            left = elapsed * (progress.total_bytes - progress.done_bytes) / progress.done_bytes
            text += f", about {left:.0f} s left"
        return text

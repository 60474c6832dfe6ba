"""Alerts to people: the console always, and every channel named by an apprise URL (mail, Slack, webhook, ...).

One alert a cause: while a cause cools down its repetitions are only counted, and the next alert tells how many there
were. A channel's URL holds its secret, so that no message, log line or repr ever shows more than its scheme.
What is worth an alert is decided in `sensors`. https://github.com/caronc/apprise/wiki
"""

import sys
import threading
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

Severity = Literal["info", "warning", "critical"]

COOL_DOWN_SECONDS = 900.0
REMEMBERED_CAUSES = 10_000


@dataclass(frozen=True)
class Alert:
    """What happened. Alerts of the same `cause` are one matter, whatever their words."""

    cause: str
    title: str
    message: str
    severity: Severity = "critical"


@dataclass(frozen=True)
class Delivery:
    """What became of an alert. `failed_channels` names channels by number and scheme only."""

    is_sent: bool
    repetitions: int
    failed_channels: tuple[str, ...] = ()


@dataclass
class Sent:
    """When a cause was last told, and how often it came up since."""

    at: float
    repetitions: int = 0


class Notifier:
    """Tells alerts. Safe to share between threads; `memory` outlives it if the caller keeps it."""

    def __init__(
        self,
        urls: Sequence[str] = (),
        *,
        cool_down_seconds: float = COOL_DOWN_SECONDS,
        memory: MutableMapping[str, Sent] | None = None,
        clock: Callable[[], float] = time.monotonic,
        console: TextIO | None = None,
        deliver: Callable[[str, Alert], bool] | None = None,
    ) -> None:
        self._urls = tuple(urls)
        self._cool_down_seconds = cool_down_seconds
        self._memory: MutableMapping[str, Sent] = {} if memory is None else memory
        self._clock = clock
        self._console = console
        self._deliver = deliver or _deliver_by_apprise
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Notifier({len(self._urls)} channels, cool_down_seconds={self._cool_down_seconds:g})"

    def send(self, alert: Alert) -> Delivery:
        """Tell `alert` unless its cause cools down. A channel that fails stops no other and raises nothing."""
        repetitions = self._take_turn(alert.cause)
        if repetitions is None:
            with self._lock:
                return Delivery(is_sent=False, repetitions=self._memory[alert.cause].repetitions)
        told = alert if not repetitions else _with_repetitions(alert, repetitions)
        print(
            f"ALERT {told.severity}: {told.title}\n{told.message}",
            file=self._console or sys.stderr,
            flush=True,
        )
        failed = []
        for number, url in enumerate(self._urls, start=1):
            if not self._try(url, told):
                failed.append(f"channel {number} ({url.partition('://')[0]})")
        if failed:
            print(
                f"ALERT not delivered to {', '.join(failed)}; check LONGBOX_ALERT_URLS",
                file=self._console or sys.stderr,
                flush=True,
            )
        return Delivery(is_sent=True, repetitions=repetitions, failed_channels=tuple(failed))

    def _take_turn(self, cause: str) -> int | None:
        """How many repetitions were held back before this alert, or None when it is one of them."""
        now = self._clock()
        with self._lock:
            last = self._memory.get(cause)
            if last is not None and now - last.at < self._cool_down_seconds:
                last.repetitions += 1
                return None
            if len(self._memory) >= REMEMBERED_CAUSES:
                for stale in [c for c, s in self._memory.items() if now - s.at >= self._cool_down_seconds]:
                    del self._memory[stale]
            self._memory[cause] = Sent(now)
            return last.repetitions if last is not None else 0

    def _try(self, url: str, alert: Alert) -> bool:
        try:
            return self._deliver(url, alert)
        except Exception:  # a plug-in's error may quote the URL, and an alert must not raise
            return False


def _with_repetitions(alert: Alert, repetitions: int) -> Alert:
    message = f"{alert.message}\n(came up {repetitions} more times since the last alert)"
    return Alert(alert.cause, alert.title, message, alert.severity)


def _deliver_by_apprise(url: str, alert: Alert) -> bool:
    import logging

    import apprise  # late: it costs 0.2 s and most processes never send

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its warnings quote hosts, users and tokens
    channel = apprise.Apprise()
    if not channel.add(url):
        return False
    kinds = {
        "info": apprise.NotifyType.INFO,
        "warning": apprise.NotifyType.WARNING,
        "critical": apprise.NotifyType.FAILURE,
    }
    return bool(channel.notify(title=alert.title, body=alert.message, notify_type=kinds[alert.severity]))

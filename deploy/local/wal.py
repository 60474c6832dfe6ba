"""The WAL receiver of the local stack: `longbox wal receive` as a child that is started anew when it ends.

It is a helper: what happens to it never stops the stack. What it does is `pipelines.backup.resident`'s.
"""

import contextlib
import signal
import sys
from collections.abc import Mapping

import psycopg

from deploy.local.processes import Child, start, wait_until
from deploy.local.state import Home
from pipelines.backup.slot import SLOT
from resources.settings import PROJECT_ROOT

NAME = "WAL receiver"
STOP_STEPS = ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0))
_READY_SECONDS = 60.0
_RECEIVED = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"


def start_receiver(home: Home, env: Mapping[str, str]) -> Child:
    """Start it; it makes its slot and, in a new home, the keys of backups."""
    command = [sys.executable, "-P", "-m", "cli.main", "wal", "receive"]
    return start(NAME, command, log=home.logs / "wal-receiver.log", env=env, cwd=PROJECT_ROOT)


def wait_receiving(child: Child, url: str) -> bool:
    """Wait until the server sends it WAL; False if that does not happen in time."""

    found = wait_until(
        lambda: is_received(url) or None, seconds=_READY_SECONDS, child=child, poll_seconds=0.1
    )
    return bool(found)


def is_received(url: str) -> bool:
    """Whether the server at `url` sends WAL to a receiver."""
    with contextlib.suppress(psycopg.Error), psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(_RECEIVED, (SLOT,)).fetchone()
        return bool(row and row[0])
    return False

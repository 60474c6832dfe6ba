"""Keeping watch over a stack: in the foreground, in the background, and ending it from elsewhere.

Ctrl-C, SIGTERM, SIGHUP, `longbox down` and a PostgreSQL that ends by itself all lead to the same orderly stop; a second
signal changes nothing. Whatever else ends is started anew. What is started and how it stops is `stack`'s.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

from deploy.local import leftovers
from deploy.local.errors import AlreadyRunningError, StackError
from deploy.local.processes import ProcessId, tail, wait_until
from deploy.local.stack import Report, Stack
from deploy.local.state import RUNNING, Home, HomeLock, State, is_locked
from resources.settings import PROJECT_ROOT

STOP_SECONDS = 240.0  # more than all stop steps of all parts together
_WATCH_SECONDS = 0.2


class StopRequested(BaseException):
    """A signal asked for the end. Not an Exception, so that no handler of errors swallows it."""


@contextlib.contextmanager
def stop_on_signals(report: Report) -> Iterator[Callable[[], None]]:
    """Within, the first SIGINT, SIGTERM or SIGHUP raises `StopRequested`, later ones only say that it is under way.

    Gives a function that raises it again. Call it now and then: Python drops what is raised while it clears an object
    away, and the request with it.
    """
    asked: list[str] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked:
            report("already stopping; PostgreSQL is given the time to shut down")
            return
        asked.append(signal.Signals(number).name)
        raise StopRequested(asked[0])

    def raise_if_asked() -> None:
        if asked:
            raise StopRequested(asked[0])

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield raise_if_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_in_foreground(stack: Stack, report: Report, on_ready: Callable[[], None]) -> None:
    """Start `stack` and watch it until a signal. Raises `ChildDiedError` after stopping all if PostgreSQL ended."""
    with stop_on_signals(report) as raise_if_asked:
        try:
            stack.start()
            on_ready()
            while True:
                raise_if_asked()
                stack.restart_ended()
                time.sleep(_WATCH_SECONDS)
        except StopRequested as request:
            report(f"stopping ({request})")
            stack.stop()
            report("stopped")
        finally:
            stack.stop()  # nothing if it is stopped already


def run_in_background(home: Home, arguments: list[str], environ: Mapping[str, str], report: Report) -> int:
    """Start `longbox up` in a session of its own; return 0 once healthy, else its exit code, its lines passed on."""
    home.make()
    if is_locked(home):
        HomeLock(home).acquire()  # for its message
    log = home.logs / "supervisor.log"
    path = os.pathsep.join(filter(None, (str(PROJECT_ROOT), environ.get("PYTHONPATH", ""))))
    env = {**environ, "LONGBOX_HOME": str(home.path), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.main", "up", *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True,
        )  # fmt: skip
    lines = _new_lines(log)

    def settled() -> bool | None:
        for line in lines():
            report(line)
        state = State.read(home)
        is_up = state.status == RUNNING and state.supervisor is not None and state.supervisor.pid == child.pid
        return True if is_up or child.poll() is not None else None

    try:
        wait_until(settled, seconds=900.0, poll_seconds=0.1)
    except KeyboardInterrupt:
        child.terminate()
        child.wait(STOP_SECONDS)
        raise
    for line in lines():
        report(line)
    code = child.poll()
    if code is None:
        return 0
    return code if code > 0 else 1


def bring_down(home: Home, report: Report) -> bool:
    """Stop the stack of `home`, or what a killed one left. Returns whether there was anything to stop."""
    lock = HomeLock(home)
    if not home.path.is_dir():
        return False
    try:
        lock.acquire()
    except AlreadyRunningError:
        _end_supervisor(home)
        report("stopped")
        return True
    try:
        found = leftovers.stop(home)
        if found or State.read(home).supervisor is not None:
            State(ports=State.read(home).ports, dagster_schema=State.read(home).dagster_schema).write(home)
        for line in found:
            report(line)
        return bool(found)
    finally:
        lock.release()


def _end_supervisor(home: Home) -> None:
    supervisor = wait_until(lambda: _live_supervisor(home), seconds=5.0)
    if supervisor is None:
        raise StackError(
            f"a process holds {home.lock_file} but is not known; find it with `fuser {home.lock_file}`"
        )
    supervisor.signal(signal.SIGTERM)
    if wait_until(lambda: None if is_locked(home) else True, seconds=STOP_SECONDS, poll_seconds=0.1) is None:
        log = home.logs / "supervisor.log"
        raise StackError(f"the stack (pid {supervisor.pid}) does not stop; the end of {log}:\n{tail(log)}")


def _live_supervisor(home: Home) -> ProcessId | None:
    supervisor = State.read(home).supervisor
    return supervisor if supervisor is not None and supervisor.is_alive() else None


def _new_lines(log: Path) -> Callable[[], list[str]]:
    """A function that returns the whole lines written to `log` since its last call."""
    position, rest = 0, ""

    def read() -> list[str]:
        nonlocal position, rest
        with log.open("rb") as file:
            file.seek(position)
            data = file.read()
        position += len(data)
        *lines, rest = (rest + data.decode("utf-8", "replace")).split("\n")
        return lines

    return read

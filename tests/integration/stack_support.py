"""Running a stack as a process of its own, so that tests can kill it; this file is also that process.

    python stack_support.py HOME [FOLDER WITH A definitions.py]
Without tables, and without Dagster unless a folder is given: starting both takes longer than a test should. With
Dagster another server takes the port of the UI before the UI does.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from deploy.local import leftovers
from deploy.local.dagster import LocalDagster
from deploy.local.processes import Child, ProcessId, wait_until
from deploy.local.stack import Stack
from deploy.local.state import RUNNING, Home, State
from deploy.local.supervisor import run_in_foreground
from resources.errors import LongboxError
from resources.settings import PROJECT_ROOT
from tests import covered_lines

WAIT_SECONDS = 120.0
PORT_THAT_WAS_TAKEN = "port-that-was-taken"  # a file in the home


def longbox(home: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command against `home` and wait for its end."""
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(
        command,
        env=environment(home, **variables),
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a command on `home`."""
    return {"PATH": os.environ["PATH"], "LONGBOX_HOME": str(home), **covered_lines.environment(), **variables}


@contextlib.contextmanager
def supervised(home: Path, definitions: Path | None = None, *, ready: bool = True) -> Iterator["Supervisor"]:
    """A stack in `home` under a supervisor of its own; ended with everything it left, whatever the test did."""
    command = [sys.executable, __file__, str(home), *([str(definitions)] if definitions else [])]
    popen = subprocess.Popen(
        command,
        env=environment(home, PYTHONPATH=str(PROJECT_ROOT)),
        cwd=PROJECT_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    supervisor = Supervisor(home, popen)
    try:
        if ready:
            supervisor.wait_ready()
        yield supervisor
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()
        if popen.stdout:
            popen.stdout.close()
        leftovers.stop(Home(home))


class Supervisor:
    """The process that holds a home."""

    def __init__(self, home: Path, popen: "subprocess.Popen[str]") -> None:
        self.home = home
        self.popen = popen

    def wait_ready(self) -> None:
        """Wait until the stack is up, or fail with what it said."""

        def settled() -> bool | None:
            state = State.read(Home(self.home))
            is_up = state.status == RUNNING and state.supervisor == ProcessId.of(self.popen.pid)
            return True if is_up or self.popen.poll() is not None else None

        assert wait_until(settled, seconds=WAIT_SECONDS), "the stack did not come up in time"
        assert self.popen.poll() is None, self.popen.communicate()[0]

    def process(self, part: str) -> ProcessId:
        """The process of one part."""
        found = next(p for p in State.read(Home(self.home)).parts if p.name == part)
        assert found.process is not None
        return found.process

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Send a signal, if any, and wait for the end: exit code and everything it said."""
        if number is not None:
            self.popen.send_signal(number)
        said, _ = self.popen.communicate(timeout=WAIT_SECONDS)
        return self.popen.returncode, said


def main() -> int:
    """Hold the stack until a signal, as `longbox up` does."""
    home, *definitions = (Path(argument) for argument in sys.argv[1:])
    LocalDagster.start_webserver = _after_its_port_is_taken(LocalDagster.start_webserver, home)
    options = {"working_directory": definitions[0]} if definitions else {}
    stack = Stack(home, dagster=bool(definitions), migrate=False, report=print, is_durable=False, **options)
    try:
        run_in_foreground(stack, print, lambda: None)
    except LongboxError as error:
        print(error)
        return 1
    return 0


def _after_its_port_is_taken(
    start: Callable[[LocalDagster, int], Child], home: Path
) -> Callable[[LocalDagster, int], Child]:
    strangers: list[socket.socket] = []

    def start_late(dagster: LocalDagster, port: int) -> Child:
        if not strangers:
            strangers.append(socket.create_server(("127.0.0.1", port)))
            (home / PORT_THAT_WAS_TAKEN).write_text(str(port))
        return start(dagster, port)

    return start_late


if __name__ == "__main__":
    sys.exit(main())

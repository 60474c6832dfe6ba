"""Processes as the stack knows them: by pid and start time, so that a recycled pid is never trusted or killed.

Start, watch, stop with escalation, find what a killed supervisor left behind. What is started, and in which order,
is decided in `stack`. https://man7.org/linux/man-pages/man7/credentials.7.html
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from deploy.local.errors import StackError
from resources.postgres_programs import RunAs

POLL_SECONDS = 0.05
MARK = "LONGBOX_STACK_MEMBER"  # in the environment of every Dagster process of a stack: the path of its home
_SAME_START_SECONDS = 0.05
T = TypeVar("T")


@dataclass(frozen=True)
class ProcessId:
    """One process for good: `started_at` (seconds, on the kernel's own clock where it has one) tells a recycled pid."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The identity of a live process, None if there is none."""
        try:
            return cls(pid, _started_at(pid))
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        try:
            if abs(_started_at(self.pid) - self.started_at) > _SAME_START_SECONDS:
                return False
            return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def signal(self, number: signal.Signals, *, whole_group: bool = False) -> None:
        """Send a signal, to its process group if it leads one and that is wanted; nothing if it is gone."""
        if not self.is_alive():
            return
        with contextlib.suppress(ProcessLookupError):
            if whole_group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)


class Child:
    """A process that this process started, with the log that it writes."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path, log_before: int) -> None:
        """`log_before`: bytes of the log that earlier processes wrote."""
        self.name = name
        self.log = log
        self._log_before = log_before
        self._popen = popen
        self.id = ProcessId.of(popen.pid) or ProcessId(
            popen.pid, 0.0
        )  # 0: already gone, and never alive again

    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._popen.poll()

    def lacked_room(self) -> bool:
        """Whether it wrote of a full disk in the last lines of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_before, self.log.stat().st_size - 20_000))
                return b"No space left on device" in file.read()
        except OSError:
            return False

    def listens_on(self, port: int) -> bool:
        """Whether this very process listens on a TCP port; a stranger that took the port does not count."""
        try:
            connections = psutil.Process(self.id.pid).net_connections(kind="tcp")
        except psutil.Error:
            return False
        return any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in connections)

    def stop(self, steps: Sequence[tuple[signal.Signals, float]], *, whole_group: bool) -> None:
        """Ask it to end with each signal in turn, waiting the seconds given. Raises `StackError` if it outlives all."""
        for number, seconds in steps:
            if self._popen.poll() is None:
                self.id.signal(number, whole_group=whole_group)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)
                return
        raise StackError(f"{self.name} (pid {self.id.pid}) does not end; its log is {self.log}")


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    run_as: RunAs | None = None,
) -> Child:
    """Start `command` in a session of its own (a Ctrl-C of the terminal does not reach it), output to `log`."""
    with log.open("ab") as output:
        log_before = output.tell()
        popen = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
            **(run_as.options() if run_as else {}),  # type: ignore[call-overload]
        )
    return Child(name, popen, log, log_before)


def wait_until(
    probe: Callable[[], T | None],
    *,
    seconds: float,
    child: Child | None = None,
    poll_seconds: float = POLL_SECONDS,
) -> T | None:
    """Poll until `probe` returns something, the deadline passes, or `child` ends; None for the latter two.

    The last look is taken after the deadline: a machine that stood still meanwhile misses nothing by that alone.
    """
    deadline = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > deadline
        found = probe()
        if found is not None:
            return found
        if is_last or (child is not None and child.exit_code() is not None):
            return None
        time.sleep(poll_seconds)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented, for a message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return "    (no log)"
    last = [line for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in last) or "    (the log is empty)"


def stop_left_over(
    found: Sequence[ProcessId], steps: Sequence[tuple[signal.Signals, float]], *, whole_group: bool
) -> list[ProcessId]:
    """Stop processes that are no children of this one; returns those that outlive every signal."""
    left = [process for process in found if process.is_alive()]
    for number, seconds in steps:
        for process in left:
            process.signal(number, whole_group=whole_group)
        wait_until(lambda: None if any(p.is_alive() for p in found) else True, seconds=seconds)
        left = [process for process in found if process.is_alive()]
        if not left:
            break
    return left


def marked_processes(home: Path) -> list[ProcessId]:
    """Processes of this user whose environment says that they are Dagster processes of the stack in `home`."""
    return [_identity(process) for process in _mine() if _environment(process).get(MARK) == str(home)]


def processes_in(folder: Path, names: Sequence[str] = ("postgres",)) -> list[ProcessId]:
    """Programs of these names whose working directory is `folder`: servers, and backends, sit in their own folder.

    Servers write their title over their environment, so that `marked_processes` does not see them.
    """
    found, place = [], str(folder.resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() in names and process.cwd() == place:
                found.append(_identity(process))
    return found


def _mine() -> Iterator[psutil.Process]:
    own = {os.getpid()}
    with contextlib.suppress(psutil.Error):
        own |= {parent.pid for parent in psutil.Process().parents()}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid not in own and process.uids().real == os.getuid():
                yield process


def _environment(process: psutil.Process) -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(psutil.Error, OSError):
        found = process.environ()
    return found


def _identity(process: psutil.Process) -> ProcessId:
    return ProcessId(process.pid, _started_at(process.pid))


def _started_at(pid: int) -> float:
    """Start of a process. On Linux in seconds since boot: the time of day would shift whenever the clock is set."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return float(psutil.Process(pid).create_time())
    after_name = stat.rpartition(")")[2].split()  # a name may hold spaces and brackets
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")

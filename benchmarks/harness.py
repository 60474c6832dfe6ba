"""What every benchmark needs: a durable server of its own, fresh databases, timings in turns, one table.

with server() as bench:
    with bench.database() as url: ...
"""

import contextlib
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from psycopg import sql

from deploy.local.stack import Stack
from pipelines.catalog.loader import system_folders
from pipelines.migration import migrate
from resources.settings import PROJECT_ROOT

_TEMPLATE = "bench_template"
Case = TypeVar("Case")


@dataclass
class Bench:
    """A running server. `folder` is on the same disk and goes away with it."""

    url: str
    redis_url: str
    server_pid: int
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextlib.contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """The URL of a fresh database with every migration, or `empty`; dropped at the end."""
        name = f"bench_{next(self._numbers)}"
        template = "template1" if empty else _TEMPLATE
        self._admin("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template)
        try:
            self._admin("CHECKPOINT")
            yield with_database(self.url, name)
        finally:
            self._admin("DROP DATABASE {} WITH (FORCE)", name)

    def _admin(self, statement: str, *names: str) -> None:
        with psycopg.connect(with_database(self.url, "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextlib.contextmanager
def server() -> Iterator[Bench]:
    """A durable PostgreSQL (fsync on, as `longbox up` starts it) in a temporary home, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="longbox-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        if os.geteuid() == 0:  # PostgreSQL runs as another user then, who must reach its home
            Path(folder).chmod(0o755)
        environ = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        with Stack(home, dagster=False, environ=environ) as stack:
            settings = stack.settings
            bench = Bench(
                settings.postgres_url, settings.redis_url, _server_pid(settings.postgres_url), Path(folder)
            )
            bench._admin("CREATE DATABASE {}", _TEMPLATE)
            migrate(with_database(bench.url, _TEMPLATE), system_folders(stack.settings))
            yield bench


def _server_pid(url: str) -> int:
    with psycopg.connect(with_database(url, "postgres")) as connection:
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert row is not None, "a setting has a value"
    return int(Path(row[0], "postmaster.pid").read_text().splitlines()[0])


def with_database(url: str, name: str) -> str:
    """`url`, but of another database of that server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def in_a_process(module: str, **arguments: Any) -> dict[str, Any]:
    """Run `python -m MODULE` with `arguments` as JSON; returns the JSON object that it prints last.

    A process of its own makes its peak memory its own. Raises `RuntimeError` with what it said when it fails.
    """
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} failed: {done.stderr.strip()[-2000:]}")
    if arguments.get("profile"):
        print(done.stderr, file=sys.stderr)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def in_turns(repeats: int, cases: dict[str, Callable[[], dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Run all cases one after the other, `repeats` times over, so that a slow minute hits them all."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for turn in range(repeats):
        for name, case in cases.items():
            results[name].append(case())
            seconds = results[name][-1].get("seconds")
            note = f"{seconds:.2f} s" if seconds is not None else results[name][-1]["skipped"]
            print(f"  turn {turn + 1}: {name}: {note}", file=sys.stderr, flush=True)
    return results


class Cpu:
    """The processor seconds that this process and a PostgreSQL server have used: work, however busy the machine.

    `server_pid` is the server's first process; what ended children of either used is in its account.
    """

    def __init__(self, server_pid: int) -> None:
        self._server = psutil.Process(server_pid)

    def seconds(self) -> float:
        """Of both, so far."""
        this = os.times()
        return this.user + this.system + this.children_user + this.children_system + self.server_seconds()

    def server_seconds(self) -> float:
        """Of the server, so far."""
        own = self._server.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for child in self._server.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                used = child.cpu_times()
                total += used.user + used.system
        return total


def peak_mib() -> float:
    """The peak memory of this process and of those that it waited for, in MiB."""
    return own_peak_mib() + _peak_mib(resource.RUSAGE_CHILDREN)


def own_peak_mib() -> float:
    """The peak memory of this process alone, in MiB (`ru_maxrss` begins with what the parent held at its start)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return _peak_mib(resource.RUSAGE_SELF)
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _peak_mib(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def chosen(cases: dict[str, Case]) -> dict[str, Case]:
    """The cases that ONLY names, by parts of their names; all if it is not set."""
    only = os.environ.get("ONLY")
    return {
        name: case
        for name, case in cases.items()
        if not only or any(part in name for part in only.split(","))
    }


def note(text: str) -> None:
    """Tell on stderr how far it is: tables alone go to stdout."""
    print(f"  {text}", file=sys.stderr, flush=True)


def conditions(text: str) -> None:
    """Print below a table what was measured, and the machine."""
    print(f"\n{text}. {machine()}\n", flush=True)


def median(values: Sequence[float]) -> float:
    """The middle one of `values`."""
    return statistics.median(values)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table, its columns aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def machine() -> str:
    """The machine, in a line: what figures mean nothing without."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB memory, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load {load:.1f} at the end"
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()

"""What a killed supervisor leaves running, found and stopped before the next start, and by `longbox down`.

Servers are found by the folder they sit in, Dagster's processes by the mark in their environment: neither a recycled
pid nor a process of another home is ever taken for one of ours. Live stacks are stopped by their own supervisor.
"""

import signal
from pathlib import Path

from deploy.local import privileges
from deploy.local.binaries import PostgresPrograms
from deploy.local.errors import StackError
from deploy.local.postgres import LocalPostgres
from deploy.local.processes import MARK, ProcessId, marked_processes, processes_in, stop_left_over
from deploy.local.state import Home

__all__ = ["MARK", "find", "stop"]
_CACHES = ("valkey-server", "redis-server")
_STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))


def find(home: Home) -> list[ProcessId]:
    """Live processes of the stack in `home`: PostgreSQL with its backends first, then all others."""
    servers = [process for folder in _data_folders(home) for process in processes_in(folder)]
    return servers + _others(home, servers)


def stop(home: Home) -> list[str]:
    """Stop them, PostgreSQL last and by a shutdown. Returns a line for each kind found."""
    said = []
    servers = [process for folder in _data_folders(home) for process in processes_in(folder)]
    others = _others(home, servers)
    if others:
        outliving = stop_left_over(others, _STEPS, whole_group=False)
        if outliving:
            raise StackError(
                f"left-over processes do not end: pid {', '.join(str(p.pid) for p in outliving)}"
            )
        said.append(f"stopped {len(others)} left-over process(es) of an earlier stack (pid {_pids(others)})")
    for folder in _data_folders(home):
        found = _server(home, folder).stop_left_over()
        if found:
            said.append(f"shut down a left-over PostgreSQL (pid {found[0].pid})")
    return said


def _others(home: Home, servers: list[ProcessId]) -> list[ProcessId]:
    found = processes_in(home.valkey, _CACHES) + marked_processes(home.path)
    return [process for process in dict.fromkeys(found) if process not in servers]


def _data_folders(home: Home) -> list[Path]:
    folders = (home.postgres, privileges.relocated_folder(home.path))
    return [folder / "data" for folder in folders if (folder / "data").is_dir()]


def _server(home: Home, data: Path) -> LocalPostgres:
    nothing = PostgresPrograms(Path(), "", None)  # stopping needs no programs
    return LocalPostgres(nothing, data, home.logs / "postgres.log", "", None, "")


def _pids(processes: list[ProcessId]) -> str:
    return ", ".join(str(process.pid) for process in processes)

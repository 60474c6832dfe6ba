"""A restored PostgreSQL: started on its data folder, talked to over a private socket, stopped; never in production.

It takes no TCP connections unless asked to, archives nothing, follows nobody, and trusts whoever may enter its socket
folder (0700). As root it runs as the folder's owner. Which WAL it gets is the caller's.
https://www.postgresql.org/docs/18/runtime-config-wal.html#RUNTIME-CONFIG-WAL-ARCHIVE-RECOVERY
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil
import psycopg

from resources.errors import LongboxError
from resources.pgbackrest import pgbackrest_variables
from resources.postgres_tools import PostgresTools

LOOPBACK = "127.0.0.1"
_SOCKET_PORT = 5432  # of the socket's name; nothing listens on TCP
_POLL_SECONDS = 0.05
_STATUS_LINE = 7  # of postmaster.pid, counted from 0
_SYNCFS_TELLS = (5, 8)  # the first Linux whose syncfs reports what could not be written
_LEFT_OVER_STEPS = ((signal.SIGQUIT, 60.0), (signal.SIGKILL, 10.0))
_STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 30.0), (signal.SIGKILL, 10.0))
# whatever the origin's configuration says, this server must not act for it
_HARMLESS = {
    "archive_mode": "off", "archive_library": "", "primary_conninfo": "", "primary_slot_name": "",
    "synchronous_standby_names": "", "logging_collector": "off", "log_destination": "stderr", "ssl": "off",
    "external_pid_file": "", "hot_standby": "on", "max_logical_replication_workers": "0", "lc_messages": "C",
    "recovery_target": "", "recovery_target_name": "", "recovery_target_time": "", "recovery_target_xid": "",
    "recovery_target_lsn": "", "recovery_end_command": "", "archive_cleanup_command": "", "restore_command": "",
}  # fmt: skip


class RestoredServerError(LongboxError):
    """The restored server ended by itself; `said` is the end of its log."""

    def __init__(self, message: str, said: str) -> None:
        self.said = said
        super().__init__(f"{message}; the end of its log:\n{said}")


class RestoredServer:
    """One run of a server on `data`. Use as a context: it is stopped whatever happens."""

    def __init__(
        self, tools: PostgresTools, data: Path, log: Path, settings: Mapping[str, str], superuser: str
    ) -> None:
        self._tools, self._data, self._log, self._superuser = tools, data, log, superuser
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; it is not ready yet."""
        # a socket's path holds at most 107 bytes, so it cannot stand in the folder that a user chose
        self._folder = Path(tempfile.mkdtemp(prefix="longbox-restore-"))
        access = self._folder / "pg_hba.conf"
        access.write_text("local all all trust\n", encoding="utf-8")
        settings = _HARMLESS | {
            "data_directory": str(self._data),
            "hba_file": str(access),
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "port": str(_SOCKET_PORT),  # the origin's configuration may name another one
        }
        self._give(self._folder, access)
        # the target last: an empty one that is read after it counts as a second target
        settings = {name: value for name, value in settings.items() if name not in self._settings}
        self._process = self._spawn(settings | self._settings)

    def url(self, database: str = "postgres") -> str:
        """URL of one database over the private socket."""
        return f"postgresql://{quote(self._superuser)}@/{quote(database)}?host={quote(str(self._folder))}&port={_SOCKET_PORT}"

    def wait_for(
        self, is_reached: Callable[[psycopg.Connection[tuple[object, ...]]], bool], seconds: float
    ) -> None:
        """Poll until the server takes connections and `is_reached` says so.

        Raises `RestoredServerError` when it ends by itself or the time is over.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.raise_if_ended()
            if self._takes_connections():
                with contextlib.suppress(psycopg.OperationalError):
                    with psycopg.connect(self.url(), connect_timeout=5, autocommit=True) as connection:
                        if is_reached(connection):
                            return
            time.sleep(_POLL_SECONDS)
        raise RestoredServerError(
            f"the restored server was not ready after {seconds:.0f} s", self.last_words()
        )

    def _takes_connections(self) -> bool:
        """What the server says in its folder: each connection that it refuses is a process that it starts."""
        with contextlib.suppress(OSError):
            said = (self._data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            is_own = self._process is not None and said[:1] == [str(self._process.pid)]
            return is_own and [line.strip() for line in said[_STATUS_LINE:]] == ["ready"]
        return False

    def raise_if_ended(self) -> None:
        """Raise `RestoredServerError` if it ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise RestoredServerError(f"the restored server ended with exit code {code}", self.last_words())

    def last_words(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            return "\n".join(f"    {line}" for line in lines[-15:])
        return "    (no log)"

    def stop(self) -> None:
        """Shut it down; a fast shutdown first, harder ones when it does not end."""
        process, self._process = self._process, None
        if process is not None:
            for number, seconds in _STOP_STEPS:
                if process.poll() is None:
                    process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
                    break
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _spawn(self, settings: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return _spawn(self._tools, self._data, settings, log.fileno())

    def _give(self, *paths: Path) -> None:
        if self._tools.run_as is not None:
            for path in paths:
                os.chown(path, self._tools.run_as.uid, self._tools.run_as.gid)


def sync_method() -> str:
    """How a server syncs its folder before it recovers: the file system at once where the kernel tells what failed.

    For `recovery_init_sync_method`. File by file takes 3 ms each on a busy machine, and a cluster has some 1,500.
    """
    if sys.platform != "linux":
        return "fsync"
    version = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
    return "syncfs" if version >= _SYNCFS_TELLS else "fsync"


def start_for_good(tools: PostgresTools, data: Path, log: Path, port: int) -> int:
    """Start a restored, promoted server on loopback with its own access rules, and leave it. Returns its pid.

    Raises `RestoredServerError` when it is not ready within a minute.
    """
    settings = {
        "port": str(port),
        "listen_addresses": LOOPBACK,
        "unix_socket_directories": "",
        "archive_mode": "off",
    }
    settings |= {"data_directory": str(data), "logging_collector": "off", "ssl": "off"}
    # the origin may still run: its subscriptions, its pid file and its standbys are not this server's
    settings |= {
        "max_logical_replication_workers": "0",
        "external_pid_file": "",
        "synchronous_standby_names": "",
    }
    with log.open("ab") as output:
        process = _spawn(tools, data, settings, output.fileno())
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(
                host=LOOPBACK, port=port, dbname="postgres", user="postgres", connect_timeout=5
            ).close()
            return process.pid
        except psycopg.OperationalError as error:
            # it refuses a user it does not know: it is there
            if "refused" not in str(error) and "starting up" not in str(error):
                return process.pid
        time.sleep(_POLL_SECONDS)
    said = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise RestoredServerError(f"the restored server did not start on port {port}", said)


def stop_left_over(data: Path) -> bool:
    """End the server that a killed restore left on `data`, also one that has not written its pid yet.

    Returns whether there was one. All of its processes work in the data folder.
    """
    left = [process for process in psutil.process_iter() if _folder_of(process) == data.resolve()]
    found = bool(left)
    for number, seconds in _LEFT_OVER_STEPS:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, left = psutil.wait_procs(left, seconds)
    return found


def _folder_of(process: psutil.Process) -> Path | None:
    with contextlib.suppress(psutil.Error, OSError):
        return Path(process.cwd()) if process.name().startswith("postgres") else None
    return None


def _spawn(
    tools: PostgresTools, data: Path, settings: Mapping[str, str], log: int
) -> "subprocess.Popen[bytes]":
    if not (data / "postgresql.conf").exists():  # Debian keeps it in /etc
        path = data / "postgresql.conf"
        path.touch(mode=0o600)
        if tools.run_as is not None:
            os.chown(path, tools.run_as.uid, tools.run_as.gid)
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [tools.programs.program("postgres"), "-D", data, *options],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=data, start_new_session=True,
        # a restore_command of pgBackRest may find its repository's secrets there
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **pgbackrest_variables()},
        **(tools.run_as.options() if tools.run_as else {}),
    )  # type: ignore[call-overload]  # fmt: skip
    return process

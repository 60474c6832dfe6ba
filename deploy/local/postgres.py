"""The local PostgreSQL: found, initialised once, configured, started, checked, shut down.

Passwords by SCRAM, TCP on loopback only, checksums, WAL fit for incremental backups and archiving. As root see
`privileges`. Stopping is a fast shutdown, and a kill only after minutes. Schemas and roles belong to migrations.
https://www.postgresql.org/docs/18/server-shutdown.html
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from deploy.local import binaries, privileges
from deploy.local.errors import StackError
from deploy.local.ports import LOOPBACK
from deploy.local.processes import (
    Child,
    ProcessId,
    processes_in,
    start,
    stop_left_over,
    tail,
    wait_until,
)
from deploy.local.state import Home
from resources.postgres_programs import RunAs

Steps = Sequence[tuple[signal.Signals, float]]

SUPERUSER = "longbox"
DATABASES = ("longbox", "dagster")
START_SECONDS = 120.0  # long enough for the recovery after a kill
# fast shutdown; then immediate (recovers at the next start); a kill only when the machine itself is stuck
STOP_STEPS = ((signal.SIGINT, 90.0), (signal.SIGQUIT, 60.0), (signal.SIGKILL, 10.0))
# into postgresql.conf when the cluster is made: from then on they are the owner's, by file or ALTER SYSTEM
_SETTINGS = {
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_level": "logical",
    "max_slot_wal_keep_size": "16GB",  # while no receiver runs that would drop its own slot earlier
    "summarize_wal": "on",
    "wal_compression": "off",  # the wheel has pglz only: 15 % of a landing day's work; kept WAL is compressed by zstd
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_lock_waits": "on",
    "lc_messages": "C",
}


# commits survive a kill of the server (they are with the kernel), not of the machine; databases are made and dropped
# several times as fast. synchronous_commit stays on: without it a killed server loses what was committed last. A
# password that is hashed 4,096 times costs the client 13 ms of processor time at each connection, once 1.4 ms.
_ONE_HASH = {"scram_iterations": "1"}
_FOR_TESTS = {"fsync": "off", "full_page_writes": "off", "wal_compression": "off", **_ONE_HASH}


@dataclass(frozen=True)
class LocalPostgres:
    """The server of one home: what it runs with and where its data is."""

    programs: binaries.PostgresPrograms
    data: Path
    log: Path
    password: str
    run_as: RunAs | None
    note: str
    is_durable: bool = True

    def url(self, port: int, database: str) -> str:
        """URL of one database, password included."""
        return f"postgresql://{SUPERUSER}:{quote(self.password, safe='')}@{LOOPBACK}:{port}/{database}"

    def initialise(self) -> bool:
        """Make the cluster if there is none. Returns whether it was made. A killed attempt leaves no half cluster."""
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            return False
        fresh = self.data.with_name("data.fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="longbox-initdb-") as scratch:
            # the password travels in a file: a command line is readable by every user of the machine
            password_file = Path(scratch) / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(self.password + "\n", encoding="utf-8")
            fresh.mkdir(mode=0o700)
            if self.run_as:
                for path in (scratch, password_file, fresh):
                    os.chown(path, self.run_as.uid, self.run_as.gid)
            self._run_initdb(fresh, password_file)
        fresh.rename(self.data)
        return True

    def _run_initdb(self, folder: Path, password_file: Path) -> None:
        command: list[str | Path] = [self.programs.program("initdb"), "-D", folder, "-U", SUPERUSER]
        command += [
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--data-checksums",
            "--encoding=UTF8",
        ]
        command += [
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-instructions",
            *_options(_SETTINGS),
        ]
        command += [] if self.is_durable else ["--no-sync", *_options(_ONE_HASH)]
        options = self.run_as.options() if self.run_as else {}
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **options)  # type: ignore[call-overload]
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            said = textwrap.indent((done.stderr or done.stdout).strip(), "    ")
            raise StackError(f"PostgreSQL could not initialise {self.data}:\n{said}")

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text(encoding="utf-8").strip()
        if made_by != self.programs.version.split(".")[0]:
            raise StackError(
                f"the data in {self.data} are of PostgreSQL {made_by}, the server at hand is {self.programs.version}; "
                "move them with pg_upgrade or pg_dump, or set LONGBOX_HOME to a new folder"
            )

    def start(self, port: int, env: dict[str, str]) -> Child:
        """Start the server. It is not ready yet: see `wait_ready`."""
        self._remove_stale_pid_file()
        settings = {"listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": ""}
        if not self.is_durable:
            settings |= _FOR_TESTS
        command: list[str | Path] = [self.programs.program("postgres"), "-D", self.data, *_options(settings)]
        return start("PostgreSQL", command, log=self.log, cwd=self.data, run_as=self.run_as, env=env)

    def wait_ready(self, child: Child, port: int) -> str:
        """Wait until it takes connections, create the missing databases. Returns its version."""
        url = self.url(port, "postgres")
        version = wait_until(lambda: _try_version(url), seconds=START_SECONDS, child=child)
        if version is None:
            room = f": the disk of {self.data} is full, make room there" if child.lacked_room() else ""
            raise StackError(
                f"PostgreSQL did not become ready on {LOOPBACK}:{port}{room}; the end of {self.log}:\n{tail(self.log)}"
            )
        with psycopg.connect(url, autocommit=True) as connection:
            present = {str(row[0]) for row in connection.execute("SELECT datname FROM pg_database")}
            for name in DATABASES:
                if name not in present:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return version

    def stop_left_over(self) -> list[ProcessId]:
        """Shut down a server (and wait for its backends) that a killed supervisor left; returns what was found."""
        found = processes_in(self.data)
        if not found:
            return []
        postmaster = [process for process in found if process.pid == self._pid_in_file()]
        # without a postmaster the backends notice and end by themselves
        left = stop_left_over(postmaster or found, STOP_STEPS, whole_group=False)
        if left or wait_until(lambda: None if processes_in(self.data) else True, seconds=30.0) is None:
            raise StackError(
                f"a PostgreSQL on {self.data} does not end (pid {found[0].pid}); look into {self.log}, "
                "end it, and try again"
            )
        return found

    def _remove_stale_pid_file(self) -> None:
        """Remove postmaster.pid if its pid now belongs to something else, which would make the server refuse to start.

        A dead pid is left to the server, which checks the shared memory too.
        """
        pid = self._pid_in_file()
        if pid is not None and ProcessId.of(pid) is not None and not processes_in(self.data):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_in_file(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int((self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        return None


def prepare(home: Home, password: str, *, is_durable: bool = True) -> LocalPostgres:
    """Find programs, user and place of the server of `home`; moves both out of reach of no one (see `privileges`)."""
    programs = binaries.find_postgres()
    folder, note = home.postgres, ""
    user = privileges.server_user(folder / "data")
    if user is not None:
        note = f"runs as {user.name}"
        if not privileges.can_reach(user, home.postgres):
            folder = privileges.relocated_folder(home.path)
            folder.mkdir(parents=True, exist_ok=True)
            for path in (privileges.RELOCATED, folder):
                path.chmod(0o755)
            user = privileges.server_user(folder / "data") or user
            note += f", which cannot reach {home.path}: its data are in {folder}"
        programs = privileges.reachable_programs(programs, user)
    return LocalPostgres(
        programs, folder / "data", home.logs / "postgres.log", password, user, note, is_durable
    )


def _options(settings: dict[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _try_version(url: str) -> str | None:
    try:
        with psycopg.connect(url, connect_timeout=5, application_name="longbox up") as connection:
            row = connection.execute("SHOW server_version").fetchone()
    except psycopg.OperationalError:
        return None
    return str(row[0]).split(" ")[0] if row else None

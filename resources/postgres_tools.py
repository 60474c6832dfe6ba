"""PostgreSQL's own backup programs as subprocesses: pg_basebackup as a stream, pg_combinebackup, pg_verifybackup.

They run with a clean environment and never see a password on their command line. What reads or writes a data folder
runs as that folder's owner. Errors carry what the program said. Servers are `restored_server`'s.
https://www.postgresql.org/docs/18/reference-client.html
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

import psutil

from resources.errors import LongboxError
from resources.postgres_programs import (
    OLDEST_POSTGRES,
    PostgresPrograms,
    RunAs,
    find_postgres,
    reachable_programs,
    server_user,
)
from resources.setting_values import without_secret

_PIPE_BYTES = 1 << 20
_STOP_SECONDS = 10.0


class PostgresToolError(LongboxError):
    """One of PostgreSQL's programs failed; `said` is its own message."""

    def __init__(self, program: str, said: str, remedy: str = "") -> None:
        self.program, self.said = program, said
        super().__init__(f"{program} failed: {said or 'it said nothing'}{f'; {remedy}' if remedy else ''}")


class BaseBackupStream:
    """A running pg_basebackup: `read` its tar, then `finish`."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: IO[bytes], url: str) -> None:
        self._process, self._log, self._url = process, log, url
        assert process.stdout is not None
        self._output = process.stdout

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end."""
        return os.read(self._output.fileno(), size)

    def finish(self) -> None:
        """Wait for its end. Raises `PostgresToolError` unless it succeeded."""
        if self._process.wait() != 0:
            raise PostgresToolError("pg_basebackup", self._said())

    def close(self) -> None:
        """End it if it still runs."""
        self._output.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_SECONDS)

    def _said(self) -> str:
        self._log.seek(0)
        return _last_words(without_secret(self._log.read().decode("utf-8", "replace"), self._url))


class WalReceiving:
    """A running pg_receivewal; it ends by itself when the server or the network goes away."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: IO[bytes], url: str) -> None:
        self._process, self._log, self._url = process, log, url

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def said(self) -> str:
        """Its last words, without a password."""
        self._log.seek(0)
        return _last_words(without_secret(self._log.read().decode("utf-8", "replace"), self._url))

    def stop(self) -> None:
        """End it: it syncs and confirms what it has. Safe to repeat."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_SECONDS)

    def close(self) -> None:
        """End it and forget what it said."""
        self.stop()
        self._log.close()


@dataclass(frozen=True)
class PostgresTools:
    """The programs of one PostgreSQL version and whom they run as where data folders are concerned."""

    programs: PostgresPrograms
    run_as: RunAs | None

    @classmethod
    def find(
        cls, major: int | None = None, data: Path = Path("/nonexistent"), oldest: int = OLDEST_POSTGRES
    ) -> "PostgresTools":
        """Programs of that major version, reachable by the user who will own `data`. Raises `MissingProgramsError`."""
        programs, user = find_postgres(major, oldest), server_user(data)
        return cls(reachable_programs(programs, user) if user else programs, user)

    @contextlib.contextmanager
    def base_backup(
        self, url: str, *, label: str, base_manifest: Path | None = None
    ) -> Iterator[BaseBackupStream]:
        """Start pg_basebackup of the server at `url` to a pipe, in tar format, with the WAL it needs.

        With `base_manifest` only what changed since that backup. The process ends with the block, whatever happens.
        """
        address, env = _without_password(url)
        command: list[str | Path] = [self.programs.program("pg_basebackup"), "--dbname", address]
        command += ["--format=tar", "--pgdata=-", "--wal-method=fetch", "--checkpoint=fast"]
        command += ["--no-password", "--label", label]
        if base_manifest is not None:
            command += ["--incremental", base_manifest]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env, cwd="/"
            )
            stream = BaseBackupStream(process, log, url)
            try:
                assert process.stdout is not None
                # fewer switches between the two processes; a kernel that refuses the size keeps its own
                with contextlib.suppress(OSError, AttributeError):
                    fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
                yield stream
            finally:
                stream.close()

    def receive_wal(self, url: str, slot: str, folder: Path) -> "WalReceiving":
        """Start pg_receivewal from where `slot` is into the empty `folder`; it syncs before it confirms."""
        address, env = _without_password(url)
        command: list[str | Path] = [self.programs.program("pg_receivewal"), "--dbname", address]
        command += ["--slot", slot, "--directory", folder, "--synchronous", "--no-loop", "--no-password"]
        command += ["--status-interval", "2"]
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
        return WalReceiving(process, log, url)

    @property
    def can_link(self) -> bool:
        """Whether `combine` makes hard links of what did not change."""
        return self.programs.major >= 18

    def verify(self, folder: Path, *, is_content_known: bool = False) -> None:
        """Check a folder's files and WAL against its manifest. Raises `PostgresToolError` naming the first faults.

        `is_content_known`: names, sizes and WAL alone.
        """
        options = ["--skip-checksums"] if is_content_known else []
        self._run("pg_verifybackup", [*options, "--exit-on-error", "--quiet", folder])

    def combine(self, folders: Sequence[Path], into: Path) -> None:
        """Make `into` out of a full backup and its incrementals, by hard links where the version and the disk allow.

        The inputs are worthless afterwards: they share their files with the result. Nothing is synced to disk here:
        the server does that itself before it recovers.
        """
        arguments: list[str | Path] = [*folders, "--no-sync", "--output", into]
        if self.can_link:
            self._run("pg_combinebackup", [*arguments, "--link"])
        else:
            self._run("pg_combinebackup", arguments)

    def control(self, folder: Path) -> dict[str, str]:
        """What pg_controldata says of a data folder, by its labels."""
        said = self._run("pg_controldata", [folder])
        return {
            name.strip(): value.strip()
            for name, _, value in (line.partition(":") for line in said.splitlines())
        }

    def _run(self, program: str, arguments: Sequence[str | Path]) -> str:
        options = self.run_as.options() if self.run_as else {}
        done = subprocess.run(
            [self.programs.program(program), *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", env=_plain_environment(), **options,
        )  # type: ignore[call-overload]  # fmt: skip
        if done.returncode != 0:
            raise PostgresToolError(program, _last_words(done.stderr or done.stdout))
        return str(done.stdout)


def end_left_over_receivers(folder: Path) -> int:
    """Kill every pg_receivewal that works below `folder`: what a killed parent left. Returns how many.

    What they had not confirmed is received again. Only for who holds the spool's lock.
    """
    place, found = folder.resolve(), []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error, OSError):
            if process.info["name"] == "pg_receivewal" and Path(process.cwd()).is_relative_to(place):
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=_STOP_SECONDS)
    return len(found)


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    env = _plain_environment()
    if parts.password is None:
        return url, env
    user, _, host = parts.netloc.rpartition("@")
    env["PGPASSWORD"] = unquote(parts.password)
    return urlunsplit(parts._replace(netloc=f"{user.split(':')[0]}@{host}")), env


def _plain_environment() -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "HOME") if name in os.environ
    }
    # PGSSL*: certificates are named there by custom
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PGSSL")}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C"}


def _last_words(text: str) -> str:
    lines = [
        re.sub(r"^\S+: (error|detail|hint): ", "", line).strip() for line in text.splitlines() if line.strip()
    ]
    return "; ".join(lines[-4:])

"""What the stack remembers in its home: where it runs (`stack.json`), its passwords, and the lock on the home.

`resources.settings` reads the URLs of `stack.json`; `status` and `down` read the rest. All files are the owner's
alone (0600) and replaced whole. The lock goes with the process that holds it, so it is never stale.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from deploy.local.errors import AlreadyRunningError
from deploy.local.processes import ProcessId, wait_until
from resources.errors import UserError
from resources.settings import STATE_FILE_NAME

STOPPED, STARTING, RUNNING, STOPPING = "stopped", "starting", "running", "stopping"


@dataclass(frozen=True)
class Home:
    """The folder of one stack and the names in it."""

    path: Path

    @property
    def state_file(self) -> Path:
        return self.path / STATE_FILE_NAME

    @property
    def lock_file(self) -> Path:
        return self.path / "stack.lock"

    @property
    def secrets_file(self) -> Path:
        return self.path / "secrets.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def dagster(self) -> Path:
        return self.path / "dagster"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    def make(self) -> None:
        """Create the folders. Raises `UserError` if the place cannot be written."""
        try:
            for folder in (self.path, self.logs, self.postgres, self.valkey, self.dagster, self.objects):
                folder.mkdir(parents=True, exist_ok=True)
            (self.path / ".gitignore").write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.path, error) from error


@dataclass(frozen=True)
class Part:
    """One part of the stack as it was started: `process` is None for what is not ours or has no process."""

    name: str
    version: str = ""
    address: str = ""
    process: ProcessId | None = None
    log: str = ""
    note: str = ""
    is_ready: bool = False


@dataclass(frozen=True)
class State:
    """The content of `stack.json`."""

    status: str = STOPPED
    supervisor: ProcessId | None = None
    urls: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    dagster_schema: str = ""  # version of Dagster whose tables the instance's database holds
    ended: str = ""  # which part ended by itself and so ended the last stack

    def with_part(self, part: Part) -> Self:
        """This state with `part` added, or put in place of the one of its name."""
        if all(known.name != part.name for known in self.parts):
            return replace(self, parts=(*self.parts, part))
        return replace(self, parts=tuple(part if k.name == part.name else k for k in self.parts))

    @classmethod
    def read(cls, home: Home) -> Self:
        """What the file says; a stopped stack if there is none or it is damaged (the servers know their own state)."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            data = json.loads(home.state_file.read_text(encoding="utf-8"))
            return cls(
                status=data["status"],
                supervisor=_process(data["supervisor"]),
                urls=dict(data["urls"]),
                ports={name: int(port) for name, port in data["ports"].items()},
                parts=tuple(Part(**{**part, "process": _process(part["process"])}) for part in data["parts"]),
                dagster_schema=data["dagster_schema"],
                ended=data.get("ended", ""),
            )
        return cls()

    def write(self, home: Home) -> None:
        """Replace the file."""
        write_private(home.state_file, json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Secrets:
    """Passwords of the local servers, drawn once a home."""

    postgres: str = field(repr=False)
    redis: str = field(repr=False)

    @classmethod
    def of(cls, home: Home) -> Self:
        """Read them, or draw them if this home has none."""
        if not home.secrets_file.exists():
            drawn = {"postgres": secrets.token_urlsafe(24), "redis": secrets.token_urlsafe(24)}
            write_private(home.secrets_file, json.dumps(drawn) + "\n")
        try:
            data = json.loads(home.secrets_file.read_text(encoding="utf-8"))
            return cls(postgres=data["postgres"], redis=data["redis"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{home.secrets_file}, which holds the passwords of the local servers, is damaged; "
                "restore it, or set LONGBOX_HOME to a new folder"
            ) from error


class HomeLock:
    """The right to start, change or stop the stack of a home; held while one runs."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it or raise `AlreadyRunningError`; tries for a moment, since `status` holds it for an instant."""
        try:
            descriptor = os.open(self._home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # there is no such home, which to `status` and `down` is no fault
            raise
        except OSError as error:
            raise _unwritable(self._home.path, error) from error

        def take() -> bool | None:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return None

        if not wait_until(take, seconds=0.3):
            os.close(descriptor)
            state = State.read(self._home)
            who = f" (pid {state.supervisor.pid})" if state.supervisor and state.supervisor.is_alive() else ""
            raise AlreadyRunningError(
                f"a stack is already {state.status if state.status != STOPPED else 'being started'} in "
                f"{self._home.path}{who}; look at it with `longbox status`, stop it with `longbox down`"
            )
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back; nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None


def is_locked(home: Home) -> bool:
    """Whether any process holds the home."""
    lock = HomeLock(home)
    try:
        lock.acquire()
    except AlreadyRunningError:
        return True
    except FileNotFoundError:
        return False
    lock.release()
    return False


def write_private(path: Path, text: str) -> None:
    """Replace `path` whole, mode 0600 from its first byte on, durable."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _unwritable(home: Path, error: OSError) -> UserError:
    remedy = "make room there" if error.errno == errno.ENOSPC else "set LONGBOX_HOME to a folder of your own"
    return UserError(f"the home of the local stack, {home}, cannot be written ({error.strerror}); {remedy}")


def _process(data: dict[str, float] | None) -> ProcessId | None:
    return ProcessId(int(data["pid"]), float(data["started_at"])) if data else None

"""Restore: from a wish (a moment, the newest, one backup) to a checked database in a folder of its own.

`planning` decided; this carries out: lay out, verify, recover, look, and only then say "restored". The folder holds
`data` (the cluster), `server.log` and `restore.json` (what this is; locked while the restore lives).
"""

import contextlib
import datetime as dt
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.backup.engine import Progress, Report, quiet
from pipelines.backup.errors import RestoreFailedError, RestoreRefusedError
from pipelines.backup.files import lay_out
from pipelines.backup.model import RestoreRequest
from pipelines.backup.planning import LEFT_OVER, MARK, plan
from pipelines.backup.recovery import Recovered, Recovery, recovered
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener
from pipelines.backup.wal import WalArchive
from resources.restored_server import start_for_good, stop_left_over

Check = Callable[[str], None]


@dataclass(frozen=True)
class RestoreResult:
    """What was restored. `rto_seconds` is from the request to a database that was looked at."""

    backup_id: str
    into: Path
    recovered: Recovered | None  # None where the engine could not ask
    rto_seconds: float
    seconds: dict[str, float] = field(default_factory=dict)
    port: int | None = None
    pid: int | None = None


def restore(
    repository: Repository,
    request: RestoreRequest,
    opener: Opener,
    report: Report = quiet,
    check: Check | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RestoreResult:
    """Meet a request. `check` is called with the URL of the recovered server, and may refuse it by raising.

    Nothing that exists is overwritten, but for what a killed restore left in the same folder. After an error the
    folder is removed again; after success `data` is promoted, was shut down cleanly and can be started by anyone.
    """
    started = clock()
    decided = plan(repository, request, opener)
    with locked_folder(request.into, decided.record.backup_id) as mark:
        data, seconds = request.into / "data", {}
        lay_out(repository, decided.chain, opener, decided.tools, data, report)
        seconds["files"] = clock() - started
        report(Progress("replaying", 0, decided.wal_bytes))
        job = Recovery(
            tools=decided.tools,
            data=data,
            log=request.into / "server.log",
            scratch=request.into / "wal",
            record=decided.record,
            archive=WalArchive(repository, decided.record.wal_segment_bytes),
            inventory=decided.inventory,
            opener=opener,
            target=decided.target,
            expected_lsn=decided.expected_lsn,
            is_durable=request.is_durable,
        )
        with recovered(job) as (server, facts):
            seconds["recovery"] = clock() - started - seconds["files"]
            rto_seconds = clock() - started
            if check is not None:
                report(Progress("checking", 0, 0))
                check(server.url())
        shutil.rmtree(job.scratch, ignore_errors=True)
        pid = start_for_good(decided.tools, data, job.log, request.port) if request.port else None
        write_mark(mark, decided.record.backup_id, "restored")
    return RestoreResult(
        decided.record.backup_id, request.into, facts, rto_seconds, seconds, request.port, pid
    )


@contextlib.contextmanager
def locked_folder(into: Path, backup_id: str) -> Iterator[int]:
    """The folder of a restore, marked and locked; removed again after an error."""
    is_ours = not into.exists()
    into.mkdir(parents=True, exist_ok=True)
    into.chmod(0o755)  # the server's user passes through; `data` itself is 0700
    mark = os.open(into / MARK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RestoreRefusedError(
                f"another restore works in {into}; wait for it, or choose another folder"
            ) from error
        try:
            _clear(into)
            write_mark(mark, backup_id, "in progress")
            with _disk(into):
                yield mark
        except BaseException:
            _clear(into)
            (into / MARK).unlink(missing_ok=True)
            if is_ours:
                with contextlib.suppress(OSError):
                    into.rmdir()
            raise
    finally:
        os.close(mark)


@contextlib.contextmanager
def _disk(into: Path) -> Iterator[None]:
    """A disk that fills up or breaks in the middle is told as such."""
    try:
        yield
    except OSError as error:
        raise RestoreFailedError(
            f"{into} could not be written ({error.strerror or error}); nothing of it is kept: make room, or choose "
            "another disk, and run the same again"
        ) from error


def _clear(into: Path) -> None:
    stop_left_over(into / "data")
    for name in LEFT_OVER:
        if (into / name).is_dir():
            shutil.rmtree(into / name, ignore_errors=True)
        else:
            (into / name).unlink(missing_ok=True)


def write_mark(mark: int, backup_id: str, state: str) -> None:
    """Write what the folder is into its open, locked `restore.json`."""
    content = {
        "state": state,
        "backup_id": backup_id,
        "at": dt.datetime.now(dt.UTC).isoformat(),
    }
    data = json.dumps(content).encode() + b"\n"
    os.pwrite(mark, data, 0)
    os.ftruncate(mark, len(data))
    os.fsync(mark)

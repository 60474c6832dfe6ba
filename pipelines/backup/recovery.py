"""From files to a checked database: the restored server is fed WAL, waits for its target, is promoted and looked at.

`restore_command` is a few lines of shell, because the server's user may be unable to run Python under /root: it asks
for a file by name and waits; a thread here fetches, decrypts and hands it over, a few segments ahead. Only "there is
no such file" ends recovery; every other fault (damage, a killed feeder) stops the server instead of ending WAL early.
"""

import contextlib
import datetime as dt
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pipelines.backup.errors import RestoreFailedError
from pipelines.backup.model import BackupRecord, format_lsn
from pipelines.backup.sealed import Opener
from pipelines.backup.wal import (
    Inventory,
    WalArchive,
    end_of_records,
    parse_history,
    segment_name,
    segment_number,
)
from resources.errors import LongboxError
from resources.postgres_tools import PostgresTools
from resources.restored_server import RestoredServer, RestoredServerError, sync_method
from resources.sql import Queries

AHEAD = 6  # segments decrypted before they are asked for: 96 MiB of disk
WAIT_SECONDS = 24 * 3600.0
_ALIVE_SECONDS = 5.0
_POLL_SECONDS = 0.01
NOT_REACHED = "recovery ended before configured recovery target was reached"
_SQL = Queries.of("pipelines.backup")
# $1: the file wanted, $2: where to. 126 stops the server; 1 says that there is no such file. A file that went while it
# was copied had been passed, and is wanted again at the end of recovery: it is fetched anew.
_SCRIPT = """#!/bin/sh
cd -- "{folder}" || exit 126
case "$2" in /*) target="$2" ;; *) target="{data}/$2" ;; esac
printf '%s' "$1" > ask.new && mv ask.new ask || exit 126
turns=0
while [ ! -e stopped ]; do
  if [ -e "$1" ]; then
    cp -- "$1" "$target" && exit 0
    [ -e "$1" ] && exit 126
  fi
  [ -e "$1.absent" ] && exit 1
  turns=$((turns + 1))
  if [ $((turns % 500)) -eq 0 ] && [ -z "$(find alive -mmin -1 2>/dev/null)" ]; then exit 126; fi
  sleep 0.02
done
exit 126
"""


@dataclass(frozen=True)
class Target:
    """Where recovery ends: at a moment, at the end of WAL (both None), or as soon as the backup is consistent."""

    at: dt.datetime | None = None
    is_immediate: bool = False
    timeline: int = 1
    # where WAL leads that holds every commit up to `at`: if it ends there, before `at`, nothing was committed after it
    covered_lsn: int | None = None

    def settings(self) -> dict[str, str]:
        """The server's settings for it."""
        found = {"recovery_target_timeline": str(self.timeline), "recovery_target_action": "promote"}
        if self.is_immediate:
            return found | {"recovery_target": "immediate"}
        if self.at is not None:
            moment = self.at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
            return found | {"recovery_target_time": moment, "recovery_target_inclusive": "on"}
        return found


@dataclass(frozen=True)
class Expected:
    """What a restored server has to be: the cluster, how far its WAL reaches, and no commit after `at`."""

    system_identifier: str
    lsn: int
    at: dt.datetime | None = None


@dataclass(frozen=True)
class Recovered:
    """What the restored server said of itself after recovery. `end_lsn`: behind the last record that was replayed."""

    last_commit_at: dt.datetime | None
    end_lsn: int
    timeline: int
    databases: int


class WalFeeder:
    """Hands WAL to the restored server through a folder. Use as a context; its error, if any, is in `error`."""

    def __init__(
        self,
        archive: WalArchive,
        inventory: Inventory,
        opener: Opener,
        tools: PostgresTools,
        folder: Path,
        data: Path,
    ) -> None:
        self._archive, self._inventory, self._opener = archive, inventory, opener
        self._tools, self._folder, self._data = tools, folder, data
        # a partial segment must not replace the whole one that the backup brought along
        self._own = {path.name for path in (data / "pg_wal").iterdir() if path.is_file()}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="longbox-wal-feeder", daemon=True)
        self._coming: dict[str, Future[None]] = {}
        self._last = ""
        self.error: LongboxError | OSError | None = None
        self.fed = 0

    def __enter__(self) -> "WalFeeder":
        self._folder.mkdir(mode=0o700)
        script = self._folder / "fetch"
        script.write_text(_SCRIPT.format(folder=self._folder, data=self._data), encoding="utf-8")
        script.chmod(0o700)
        for path in (self._folder, script):
            self._give(path)
        (self._folder / "alive").touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def command(self) -> str:
        """The server's restore_command."""
        return f'"{self._folder}/fetch" "%f" "%p"'

    def _run(self) -> None:
        alive_until = 0.0
        with ThreadPoolExecutor(2, thread_name_prefix="longbox-wal") as pool:
            while not self._done.wait(_POLL_SECONDS):
                if time.monotonic() > alive_until:
                    (self._folder / "alive").touch()
                    alive_until = time.monotonic() + _ALIVE_SECONDS
                try:
                    self._answer(pool, self._asked())
                except (LongboxError, OSError) as error:
                    self.error = error
                    (self._folder / "stopped").touch()
                    return
            for future in self._coming.values():
                future.cancel()

    def _asked(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / "ask").read_text(encoding="utf-8")
        return ""

    def _answer(self, pool: ThreadPoolExecutor, wanted: str) -> None:
        """See that what is asked for and the segments after it are there or coming; drop what was passed."""
        for name in [wanted, *self._following(wanted)] if wanted else []:
            if name not in self._coming:
                self._coming[name] = pool.submit(self._hand_over, name)
        if wanted and self._coming[wanted].done():
            self._coming[wanted].result()
        if wanted != self._last and _is_segment(wanted):
            self._last = wanted
            self._drop_before(wanted)

    def _drop_before(self, segment: str) -> None:
        for name in [name for name in self._coming if _is_segment(name) and name[8:] < segment[8:]]:
            # the server keeps its own copy of what it took, and may ask for the same again
            if self._coming[name].done():
                del self._coming[name]
                (self._folder / name).unlink(missing_ok=True)
                (self._folder / f"{name}.absent").unlink(missing_ok=True)

    def _following(self, segment: str) -> list[str]:
        if not _is_segment(segment):
            return []
        timeline, size = int(segment[:8], 16), self._inventory.segment_bytes
        number = segment_number(segment, size)
        coming = (segment_name(timeline, number + step, size) for step in range(1, AHEAD + 1))
        return [name for name in coming if self._object_of(name) is not None]

    def _object_of(self, name: str) -> str | None:
        if name.endswith(".history"):
            return self._inventory.histories.get(int(name[:8], 16))
        if not _is_segment(name):
            return None
        timeline = int(name[:8], 16)
        whole = self._inventory.segments.get((timeline, name))
        if whole or name in self._own:
            return whole
        return self._inventory.object_of(timeline, name)

    def _hand_over(self, name: str) -> None:
        stored = self._object_of(name)
        if stored is None:
            (self._folder / f"{name}.absent").touch()
            return
        data = self._archive.read_current(stored, self._opener)
        fresh = self._folder / f"coming-{name}"
        fresh.write_bytes(data)
        fresh.chmod(0o600)
        self._give(fresh)
        fresh.rename(self._folder / name)
        self.fed += 1

    def _give(self, path: Path) -> None:
        if self._tools.run_as is not None:
            os.chown(path, self._tools.run_as.uid, self._tools.run_as.gid)


def _is_segment(name: str) -> bool:
    return len(name) == 24


@dataclass(frozen=True)
class Recovery:
    """What `recover` works on."""

    tools: PostgresTools
    data: Path
    log: Path
    scratch: Path
    record: BackupRecord
    archive: WalArchive
    inventory: Inventory
    opener: Opener
    target: Target
    expected_lsn: int
    is_durable: bool = True
    wait_seconds: float = WAIT_SECONDS


@contextlib.contextmanager
def recovered(job: Recovery) -> Iterator[tuple[RestoredServer, Recovered]]:
    """The recovered, promoted, checked server and what it says of itself; stopped at the end of the block."""
    (job.data / "recovery.signal").touch(mode=0o600)
    if job.tools.run_as is not None:
        os.chown(job.data / "recovery.signal", job.tools.run_as.uid, job.tools.run_as.gid)
    target, expected_lsn = job.target, job.expected_lsn
    with WalFeeder(job.archive, job.inventory, job.opener, job.tools, job.scratch, job.data) as feeder:
        try:
            server = _start(job, feeder, target)
        except RestoredServerError as error:
            if feeder.error is None and target.covered_lsn is not None and NOT_REACHED in error.said:
                # everything up to the moment is there and nothing was committed after it: the end of WAL is the target
                expected_lsn = max(expected_lsn, target.covered_lsn)
                target = Target(timeline=target.timeline)
                server = _start(job, feeder, target)
            else:
                raise _failure(job, feeder, error) from error
    try:
        yield server, look_at(server, Expected(job.record.system_identifier, expected_lsn, job.target.at))
    finally:
        server.stop()


def _start(job: Recovery, feeder: WalFeeder, target: Target) -> RestoredServer:
    # on disk before it is said to be restored: the server syncs every file before it recovers, unless told otherwise
    settings = target.settings() | {
        "restore_command": feeder.command,
        "fsync": "on" if job.is_durable else "off",
        "recovery_init_sync_method": sync_method(),
        "hot_standby": "off",  # nobody asks before it is promoted
    }
    server = RestoredServer(job.tools, job.data, job.log, settings, job.record.superuser)
    return promoted(server, job.wait_seconds)


def promoted(server: RestoredServer, wait_seconds: float = WAIT_SECONDS) -> RestoredServer:
    """Start a server and wait until it is out of recovery. Raises `RestoredServerError`; it is stopped then."""
    try:
        server.start()
        server.wait_for(_is_promoted, wait_seconds)
        return server
    except BaseException:
        server.stop()
        raise


def _is_promoted(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    row = connection.execute(_SQL["is_promoted"]).fetchone()
    return bool(row and row[0])


def _failure(job: Recovery, feeder: WalFeeder, error: RestoredServerError) -> LongboxError | OSError:
    if feeder.error is not None:
        return feeder.error
    return RestoreFailedError(f"backup {job.record.backup_id} was laid out, but did not recover: {error}")


def look_at(server: RestoredServer, expected: Expected) -> Recovered:
    """Ask the server who and where it is. Raises `RestoreFailedError` for anything but what was asked for."""
    databases = 0
    try:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            row = connection.execute(_SQL["restored_facts"]).fetchone()
            assert row is not None
            names = [str(name) for (name,) in connection.execute(_SQL["databases"]).fetchall()]
        for name in names:
            with psycopg.connect(server.url(name), autocommit=True) as connection:
                connection.execute(_SQL["relations"]).fetchone()
            databases += 1
    except (psycopg.Error, RestoredServerError) as error:
        server.stop()
        raise RestoreFailedError(f"the restored server does not answer as it should: {error}") from error
    system, last_commit_at, timeline, history = row
    # where the new timeline branched off is where the old one ended
    found = Recovered(
        last_commit_at, parse_history(str(history))[-1].switch_lsn, int(str(timeline)), databases
    )
    fault = _fault(expected, str(system), found)
    if fault:
        server.stop()
        raise RestoreFailedError(f"the restored server is not what was asked for: {fault}; it was stopped")
    return found


def _fault(expected: Expected, system: str, found: Recovered) -> str:
    if system != expected.system_identifier:
        return f"it is cluster {system}"
    if found.end_lsn < end_of_records(expected.lsn):
        return f"its WAL ends at {format_lsn(found.end_lsn)}, before {format_lsn(expected.lsn)}"
    if expected.at is not None and found.last_commit_at is not None and found.last_commit_at > expected.at:
        return f"it holds a commit of {found.last_commit_at}, after {expected.at}"
    return ""

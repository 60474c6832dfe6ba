"""One backup or one restore in this process: prints its times, its work and its peak memory as JSON.

python -m benchmarks.backup_once '{"act": "full", "environ": {...}, "server_pid": PID}'

`act`: full, incremental, or restore (to the newest moment, into the folder `into`). PROFILE=1 adds a profile.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from pipelines.backup import setup
from pipelines.backup.engine import Progress
from pipelines.backup.model import RestoreRequest
from pipelines.backup.restore import restore
from resources.settings import Settings


class Stages:
    """How long each stage took that a restore reported, those of one name together."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._marks: list[tuple[str, float]] = []

    def note(self, progress: Progress) -> None:
        """A report of the restore; a stage begins where its name changes."""
        if not self._marks or self._marks[-1][0] != progress.act:
            self._marks.append((progress.act, time.perf_counter() - self._began))

    def until(self, end: float) -> dict[str, float]:
        """Seconds by stage. The first begins with the request."""
        begins = [0.0, *(mark for _, mark in self._marks[1:]), end]
        found: dict[str, float] = {}
        for number, (stage, _) in enumerate(self._marks):
            if begins[number] < end:
                found[stage] = found.get(stage, 0.0) + min(begins[number + 1], end) - begins[number]
        return found


def back_up(settings: Settings, kind: str, server_pid: int) -> dict[str, Any]:
    """One backup, as `longbox backup` makes it: streamed, compressed, encrypted, checksummed, catalogued."""
    cpu = harness.Cpu(server_pid)
    with setup.backup_database(settings) as server:
        engine = setup.open_engine(settings, server)
        started, used = time.perf_counter(), cpu.seconds()
        record = engine.back_up("full" if kind == "full" else "incremental")
        seconds, work = time.perf_counter() - started, cpu.seconds() - used
    return {
        "seconds": seconds,
        "cpu": work,
        "plain_bytes": record.plain_bytes,
        "stored_bytes": record.stored_bytes,
        "rss_mib": harness.own_peak_mib(),
    }


def restore_newest(settings: Settings, into: str, server_pid: int) -> dict[str, Any]:
    """Restore the newest moment, durably; `seconds` are up to a database that answered queries."""
    cpu = harness.Cpu(server_pid)
    repository, opener = setup.open_stored_repository(settings), setup.opener(settings)
    started, used = time.perf_counter(), cpu.seconds()
    stages = Stages()
    found = restore(repository, RestoreRequest(Path(into)), opener, stages.note)
    return {
        "seconds": found.rto_seconds,
        "all_seconds": time.perf_counter() - started,
        "cpu": cpu.seconds() - used,
        "steps": stages.until(found.rto_seconds),
        "rss_mib": harness.own_peak_mib(),
    }


def main(act: str, environ: dict[str, str], server_pid: int, into: str = "") -> None:
    """Do it and print."""
    os.environ.update(environ)
    settings = Settings.load()
    setup.default_keys(settings, lambda text: None)
    done = (
        restore_newest(settings, into, server_pid) if act == "restore" else back_up(settings, act, server_pid)
    )
    print(json.dumps(done))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

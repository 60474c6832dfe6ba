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
from pipelines.backup.planning import RestoreRequest
from pipelines.backup.restore import restore
from resources.settings import Settings


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
    found = restore(repository, RestoreRequest(Path(into)), opener)
    return {
        "seconds": found.rto_seconds,
        "all_seconds": time.perf_counter() - started,
        "cpu": cpu.seconds() - used,
        "steps": found.seconds,
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

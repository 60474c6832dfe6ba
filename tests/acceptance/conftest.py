"""One whole stack for the acceptance tests: PostgreSQL, Valkey, code server, daemon and webserver, as `longbox up`
starts them. Everything is driven through GraphQL, as the UI does it.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import psutil
import pytest

from cli.dagster_client import DagsterClient, Run
from deploy.local import privileges
from deploy.local.processes import ProcessId, wait_until
from deploy.local.stack import Stack
from tests import covered_lines
from tests.daily_runs import Daily, comics_assets, small_rates
from tests.s3_server import S3Server, new_bucket_name

RUN_SECONDS = 240.0
_RUNNING = pytest.StashKey[contextlib.ExitStack]()


@dataclass
class Platform:
    """A running stack, the client of its webserver, and the same servers without Dagster."""

    stack: Stack
    client: DagsterClient
    daily: Daily

    def start_over(self) -> None:
        """Empty tables and landing zone."""
        self.daily.forget_everything()
        store = self.daily.store
        for info in list(store.list("landing/")):
            store.delete(info.path)

    def launch(self, first: str, last: str) -> str:
        """Start one run over a range of landing days of the comics; returns its id."""
        return self.client.launch("daily_pipeline", partition_range=(first, last), assets=comics_assets())

    def finish(self, run_id: str) -> Run:
        """Wait until a run ends."""
        return self.client.wait(run_id, timeout_seconds=RUN_SECONDS, poll_seconds=0.5)

    def succeed(self, run_id: str) -> Run:
        """Wait until a run ends well, or fail with the steps that did not."""
        run = self.finish(run_id)
        assert run.status == "SUCCESS", (run, self.client.failures(run_id))
        return run

    def process(self, part: str) -> ProcessId:
        """A process of the stack, by the name of its part."""
        found = next(p.process for p in self.stack.state.parts if p.name == part)
        assert found is not None, part
        return found

    def run_worker(self) -> psutil.Process:
        """The process that works on the one run that is under way: a child of the code server."""

        def find() -> psutil.Process | None:
            for child in psutil.Process(self.process("code server").pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # some live for a moment only
                    if "spawn_main" in " ".join(child.cmdline()):
                        return child
            return None

        found = wait_until(find, seconds=60)
        assert found is not None, "no process works on the run"
        return found


def s3_store(server: S3Server) -> dict[str, str]:
    """Settings that put everything into a new bucket of `server`."""
    os.environ.update(server.environment)  # the test's own object store reads them too
    bucket = new_bucket_name("acceptance")
    boto3.session.Session().client("s3").create_bucket(Bucket=bucket)
    return {**server.environment, "LONGBOX_OBJECT_STORE": f"s3://{bucket}/longbox"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the suite on each kind of store that was asked for (`make acceptance` asks for both)."""
    if "platform" in metafunc.fixturenames:
        stores = metafunc.config.getoption("--stores").split(",")
        metafunc.parametrize("platform", stores, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End the stack with the last test of this folder: idle to the session's end it costs more than its tests."""
    yield
    is_last = nextitem is None or not nextitem.path.is_relative_to(Path(__file__).parent)
    if is_last and _RUNNING in item.config.stash:
        item.config.stash[_RUNNING].close()


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """The stack of this suite, with a small file of exchange rates; its files in a folder, or behind an S3 API."""
    store = s3_store(request.getfixturevalue("s3_server")) if request.param == "s3" else {}
    home = Path(tempfile.mkdtemp(prefix="longbox-")).resolve()
    home.chmod(0o755)
    environ = {
        "PATH": os.environ["PATH"],
        "LONGBOX_FX_RATES": str(small_rates(home)),
        **covered_lines.environment(),
        **store,
    }
    with contextlib.ExitStack() as running:
        request.config.stash[_RUNNING] = running
        running.callback(shutil.rmtree, privileges.relocated_folder(home), ignore_errors=True)
        running.callback(shutil.rmtree, home, ignore_errors=True)
        stack = running.enter_context(Stack(home, environ=environ, is_durable=False))
        daily = running.enter_context(contextlib.closing(Daily.on(stack.settings, home)))
        yield Platform(stack, DagsterClient(stack.state.urls["ui"]), daily)

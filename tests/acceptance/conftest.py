"""One whole stack for the acceptance tests: PostgreSQL, Valkey, code server, daemon and webserver, as `longbox up`
starts them. Everything is driven through GraphQL, as the UI does it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cli.dagster_client import DagsterClient, Run
from deploy.local import privileges
from deploy.local.processes import ProcessId, wait_until
from deploy.local.stack import Stack
from tests.daily_runs import Daily, small_rates

RUN_SECONDS = 240.0


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

    def finish(self, run_id: str) -> Run:
        """Wait until a run ends."""
        return self.client.wait(run_id, timeout_seconds=RUN_SECONDS, poll_seconds=0.2)

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
            children = psutil.Process(self.process("code server").pid).children(recursive=True)
            workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            return workers[0] if workers else None

        found = wait_until(find, seconds=60)
        assert found is not None, "no process works on the run"
        return found


def coverage_environment() -> dict[str, str]:
    """What makes a process count its covered lines, when the tests are run with coverage."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """The stack of the session, with a small file of exchange rates."""
    home = Path(tempfile.mkdtemp(prefix="longbox-")).resolve()
    home.chmod(0o755)
    environ = {
        "PATH": os.environ["PATH"],
        "LONGBOX_FX_RATES": str(small_rates(home)),
        **coverage_environment(),
    }
    try:
        with Stack(home, environ=environ, is_durable=False) as stack:
            daily = Daily.on(stack.settings, home)
            try:
                yield Platform(stack, DagsterClient(stack.state.urls["ui"]), daily)
            finally:
                daily.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(privileges.relocated_folder(home), ignore_errors=True)

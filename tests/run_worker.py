"""Runs in processes of their own, as Dagster's run workers are: several at once within one process block each other in
the logging of Dagster itself.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from tests import forks

WAIT_SECONDS = 180


def run_at_once(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """Do `work` in one process for each of `arguments`, at the same time. Returns their exit codes."""
    processes = [forks.start(work, *each) for each in arguments]
    try:
        for process in processes:
            process.join(WAIT_SECONDS)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


def heavy_job(pools: Sequence[str], diary: Path) -> dg.JobDefinition:
    """A job with an independent step for each of `pools` that writes when it worked into `diary`."""

    def heavy(number: int, pool: str) -> dg.AssetsDefinition:
        @dg.asset(name=f"heavy_{number}", pool=pool)
        def step() -> None:
            begun = time.monotonic()
            time.sleep(0.3)  # the work itself: long enough that two would meet
            with diary.open("a") as file:
                file.write(f"{pool} {begun} {time.monotonic()}\n")

        return step

    assets = [heavy(number, pool) for number, pool in enumerate(pools)]
    job = dg.define_asset_job("heavy", assets)
    return dg.Definitions(assets=assets, jobs=[job], executor=dg.in_process_executor).resolve_job_def("heavy")


def run_heavy(instance: Any, dagster_url: str, pools: Sequence[str], diary: Path) -> None:
    """Run the job once, on the instance of a reference, whose storage is at `dagster_url`."""
    os.environ["LONGBOX_DAGSTER_POSTGRES_URL"] = dagster_url
    with dg.DagsterInstance.from_ref(instance) as opened:
        assert heavy_job(pools, diary).execute_in_process(instance=opened).success


def run_day(settings: Any, folder: Path, day: str) -> None:
    """Run the daily pipeline for a landing day."""
    from tests.daily_runs import Daily, steps

    folder.mkdir()
    daily = Daily.on(settings, folder)
    result = daily.run(day)
    daily.close()
    assert result.success, steps(result)

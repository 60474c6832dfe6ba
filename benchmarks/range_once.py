"""A range of landing days in one run of `daily_pipeline`, in this process, as a run worker does it.

python -m benchmarks.range_once '{"first": DAY, "last": DAY, "environ": {...}, "server_pid": PID}'

Prints its seconds and processor seconds, the seconds of each step, and its peak memory as JSON. The
Dagster instance and all servers are those of the environment.
"""

import cProfile
import json
import logging
import os
import pstats
import sys
import time
from typing import Any

import dagster as dg

from benchmarks import harness


def run_range(first: str, last: str, server_pid: int) -> dict[str, Any]:
    """Run the days from `first` to `last`. Raises when the run fails. Seconds are of the run, not of the imports."""
    from definitions import defs

    job = defs.resolve_job_def("daily_pipeline")
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    with dg.DagsterInstance.get() as instance:
        cpu = harness.Cpu(server_pid)
        started, used = time.perf_counter(), cpu.seconds()
        result = job.execute_in_process(instance=instance, tags=tags)
        seconds, work = time.perf_counter() - started, cpu.seconds() - used
        stats = instance.get_run_step_stats(result.run_id)
    steps = {
        each.step_key: each.end_time - each.start_time for each in stats if each.start_time and each.end_time
    }
    return {"seconds": seconds, "cpu": work, "steps": steps, "rss_mib": harness.peak_mib()}


def main(first: str, last: str, environ: dict[str, str], server_pid: int, profile: bool = False) -> None:
    """Run them in the given environment, under the profiler if asked to."""
    os.environ.update(environ)
    logging.disable(logging.INFO)
    if profile:
        with cProfile.Profile() as profiler:
            done = run_range(first, last, server_pid)
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(60)
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumtime").print_stats(80)
    else:
        done = run_range(first, last, server_pid)
    print(json.dumps(done))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

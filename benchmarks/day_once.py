"""One landing day of comics through every stage, in this process: prints its times and its peak memory as JSON.

python -m benchmarks.day_once \
    '{"database": URL, "store": URL, "redis": URL, "server_pid": PID, "day": DAY, "profile": false}'
"""

import cProfile
import datetime as dt
import json
import pstats
import sys
import time
from collections.abc import Callable
from typing import Any

from assets.comics.aggregate import aggregate_days, refresh_views
from assets.comics.days import match_days, normalise_matched_days
from assets.comics.normalise import make_normaliser
from assets.comics.warm import warm_cache
from benchmarks import harness
from pipelines.catalog.loader import load_catalog
from pipelines.ingestion import Loader, load_days
from resources.cache import Cache
from resources.database import OWNER_ROLE, Database
from resources.object_store import ObjectStore
from resources.settings import PROJECT_ROOT


def run_day(database: str, store: str, redis: str, server_pid: int, day: str) -> dict[str, Any]:
    """Every stage over the landing day, as the steps of the job call them: seconds and processor seconds of each.

    Raises if the day failed anywhere.
    """
    system = load_catalog([PROJECT_ROOT / "assets" / "comics"]).systems["comics"]
    days, stages, work_of = [dt.date.fromisoformat(day)], {}, {}
    cpu = harness.Cpu(server_pid)
    with Database(database) as app, Database(database, role=OWNER_ROLE) as owner:
        loader = Loader(app, owner, ObjectStore.from_url(store), system, system.feeds["marketplace_sales"])
        normaliser = make_normaliser(system, app, owner)
        cache = Cache(redis)
        work: dict[str, Callable[[], Any]] = {
            "ingest": lambda: load_days(loader, days),
            "match titles": lambda: match_days(normaliser, app, days, None),
            "normalise": lambda: normalise_matched_days(normaliser, app, days, None),
            "aggregate": lambda: aggregate_days(app, days),
            "refresh views": lambda: refresh_views(app),
            "warm cache": lambda: warm_cache(cache, app, system),
        }
        for name, stage in work.items():
            started, used = time.perf_counter(), cpu.seconds()
            done = stage()
            stages[name], work_of[name] = time.perf_counter() - started, cpu.seconds() - used
            if isinstance(done, list) and any(getattr(each, "outcome", "") == "failed" for each in done):
                raise RuntimeError(f"{name}: {done}")
        cache.close()
    return {
        "seconds": sum(stages.values()),
        "cpu": sum(work_of.values()),
        "stages": stages,
        "work": work_of,
        "rss_mib": harness.peak_mib(),
    }


def main(profile: bool = False, **arguments: Any) -> None:
    """Run the day, under the profiler if asked to."""
    if profile:
        with cProfile.Profile() as profiler:
            done = run_day(**arguments)
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(40)
    else:
        done = run_day(**arguments)
    print(json.dumps(done))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

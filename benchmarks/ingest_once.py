"""Load the landed files of one day once, in this process: prints its time, its account and its peak memory as JSON.

python -m benchmarks.ingest_once '{"database": URL, "store": URL, "profile": false}'
"""

import json
import resource
import sys
import time
from typing import Any

from benchmarks.sales import LANDING_DAY
from pipelines.catalog.loader import load_catalog
from pipelines.ingestion import Loader
from resources.database import OWNER_ROLE, Database
from resources.object_store import ObjectStore
from resources.settings import PROJECT_ROOT


def ingest(database: str, store: str) -> dict[str, Any]:
    """Load what landed on `LANDING_DAY`. Seconds are of loading alone, memory is of the whole process in MiB."""
    system = load_catalog([PROJECT_ROOT / "assets" / "comics"]).systems["comics"]
    with Database(database) as app, Database(database, role=OWNER_ROLE) as owner:
        loader = Loader(app, owner, ObjectStore.from_url(store), system, system.feeds["marketplace_sales"])
        started = time.perf_counter()
        day = loader.load_day(LANDING_DAY)
        seconds = time.perf_counter() - started
    unit = 1024 if sys.platform != "darwin" else 1024**2
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    )
    return {"seconds": seconds, "counts": day.counts(), "rss_mib": peak / unit}


if __name__ == "__main__":
    print(json.dumps(ingest(**json.loads(sys.argv[1]))))

"""Load the landed files of one day once, in this process: prints its time, its account and its peak memory as JSON.

python -m benchmarks.ingest_once '{"database": URL, "store": URL, "server_pid": PID}'
"""

import json
import sys
import time
from typing import Any

from benchmarks import harness
from benchmarks.sales import LANDING_DAY
from pipelines.catalog.loader import load_catalog
from pipelines.ingestion import Loader
from resources.database import OWNER_ROLE, Database
from resources.object_store import ObjectStore
from resources.settings import PROJECT_ROOT


def ingest(database: str, store: str, server_pid: int) -> dict[str, Any]:
    """Load what landed on `LANDING_DAY`. Seconds are of loading alone, memory is of the whole process in MiB.

    `client_seconds` and `server_seconds` are processor time: work, however busy the machine is.
    """
    system = load_catalog([PROJECT_ROOT / "assets" / "comics"]).systems["comics"]
    processor = harness.Cpu(server_pid)
    with Database(database) as app, Database(database, role=OWNER_ROLE) as owner:
        loader = Loader(app, owner, ObjectStore.from_url(store), system, system.feeds["marketplace_sales"])
        own, server, started = time.process_time(), processor.server_seconds(), time.perf_counter()
        day = loader.load_day(LANDING_DAY)
        seconds = time.perf_counter() - started
        own, server = time.process_time() - own, processor.server_seconds() - server
    return {
        "seconds": seconds, "client_seconds": own, "server_seconds": server, "counts": day.counts(),
        "rss_mib": harness.peak_mib(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(ingest(**json.loads(sys.argv[1]))))

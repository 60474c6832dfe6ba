"""`landing_sensor`: files that landed start a run of exactly the days they landed in, once.

A file counts as read when a load accounts for it, whatever became of it; the run key is made of a day's unread files,
so that a day is launched once for the same files, also when its run failed, and again when another file lands. The
newest days are looked at every tick, older ones in rotation: the cursor says where each feed's rotation goes on.
https://docs.dagster.io/guides/automate/sensors
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence

import dagster as dg

from assets.jobs import DailyPipeline
from assets.partitions import contiguous
from pipelines.catalog.model import Feed
from pipelines.monitoring.landing import Unread, look_for_files
from resources.database import Database
from resources.object_store import ObjectStore

LONGEST_RANGE_DAYS = 31
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def landing_sensor(pipelines: Sequence[DailyPipeline]) -> dg.SensorDefinition:
    """The sensor over every feed of `pipelines`."""
    feeds = {pipeline.name: [f for s in pipeline.systems for f in s.feeds.values()] for pipeline in pipelines}

    @dg.sensor(
        name="landing_sensor",
        jobs=[pipeline.job for pipeline in pipelines],
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="New files in the landing zone start a run of the days they landed in, once.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.SensorResult:
        positions = read_cursor(context.cursor)
        requests: list[dg.RunRequest] = []
        told: list[str] = []
        for job_name, job_feeds in feeds.items():
            unread = _look(context, database, store, job_feeds, positions, told)
            requests += run_requests(job_name, unread)
        skip = None if requests else dg.SkipReason("; ".join(told) or "no feed is declared")
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=skip,
            cursor=json.dumps(positions, sort_keys=True),
        )

    return sensor


def _look(
    context: dg.SensorEvaluationContext, database: Database, store: ObjectStore, feeds: Sequence[Feed],
    positions: dict[str, str], told: list[str],
) -> list[Unread]:  # fmt: skip
    found: list[Unread] = []
    for feed in feeds:
        look = look_for_files(
            database,
            store,
            feed,
            today=dt.datetime.now(dt.UTC).date(),
            position=positions.get(feed.key_name, ""),
        )
        positions[feed.key_name] = look.position
        found.extend(look.unread)
        if look.strange_folders:
            names = ", ".join(look.strange_folders[:5])
            context.log.warning(f"{feed.prefix}: no landing day (YYYY-MM-DD), never read: {names}")
        told.append(
            f"{feed.key_name}: every file of the {len(look.days_looked_at)} days looked at has been read"
        )
    return found


def run_requests(job_name: str, unread: Sequence[Unread]) -> list[dg.RunRequest]:
    """One request for each stretch of days without holes: a day, or a range in a single run."""
    marks: dict[dt.date, list[str]] = {}
    for day in unread:
        marks.setdefault(day.landing_day, []).append(day.mark)
    requests = []
    for first, last in contiguous(list(marks), longest=LONGEST_RANGE_DAYS):
        inside = [mark for day in sorted(marks) if first <= day <= last for mark in sorted(marks[day])]
        digest = hashlib.sha256(" ".join(inside).encode()).hexdigest()[:16]
        where: Mapping[str, object] = (
            {"partition_key": first.isoformat()}
            if first == last
            else {"tags": dict(zip(RANGE_TAGS, (first.isoformat(), last.isoformat()), strict=True))}
        )
        requests.append(
            dg.RunRequest(job_name=job_name, run_key=f"{job_name}:{first}:{last}:{digest}", **where)
        )
    return requests


def read_cursor(text: str | None) -> dict[str, str]:
    """Where each feed's rotation goes on; from the start when the cursor is empty or not ours."""
    try:
        positions = json.loads(text or "{}")
    except ValueError:
        return {}
    return (
        {str(feed): str(position) for feed, position in positions.items()}
        if isinstance(positions, dict)
        else {}
    )

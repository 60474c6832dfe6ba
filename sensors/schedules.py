"""The clock: the daily pipeline after midnight UTC, the cache before the working day, upkeep at night.

Off until started in the UI (Automation). https://docs.dagster.io/guides/automate/schedules
"""

import datetime as dt
import hashlib
from collections.abc import Sequence

import dagster as dg

from assets.jobs import DailyPipeline

DAILY_AT, UPKEEP_AT, HISTORY_AT, WARM_AT = "30 1 * * *", "15 0 * * *", "15 3 * * *", "0 6 * * *"

BACKUPS = {
    "backup_full": ["0 1 * * *"],
    "backup_incremental": ["0 */2 * * *"],
    "backup_verification": ["30 4 * * 0"],
    "wal_observation": ["*/5 * * * *"],
    # after the last of the daily drills, and never on the same day
    "disaster_drill": ["30 22 1 * *"],
    "failover_drill": ["30 22 15 1,4,7,10 *"],
}


def daily_schedule(pipeline: DailyPipeline) -> dg.ScheduleDefinition:
    """Run the landing day that has just ended, whose files are all there, and open the newest one."""

    @dg.schedule(
        name=f"{pipeline.name}_schedule",
        job=pipeline.job,
        cron_schedule=DAILY_AT,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="01:30 UTC: the landing day that has just ended, and the one that has begun.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        today = context.scheduled_execution_time.astimezone(dt.UTC).date()
        days = [
            day
            for day in (today - dt.timedelta(days=1), today)
            if pipeline.calendar.has_partition_key(day.isoformat())
        ]
        if not days:
            return dg.SkipReason(f"the first landing day is {pipeline.calendar.start:%Y-%m-%d}")
        return [dg.RunRequest(run_key=f"{today}:{day}", partition_key=day.isoformat()) for day in days]

    return schedule


def upkeep_schedules(job_names: Sequence[str]) -> list[dg.ScheduleDefinition]:
    """The clock of `maintenance` and `cache_warm`, as far as they exist."""
    times = {"maintenance": UPKEEP_AT, "dagster_retention": HISTORY_AT, "cache_warm": WARM_AT}
    return [
        dg.ScheduleDefinition(
            name=f"{name}_schedule",
            job_name=name,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
        )
        for name, cron in times.items()
        if name in job_names
    ]


def backup_schedules(engine: str = "postgres") -> list[dg.ScheduleDefinition]:
    """The clock of backups, and of the drill, which comes at another moment every day."""
    clock = {**BACKUPS, "restore_drill": [drill_time(day) for day in range(1, 32)]}
    if engine == "external":
        del clock["wal_observation"]  # a provider keeps its own WAL
    return [
        dg.ScheduleDefinition(
            name=f"{name}_schedule",
            job_name=name,
            cron_schedule=crons,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
        )
        for name, crons in clock.items()
    ]


def drill_time(day: int) -> str:
    """When the drill of that day of the month begins, from 03:00 to 21:59: derived from the date, so that it is known
    beforehand and yet meets the database in every state; no tick is spent on waiting."""
    number = int.from_bytes(hashlib.sha256(f"restore drill {day}".encode()).digest()[:8], "big")
    hour, minute = divmod(number % (19 * 60), 60)
    return f"{minute} {hour + 3} {day} * *"

"""`backup_age_sensor`: what is overdue about backups is told to the notifier, once a cause.

Causes: the newest restorable moment against the RPO (of each copy store too), the age of the last full backup, of the
last drill that succeeded and of the recovery key, that there is no backup at all, that nothing can be seen (the store
is away), and a WAL slot beyond its bound that no receiver reads: for that it also launches `backup_full`, which gives
the slot up first. The cursor holds the causes that were told and last: each is told again only after it was gone.
https://docs.dagster.io/guides/automate/sensors
"""

import datetime as dt
import json

import dagster as dg

from resources.errors import LongboxError, UserError
from resources.notifier import Alert, Notifier
from resources.settings import BACKUP_ENGINES, Settings

BACKUP, UNSEEN = "backup_full", "unseen"


def backup_age_sensor() -> dg.SensorDefinition:
    """The sensor over the repository that the settings name."""

    @dg.sensor(
        name="backup_age_sensor",
        job_name=BACKUP,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells overdue backups, WAL and drills to the console and LONGBOX_ALERT_URLS, once a cause.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        settings: dg.ResourceParam[Settings],
        notifier: dg.ResourceParam[Notifier],
    ) -> dg.SensorResult:
        before = read_cursor(context.cursor)
        problems = _problems(settings)
        slot = _slot_to_give_up(settings)
        if slot:
            problems["slot"] = f"{slot}; it is given up, and a full backup is launched"
        for cause in sorted(problems.keys() - before):
            notifier.send(Alert(f"backup_age:{cause}", "backups are overdue", problems[cause]))
        # whether what was told before still lasts is not known while nothing can be seen
        told = json.dumps(sorted(problems.keys() | (before if UNSEEN in problems else set())))
        if slot and "slot" not in before:
            return dg.SensorResult(run_requests=[dg.RunRequest(tags={"longbox/cause": "slot"})], cursor=told)
        said = "; ".join(problems.values()) or "backups, WAL and drills are as young as they have to be"
        return dg.SensorResult(skip_reason=dg.SkipReason(said), cursor=told)

    return sensor


def _problems(settings: Settings) -> dict[str, str]:
    from pipelines.backup import setup
    from pipelines.backup.readiness import readiness

    now = dt.datetime.now(dt.UTC)
    try:
        found = readiness(setup.open_stored_source(settings), now).problems()
    except UserError as error:
        found = {"none": str(error)}
    except LongboxError as error:
        found = {UNSEEN: f"nobody can see how ready for recovery this is: {error}"}
    if setup.is_key_due(settings, now):
        found["key"] = "the recovery key is older than 90 days; `longbox backup keys rotate` adds one"
    return found


def _slot_to_give_up(settings: Settings) -> str:
    from pipelines.backup.slot_guard import slot_to_give_up

    if settings.backup_engine != BACKUP_ENGINES[0]:
        return ""  # the slot is the default engine's
    try:
        return slot_to_give_up(settings)
    except LongboxError:
        return ""  # a server that is away shows as an old restorable moment


def read_cursor(text: str | None) -> set[str]:
    """Causes that were told and last; none when the cursor is empty or not ours."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return set()
    return {str(cause) for cause in found} if isinstance(found, list) else set()

"""`backup_age_sensor`: what is overdue about backups is told to the notifier, once a cause.

Causes: the newest restorable moment against the RPO, the age of the last full backup, of the last drill that
succeeded, and that there is no backup at all. The cursor holds the causes that were told and last: each is told again
only after it was gone. https://docs.dagster.io/guides/automate/sensors
"""

import datetime as dt
import json

import dagster as dg

from resources.errors import UserError
from resources.notifier import Alert, Notifier
from resources.settings import Settings


def backup_age_sensor() -> dg.SensorDefinition:
    """The sensor over the repository that the settings name."""

    @dg.sensor(
        name="backup_age_sensor",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells overdue backups, WAL and drills to the console and LONGBOX_ALERT_URLS, once a cause.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        settings: dg.ResourceParam[Settings],
        notifier: dg.ResourceParam[Notifier],
    ) -> dg.SensorResult:
        from pipelines.backup.readiness import readiness
        from pipelines.backup.setup import open_stored_source

        try:
            problems = readiness(open_stored_source(settings), dt.datetime.now(dt.UTC)).problems()
        except UserError as error:
            problems = {"none": str(error)}
        for cause in sorted(problems.keys() - read_cursor(context.cursor)):
            notifier.send(Alert(f"backup_age:{cause}", "backups are overdue", problems[cause]))
        said = "; ".join(problems.values()) or "backups, WAL and drills are as young as they have to be"
        return dg.SensorResult(skip_reason=dg.SkipReason(said), cursor=json.dumps(sorted(problems)))

    return sensor


def read_cursor(text: str | None) -> set[str]:
    """Causes that were told and last; none when the cursor is empty or not ours."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return set()
    return {str(cause) for cause in found} if isinstance(found, list) else set()

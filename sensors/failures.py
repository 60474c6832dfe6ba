"""`run_failure_sensor`: a run that failed is told to the notifier, once a cause.

The cause is the job, the partition and the steps that failed: a run that fails again and again for the same reason is
one alert, with the number of repetitions. https://docs.dagster.io/guides/automate/sensors/run-status-sensors
"""

import dagster as dg

from resources.notifier import Alert, Notifier

LONGEST_MESSAGE = 3_000
_PARTITION_TAGS = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)


def run_failure_sensor() -> dg.SensorDefinition:
    """The sensor over every job of this code location."""

    @dg.run_failure_sensor(
        name="run_failure_sensor",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=15,
        description="Tells failed runs to the console and the channels of LONGBOX_ALERT_URLS, once a cause.",
    )
    def sensor(context: dg.RunFailureSensorContext, notifier: dg.ResourceParam[Notifier]) -> None:
        delivery = notifier.send(alert_of(context))
        context.log.info(f"told: {delivery.is_sent}; repetitions held back: {delivery.repetitions}")

    return sensor


def alert_of(context: dg.RunFailureSensorContext) -> Alert:
    """The alert for the failure of one run."""
    run = context.dagster_run
    days = " to ".join(dict.fromkeys(run.tags[tag] for tag in _PARTITION_TAGS if tag in run.tags))
    steps = sorted(event.step_key for event in context.get_step_failure_events() if event.step_key)
    failures = [
        f"{event.step_key}: {_told(event)}" for event in context.get_step_failure_events() if event.step_key
    ]
    title = f"{run.job_name}{f' of {days}' if days else ''} failed"
    message = "\n".join(
        [*failures, "" if failures else context.failure_event.message or "", f"run {run.run_id}"]
    )
    return Alert(
        cause=f"run_failure:{run.job_name}:{days}:{','.join(steps)}",
        title=title,
        message=message.strip()[:LONGEST_MESSAGE],
    )


def _told(event: dg.DagsterEvent) -> str:
    """The error of our code: Dagster wraps it once, and it may have a driver's error as its own cause."""
    error = event.step_failure_data.error
    if error is None:
        return "no error was recorded"
    return (error.cause or error).message.strip()

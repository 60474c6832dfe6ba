"""What the tests of backups as the platform makes them share: acts in the ledger, ticks of the age sensor.

The cluster is that of `tests/backup_cluster.py`, the settings are the fixture `backup_settings` of `conftest.py`;
nothing here is a test.
"""

import dagster as dg
import psycopg

from resources.notifier import Alert, Delivery
from resources.settings import Settings
from sensors.backup_age import backup_age_sensor


def acts(settings: Settings) -> dict[str, int]:
    """How often each act stands in the ledger."""
    with psycopg.connect(settings.postgres_url) as connection:
        rows = connection.execute("SELECT act, count(*) FROM longbox.ledger GROUP BY act").fetchall()
    return dict(rows)


class Heard:
    """A notifier that keeps what it is told."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def send(self, alert: Alert) -> Delivery:
        self.causes.append(alert.cause)
        return Delivery(True, 0, ())


def tick(settings: Settings, heard: Heard, cursor: str | None) -> tuple[str, str]:
    """One tick of the sensor; what it said and its cursor."""
    context = dg.build_sensor_context(cursor=cursor, resources={"settings": settings, "notifier": heard})
    result = backup_age_sensor()(context)
    return result.skip_reason.skip_message, result.cursor

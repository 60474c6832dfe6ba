"""`freshness_sensor`: a table whose landing days are due and not complete is shown by its check and told once a cause.

The cursor keeps how each table stood last: only a change is written to the check `yesterday_complete` or told, so that
a daemon that starts anew repeats nothing. https://docs.dagster.io/guides/automate/sensors
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping

import dagster as dg

from assets.freshness import check_fields, check_key, utc_now
from pipelines.catalog.model import Catalog
from pipelines.monitoring.freshness import TableFreshness, judge_freshness, watched_tables
from resources.database import Database
from resources.notifier import Alert, Notifier

_TOLD = ("late", "stale")


def freshness_sensor(catalog: Catalog, *, clock: Callable[[], dt.datetime] = utc_now) -> dg.SensorDefinition:
    """The sensor over every table of `catalog` that asks for freshness and is loaded from feeds."""
    tables = watched_tables(catalog)

    @dg.sensor(
        name="freshness_sensor",
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells landing days that are overdue and not complete, once a cause, and that they are again.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        database: dg.ResourceParam[Database],
        notifier: dg.ResourceParam[Notifier],
    ) -> dg.SensorResult:
        now = clock()
        found = [judge_freshness(database, system, table, now) for system, table in tables]
        known = read_cursor(context.cursor)
        changed = [table for table in found if known.get(table.table) != table.cause]
        for table in changed:
            tell(notifier, table, was=known.get(table.table, ""))
        skip = dg.SkipReason(
            "; ".join(table.told().split("\n")[0] for table in found) or "no table asks for freshness"
        )
        return dg.SensorResult(
            skip_reason=None if changed else skip,
            asset_events=[evaluation(table) for table in changed],
            cursor=json.dumps({table.table: table.cause for table in found}, sort_keys=True),
        )

    return sensor


def tell(notifier: Notifier, table: TableFreshness, *, was: str) -> None:
    """Alert people to a table that is late or stale, and to one that no longer is."""
    if table.state in _TOLD:
        title = f"{table.table} is {table.state}: landing day {table.missing_days[0].landing_day}"
        severity = "critical" if table.state == "stale" else "warning"
        notifier.send(Alert(table.cause, title, table.told(), severity))
    elif any(f":{state}:" in was for state in _TOLD):
        notifier.send(Alert(f"{was}:over", f"{table.table} is complete again", table.told(), "info"))


def evaluation(table: TableFreshness) -> dg.AssetCheckEvaluation:
    """The state of a table as an evaluation of its check."""
    key = check_key(table.table)
    return dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, **check_fields(table))


def read_cursor(text: str | None) -> Mapping[str, str]:
    """The cause at which each table stood; nothing when the cursor is empty or not ours."""
    try:
        causes = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(table): str(cause) for table, cause in causes.items()} if isinstance(causes, dict) else {}

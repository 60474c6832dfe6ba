"""What assets tell about themselves: fixed keys of metadata, column schemas, and the results of landing days.

Numbers plot over time in the UI, so that a key never changes its meaning: `rows_read`, `rows_written`,
`rows_rejected`, `bytes_read`, `dagster/row_count`. https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import dagster as dg

from assets.partitions import landing_days
from assets.retries import retry_failed_days
from pipelines.catalog.model import System
from pipelines.catalog.shape import table_shape
from pipelines.monitoring.days import DayError
from resources.database import Database

OWNERS = ["team:data-platform"]
COLUMNS = "dagster/column_schema"
COLUMN_LINEAGE = "dagster/column_lineage"
TABLE = "dagster/table_name"
ROWS = "dagster/row_count"
DAY_ROWS = "dagster/partition_row_count"


class DayResult(Protocol):
    """What every stage tells of a landing day: a result with counts, or a failure with its error."""

    @property
    def landing_day(self) -> dt.date: ...
    @property
    def outcome(self) -> str: ...


def report_days(
    context: dg.AssetExecutionContext, results: Sequence[DayResult], renamed: Mapping[str, str]
) -> None:
    """Put each day's counts on its own partition. Raises `DayError` in a one-day run whose day failed.

    `renamed` gives the fixed key of a count, as in {"rows_read": "landed_rows"}. A step whose day failed for
    a fault that may pass is run again first.
    """
    retry_failed_days(results)
    for result in results:
        described = describe_day(result, renamed)
        key = result.landing_day.isoformat()
        context.add_asset_metadata(described, partition_key=key)
        if result.outcome != "complete":
            context.log.warning(f"{key}: {result.outcome}: {described.get('problems')}")
    if len(landing_days(context)) == 1:
        for result in results:
            raise_if_failed(result)


def describe_day(result: DayResult, renamed: Mapping[str, str]) -> dict[str, Any]:
    """A day's outcome, problems and counts as metadata."""
    error = getattr(result, "error", None)
    problems = [str(error)] if error is not None else list(getattr(result, "problems", ()))
    counts = result.counts() if hasattr(result, "counts") else {}
    described: dict[str, Any] = {"outcome": getattr(result, "outcome", "complete"), **counts}
    described |= {key: counts[name] for key, name in renamed.items() if name in counts}
    described |= {
        name: getattr(result, name) for name in ("rows_written", "bytes_read") if hasattr(result, name)
    }
    if problems:
        described["problems"] = "\n".join(problems)
    if changes := getattr(result, "schema_changes", ()):
        described["schema_changes"] = "\n".join(changes)
    return described


def raise_if_failed(result: DayResult) -> None:
    """Raise `DayError` for a day that failed: in a one-day run nothing of it may go on."""
    if getattr(result, "outcome", "complete") == "failed":
        error = getattr(result, "error", None)
        raise DayError(
            f"landing day {result.landing_day} failed: {error}; mend it and run the day again"
        ) from error


def report_matching(context: dg.AssetExecutionContext, results: Sequence[Any]) -> None:
    """Put each day's counts on the partition of every table that matching writes.

    Raises `DayError` in a one-day run whose day failed. A step whose day failed for a fault that may pass is run again.
    """
    retry_failed_days(results)
    for result in results:
        described = describe_day(result, {"rows_read": "titles_read"})
        for key in context.selected_asset_keys:
            own = f"{key.path[-1]}_written"
            mine = described | ({"rows_written": described[own]} if own in described else {})
            context.add_asset_metadata(mine, asset_key=key, partition_key=result.landing_day.isoformat())
    if len(landing_days(context)) == 1:
        for result in results:
            raise_if_failed(result)


class RunResult(Protocol):
    """What a stage tells that works on all days of a run at once."""

    def counts(self) -> Mapping[str, int]: ...
    @property
    def failed_days(self) -> Sequence[Any]: ...


def report_run(context: dg.AssetExecutionContext, result: RunResult) -> None:
    """Put the counts of a whole run on its last partition, and on each day how it went.

    Raises `DayError` in a one-day run whose day failed.
    """
    days = landing_days(context)
    failed = {getattr(day, "landing_day", day): getattr(day, "error", None) for day in result.failed_days}
    for day in days:
        described: dict[str, Any] = {"outcome": "failed" if day in failed else "complete"}
        if failed.get(day) is not None:
            described["problems"] = str(failed[day])
        if day == days[-1]:
            described |= dict(result.counts()) | {"landing_days": len(days)}
        context.add_asset_metadata(described, partition_key=day.isoformat())
    if len(days) == 1 and days[0] in failed:
        raise DayError(f"landing day {days[0]} failed: {failed[days[0]]}; mend it and run the day again")


def declared_columns(columns: Mapping[str, Any]) -> dg.TableSchema:
    """The schema of a table whose columns its system.yaml declares."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type=str(column),
                description=getattr(column, "description", "") or None,
                constraints=dg.TableColumnConstraints(nullable=not getattr(column, "not_null", False)),
            )
            for name, column in columns.items()
        ]
    )


def live_columns(database: Database, system: str, table: str) -> dg.TableSchema:
    """The schema of a table as PostgreSQL has it: two catalogue queries at the end of a step."""
    with database.connection() as connection:
        shape = table_shape(connection, system, table)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=column.type_name,
                description=column.description or None,
                constraints=dg.TableColumnConstraints(
                    nullable=column.is_nullable, other=["generated"] if column.is_generated else []
                ),
            )
            for column in shape.columns
        ]
    )


def add_live_columns(context: dg.AssetExecutionContext, database: Database, *tables: tuple[str, str]) -> None:
    """Put the schema of the assets' tables on the last partition of the run: the UI shows the newest event's."""
    last = landing_days(context)[-1].isoformat()
    for system, table in tables:
        schema = live_columns(database, system, table)
        context.add_asset_metadata(
            {COLUMNS: schema}, asset_key=dg.AssetKey([system, table]), partition_key=last
        )


class ViewRefresh(Protocol):
    """What refreshing a materialised view tells."""

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def seconds(self) -> float: ...


def view_metadata(database: Database, system: System, view: ViewRefresh) -> dict[str, Any]:
    """Rows, time and columns of a refreshed view."""
    return {ROWS: view.rows, "seconds": view.seconds, COLUMNS: live_columns(database, system.name, view.name)}


def table_metadata(system: System, table: str) -> dict[str, Any]:
    """What is known of a table before it is touched: its name, and its columns if they are declared."""
    described: dict[str, Any] = {TABLE: f"{system.name}.{table}"}
    declared = system.tables.get(table)
    if declared is not None and declared.columns:
        described[COLUMNS] = declared_columns(declared.columns)
    if declared is not None and declared.lifecycle.keep is not None:
        described["kept_for"] = str(declared.lifecycle.keep)
    return described

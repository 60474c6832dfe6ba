"""A Dagster instance on a test's PostgreSQL, real runs in it, and years of them: copies of a run, dated back.

`python -m tests.dagster_years URL LEDGER_URL DAYS RUNS_A_DAY DAYS_KEPT` prints how large it gets.
"""

import contextlib
import datetime as dt
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg

from pipelines.retention.dagster_history import HistoryJob, HistoryPurge
from resources.database import Database

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-03-01")


class Options(dg.Config):
    """Whether the asset of a run fails."""

    fails: bool = False


@dg.asset(partitions_def=DAYS)
def sales(config: Options) -> dg.MaterializeResult[None]:
    """An asset of days, with metadata and a data version."""
    if config.fails:
        raise dg.Failure("bad day")
    return dg.MaterializeResult(
        metadata={"dagster/partition_row_count": 3}, data_version=dg.DataVersion("v1")
    )


@dg.asset
def report() -> None:
    """An asset without partitions."""


@dg.asset_check(asset=sales)
def is_sound() -> dg.AssetCheckResult:
    """A check of it."""
    return dg.AssetCheckResult(passed=True)


JOB = dg.Definitions(
    assets=[sales, report],
    asset_checks=[is_sound],
    jobs=[dg.define_asset_job("days", [sales]), dg.define_asset_job("reports", [report])],
    executor=dg.in_process_executor,
)


@contextlib.contextmanager
def instance_on(url: str) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance whose storage is the database of `url`."""
    storage = {"postgres": {"postgres_url": url.replace("postgresql://", "postgresql+psycopg2://")}}
    with dg.instance_for_test(overrides={"storage": storage, "telemetry": {"enabled": False}}) as instance:
        yield instance


@dataclass
class Years:
    """Runs of an instance at any time, and the purge of a moment."""

    instance: dg.DagsterInstance
    dagster: Database
    ledger: Database
    today: dt.datetime = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
    logs_deleted: list[str] = field(default_factory=list)

    def run(self, partition: str | None, *, days_ago: float, fails: bool = False) -> str:
        """A real run, as if it had ended `days_ago`. Returns its id."""
        job = JOB.resolve_job_def("days" if partition else "reports")
        config = {"ops": {"sales": {"config": {"fails": fails}}}} if partition else {}
        run_id = job.execute_in_process(
            instance=self.instance, partition_key=partition, run_config=config, raise_on_error=False
        ).run_id
        self.date_back(run_id, days_ago)
        return run_id

    def date_back(self, run_id: str, days_ago: float) -> None:
        moment = (self.today - dt.timedelta(days=days_ago)).replace(tzinfo=None)
        values = {"at": moment, "run": run_id}
        for statement in (
            "UPDATE runs SET update_timestamp = %(at)s, create_timestamp = %(at)s WHERE run_id = %(run)s",
            "UPDATE event_logs SET timestamp = %(at)s WHERE run_id = %(run)s",
            "UPDATE asset_check_executions SET evaluation_event_timestamp = %(at)s WHERE run_id = %(run)s",
        ):
            self.execute(statement, values)

    def copy_runs(self, run_id: str, count: int, moment: dt.datetime) -> None:
        """`count` copies of a run with all its rows, ended at `moment`; partitioned ones spread over 60 days."""
        values = {"run": run_id, "count": count, "at": moment.replace(tzinfo=None), "seed": uuid.uuid4().hex}
        numbers = "generate_series(1, %(count)s) AS copy"
        new_id = "md5(%(seed)s || copy)::uuid::text"
        day = "(date '2026-01-01' + copy %% 60)::text"
        self.execute(
            "INSERT INTO runs (run_id, snapshot_id, pipeline_name, status, run_body, partition, create_timestamp, "
            "update_timestamp, start_time, end_time) SELECT "
            f"{new_id}, snapshot_id, pipeline_name, status, replace(run_body, run_id, {new_id}), partition, %(at)s, "
            f"%(at)s, start_time, end_time FROM runs, {numbers} WHERE run_id = %(run)s",
            values,
        )
        self.execute(
            f"INSERT INTO run_tags (run_id, key, value) SELECT {new_id}, key, value FROM run_tags, {numbers} "
            "WHERE run_id = %(run)s",
            values,
        )
        self.execute(
            "INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition) "
            f"SELECT {new_id}, replace(event, run_id, {new_id}), dagster_event_type, %(at)s, step_key, asset_key, "
            f"CASE WHEN partition IS NOT NULL THEN {day} END "
            f"FROM event_logs, {numbers} WHERE run_id = %(run)s ORDER BY copy, id",
            values,
        )
        self.execute(
            "INSERT INTO asset_event_tags (event_id, asset_key, key, value, event_timestamp) "
            "SELECT event_logs.id, event_logs.asset_key, 'dagster/data_version', 'v1', event_logs.timestamp "
            "FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND timestamp = %(at)s",
            values,
        )
        self.execute(
            "INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id, execution_status, "
            "evaluation_event, evaluation_event_timestamp, evaluation_event_storage_id) SELECT asset_key, check_name, "
            f"partition, {new_id}, execution_status, evaluation_event, %(at)s, evaluation_event_storage_id "
            f"FROM asset_check_executions, {numbers} WHERE run_id = %(run)s",
            values,
        )

    def job(self, days_kept: int = 30, **options: int) -> HistoryJob:
        return HistoryJob(
            self.ledger,
            self.dagster,
            days_kept,
            self.logs_deleted.extend,
            clock=lambda: self.today,
            **options,
        )

    def purge(self, days_kept: int = 30, *, dry_run: bool = False, **options: int) -> HistoryPurge:
        return self.job(days_kept, **options).purge(dry_run=dry_run)

    def execute(self, statement: str, values: object = None) -> None:
        with self.dagster.connection() as connection:
            connection.execute(statement, values)

    def rows(self, table: str) -> int:
        with self.dagster.connection() as connection:
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def live_through(self, days: int, runs_a_day: int, days_kept: int) -> list[tuple[int, int, float]]:
        """Simulated days, each with its runs and a purge: (runs, bytes, seconds of the purge) at the end of each."""
        template = self.run("2026-01-01", days_ago=0)
        begun, states = self.today, []
        for number in range(1, days + 1):
            self.today = begun + dt.timedelta(days=number)
            self.date_back(template, 0)  # or it would go, and with it what is copied
            self.copy_runs(template, runs_a_day, self.today)
            started = time.perf_counter()
            done = self.purge(days_kept)
            states.append((self.rows("runs"), done.bytes_after, time.perf_counter() - started))
        return states


@contextlib.contextmanager
def years_on(url: str, ledger_url: str) -> Iterator[Years]:
    """Years on the database of `url`; the ledger is in that of `ledger_url`."""
    with instance_on(url) as instance, Database(url, role=None) as dagster, Database(ledger_url) as ledger:
        yield Years(instance, dagster, ledger)


def main(url: str, ledger_url: str, days: str, runs_a_day: str, days_kept: str) -> None:
    """Print a line for every thirtieth simulated day."""
    with years_on(url, ledger_url) as years:
        states = years.live_through(int(days), int(runs_a_day), int(days_kept))
    for number in sorted({*range(10, len(states), 30), len(states)}):
        runs, size, seconds = states[number - 1]
        print(f"day {number}: {runs:,} runs, {size / 1e6:,.0f} MB, purge {seconds:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])

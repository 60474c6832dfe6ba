"""Retention of Dagster's own history on its real PostgreSQL storage: what goes, what stays, how large it is."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from resources.errors import ObjectStoreUnavailableError
from tests.dagster_years import DAYS, Years, report, sales, years_on

CHECK = dg.AssetCheckKey(sales.key, "is_sound")


@pytest.fixture
def years(empty_database_url: str, database_url: str) -> Iterator[Years]:
    with years_on(empty_database_url, database_url) as opened:
        yield opened


def statuses(years: Years) -> dict[str, Any]:
    """What the UI shows of the assets, computed anew from the events."""
    years.execute("UPDATE asset_keys SET cached_status_data = NULL")
    cached = get_and_update_asset_status_cache_value(years.instance, sales.key, DAYS)
    assert cached is not None
    storage = years.instance.event_log_storage
    latest = years.instance.get_latest_materialization_event(report.key)
    check = storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK]
    tags = storage.get_latest_tags_by_partition(
        sales.key, dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
    )
    return {
        "materialised": set(cached.deserialize_materialized_partition_subsets(DAYS).get_partition_keys()),
        "failed": set(cached.deserialize_failed_partition_subsets(DAYS).get_partition_keys()),
        "report": latest.run_id if latest else None,
        "check": (check.status.value, check.run_id),
        "versions": {key: dict(found) for key, found in tags.items()},
    }


def test_old_finished_runs_go_and_the_status_of_every_partition_stays(years: Years) -> None:
    old = [years.run(f"2026-01-0{number}", days_ago=100) for number in (1, 2, 3)]
    failed = years.run("2026-01-04", days_ago=100, fails=True)
    mended = years.run("2026-01-05", days_ago=90, fails=True)
    years.run("2026-01-05", days_ago=80)
    first_report = years.run(None, days_ago=70)
    years.run(None, days_ago=60)
    recent = years.run("2026-01-06", days_ago=5)
    before = statuses(years)
    assert before["materialised"] == {f"2026-01-0{n}" for n in (1, 2, 3, 5, 6)}
    assert before["failed"] == {"2026-01-04"}

    done = years.purge(30)

    assert statuses(years) == before
    left = {run.run_id for run in years.instance.get_runs()}
    assert left == {failed, recent}
    assert (done.runs, done.protected_runs) == (7, 1)
    assert set(years.logs_deleted) >= {*old, mended, first_report}
    assert years.instance.all_logs(failed)
    assert not [event for event in years.instance.all_logs(old[0]) if event.step_key is None]


def test_purging_again_deletes_nothing(years: Years) -> None:
    for number in (1, 2, 3):
        years.run(f"2026-01-0{number}", days_ago=100)
    assert years.purge(30).runs == 3
    before = statuses(years)
    again = years.purge(30)
    assert (again.runs, again.events, again.checks) == (0, 0, 0)
    assert statuses(years) == before


def test_an_event_that_outlived_its_run_goes_once_a_newer_one_is_there(years: Years) -> None:
    old = years.run("2026-01-01", days_ago=100)
    years.purge(30)
    assert len(years.instance.all_logs(old)) == 1
    years.run("2026-01-01", days_ago=1)
    years.purge(30)
    assert years.instance.all_logs(old) == []
    assert statuses(years)["materialised"] == {"2026-01-01"}


def test_a_run_that_is_not_over_is_never_touched_however_old(years: Years) -> None:
    years.run("2026-01-01", days_ago=300)
    rows = {
        table: years.rows(table) for table in ("runs", "event_logs", "run_tags", "asset_check_executions")
    }
    for status in ("STARTED", "QUEUED", "STARTING", "CANCELING", "NOT_STARTED", "MANAGED"):
        years.execute("UPDATE runs SET status = %s", [status])
        assert years.purge(30).runs == 0, status
        assert {table: years.rows(table) for table in rows} == rows, status


def test_the_runs_of_a_backfill_under_way_wait_for_its_end(years: Years) -> None:
    run_id = years.run("2026-01-01", days_ago=100)
    years.execute("UPDATE runs SET backfill_id = 'b1'")
    years.execute(
        "INSERT INTO bulk_actions (key, status, timestamp) VALUES ('b1', 'REQUESTED', '2026-01-01')"
    )
    assert years.purge(30).runs == 0
    years.execute("UPDATE bulk_actions SET status = 'COMPLETED_SUCCESS'")
    done = years.purge(30)
    assert (done.runs, done.backfills) == (1, 1)
    assert years.instance.get_run_by_id(run_id) is None


def test_a_dry_run_counts_and_changes_nothing(years: Years) -> None:
    run_id = years.run("2026-01-01", days_ago=100)
    done = years.purge(30, dry_run=True)
    assert (done.runs, done.is_dry_run, years.logs_deleted) == (1, True, [])
    assert years.instance.get_run_by_id(run_id) is not None
    with years.ledger.connection() as connection:
        assert connection.execute("SELECT count(*) FROM longbox.ledger WHERE act = 'purge'").fetchone() == (
            0,
        )


def test_a_purge_that_is_cut_off_goes_on_where_it_was_and_the_ledger_knows_of_every_run(years: Years) -> None:
    template = years.run("2026-01-01", days_ago=100)
    years.copy_runs(template, 30, years.today.replace(month=6))
    job = years.job(30, batch_runs=10)
    calls: list[int] = []

    def fails_at_the_second(run_ids: Any) -> None:
        calls.append(len(run_ids))
        if len(calls) == 2:
            raise ObjectStoreUnavailableError("the store did not answer")

    object.__setattr__(job, "delete_logs", fails_at_the_second)
    with pytest.raises(ObjectStoreUnavailableError):
        job.purge()
    assert years.rows("runs") == 21
    assert years.purge(30, batch_runs=10).runs == 21
    assert years.rows("runs") == 0
    assert years.rows("run_tags") == 0
    with years.ledger.connection() as connection:
        row = connection.execute(
            "SELECT sum(affected_rows) FROM longbox.ledger WHERE act = 'purge'"
        ).fetchone()
    assert row == (31,)


def test_a_purge_is_bounded_and_says_that_more_is_left(years: Years) -> None:
    template = years.run("2026-01-01", days_ago=100)
    years.copy_runs(template, 19, years.today.replace(month=6))
    done = years.purge(30, batch_runs=5, most_runs=10)
    assert (done.runs, done.batches, done.stopped) == (10, 2, "10 runs are the most at once")
    assert years.rows("runs") == 10


def test_the_database_of_a_busy_instance_stops_growing(years: Years) -> None:
    states = years.live_through(days=40, runs_a_day=40, days_kept=7)
    runs, sizes = [state[0] for state in states], [state[1] for state in states]
    assert runs[7:] == [8 * 40 + 1] * 33
    assert sizes[-1] <= sizes[15] * 1.1
    assert years.rows("event_logs") <= 8 * 40 * 20 + 200

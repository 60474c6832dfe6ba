"""Events of a range in batches on a real Dagster PostgreSQL storage: the same events, and the same to the UI."""

from collections import Counter
from collections.abc import Iterator

import dagster as dg
import pytest
import yaml
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from resources.settings import PROJECT_ROOT

DAYS = [f"2026-10-{day:02d}" for day in range(1, 8)]
CALENDAR = dg.DailyPartitionsDefinition("2026-10-01", end_date="2026-10-08")
KEYS = [dg.AssetKey(name) for name in ("landed", "priced")]
SINGLE_RUN = dg.BackfillPolicy.single_run()


@dg.asset(partitions_def=CALENDAR, backfill_policy=SINGLE_RUN)
def landed(context: dg.AssetExecutionContext) -> None:
    for day in context.partition_keys:
        context.add_asset_metadata({"rows_read": int(day[-2:])}, partition_key=day)


@dg.asset(partitions_def=CALENDAR, backfill_policy=SINGLE_RUN, deps=[landed])
def priced() -> None:
    """Only to have an event of its own for each day."""


@dg.asset_check(asset=landed, partitions_def=CALENDAR)
def counts_reconcile() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with the storage of the project, whose batch size no environment has set."""
    monkeypatch.setenv("LONGBOX_DAGSTER_POSTGRES_URL", empty_database_url)
    monkeypatch.setenv(
        "DAGSTER_EVENT_BATCH_SIZE", "1"
    )  # so that the test's end takes away what the storage sets
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    config = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    with dg.instance_for_test(overrides={name: config[name] for name in ("storage", "telemetry")}) as opened:
        yield opened


def run_range(instance: dg.DagsterInstance) -> Counter[tuple[object, ...]]:
    """Run the seven days as one run; returns how often each event (type, asset, partition) is stored."""
    defs = dg.Definitions(
        assets=[landed, priced], asset_checks=[counts_reconcile], jobs=[dg.define_asset_job("range")]
    )
    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}
    result = defs.resolve_job_def("range").execute_in_process(instance=instance, tags=tags)
    assert result.success
    events = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    return Counter((event.event_type, event.asset_key, event.partition) for event in events)


def test_a_range_in_batches_stores_the_events_that_it_stores_one_by_one(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    storage = type(instance.event_log_storage)
    store = storage.store_event_batch

    def counted(self, events):
        batches.append(len(events))
        store(self, events)

    monkeypatch.setattr(storage, "store_event_batch", counted)
    in_batches = run_range(instance)
    assert sorted(batches) == [7, 7, 15], (
        "each asset's materialisations, and the plan: 14 of assets, one of the check"
    )
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    assert run_range(instance) == in_batches
    assert len(batches) == 3


def test_every_partition_of_a_range_in_batches_shows_as_materialised_with_its_metadata(
    instance: dg.DagsterInstance,
) -> None:
    run_range(instance)
    for key in KEYS:
        assert instance.get_materialized_partitions(key) == set(DAYS)
        (record,) = instance.get_asset_records([key])
        assert record.asset_entry.last_materialization.asset_materialization.partition == DAYS[-1]
    for day in DAYS:
        event = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=KEYS[0], asset_partitions=[day]), 1
        )
        assert event.records[0].asset_materialization.metadata["rows_read"].value == int(day[-2:])
    (check,) = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEYS[0], "counts_reconcile"), limit=1
    )
    assert check.status == AssetCheckExecutionRecordStatus.SUCCEEDED

"""What a user does in the UI, done through the same GraphQL against the running webserver, daemon and code server."""

import datetime as dt

import pytest

from cli.dagster_client import LOCATION, REPOSITORY
from deploy.local.processes import wait_until
from tests.acceptance.conftest import Platform
from tests.daily_runs import days_back, sales

RAW, NORMALISED, AGGREGATED = (
    "comics/pricing_data_raw", "comics/pricing_data_normalized", "comics/pricing_data_aggregated",
)  # fmt: skip
LINEAGE = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { __typename ... on AssetNode {
  groupName owners { ... on TeamAssetOwner { team } } kinds description
  dependencyKeys { path } dependedByKeys { path }
  assetMaterializations(limit: 1) { partition metadataEntries { label __typename
    ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { assetKey { path } columnName } } }
    ... on TableSchemaMetadataEntry { schema { columns { name type } } } } }
  metadataEntries { label __typename
    ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { assetKey { path } columnName } } } } } }
}"""
PARTITIONS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionStats {
  numPartitions numMaterialized numFailed } partitionKeyConnection(limit: 1, ascending: false) { results } } } }"""
DRY_RUN = """mutation($selector: ScheduleSelector!, $at: Float!) {
  scheduleDryRun(selectorData: $selector, timestamp: $at) { __typename ... on DryRunInstigationTick {
    evaluationResult { runRequests { runKey tags { key value } } error { message } } }
  ... on PythonError { message } } }"""


def first_day(number: int) -> str:
    """Landing days of the tests: October 2026."""
    return f"2026-10-{number:02d}"


def test_one_day_materialises(platform: Platform) -> None:
    platform.start_over()
    platform.daily.land(first_day(5), "a.csv", sales(first_day(4), 30))
    run = platform.succeed(platform.client.launch("daily_pipeline", partition=first_day(5)))
    assert {step.status for step in run.steps} == {"SUCCESS"}
    assert platform.daily.count(f"{NORMALISED.replace('/', '.')}") == 30


def test_thirty_days_are_one_run_and_a_backfill_of_them_from_the_dialogue_is_one_that_changes_nothing(
    platform: Platform,
) -> None:
    platform.start_over()
    days = [first_day(number) for number in range(1, 31)]
    for number in range(2, 31, 3):
        platform.daily.land(first_day(number), "a.csv", sales(first_day(number - 1), 20))
    platform.succeed(platform.launch(days[0], days[-1]))
    digest = platform.daily.digest()
    assert list(platform.daily.outcomes(AGGREGATED).values()) == ["complete"] * 30
    chosen = [RAW, "comics/publishers", "comics/series", "comics/comics", NORMALISED, AGGREGATED]
    backfill_id = platform.client.backfill(chosen, days)
    status = wait_until(
        lambda: s if (s := platform.client.backfill_status(backfill_id)) not in ("REQUESTED", "IN_PROGRESS") else None,
        seconds=240, poll_seconds=0.5,
    )  # fmt: skip
    runs = platform.client.runs(tags={"dagster/backfill": backfill_id})
    assert status == "COMPLETED_SUCCESS", [platform.client.failures(run["runId"]) for run in runs]
    assert len(runs) == 1
    assert platform.daily.digest() == digest


def test_lineage_and_partitions_are_there_to_be_looked_at(platform: Platform) -> None:
    platform.succeed(platform.client.launch("daily_pipeline", partition=first_day(5)))
    node = platform.client.query(LINEAGE, key={"path": NORMALISED.split("/")})["assetNodeOrError"]
    assert (node["groupName"], node["owners"]) == ("comics", [{"team": "data-platform"}])
    assert ["comics", "pricing_data_raw"] in [key["path"] for key in node["dependencyKeys"]]
    assert ["reference", "fx_rates"] in [key["path"] for key in node["dependencyKeys"]]
    assert ["comics", "pricing_data_aggregated"] in [key["path"] for key in node["dependedByKeys"]]
    entries = {entry["label"]: entry for entry in node["metadataEntries"]}
    columns = {
        column["columnName"]: column["columnDeps"] for column in entries["dagster/column_lineage"]["lineage"]
    }
    assert {"assetKey": {"path": ["reference", "fx_rates"]}, "columnName": "rate_per_eur"} in columns[
        "price_usd"
    ]
    newest = {entry["label"]: entry for entry in node["assetMaterializations"][0]["metadataEntries"]}
    types = {
        column["name"]: column["type"] for column in newest["dagster/column_schema"]["schema"]["columns"]
    }
    assert types["price_usd"] == "numeric(14,2)"
    asked_on = {days_back(0)}
    raw = platform.client.query(PARTITIONS, key={"path": RAW.split("/")})["assetNodeOrError"]
    asked_on.add(days_back(0))  # midnight may pass meanwhile
    [newest_day] = raw["partitionKeyConnection"]["results"]
    assert newest_day in asked_on
    numbers = {(dt.date.fromisoformat(day) - dt.date(2024, 1, 1)).days + 1 for day in asked_on}
    assert raw["partitionStats"]["numPartitions"] in numbers


def test_the_schedule_starts_and_would_run_the_day_that_ended_and_the_newest(platform: Platform) -> None:
    state_id = platform.client.start_schedule("daily_pipeline_schedule")
    try:
        at = dt.datetime(2026, 11, 20, 1, 30, tzinfo=dt.UTC)
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "scheduleName": "daily_pipeline_schedule",
        }
        answer = platform.client.query(DRY_RUN, selector=selector, at=at.timestamp())["scheduleDryRun"]
        requests = answer["evaluationResult"]["runRequests"]
        days = [
            tag["value"]
            for request in requests
            for tag in request["tags"]
            if tag["key"] == "dagster/partition"
        ]
        assert days == ["2026-11-19", "2026-11-20"]
    finally:
        platform.client.stop_schedule(state_id)


def test_a_file_that_lands_starts_its_day_once(platform: Platform) -> None:
    platform.start_over()
    tags = {"dagster/sensor_name": "landing_sensor"}
    known = {run["runId"] for run in platform.client.runs(tags=tags)}
    sensor_id = platform.client.start_sensor("landing_sensor")
    yesterday = days_back(1)
    try:
        platform.daily.land(yesterday, "new.csv", sales(days_back(2), 25))
        platform.daily.land(first_day(9), "late.csv", sales(first_day(8), 25))

        def launched() -> list[dict[str, object]] | None:
            runs = [run for run in platform.client.runs(tags=tags) if run["runId"] not in known]
            return runs if len(runs) >= 2 else None

        runs = wait_until(launched, seconds=120, poll_seconds=0.5)
        assert runs is not None, platform.client.sensor_ticks("landing_sensor")
        assert sorted(run["tags"]["dagster/partition"] for run in runs) == [first_day(9), yesterday]
        for run in runs:
            platform.succeed(str(run["runId"]))
        assert platform.daily.count("comics.pricing_data_normalized") == 50
        ended = dt.datetime.now(dt.UTC).timestamp()

        def quiet_tick() -> dict[str, object] | None:
            ticks = platform.client.sensor_ticks("landing_sensor")
            return next((t for t in ticks if t["timestamp"] > ended and t["status"] == "SKIPPED"), None)

        quiet = wait_until(quiet_tick, seconds=90, poll_seconds=0.5)
        assert quiet is not None, platform.client.sensor_ticks("landing_sensor")
        assert "has been read" in str(quiet["skipReason"])
        assert len(launched() or []) == 2
    finally:
        platform.client.stop_sensor(sensor_id)


@pytest.mark.parametrize("failing", ["landing_sensor", "run_failure_sensor"])
def test_no_tick_of_a_sensor_has_failed(platform: Platform, failing: str) -> None:
    assert [tick["error"] for tick in platform.client.sensor_ticks(failing) if tick["error"]] == []

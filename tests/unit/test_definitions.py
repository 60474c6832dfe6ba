"""The code location: loads without any server, holds what the design names, takes in systems from elsewhere."""

import textwrap
from pathlib import Path

import dagster as dg
import pytest

from assets.pools import UPKEEP
from definitions import build_definitions
from pipelines.catalog.loader import load_catalog, system_folders
from resources.errors import UserError
from resources.settings import Settings
from tests.daily_runs import job_of

SHOES = """
system: shoes
feeds:
  sales: {table: sales, key: [order_number], starts_on: 2017-09-01}
tables:
  sales: {columns: {order_number: text, sold_on: date, price: "numeric(10,2)"}, time: sold_on}
  customers: {columns: {name: text}, primary_key: [name]}
aggregates:
  by_day: {from: sales, by: [sold_on], measures: {sales: count, median_price: median(price)}}
"""


def system_folder(tmp_path: Path, text: str = SHOES, code: str | None = None) -> Path:
    folder = tmp_path / "shoes"
    folder.mkdir()
    (folder / "system.yaml").write_text(text, encoding="utf-8")
    if code is not None:
        (folder / "assets.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return folder


def keys_of(definitions: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_all_asset_keys()}


def test_the_definitions_load_without_any_server() -> None:
    dg.Definitions.validate_loadable(build_definitions())


def test_the_daily_pipeline_goes_from_landed_files_to_the_cache() -> None:
    executable = {key.to_user_string() for key in job_of("daily_pipeline").asset_layer.executable_asset_keys}
    assert {key for key in executable if key.split("/")[0] in ("comics", "platform", "reference")} == {
        "reference/fx_rates", "comics/pricing_data_raw", "comics/publishers", "comics/series", "comics/comics",
        "comics/pricing_data_normalized", "comics/pricing_data_aggregated", "comics/market_prices",
        "comics/collection_values", "comics/trending_comics", "comics/market_insights", "platform/cache",
        "platform/landing_verdict",
    }  # fmt: skip


def test_every_bundled_system_with_feeds_is_in_the_daily_pipeline() -> None:
    executable = {key.to_user_string() for key in job_of("daily_pipeline").asset_layer.executable_asset_keys}
    for system in load_catalog(system_folders(Settings.load({}))).systems.values():
        wanted = {
            *(feed.table for feed in system.feeds.values()),
            *system.aggregates,
            *system.gaps,
            *system.views,
        }
        assert {f"{system.name}/{table}" for table in wanted} <= executable


def test_landing_days_reach_from_the_feeds_start_to_today() -> None:
    calendar = job_of("daily_pipeline").partitions_def
    assert isinstance(calendar, dg.DailyPartitionsDefinition)
    assert calendar.get_first_partition_key() == "2024-01-01"
    from tests.daily_runs import days_back

    assert calendar.get_last_partition_key() in (days_back(0), days_back(-1))  # midnight may pass meanwhile


def test_every_asset_says_what_it_is_and_whose() -> None:
    graph = build_definitions().resolve_asset_graph()
    for node in graph.asset_nodes:
        assert node.group_name != "default", node.key
        assert node.owners, node.key
        assert node.description, node.key
        assert node.kinds, node.key


def test_jobs_sensors_and_schedules_have_the_names_that_the_outside_relies_on() -> None:
    definitions = build_definitions()
    repository = definitions.get_repository_def()
    jobs = {
        "daily_pipeline",
        "cache_warm",
        "maintenance",
        "dagster_retention",
        "backup_full",
        "backup_incremental",
    }
    backup_jobs = {
        "backup_verification",
        "restore_drill",
        "disaster_drill",
        "failover_drill",
        "wal_observation",
    }
    assert jobs | backup_jobs <= set(repository.job_names)
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "landing_sensor", "freshness_sensor", "run_failure_sensor", "backup_age_sensor",
    }  # fmt: skip
    times = {schedule.name: schedule.cron_schedule for schedule in repository.schedule_defs}
    assert times["cache_warm_schedule"] == "0 6 * * *"
    assert times["backup_full_schedule"] == ["0 1 * * *"]
    assert set(times) == {
        "daily_pipeline_schedule", "cache_warm_schedule", "maintenance_schedule", "dagster_retention_schedule",
        "backup_full_schedule", "backup_incremental_schedule", "backup_verification_schedule", "restore_drill_schedule",
        "wal_observation_schedule", "disaster_drill_schedule", "failover_drill_schedule",
    }  # fmt: skip
    assert times["disaster_drill_schedule"] == ["30 22 1 * *"]  # monthly
    assert times["failover_drill_schedule"] == ["30 22 15 1,4,7,10 *"]  # quarterly


def test_heavy_steps_of_backups_never_meet() -> None:
    definitions = build_definitions()
    light = {"within_rpo", "within_rto", "no_gaps", "slot_alive"}
    for name in (
        "backup_full",
        "backup_incremental",
        "backup_verification",
        "restore_drill",
        "disaster_drill",
    ):
        pools = {node.name: node.definition.pools for node in definitions.resolve_job_def(name).nodes}
        assert pools
        for step, held in pools.items():
            assert held == {UPKEEP} or any(step.endswith(one) for one in light), step


def test_what_runs_by_itself_waits_to_be_started_but_for_the_alert_on_failures() -> None:
    repository = build_definitions().get_repository_def()
    assert repository.get_sensor_def("run_failure_sensor").default_status == dg.DefaultSensorStatus.RUNNING
    assert repository.get_sensor_def("landing_sensor").default_status == dg.DefaultSensorStatus.STOPPED
    assert {s.default_status for s in repository.schedule_defs} == {dg.DefaultScheduleStatus.STOPPED}


def test_a_system_that_is_yaml_alone_gets_its_assets_and_a_job_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(system_folder(tmp_path)))
    definitions = build_definitions()
    assert {"shoes/sales", "shoes/by_day", "shoes/customers", "landing/shoes/sales"} <= keys_of(definitions)
    job = definitions.resolve_job_def("daily_pipeline_shoes")
    assert job.partitions_def is not None
    assert job.partitions_def.get_first_partition_key() == "2017-09-01"
    executable = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert executable == {"shoes/sales", "shoes/by_day", "platform/landing_verdict_shoes"}
    comics = definitions.resolve_job_def("daily_pipeline").partitions_def
    assert comics is not None
    assert comics.get_first_partition_key() == "2024-01-01"


def test_columns_of_a_yaml_table_and_their_lineage_are_known_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(system_folder(tmp_path)))
    graph = build_definitions().resolve_asset_graph()
    sales = graph.get(dg.AssetKey(["shoes", "sales"])).metadata
    assert [column.name for column in sales["dagster/column_schema"].columns] == [
        "order_number",
        "sold_on",
        "price",
    ]
    lineage = graph.get(dg.AssetKey(["shoes", "by_day"])).metadata["dagster/column_lineage"].deps_by_column
    assert lineage["median_price"] == [dg.TableColumnDep(dg.AssetKey(["shoes", "sales"]), "price")]


def test_an_aggregate_may_read_one_column_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = """
  by_week: {from: sales, by: [{week: week(sold_on)}, {year: year(sold_on)}], measures: {sales: count}}
  squares: {from: sales, by: [sold_on], measures: {squared: "sum(price, weight=price)"}}
"""
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(system_folder(tmp_path, SHOES + twice.removeprefix("\n"))))
    graph = build_definitions().resolve_asset_graph()
    for table, column, source in (("by_week", "sales", "sold_on"), ("squares", "squared", "price")):
        lineage = graph.get(dg.AssetKey(["shoes", table])).metadata["dagster/column_lineage"].deps_by_column
        assert lineage[column] == [dg.TableColumnDep(dg.AssetKey(["shoes", "sales"]), source)]


def test_a_systems_own_assets_file_is_loaded_from_anywhere_and_may_replace_an_asset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import dagster as dg

        def definitions(system, calendar):
            single_run = dg.BackfillPolicy.single_run()

            @dg.asset(
                key=[system.name, "by_day"], partitions_def=calendar, backfill_policy=single_run, group_name="own"
            )
            def by_day(): ...

            @dg.asset(key=[system.name, "extra"], deps=[by_day], group_name="own")
            def extra(): ...

            return dg.Definitions(assets=[by_day, extra])
        """
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(system_folder(tmp_path, code=code)))
    definitions = build_definitions()
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey(["shoes", "by_day"])).group_name == "own"
    job = definitions.resolve_job_def("daily_pipeline_shoes")
    assert dg.AssetKey(["shoes", "extra"]) in job.asset_layer.executable_asset_keys


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import dagster", "defines no function `definitions\\(system, calendar\\)`"),
        ("import no_such_module", "cannot be loaded \\(ModuleNotFoundError"),
    ],
)
def test_a_faulty_assets_file_of_a_system_is_told_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(system_folder(tmp_path, code=code)))
    with pytest.raises(UserError, match=told) as caught:
        build_definitions()
    assert str(tmp_path / "shoes" / "assets.py") in str(caught.value)

"""The daily pipeline as Dagster runs it: one day, a range, bad days, a dead cache, on real servers."""

import datetime as dt
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from psycopg import sql

from deploy.local.stack import Stack
from pipelines.catalog.partitions import keep_ahead, list_partitions
from pipelines.catalog.shape import table_shapes
from resources.cache import Cache
from resources.settings import Settings
from tests.daily_runs import FEED, Daily, checks, csv_of, job_of, sales, steps

RAW, NORMALISED = "comics/pricing_data_raw", "comics/pricing_data_normalized"
TRUNCATED_GZIP = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03cut off"


@pytest.fixture
def daily(settings: Settings, tmp_path: Path) -> Iterator[Daily]:
    opened = Daily.on(settings, tmp_path)
    yield opened
    opened.close()


def test_one_landing_day_goes_from_files_to_cached_prices(daily: Daily) -> None:
    daily.land("2026-10-05", "a.csv", sales("2026-10-04", 20))
    result = daily.run("2026-10-05")
    assert result.success, steps(result)
    assert daily.count("comics.pricing_data_raw") == 20
    assert daily.count("comics.pricing_data_normalized") == 20
    assert daily.count("comics.market_prices") == 1
    assert all(checks(result).values())
    cached = [
        e
        for e in result.get_asset_materialization_events()
        if e.asset_key == dg.AssetKey(["platform", "cache"])
    ]
    assert cached[0].materialization.metadata["keys_written"].value > 0


def test_running_a_day_again_changes_nothing(daily: Daily) -> None:
    daily.land("2026-10-05", "a.csv", sales("2026-10-04", 20))
    assert daily.run("2026-10-05").success
    before = daily.digest()
    assert daily.run("2026-10-05").success
    assert daily.digest() == before


def test_a_range_in_one_run_equals_the_days_one_by_one(daily: Daily) -> None:
    for number in (3, 4, 5):
        daily.land(f"2026-10-0{number}", "a.csv", sales(f"2026-10-0{number - 1}", 10, price=50.0 * number))
    assert daily.run("2026-10-01", "2026-10-06").success
    at_once = daily.digest()
    daily.forget_everything()
    assert daily.digest() != at_once
    for number in (2, 5, 1, 3, 6, 4):
        assert daily.run(f"2026-10-0{number}").success
    assert daily.digest() == at_once


def test_each_day_of_a_range_reports_its_own_counts(daily: Daily) -> None:
    daily.land(
        "2026-10-02", "a.csv", sales("2026-10-01", 7) + b"ebay,x,A,fine,ten,USD,2026-10-01,2026-10-01\n"
    )
    result = daily.run("2026-10-01", "2026-10-03")
    assert result.success, steps(result)
    verdict = result.asset_materializations_for_node("platform__landing_verdict")[0]
    assert verdict.metadata["put_aside"].value == f"{RAW}: 1 of 8 rows were put aside"
    rows = {
        event.partition: event.materialization.metadata["landed_rows"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(RAW.split("/"))
    }
    assert rows == {"2026-10-01": 0, "2026-10-02": 8, "2026-10-03": 0}


def test_rows_put_aside_are_counted_of_the_files_as_they_are_not_of_all_that_ever_landed(
    daily: Daily,
) -> None:
    def told(second: bytes) -> object:
        daily.land("2026-10-02", "a.csv", sales("2026-10-01", 7) + second)
        result = daily.run("2026-10-02", assets=[RAW, "platform/landing_verdict"])
        assert result.success, steps(result)
        (verdict,) = result.asset_materializations_for_node("platform__landing_verdict")
        return verdict.metadata["put_aside"].value if "put_aside" in verdict.metadata else None

    bad = b"ebay,x,A,fine,ten,USD,2026-10-01,2026-10-01\n"
    assert told(bad) == f"{RAW}: 1 of 8 rows were put aside"
    assert told(bad + bad.replace(b",x,", b",y,")) == (
        f"{RAW}: 2 of 9 rows were put aside, and 1 of files that were replaced since"
    )
    assert told(b"") == f"{RAW}: 0 of 7 rows were put aside, and 3 of files that were replaced since"
    again = f"{RAW}: 1 of 8 rows were put aside, and 2 of files that were replaced since"
    assert told(bad) == told(bad) == again, "the first content lies there again, and once more"


def test_the_verdict_tells_of_changed_columns_of_its_days_and_of_files_that_no_run_reads(
    daily: Daily,
) -> None:
    daily.land("2026-10-01", "a.csv", sales("2026-09-30", 2))
    daily.land("2026-10-02", "a.csv", sales("2026-10-01", 3).replace(b"updated_at\n", b"updated_at,colour\n", 1)
               .replace(b"Z,\n", b"Z,,red\n"))  # fmt: skip
    for number in range(7):
        daily.store.put(f"{FEED}s/2026-10-0{number + 1}/a.csv", b"x")
        daily.store.put(f"{FEED}/{number}.csv", b"x")

    def told(day: str) -> dict[str, list[str]]:
        result = daily.run(day, assets=[RAW, "platform/landing_verdict"])
        assert result.success, steps(result)
        (verdict,) = result.asset_materializations_for_node("platform__landing_verdict")
        return {
            name: str(verdict.metadata[name].value).splitlines()
            for name in ("schema_changes", "never_read")
            if name in verdict.metadata
        }

    first = told("2026-10-01")
    assert "schema_changes" not in first
    assert first["never_read"][0].endswith("/marketplace_saless/ is never read: no feed of that name is declared; "
                                           "did you mean marketplace_sales?")  # fmt: skip
    assert len(first["never_read"]) == 6 and first["never_read"][-1] == "and 3 more"
    (change,) = told("2026-10-02")["schema_changes"]
    assert change.startswith("comics/marketplace_sales 2026-10-02/a.csv: colour is new: before in no file")


def test_a_file_quarantined_whole_fails_the_verdict_and_lets_everything_else_through(daily: Daily) -> None:
    daily.land("2026-10-01", "a.csv", sales("2026-09-30", 5))
    daily.land("2026-10-02", "broken.csv.gz", TRUNCATED_GZIP)
    bad = b"ebay,x,A,fine,ten,USD,2026-10-01,2026-10-01\n"
    daily.land("2026-10-02", "good.csv", sales("2026-10-01", 6) + bad)
    daily.land("2026-10-03", "a.csv", sales("2026-10-02", 7))
    result = daily.run("2026-10-01", "2026-10-03")
    assert [step for step, how in steps(result).items() if how != "success"] == ["platform__landing_verdict"]
    assert daily.count("comics.pricing_data_normalized") == 18
    assert daily.outcomes(RAW)["2026-10-02"] == "incomplete"
    assert checks(result)[f"{RAW}:files_readable"] is False
    failure = result.failure_data_for_node("platform__landing_verdict")
    assert failure is not None
    told = str(failure.error)
    assert "2026-10-02" in told
    assert "broken.csv.gz" in told
    assert "2026-10-03" not in told
    assert f"Beside that:\n  {RAW}: 1 of 7 rows were put aside" in told


def test_a_day_whose_loading_fails_is_held_back_and_the_others_go_on(daily: Daily) -> None:
    for number in (1, 2, 3):
        daily.land(f"2026-10-0{number}", "a.csv", sales(f"2026-09-2{number}", 5))
    store = _FailingStore(daily, "2026-10-02")
    result = daily.run("2026-10-01", "2026-10-03", store=store)
    assert [step for step, how in steps(result).items() if how != "success"] == ["platform__landing_verdict"]
    for asset in (RAW, "comics/comics", NORMALISED, "comics/pricing_data_aggregated"):
        assert list(daily.outcomes(asset).values()) == ["complete", "failed", "complete"], asset
    assert daily.run("2026-10-02").success
    assert set(daily.outcomes(NORMALISED).values()) == {"complete"}
    assert daily.count("comics.pricing_data_normalized") == 15


def test_in_a_one_day_run_a_failed_day_stops_what_follows(daily: Daily) -> None:
    daily.land("2026-10-02", "a.csv", sales("2026-10-01", 5))
    result = daily.run("2026-10-02", store=_FailingStore(daily, "2026-10-02"))
    assert steps(result)["comics__pricing_data_raw"] == "failure"
    assert "comics__pricing_data_normalized" not in {
        s for s, how in steps(result).items() if how == "success"
    }


def test_broken_accounts_block_a_one_day_run(daily: Daily) -> None:
    daily.land("2026-10-02", "a.csv", sales("2026-10-01", 5))
    assert daily.run("2026-10-02").success
    with daily.owner.connection() as connection:
        connection.execute("DELETE FROM comics.pricing_data_raw WHERE source_record_id = '2026-10-01-3'")
    result = daily.run("2026-10-02")
    assert checks(result)[f"{RAW}:counts_reconcile"] is False
    assert steps(result)["comics__pricing_data_raw__checks"] == "failure"
    assert "comics__pricing_data_normalized" not in {
        s for s, how in steps(result).items() if how == "success"
    }


def test_broken_accounts_of_one_day_do_not_block_a_range(daily: Daily) -> None:
    daily.land("2026-10-02", "a.csv", sales("2026-10-01", 5))
    assert daily.run("2026-10-02").success
    with daily.owner.connection() as connection:
        connection.execute("DELETE FROM comics.pricing_data_raw WHERE source_record_id = '2026-10-01-3'")
    daily.land("2026-10-03", "a.csv", sales("2026-10-02", 5))
    result = daily.run("2026-10-02", "2026-10-03")
    assert checks(result)[f"{RAW}:counts_reconcile"] is False
    assert steps(result)["comics__pricing_data_normalized"] == "success"
    assert daily.outcomes(NORMALISED)["2026-10-03"] == "complete"


def test_a_folder_that_was_never_read_is_a_gap(daily: Daily) -> None:
    daily.land("2026-10-01", "a.csv", sales("2026-09-30", 2))
    daily.land("2026-10-03", "a.csv", sales("2026-10-02", 2))
    result = daily.run("2026-10-03", assets=[RAW])
    assert checks(result)[f"{RAW}:no_gaps"] is False
    daily.run("2026-10-01", assets=[RAW])
    assert checks(daily.run("2026-10-03", assets=[RAW]))[f"{RAW}:no_gaps"] is True


def test_with_the_cache_away_only_the_warm_step_reports_it(daily: Daily) -> None:
    daily.land("2026-10-02", "a.csv", sales("2026-10-01", 5))
    result = daily.run("2026-10-02", cache=Cache("redis://127.0.0.1:1", timeout_seconds=0.2))
    assert {step: how for step, how in steps(result).items() if how != "success"} == {
        "platform__cache": "failure"
    }
    assert daily.count("comics.pricing_data_normalized") == 5


def test_with_a_cache_that_hangs_only_the_warm_step_reports_it(daily: Daily, stack: Stack) -> None:
    daily.land("2026-10-02", "a.csv", sales("2026-10-01", 5))
    valkey = next(part.process for part in stack.state.parts if part.name == "Valkey")
    assert valkey is not None
    valkey.signal(signal.SIGSTOP)
    try:
        result = daily.run("2026-10-02")
    finally:
        valkey.signal(signal.SIGCONT)
    assert {step: how for step, how in steps(result).items() if how != "success"} == {
        "platform__cache": "failure"
    }
    assert daily.count("comics.pricing_data_normalized") == 5
    digest = daily.digest()
    assert daily.run("2026-10-02").success
    assert daily.digest() == digest


def test_every_asset_of_a_system_is_a_table_of_that_name(daily: Daily) -> None:
    keys = job_of("daily_pipeline").asset_layer.asset_graph.get_all_asset_keys()
    with daily.database.connection() as connection:
        for system in daily.catalog.systems.values():
            tables = set(table_shapes(connection, system.name))
            named = {key.path[1] for key in keys if key.path[0] == system.name and len(key.path) == 2}
            assert named <= tables, system.name
            assert set(system.tables) <= tables


def test_column_lineage_names_columns_that_exist(daily: Daily) -> None:
    graph = job_of("daily_pipeline").asset_layer.asset_graph
    with daily.database.connection() as connection:
        shapes = {s: table_shapes(connection, s) for s in ("comics", "reference")}
    for node in graph.asset_nodes:
        lineage = node.metadata.get("dagster/column_lineage")
        if lineage is None or node.key.path[0] not in shapes:
            continue
        shape = shapes[node.key.path[0]][node.key.path[1]]
        assert set(lineage.deps_by_column) <= set(shape.column_names), node.key
        for deps in lineage.deps_by_column.values():
            for dep in deps:
                if dep.asset_key.path[0] in shapes:
                    table = shapes[dep.asset_key.path[0]][dep.asset_key.path[1]]
                    assert table.has(dep.column_name), (node.key, dep)


def test_a_duplicate_under_another_name_is_accounted_for(daily: Daily) -> None:
    daily.land("2026-10-01", "a.csv", csv_of("ebay,1,X-Men #1,,10,USD,2026-09-30T10:00:00Z,"))
    daily.land("2026-10-02", "b.csv", csv_of("ebay,1,X-Men #1,,10,USD,2026-09-30T10:00:00Z,"))
    assert daily.run("2026-10-01", "2026-10-02").success
    assert daily.count("comics.pricing_data_raw") == 1


def test_maintenance_makes_partitions_that_are_missing_ahead(daily: Daily) -> None:
    keep_ahead(
        daily.owner, daily.catalog, dt.datetime.now(dt.UTC)
    )  # a month may have begun since the migration
    before = partitions(daily)
    with daily.owner.connection() as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("comics", before[-1])))
    result = daily.run_job("maintenance")
    assert result.success
    assert checks(result) == {"platform/partitions:no_gaps": True}
    assert partitions(daily) == before


def test_a_stretch_without_partitions_is_told_and_fails_no_run(daily: Daily) -> None:
    daily.land("2026-10-02", "a.csv", sales("2024-05-04", 1))
    assert daily.run("2026-10-02", assets=[RAW]).success
    result = daily.run_job("maintenance")
    assert result.success
    assert checks(result) == {"platform/partitions:no_gaps": False}


def partitions(daily: Daily) -> list[str]:
    with daily.owner.connection() as connection:
        return [found.name for found in list_partitions(connection, "comics", "pricing_data_raw")]


class _FailingStore:
    """The test's object store, which fails to list the files of one day."""

    def __init__(self, daily: Daily, day: str) -> None:
        self._store, self._day = daily.store, day

    def list(self, prefix: str) -> object:
        from resources.errors import ObjectStoreUnavailableError

        if self._day in prefix:
            raise ObjectStoreUnavailableError(f"the store did not answer for {prefix}")
        return self._store.list(prefix)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

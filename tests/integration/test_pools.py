"""Concurrency pools on a real Dagster PostgreSQL storage, with the limits of the project's own dagster.yaml."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import dagster as dg
import pytest
import yaml
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration

from assets.pools import DERIVE, INGEST, UPKEEP
from definitions import build_definitions
from resources.settings import PROJECT_ROOT

POOLED = {
    "comics/pricing_data_raw": INGEST,
    "comics/comics": DERIVE,
    "comics/pricing_data_normalized": DERIVE,
    "comics/pricing_data_aggregated": DERIVE,
    "platform/partitions": UPKEEP,
    "platform/dagster_history": UPKEEP,
}


class Meter:
    """How many steps work at the same time, and the most there were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.done = 0

    def work(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.3)  # the work itself: long enough that two would meet
        with self._lock:
            self.now -= 1
            self.done += 1


@pytest.fixture
def instance(empty_database_url: str) -> Iterator[dg.DagsterInstance]:
    config = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    url = empty_database_url.replace("postgresql://", "postgresql+psycopg2://")
    overrides = {
        "storage": {"postgres": {"postgres_url": url}},
        "telemetry": {"enabled": False},
        **{name: config[name] for name in ("concurrency", "run_monitoring")},
        "run_coordinator": config["run_coordinator"],
    }
    with dg.instance_for_test(overrides=overrides) as opened:
        yield opened


def heavy_job(meter: Meter, *pools: str) -> dg.JobDefinition:
    """A job with one independent step for each of the pools."""

    def heavy(number: int, pool: str) -> dg.AssetsDefinition:
        @dg.asset(name=f"heavy_{number}", pool=pool)
        def step() -> None:
            meter.work()

        return step

    assets = [heavy(number, pool) for number, pool in enumerate(pools)]
    job = dg.define_asset_job("heavy", assets)
    return dg.Definitions(assets=assets, jobs=[job], executor=dg.in_process_executor).resolve_job_def("heavy")


def slots_taken(instance: dg.DagsterInstance) -> int:
    storage = instance.event_log_storage
    return sum(storage.get_concurrency_info(key).active_slot_count for key in storage.get_concurrency_keys())


def test_heavy_steps_of_two_runs_never_meet_and_both_complete(instance: dg.DagsterInstance) -> None:
    meter = Meter()
    job = heavy_job(meter, INGEST, DERIVE, INGEST)
    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(lambda _: job.execute_in_process(instance=instance), range(2)))
    assert all(run.success for run in runs)
    assert meter.done == 6
    assert meter.most <= 2  # one of each pool
    assert slots_taken(instance) == 0


def test_two_runs_that_want_the_same_pool_take_turns(instance: dg.DagsterInstance) -> None:
    meter = Meter()
    job = heavy_job(meter, UPKEEP, UPKEEP)
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(lambda _: job.execute_in_process(instance=instance), range(3)))
    assert all(run.success for run in runs)
    assert (meter.done, meter.most) == (6, 1)
    assert slots_taken(instance) == 0


def test_the_slot_of_a_killed_run_is_free_for_the_next(instance: dg.DagsterInstance) -> None:
    meter = Meter()
    job = heavy_job(meter, UPKEEP)
    assert job.execute_in_process(instance=instance).success  # makes the pool
    killed = job.execute_in_process(instance=instance).run_id
    storage = instance.event_log_storage
    assert storage.claim_concurrency_slot(
        UPKEEP, killed, "heavy_0"
    ).is_claimed  # as if it had died in its step
    with storage.index_connection() as connection:
        connection.exec_driver_sql(
            "UPDATE runs SET status = 'FAILURE', end_time = end_time - 3600, "
            f"update_timestamp = update_timestamp - interval '1 hour' WHERE run_id = '{killed}'"
        )
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(job.execute_in_process, instance=instance)
        list(
            execute_concurrency_slots_iteration(SimpleNamespace(instance=instance), _Silent())
        )  # the daemon's own
        assert waiting.result(timeout=60).success
    assert slots_taken(instance) == 0


def test_a_step_that_waits_to_be_tried_again_holds_no_pool_for_ever(instance: dg.DagsterInstance) -> None:
    tries: list[int] = []

    @dg.asset(pool=INGEST)
    def flaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise dg.RetryRequested(max_retries=1, seconds_to_wait=0)

    job = dg.Definitions(
        assets=[flaky], jobs=[dg.define_asset_job("again", [flaky])], executor=dg.in_process_executor
    ).resolve_job_def("again")
    assert job.execute_in_process(instance=instance).success
    assert len(tries) == 2
    assert slots_taken(instance) == 0


def test_every_heavy_asset_has_its_pool() -> None:
    graph = build_definitions().resolve_asset_graph()
    for name, pool in POOLED.items():
        assert graph.get(dg.AssetKey(name.split("/"))).pools == {pool}, name


class _Silent:
    def info(self, text: str) -> None:
        """Told nowhere."""

"""Concurrency pools on a real Dagster PostgreSQL storage, with the limits of the project's own dagster.yaml."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._daemon.controller import RELOAD_WORKSPACE_INTERVAL
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration

from assets.pools import DERIVE, INGEST, UPKEEP
from definitions import build_definitions
from deploy.local.processes import wait_until
from resources.settings import PROJECT_ROOT
from tests.run_worker import heavy_job, run_at_once, run_heavy

POOLED = {
    "comics/pricing_data_raw": INGEST,
    "comics/comics": DERIVE,
    "comics/pricing_data_normalized": DERIVE,
    "comics/pricing_data_aggregated": DERIVE,
    "platform/partitions": UPKEEP,
    "platform/dagster_history": UPKEEP,
}


@pytest.fixture
def instance(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with the storage, queue and limits of the project."""
    monkeypatch.setenv("LONGBOX_DAGSTER_POSTGRES_URL", empty_database_url)
    config = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    parts = ("storage", "concurrency", "run_monitoring", "run_coordinator", "telemetry")
    overrides = {name: config[name] for name in parts}
    with dg.instance_for_test(overrides=overrides) as opened:
        yield opened


def slots_taken(instance: dg.DagsterInstance) -> int:
    storage = instance.event_log_storage
    return sum(storage.get_concurrency_info(key).active_slot_count for key in storage.get_concurrency_keys())


def overlaps(diary: Path, *pools: str) -> int:
    """How many pairs of steps of `pools` worked at the same time."""
    lines = [line.split() for line in diary.read_text().splitlines()]
    spans = sorted((float(begun), float(ended)) for pool, begun, ended in lines if pool in pools)
    return sum(later[0] < earlier[1] for earlier, later in itertools.combinations(spans, 2))


def test_a_run_waits_for_a_code_server_longer_than_the_daemon_takes_to_look_anew(
    instance: dg.DagsterInstance,
) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert (
        queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay > RELOAD_WORKSPACE_INTERVAL
    )


def test_heavy_steps_of_one_pool_never_meet_across_runs_and_every_run_completes(
    instance: dg.DagsterInstance, empty_database_url: str, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    pools = (
        INGEST,
        DERIVE,
        INGEST,
    )  # twice the same in a run, and in another order than the other run gets them
    on = (instance.get_ref(), empty_database_url)
    codes = run_at_once(
        run_heavy, [(*on, pools, diary), (*on, pools[::-1], diary), (*on, (DERIVE, INGEST), diary)]
    )
    assert codes == [0, 0, 0]
    assert len(diary.read_text().splitlines()) == 8
    assert (overlaps(diary, INGEST), overlaps(diary, DERIVE)) == (0, 0)
    assert slots_taken(instance) == 0


def test_the_slot_of_a_killed_run_is_free_for_the_next(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    job = heavy_job([UPKEEP], tmp_path / "diary")
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

    def free_when_waited_for() -> bool:
        waits = wait_until(
            lambda: storage.get_concurrency_info(UPKEEP).pending_step_count or None, seconds=60
        )
        # the daemon's own
        list(execute_concurrency_slots_iteration(SimpleNamespace(instance=instance), _Silent()))
        return waits is not None

    # the run on the main thread: on another one Dagster cannot hear signals
    with ThreadPoolExecutor(1) as threads:
        freed = threads.submit(free_when_waited_for)
        assert job.execute_in_process(instance=instance).success
        assert freed.result(timeout=60)
    assert slots_taken(instance) == 0


def test_a_run_that_waits_for_a_pool_sleeps(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = heavy_job([UPKEEP], tmp_path / "diary")
    holder = job.execute_in_process(instance=instance).run_id
    storage, asked = instance.event_log_storage, itertools.count()
    assert storage.claim_concurrency_slot(UPKEEP, holder, "heavy_0").is_claimed
    claim = InstanceConcurrencyContext.claim

    def counted(*args: Any, **options: Any) -> bool:
        next(asked)
        return claim(*args, **options)

    def free_after_a_while() -> None:
        time.sleep(3)  # in which a run that does not sleep asks some thousand times
        storage.free_concurrency_slot_for_step(holder, "heavy_0")

    monkeypatch.setattr(InstanceConcurrencyContext, "claim", counted)
    with ThreadPoolExecutor(1) as threads:
        freed = threads.submit(free_after_a_while)
        assert job.execute_in_process(instance=instance).success
        freed.result(timeout=60)
    assert next(asked) < 20


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

"""A WAL slot beyond its bound: given up by a full backup when no receiver reads it, left alone when one is at work."""

import dataclasses
from collections.abc import Iterator

import dagster as dg
import pytest

from pipelines.backup import routine, setup
from pipelines.backup.slot import SLOT, SlotSession
from pipelines.backup.slot_guard import give_slot_up
from resources.database import Database
from resources.settings import Settings
from sensors.backup_age import backup_age_sensor
from tests.backup_cluster import Cluster
from tests.integration.backup_support import Heard, acts, tick


@pytest.fixture
def settings(backup_settings: Settings) -> Settings:
    return backup_settings


@pytest.fixture
def forgotten_slot(cluster: Cluster) -> Iterator[None]:
    """A slot of a receiver that runs no more, for which the server keeps some segments."""
    cluster.run(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
    for _ in range(4):
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
    yield
    cluster.run(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    )


def slots(cluster: Cluster) -> object:
    return cluster.value(f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")


def test_a_slot_beyond_its_bound_that_no_receiver_reads_is_given_up_by_a_full_backup(
    settings: Settings, cluster: Cluster, forgotten_slot: None
) -> None:
    bounded, heard, told = dataclasses.replace(settings, wal_slot_max_bytes=40 << 20), Heard(), []
    with Database(settings.postgres_url) as database:
        routine.make_backup(settings, database, "full", warn=lambda _: None)
        assert slots(cluster) == 1, "within the bound"
        context = dg.build_sensor_context(cursor=None, resources={"settings": bounded, "notifier": heard})
        result = backup_age_sensor()(context)
        assert len(result.run_requests) == 1 and "backup_age:slot" in heard.causes
        assert backup_age_sensor().job_name == "backup_full"
        assert "no receiver runs" in tick(bounded, heard, result.cursor)[0]
        assert heard.causes.count("backup_age:slot") == 1
        before = acts(settings).get("drop wal slot", 0)
        made = routine.make_backup(bounded, database, "incremental", warn=told.append)
        assert made.record.kind == "full" and "no receiver runs" in made.reason
        assert slots(cluster) == 0 and any("it is dropped" in text for text in told)
        assert acts(settings)["drop wal slot"] == before + 1
        again = routine.make_backup(bounded, database, "incremental", warn=told.append)
        assert again.record.kind == "incremental" and acts(settings)["drop wal slot"] == before + 1


def test_the_slot_of_a_receiver_that_is_at_work_is_left_to_it(
    settings: Settings, cluster: Cluster, forgotten_slot: None
) -> None:
    bounded = dataclasses.replace(settings, wal_slot_max_bytes=40 << 20)
    with setup.backup_database(bounded) as database, SlotSession(database) as receiver:
        receiver.lock("longbox wal receiver")
        assert give_slot_up(bounded, lambda reason, state: pytest.fail(reason)) == ""
    assert slots(cluster) == 1

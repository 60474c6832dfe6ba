"""The WAL receiver on a real server: what was committed a moment ago is restored, whatever was killed or cut before."""

import datetime as dt
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from deploy.local.ports import choose
from deploy.local.processes import wait_until
from pipelines.backup import setup
from pipelines.backup.beats import lineage
from pipelines.backup.errors import (
    BackupRefusedError,
    ReceiverRunningError,
    RestoreRefusedError,
)
from pipelines.backup.planning import window
from pipelines.backup.postgres import PostgresEngine
from pipelines.backup.slot import SlotSession
from pipelines.backup.verify import verify_wal
from pipelines.backup.wal import WalArchive
from pipelines.backup.watch import open_gaps
from pipelines.migration import migrate
from resources.database import Database
from resources.errors import UserError
from resources.restored_server import stop_left_over
from resources.settings import PROJECT_ROOT
from tests.backup_cluster import Backups, Cluster, one_value, truth
from tests.conftest import with_database
from tests.faults.wal_support import (
    PACE,
    backed_up_and_written,
    completes,
    drop_slot,
    judged,
    moved,
    receiving,
    settings_of,
    wait_beating,
    wait_covered,
    wait_free,
    whole,
)
from tests.proxy import proxy_for

pytestmark = pytest.mark.usefixtures("no_slot")


def test_rows_committed_a_moment_ago_are_restored_and_any_moment_in_between(backups: Backups, tmp_path: Path):
    cluster, settings = backups.cluster, settings_of(backups, tmp_path)
    with receiving(settings, backups) as run:
        wait_covered(backups)
        backups.engine.back_up("full")
        cluster.write()
        middle, expected = cluster.now(), cluster.truth()
        cluster.run("SELECT pg_switch_wal()")
        cluster.write()
        wait_covered(backups)
        assert backups.restored_truth() == cluster.truth()
        assert backups.restored_truth(to=middle) == expected
        found = window(backups.repository, backups.opener)
        assert found is not None and found.is_from_wal and found.until > middle
        assert run.errors == []
    assert run.errors == []
    assert [path for path in settings.wal_spool.rglob("*") if path.is_file()] == [
        settings.wal_spool / "receiver"
    ]


@pytest.mark.parametrize("step", ["covered", "before", "after", "replace"])
def test_a_receiver_killed_at_any_step_loses_nothing_and_the_next_one_completes(
    backups: Backups, tmp_path: Path, step: str
):
    cluster, settings = backups.cluster, settings_of(backups, tmp_path)
    with receiving(settings, backups):  # so that WAL of before the backup is there too
        wait_covered(backups)
    backups.engine.back_up("full")
    command = [settings.home, cluster.url, backups.repository.store.url, tmp_path, step]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.wal_process", *map(str, command)],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    writing = threading.Event()

    def write() -> None:
        is_whole = step in ("before", "after")
        while not writing.wait(1.0 if is_whole else 0.1):
            cluster.write(200)
            if is_whole:
                cluster.run("SELECT pg_switch_wal()")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert process.stdout.readline() == "READY\n"
    finally:
        process.kill()
        process.wait()
        writing.set()
        writer.join()
    cluster.write()
    cluster.run("SELECT pg_switch_wal()")
    cluster.write()
    completes(backups, settings)


def test_a_server_that_crashes_and_comes_back_is_followed(backups: Backups, tmp_path: Path):
    settings = settings_of(backups, tmp_path)
    with receiving(settings, backups) as run:
        wait_covered(backups)
        backups.engine.back_up("full")
        backups.cluster.write()
        backups.cluster.restart()
        backups.cluster.write()
        wait_covered(backups)
        assert run.has_said("trying again")
    assert run.errors == []
    whole(backups, settings)
    completes(backups, settings)


def test_a_cut_network_is_waited_out(backups: Backups, tmp_path: Path):
    with proxy_for(backups.cluster.url) as proxy:
        settings = settings_of(backups, tmp_path, LONGBOX_BACKUP_POSTGRES_URL=proxy.url(backups.cluster.url))
        with receiving(settings, backups) as run:
            wait_covered(backups)
            backups.engine.back_up("full")
            proxy.is_refusing = True
            proxy.cut()
            backups.cluster.write()
            assert wait_until(lambda: run.has_said("trying again") or None, seconds=20)
            proxy.is_refusing = False
            wait_covered(backups)
            assert run.has_said("receiving WAL again")
        assert run.errors == []
        whole(backups, settings)
        completes(backups, settings)


@pytest.fixture
def platform_url(cluster: Cluster) -> Iterator[str]:
    """A database with the platform's tables in the cluster."""
    cluster.run("CREATE DATABASE longbox_received")
    url = with_database(cluster.url, "longbox_received")
    migrate(url, [])
    yield url
    cluster.run("DROP DATABASE longbox_received WITH (FORCE)")


def test_a_slot_beyond_its_bound_is_dropped_loudly_and_a_full_backup_bridges_the_gap(
    backups: Backups, tmp_path: Path, platform_url: str
):
    cluster = backups.cluster
    settings = settings_of(
        backups, tmp_path, LONGBOX_POSTGRES_URL=platform_url, LONGBOX_BACKUP_POSTGRES_URL=cluster.url
    )
    with receiving(settings, backups):
        backed_up_and_written(backups)
    for _ in range(4):
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
    cluster.run("CHECKPOINT")
    pace = replace(PACE, bounds=replace(PACE.bounds, slot_bytes=40 << 20))
    with receiving(settings, backups, pace) as run:
        assert wait_until(lambda: len(backups.engine.catalogue().sound) >= 2 or None, seconds=60), (
            run.said,
            run.errors,
        )
        assert wait_until(lambda: run.has_said("bridges the gap") or None, seconds=60), (run.said, run.errors)
        cluster.write()
        wait_covered(backups)
        assert {"wal:slot"} <= {alert.cause for alert in run.alerts}
        expected = "the server keeps"
        assert any(expected in alert.message for alert in run.alerts)
        acts = "SELECT array_agg(DISTINCT act) FROM longbox.ledger WHERE act IN ('drop wal slot', 'backup')"
        assert one_value(platform_url, acts) == ["backup", "drop wal slot"]
        assert backups.restored_truth() == cluster.truth()
    found = judged(backups, platform_url, cluster.now())
    assert found.compared > 0 and found.faults == ()
    assert run.errors == []
    assert list(settings.wal_spool.rglob("backup-due.json")) == []


def test_wal_that_nobody_has_is_named_and_bridged_when_somebody_dropped_the_slot(
    backups: Backups, tmp_path: Path
):
    cluster, settings = backups.cluster, settings_of(backups, tmp_path)
    with receiving(settings, backups):
        backed_up_and_written(backups)
    drop_slot(cluster)
    lost = cluster.now()
    for _ in range(3):
        cluster.write()
        cluster.run("SELECT pg_switch_wal()")
    cluster.run("CHECKPOINT")
    with receiving(settings, backups) as run:
        assert wait_until(lambda: run.has_said("bridges the gap") or None, seconds=60), (run.said, run.errors)
        [told] = {alert.message for alert in run.alerts if alert.cause == "wal:gap"}
        assert "is missing; moments in it cannot be restored" in told
        cluster.write()
        wait_covered(backups)
    assert run.errors == []
    with pytest.raises(RestoreRefusedError, match=r"cannot be reached: WAL after .* is missing"):
        backups.restore(to=lost + dt.timedelta(milliseconds=1))
    inventory = WalArchive(backups.repository).inventory()
    assert [gap for gap in inventory.gaps(1) if gap.last in told] != []
    # it is bridged, and so no fault any more
    assert verify_wal(backups.repository, backups.opener, backups.engine.catalogue().sound)[0] == []
    assert open_gaps(inventory, backups.engine.catalogue().sound) == []
    assert backups.restored_truth() == cluster.truth()


def test_a_second_receiver_says_so_and_ends_and_the_first_goes_on(backups: Backups, tmp_path: Path):
    settings = settings_of(backups, tmp_path)
    elsewhere = settings_of(backups, tmp_path, LONGBOX_WAL_SPOOL=str(tmp_path / "elsewhere"))
    with receiving(settings, backups) as run:
        wait_covered(backups)
        for second, told in (
            (settings, "another receiver works in"),
            (elsewhere, "another receiver (longbox wal "),
        ):
            with receiving(second, backups) as other:
                assert wait_until(lambda other=other: other.errors or None, seconds=20)
            assert isinstance(other.errors[0], ReceiverRunningError) and told in str(other.errors[0])
            assert isinstance(other.errors[0], UserError)  # exit code 2
        backups.cluster.write()
        wait_covered(backups)
    assert run.errors == []


def test_a_restored_and_promoted_server_is_followed_on_its_timeline(
    backups: Backups, tmp_path: Path, platform_url: str
):
    cluster = backups.cluster
    settings = settings_of(
        backups, tmp_path, LONGBOX_POSTGRES_URL=platform_url, LONGBOX_BACKUP_POSTGRES_URL=cluster.url
    )
    with receiving(settings, backups):
        backed_up_and_written(backups)
        # a heartbeat of this timeline in the store: those of the next one go on from it
        assert wait_until(lambda: lineage(backups.repository)[0] or None, seconds=60)
        kept, expected = cluster.now(), cluster.truth()
        cluster.write()
        wait_covered(backups)
    port = choose("port", None, remembered=None)
    result = backups.restore(to=kept, port=port)
    assert result.pid is not None
    try:
        url = moved(cluster.url, port)
        assert truth(url) == expected
        successor = replace(backups, cluster=replace(cluster, url=url, data=result.into / "data"))
        successor.cluster.write()
        followed = moved(platform_url, port)
        again = settings_of(
            successor, tmp_path, LONGBOX_POSTGRES_URL=followed, LONGBOX_BACKUP_POSTGRES_URL=url
        )
        with receiving(again, successor) as run:
            wait_covered(successor)
            wait_beating(followed)
            successor.cluster.write()
            successor.cluster.run("SELECT pg_switch_wal()")
            successor.cluster.write()
            wait_covered(successor)
        assert run.errors == []
        assert WalArchive(backups.repository).inventory().timelines == [1, 2]
        whole(successor, again)
        assert backups.restored_truth(to=kept) == expected
        record = backups.engine.catalogue().sound[-1]
        assert backups.restore(backup_id=record.backup_id).recovered.timeline == 3  # a number that nobody has
        completes(successor, again)
        # heartbeats that the recovery left behind are in the store still, and are not missed
        now = successor.cluster.now()
        found = judged(backups, followed, now)
        assert found.compared > 1 and found.faults == ()
        assert len({one.timeline for one in lineage(backups.repository)[0]}) == 2
    finally:
        stop_left_over(result.into / "data")


def test_what_an_earlier_receiver_had_on_disk_does_not_count_for_the_next(backups: Backups, tmp_path: Path):
    settings = settings_of(backups, tmp_path)
    with receiving(settings, backups):
        backed_up_and_written(backups)
        wait_covered(backups)
    wait_free(backups.cluster)
    with setup.backup_database(settings) as database, SlotSession(database) as session:
        _, slot = session.look()
    assert slot.restart_lsn and slot.confirmed_lsn is None
    completes(backups, settings)


def as_login(cluster: Cluster, user: str) -> str:
    """The cluster's URL for a user whose password is `kept`."""
    parts = urlsplit(cluster.url)
    return urlunsplit(parts._replace(netloc=f"{user}:kept@{parts.hostname}:{parts.port}"))


def test_a_login_that_may_not_see_how_far_the_receiver_is_is_told(backups: Backups, tmp_path: Path):
    cluster = backups.cluster
    cluster.run("CREATE ROLE blind LOGIN REPLICATION PASSWORD 'kept'")
    try:
        url = as_login(cluster, "blind")
        with (
            SlotSession(Database(url, role=None)) as session,
            pytest.raises(BackupRefusedError, match="pg_monitor"),
        ):
            session.source()
    finally:
        cluster.run("DROP ROLE blind")


def test_a_login_that_may_replicate_and_is_no_superuser_is_enough(backups: Backups, tmp_path: Path):
    cluster = backups.cluster
    cluster.run("CREATE ROLE keeper LOGIN REPLICATION PASSWORD 'kept' IN ROLE pg_monitor")
    try:
        url = as_login(cluster, "keeper")
        settings = settings_of(backups, tmp_path, LONGBOX_BACKUP_POSTGRES_URL=url)
        with receiving(settings, backups) as run:
            wait_covered(backups)
            keys = backups.server_keys, backups.recovery_keys
            PostgresEngine(Database(url, role=None), url, backups.repository, *keys).back_up("full")
            cluster.write()
            wait_covered(backups)
        assert run.errors == []
        whole(backups, settings)
    finally:
        cluster.run("DROP ROLE keeper")

"""The WAL receiver on a real server: what was committed a moment ago is restored, whatever was killed or cut before."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.local.processes import wait_until
from pipelines.backup.planning import window
from pipelines.backup.receiver import Bounds
from pipelines.backup.resident import Pace, Resident
from pipelines.backup.slot import SLOT
from pipelines.backup.wal import WalArchive
from resources.notifier import Alert, Notifier
from resources.settings import Settings
from tests.backup_cluster import Backups, Cluster

PACE = Pace(
    tick=0.05, ship=0.2, beat=0.5, longest_wait=0.5, bridge=0.2, bounds=Bounds(longest_wait_seconds=0.5)
)


@dataclass
class Running:
    """A receiver on a thread of the test, and what it said."""

    stop: threading.Event = field(default_factory=threading.Event)
    said: list[str] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    resident: Resident | None = None

    def has_said(self, text: str) -> bool:
        return any(text in line for line in self.said)


def settings_of(backups: Backups, folder: Path, **changed: str) -> Settings:
    return Settings.load(
        {
            "LONGBOX_HOME": str(folder / "home"),
            "LONGBOX_POSTGRES_URL": backups.cluster.url,
            "LONGBOX_OBJECT_STORE": backups.repository.store.url,
            "LONGBOX_BACKUP_KEYS": str(folder / "server.json"),
            "LONGBOX_BACKUP_RECOVERY_KEYS": str(folder / "recovery.json"),
            **changed,
        }
    )


@contextlib.contextmanager
def receiving(settings: Settings, backups: Backups, pace: Pace = PACE) -> Iterator[Running]:
    """A receiver, stopped at the end of the block as SIGTERM does."""
    run = Running()
    notifier = Notifier(("test://",), deliver=lambda _, alert: run.alerts.append(alert) is None)
    run.resident = Resident(settings, run.said.append, notifier, pace, lambda _: backups.repository)

    def work() -> None:
        assert run.resident is not None
        try:
            run.resident.run(run.stop)
        except BaseException as error:
            run.errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield run
    finally:
        run.stop.set()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def clean(cluster: Cluster) -> Iterator[None]:
    """No slot of another test."""
    drop = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    cluster.run(drop)
    yield
    cluster.run(drop)


def wait_covered(backups: Backups) -> None:
    """Until the store holds every commit of before this call."""
    at = backups.cluster.now()
    archive = WalArchive(backups.repository)

    def covered() -> bool | None:
        found = archive.covered()
        return True if found and found.at >= at else None

    assert wait_until(covered, seconds=30), f"{at} was not covered: {archive.covered()}"


pytestmark = pytest.mark.usefixtures("clean")


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

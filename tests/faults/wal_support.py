"""What the tests of the WAL receiver share: one on a thread of the test, and what has to hold when it is done."""

import contextlib
import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from deploy.local.processes import wait_until
from pipelines.backup.drill import Findings, Moment
from pipelines.backup.heartbeats import HeartbeatJudge
from pipelines.backup.model import BackupRecord
from pipelines.backup.receiver import Bounds
from pipelines.backup.repository import Repository
from pipelines.backup.resident import Pace, Resident
from pipelines.backup.slot import SLOT
from pipelines.backup.verify import verify_wal
from pipelines.backup.wal import WalArchive
from resources.notifier import Alert, Notifier
from resources.settings import Settings
from tests.backup_cluster import Backups, Cluster, one_value

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


def wait_covered(backups: Backups, repository: Repository | None = None) -> None:
    """Until the store (or that of `repository`) holds every commit of before this call."""
    at = backups.cluster.now()
    archive = WalArchive(repository or backups.repository)

    def covered() -> bool | None:
        found = archive.covered()
        return True if found and found.at >= at else None

    assert wait_until(covered, seconds=30), f"{at} was not covered: {archive.covered()}"


def backed_up_and_written(backups: Backups) -> BackupRecord:
    """What most tests start from, within a receiver: its WAL in the store, a full backup, and rows after it."""
    wait_covered(backups)
    record = backups.engine.back_up("full")
    backups.cluster.write()
    wait_covered(backups)
    return record


def whole(backups: Backups, settings: Settings) -> None:
    """No row lost, nothing missing, nothing waiting: the newest moment restored is what the server holds."""
    inventory = WalArchive(backups.repository).inventory()
    assert [gap for timeline in inventory.timelines for gap in inventory.gaps(timeline)] == []
    assert verify_wal(backups.repository, backups.opener, backups.engine.catalogue().sound)[0] == []
    assert backups.restored_truth() == backups.cluster.truth()


def completes(backups: Backups, settings: Settings) -> None:
    """Running again completes; then nothing is lost."""
    with receiving(settings, backups) as run:
        backups.cluster.write()
        wait_covered(backups)
    assert run.errors == []
    assert [path for path in settings.wal_spool.rglob("*") if path.is_file()] == [
        settings.wal_spool / "receiver"
    ]
    whole(backups, settings)


def drop_slot(cluster: Cluster) -> None:
    """Remove what another test left at the server."""
    wait_free(cluster)
    cluster.run(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    )


def wait_free(cluster: Cluster) -> None:
    """Until no process of the server uses the slot: it ends some time after the receiver did."""
    query = f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND active"
    assert wait_until(lambda: True if cluster.value(query) == 0 else None, seconds=60)


def received(backups: Backups) -> object:
    """The server's process that sends WAL."""
    return backups.cluster.value(f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{SLOT}'")


def judged(backups: Backups, url: str, at: dt.datetime) -> Findings:
    """What the judge of drills says of the heartbeats of a database."""
    judge = HeartbeatJudge(backups.repository, "longbox_received")
    return judge.judge(lambda _: psycopg.connect(url, autocommit=True), Moment(at, at))


def wait_beating(url: str) -> None:
    """Until there is one more heartbeat than now."""
    query = "SELECT coalesce(max(beat), 0) FROM longbox.heartbeats"
    before = int(str(one_value(url, query)))
    assert wait_until(lambda: int(str(one_value(url, query))) > before + 1 or None, seconds=20)


def moved(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))

"""Restores to random moments of a database that is written to without pause, while backups and drills are killed.

A writer keeps the truth of every commit outside of the cluster; WAL is shipped, full and incremental backups are made,
expired, and killed at their steps or at any time, drills as well. Every drill's restored database must equal the truth
of its moment. `make drills` runs 200 drills; `--drills` and `--seed` set them. Ends with no row lost or doubled in what
is restored last, and with a backup that completes.
"""

import contextlib
import dataclasses
import datetime as dt
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from deploy.local.processes import processes_in, wait_until
from pipelines.backup import expiry
from pipelines.backup.drill import Connect, Drill, DrillResult, Findings, Moment
from pipelines.backup.ledger import Ledger
from pipelines.backup.postgres import SLOT
from pipelines.backup.truth import record_truth
from pipelines.backup.verify import verify_repository
from pipelines.backup.wal import WalArchive
from pipelines.migration import migrate
from resources.database import Database
from resources.settings import PROJECT_ROOT
from tests.backup_cluster import Backups, fast_folder, new_backups, running_cluster, ship_wal
from tests.conftest import with_database
from tests.faults import truth_writer
from tests.faults.storm_progress import tell_tenths
from tests.faults.truth_writer import Commit, read_log, states_at, truth_of

NAME = "longbox_stormed"
SHIP_SECONDS = 0.5
BACKUPS_KEPT = 8
SHORTEST = expiry.Policy(0, 0, 0, 0, 0, 0, 2)


@dataclasses.dataclass
class Truth:
    """A judge who compares the restored tables with the writer's log."""

    log: Path
    wrong: list[str] = dataclasses.field(default_factory=list)
    right: int = 0
    name: str = "truth"

    def judge(self, connect: Connect, moment: Moment) -> Findings:
        with connect(NAME) as restored:
            found = truth_of(f"{restored.info.dsn} password={restored.info.password}")
        lower, upper = (at.timestamp() for at in (moment.lower, moment.upper))
        log = self.log_beyond(upper)
        allowed = [*states_at(log, lower), *states_at(log, upper)]
        # the end of a backup is one moment between two clock readings
        allowed += [commit.state for commit in log if lower <= commit.ended and commit.began <= upper]
        if found in allowed:
            self.right += 1
            return Findings(1)
        self.wrong.append(f"{moment}: {found}, not one of {allowed[:3]}")
        return Findings(1, (self.wrong[-1],))

    def log_beyond(self, moment: float) -> list[Commit]:
        """The log, once the writer has noted what it committed before a moment: its line follows the commit."""
        found = wait_until(
            lambda: log if (log := read_log(self.log)) and log[-1].began > moment else None, seconds=60
        )
        assert found, f"the writer did not get beyond {moment}"
        return found


@dataclasses.dataclass
class Storm:
    """What goes on around the drills."""

    backups: Backups
    url: str
    keys: Path
    random_source: random.Random
    made: int = 0
    kills: dict[str, int] = dataclasses.field(default_factory=dict)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # of who makes backups

    def ship(self) -> None:
        """As the receiver does: segments, the open one, what is covered; the shorter partials go."""
        while not self.done.wait(SHIP_SECONDS):
            self.ship_once()

    def ship_once(self) -> None:
        ship_wal(self.backups)
        for name in WalArchive(self.backups.repository).inventory().superseded:
            self.backups.repository.delete(name)

    def back_up(self) -> None:
        """One backup after the other, some of them killed at a step or at any time."""
        source = random.Random(self.random_source.getrandbits(32))
        while not self.done.wait(source.random()):
            with self.lock:
                self.one_backup(source)

    def one_backup(self, source: random.Random) -> None:
        kind = source.choice(("full", "incremental", "incremental"))
        step = source.choice(("end", "end", "end", "1", "3", "record", "any"))
        store, cluster = self.backups.repository.store.url, self.backups.cluster
        process = self.start("back_up", store, cluster.url, cluster.system, self.keys, kind, step)
        self.end(process, "backup", step, source)
        self.made += process.returncode == 0
        self.wait_for_free_slot()

    def killed_drill(self, scratch: Path) -> None:
        """A drill that is killed; what it leaves is the next one's to clear away."""
        step = self.random_source.choice(("files", "recovered", "any"))
        store, cluster = self.backups.repository.store.url, self.backups.cluster
        seed = self.random_source.getrandbits(32)
        process = self.start("drill", store, cluster.system, self.keys, self.url, scratch, seed, step)
        self.end(process, "restore", step, self.random_source)

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.faults.backup_process", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self, process: "subprocess.Popen[str]", what: str, step: str, source: random.Random) -> None:
        """Wait for its end, or for its step and kill it."""
        if step == "any":
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3 + 3 * source.random())
        elif step != "end":
            assert process.stdout is not None
            process.stdout.readline()  # READY, or the end of a run that had fewer steps
        if step != "end" and process.poll() is None:
            process.kill()
            self.kills[f"{what} at {step}"] = self.kills.get(f"{what} at {step}", 0) + 1
        _, said = process.communicate()
        assert process.returncode in (0, -9), said

    def wait_for_free_slot(self) -> None:
        query = f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        assert wait_until(lambda: True if self.backups.cluster.value(query) == 0 else None, seconds=60)

    def expire(self) -> None:
        """Now and then all but the newest backups go, and the WAL before them."""
        with self.lock:
            if len(self.backups.repository.records().sound) > BACKUPS_KEPT:
                now = dt.datetime.now(dt.UTC)
                expiry.expire(self.backups.repository, SHORTEST, now, dry_run=False)


@contextlib.contextmanager
def writer(url: str, log: Path, seed: int) -> Iterator[None]:
    """The writer, a process of its own, from its first commit on."""
    command = [sys.executable, "-m", "tests.faults.truth_writer", url, str(log), str(seed)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert wait_until(
            lambda: True if process.poll() is not None or (log.exists() and log.stat().st_size) else None,
            seconds=60,
        )
        yield
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def beside(*acts: object) -> Iterator[None]:
    """Run each in a thread; what any of them raised is raised at the end."""
    failed: list[BaseException] = []

    def guarded(act: object) -> None:
        try:
            act()  # type: ignore[operator]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for act in acts:
            act.__self__.done.set()  # type: ignore[attr-defined]
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


@pytest.fixture
def storm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Storm]:
    """A cluster of its own, witnessed and backed up once, with its WAL shipped from then on."""
    store = fast_folder("longbox-drills-")
    with running_cluster() as cluster:
        backups = new_backups(cluster, store.as_uri(), tmp_path)
        try:
            # what is shipped by hand has no slot: a checkpoint must not remove a segment before it was seen
            cluster.run("ALTER SYSTEM SET wal_keep_size = '1GB'", "SELECT pg_reload_conf()")
            cluster.run(f"CREATE DATABASE {NAME}")
            url = with_database(cluster.url, NAME)
            migrate(url, [])
            with psycopg.connect(url, autocommit=True) as connection:
                for statement in truth_writer.TABLES:
                    connection.execute(statement)
                connection.execute("GRANT SELECT ON public.journal, public.commits TO longbox_app")
            seed = int(request.config.getoption("--seed"))
            yield Storm(dataclasses.replace(backups, part_bytes=1 << 18), url, tmp_path, random.Random(seed))
        finally:
            shutil.rmtree(store)
            shutil.rmtree(backups.scratch, ignore_errors=True)


def test_every_moment_is_restored_as_it_was_whatever_is_killed_meanwhile(
    storm: Storm, tmp_path: Path, request: pytest.FixtureRequest
):
    drills, truth = int(request.config.getoption("--drills")), Truth(tmp_path / "truth.log")
    backups, results = storm.backups, list[DrillResult]()
    scratch = backups.scratch / "drills"
    with (
        Database(storm.url, connect_timeout_seconds=60) as database,
        writer(storm.url, truth.log, storm.random_source.getrandbits(32)),
    ):
        ledger = Ledger(database, backups.cluster.system, "storm")
        drill = Drill(database, backups.repository, backups.opener, scratch, ledger, (truth,))
        record_truth(database, backups.repository, ledger)
        storm.ship_once()
        backups.engine.back_up("full")
        storm.ship_once()
        with beside(storm.ship, storm.back_up):
            while len(results) < drills:
                if storm.random_source.random() < 0.4:
                    storm.killed_drill(scratch)
                results.append(drill.run(seed=storm.random_source.getrandbits(32)))
                assert not truth.wrong
                assert list(scratch.iterdir()) == [] and processes_in(scratch) == []
                storm.expire()
                tell_tenths(len(results), drills, "drills")
        storm.ship_once()
    assert truth.right >= drills and truth.wrong == []
    assert all(result.is_proven for result in results)
    tell(results, storm, truth)
    end_well(storm, truth)


def end_well(storm: Storm, truth: Truth) -> None:
    """No row is lost or doubled at the end, the repository is sound, and one more backup completes."""
    backups, said = storm.backups, []
    ship_wal(backups)
    result = backups.restore(check=lambda url: said.append(truth_of(with_database(url, NAME))))
    shutil.rmtree(result.into)
    assert said == [truth_of(storm.url)]
    # the writer was ended between a commit and its line, at most
    assert said[0].number - read_log(truth.log)[-1].state.number in (0, 1)
    backups.repository.sweep(dt.timedelta(0))
    report = verify_repository(backups.repository, backups.opener, True)
    assert report.is_sound, report.faults
    record = backups.engine.back_up("incremental")
    result = backups.restore(
        backup_id=record.backup_id, check=lambda url: said.append(truth_of(with_database(url, NAME)))
    )
    shutil.rmtree(result.into)
    assert said[1] == said[0]


def tell(results: Sequence[DrillResult], storm: Storm, truth: Truth) -> None:
    """The figures."""
    print(f"\n{len(results)} drills, {truth.right} restored databases compared, {len(truth.wrong)} wrong")
    print(f"  {storm.made} backups made; killed: {dict(sorted(storm.kills.items()))}")
    for name in ("rto_seconds", "rpo_seconds"):
        values = sorted(getattr(result, name) for result in results)
        p50, p95 = (values[min(len(values) - 1, len(values) * percent // 100)] for percent in (50, 95))
        print(f"  {name}: p50 {p50:.2f}, p95 {p95:.2f}, max {values[-1]:.2f}")

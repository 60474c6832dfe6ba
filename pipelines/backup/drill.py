"""The drill: restore a random moment, compare it with the truth of that moment, measure, clean up. Daily.

A judge looks at the restored server and names what is wrong: the digests of tables and the ledger's chain are always
asked, further ones (heartbeats of the WAL receiver) are passed in. A drill that could compare nothing has failed:
missing evidence is failure. Its result is kept under `drills/`, its proof in the ledger, and what it restored counts
as proven (`Verification.is_restored`).
"""

import contextlib
import dataclasses
import datetime as dt
import fcntl
import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from pipelines.backup import layout, ledger
from pipelines.backup.amcheck import check_pages
from pipelines.backup.engine import BackupSource, Report, quiet
from pipelines.backup.errors import BackupError, DamagedError, RestoreRefusedError
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import RestoreRequest, Window, checked_json, read_checked_json
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener
from pipelines.backup.stored import StoredBackups
from pipelines.backup.truth import (
    Truth,
    expected,
    fix_output,
    named_witnesses,
    read_witness,
    read_witnesses,
    record_truth,
    table_truth,
)
from resources.database import Connection, Database
from resources.errors import LongboxError, RetryableError
from resources.restored_server import stop_left_over

Connect = Callable[[str], contextlib.AbstractContextManager[Connection]]


class DrillRunningError(RetryableError):
    """Another drill works in the same folder."""


class DrillFailedError(BackupError):
    """What was restored is not what was; `faults` name each difference."""

    def __init__(self, moment: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            f"the drill of {moment} failed: {'; '.join(faults)}. Run `longbox backup verify`, and do not rely on this "
            "repository before a drill succeeds; see docs/runbooks/"
        )


@dataclass(frozen=True)
class Moment:
    """What is restored. Its state is that of one instant from `lower` to `upper`, equal for a point in time."""

    lower: dt.datetime
    upper: dt.datetime
    backup_id: str | None = None

    def __str__(self) -> str:
        at = f"{self.upper.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
        return f"{at} (the end of {self.backup_id})" if self.backup_id else at


_TURNS, _TURN_SECONDS = 100, 0.1


@dataclass(frozen=True)
class Findings:
    """What one judge compared, and what differs."""

    compared: int
    faults: tuple[str, ...] = ()


class Judge(Protocol):
    """Compares the restored cluster with truth that is kept outside of it. `connect` takes a database's name."""

    @property
    def name(self) -> str:
        """How its faults are introduced."""

    def judge(self, connect: Connect, moment: Moment) -> Findings:
        """Look at the restored server. Must not raise for what differs."""


@dataclass(frozen=True)
class DrillResult:
    """What a drill found. `rpo_seconds`: how much would have been lost had the server died when it began."""

    began_at: dt.datetime
    moment: dt.datetime
    backup_id: str
    is_proven: bool
    rto_seconds: float
    rpo_seconds: float
    duration_seconds: float
    compared: int
    first_restorable: dt.datetime
    newest_restorable: dt.datetime
    is_from_wal: bool
    seed: int
    faults: tuple[str, ...] = ()
    act: str = "restore drill"


@dataclass(frozen=True)
class Drill:
    """Everything that a drill works with; `scratch` is its own folder, emptied before and after.

    `is_newest`: the newest moment instead of a random one. `last_judges` come when all else was compared: they may
    write to the restored server.
    """

    database: Database
    repository: Repository
    opener: Opener
    scratch: Path
    ledger: Ledger
    judges: tuple[Judge, ...] = ()
    source: BackupSource | None = None  # whose backups; those of the repository unless given
    act: str = "restore drill"  # as the ledger names it
    is_newest: bool = False
    last_judges: tuple[Judge, ...] = ()

    @property
    def backups(self) -> BackupSource:
        """What is restored from."""
        return self.source or StoredBackups(self.repository, self.opener)

    def run(self, seed: int | None = None, report: Report = quiet) -> DrillResult:
        """Restore and compare once. Raises `DrillFailedError`, `DrillRunningError`, and what restoring raises.

        Leaves nothing in `scratch`, also of drills that were killed. The seed that chose the moment is in the result.
        """
        self.backups.require_drill()
        seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        with scratch_folder(self.scratch) as folder:
            started = time.monotonic()
            reach = self.backups.window()
            if reach is None:
                raise RestoreRefusedError("there is no backup to restore; make one: `longbox backup --full`")
            witnesses, broken = read_witnesses(self.repository)
            chosen = random.Random(seed)
            moment = choose_moment(self.backups, reach, witnesses, None if self.is_newest else chosen)
            before = [one for one in witnesses if one.ended_at <= moment.lower][-1]
            closing = record_truth(self.database, self.repository, self.ledger, before.tables)
            with self.database.session() as live:
                faults = [*broken.values(), *self._missing(live, reach), *ledger.faults(live)]
            later = [*(one for one in witnesses if one.began_at >= moment.upper), closing]
            judges: tuple[Judge, ...] = (
                *self.judges,
                _Tables(before, later),
                _Chain(before, closing, self.database),
                *self.last_judges,
            )
            outcome = self._restore(folder, moment, judges, report)
            result = DrillResult(
                began_at=closing.began_at,
                moment=moment.upper,
                backup_id=outcome.backup_id,
                is_proven=not faults and not outcome.faults,
                rto_seconds=outcome.rto_seconds,
                rpo_seconds=max(0.0, (closing.began_at - reach.until).total_seconds()),
                duration_seconds=time.monotonic() - started,
                compared=outcome.compared,
                first_restorable=reach.first,
                newest_restorable=reach.until,
                is_from_wal=reach.is_from_wal,
                seed=seed,
                faults=tuple(dict.fromkeys([*faults, *outcome.faults])),
                act=self.act,
            )
        self._keep(result)
        if not result.is_proven:
            raise DrillFailedError(str(moment), result.faults)
        return result

    def _missing(self, live: Connection, reach: Window) -> list[str]:
        """Witnesses of the window that the ledger names and the store does not have as they were."""
        since, faults = layout.truth(reach.first), []
        for name, digest in named_witnesses(live, self.ledger.relation).items():
            if name >= since:
                try:
                    read_witness(self.repository, name, digest)
                except DamagedError as error:
                    faults.append(f"witness {error}")
        return faults

    def _restore(self, folder: Path, moment: Moment, judges: Sequence[Judge], report: Report) -> "_Outcome":
        faults: list[str] = []
        compared: list[int] = []

        def compare(url: str) -> None:
            connect = connector(url)
            for judge in judges:
                found = _judged(judge, connect, moment)
                compared.append(found.compared)
                faults.extend(f"{judge.name}: {fault}" for fault in found.faults)
            if self.backups.checks_pages:
                faults.extend(check_pages(connect))

        wanted = RestoreRequest(
            folder / "restored",
            to=None if moment.backup_id else moment.upper,
            backup_id=moment.backup_id,
            is_durable=False,
        )
        try:
            done = self.backups.restore(wanted, report, compare)
        except LongboxError as error:
            if error.retryable:
                raise
            return _Outcome(moment.backup_id or "", 0.0, sum(compared), (*faults, str(error)))
        if not sum(compared):
            faults.append("nothing could be compared, so nothing is proven")
        return _Outcome(done.backup_id, done.rto_seconds, sum(compared), tuple(faults))

    def _keep(self, result: DrillResult) -> None:
        data = checked_json(result)
        self.repository.put(layout.drill(result.began_at), data)
        if result.is_proven:
            verified = self.repository.verification(result.backup_id)
            if verified is not None and verified.is_sound:
                proven = dataclasses.replace(verified, is_restored=True)
                self.repository.put(layout.verification(result.backup_id), proven.to_json())
        proof = {
            "result": layout.drill(result.began_at),
            "blake2b": hashlib.blake2b(data, digest_size=32).hexdigest(),
            "moment": result.moment.isoformat(),
            "backup_id": result.backup_id,
            "is_proven": result.is_proven,
            "rto_seconds": round(result.rto_seconds, 3),
            "rpo_seconds": round(result.rpo_seconds, 3),
            "faults": list(result.faults),
        }
        self.ledger.write(self.act, "every backup is proved by restoring it", proof)


@dataclass(frozen=True)
class _Outcome:
    backup_id: str
    rto_seconds: float
    compared: int
    faults: tuple[str, ...]


def drill_results(repository: Repository) -> list[DrillResult]:
    """Results of the drills whose record is whole, oldest first."""
    found = []
    for name in repository.all_names(layout.DRILLS):
        with contextlib.suppress(DamagedError, KeyError, TypeError, ValueError):
            said = read_checked_json(
                name,
                repository.read(name, lambda data, name=name: read_checked_json(name, data)),  # type: ignore[misc]
            )
            for key in ("began_at", "moment", "first_restorable", "newest_restorable"):
                said[key] = dt.datetime.fromisoformat(said[key])
            found.append(DrillResult(**said | {"faults": tuple(said["faults"])}))
    return found


def choose_moment(
    source: BackupSource, reach: Window, witnesses: Sequence[Truth], random_source: random.Random | None
) -> Moment:
    """A moment of the window that has a witness before it: any where WAL leads to, else the end of a backup.

    The newest one without a `random_source`.
    """
    if not witnesses:
        raise DrillFailedError("no moment", ["there is no witness in the store to compare with"])
    first = max(reach.first, witnesses[0].ended_at)
    if reach.is_from_wal and first < reach.until:
        at = first + (reach.until - first) * random_source.random() if random_source else reach.until
        return Moment(at, at)
    records = [one for one in source.catalogue().sound if one.started_at >= witnesses[0].ended_at]
    if not records:
        raise DrillFailedError("no moment", ["no backup has a witness from before it to compare with"])
    record = random_source.choice(records) if random_source else records[-1]
    return Moment(record.started_at, record.ended_at, record.backup_id)


@contextlib.contextmanager
def scratch_folder(scratch: Path) -> Iterator[Path]:
    """The folder of drills, for one at a time; emptied before and after. Raises `DrillRunningError`."""
    scratch.mkdir(parents=True, exist_ok=True)
    # it is emptied: where others may write too, it must not lead to a folder of theirs or of ours
    if scratch.is_symlink() or scratch.stat().st_uid != os.geteuid():
        raise RestoreRefusedError(f"{scratch} is a link or belongs to another user; remove it")
    scratch.chmod(0o755)  # the server's user passes through; what is restored is 0700
    lock = os.open(scratch, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DrillRunningError(f"another drill works in {scratch}; wait for it") from error
        _empty(scratch)
        try:
            yield scratch
        finally:
            _empty(scratch)
    finally:
        os.close(lock)


def _empty(scratch: Path) -> None:
    for left in scratch.iterdir():
        for _ in range(
            _TURNS
        ):  # a server that was being started when its drill was killed writes there once more
            stop_left_over(left / "data")
            shutil.rmtree(left, ignore_errors=True)
            if not left.exists():
                break
            time.sleep(_TURN_SECONDS)


def connector(url: str) -> Connect:
    """Connections to the databases of the server at `url`."""

    def connect(database: str) -> contextlib.AbstractContextManager[Connection]:
        there = urlunsplit(urlsplit(url)._replace(path=f"/{quote(database)}"))
        return cast("contextlib.AbstractContextManager[Connection]", psycopg.connect(there, autocommit=True))

    return connect


def _judged(judge: Judge, connect: Connect, moment: Moment) -> Findings:
    try:
        return judge.judge(connect, moment)
    except psycopg.Error as error:
        return Findings(0, (f"the restored server said: {' '.join(str(error).split())}",))


@dataclass(frozen=True)
class _Tables:
    """Digests of tables that said the same before and after the moment."""

    before: Truth
    later: Sequence[Truth]
    name: str = "tables"

    def judge(self, connect: Connect, moment: Moment) -> Findings:
        wanted = expected(self.before, self.later)
        faults = []
        with connect(self.before.database) as restored:
            fix_output(restored)
            for (schema, table), said in wanted.items():
                try:
                    found = table_truth(restored, schema, table)
                except psycopg.Error as error:
                    faults.append(f"{schema}.{table} cannot be read: {' '.join(str(error).split())}")
                    continue
                if found != said:
                    has = f"{found.rows:,} rows, {found.digest}" if found else "is missing"
                    faults.append(
                        f"{schema}.{table} has {has} where {self.before.name} says {said.rows:,} rows, {said.digest}"
                    )
        return Findings(len(wanted), tuple(faults))


@dataclass(frozen=True)
class _Chain:
    """The ledger: whole in itself, not behind the witness before, and the same as the live one up to its end."""

    before: Truth
    closing: Truth
    live: Database
    name: str = "ledger"

    def judge(self, connect: Connect, moment: Moment) -> Findings:
        with connect(self.before.database) as restored:
            faults = ledger.faults(restored)
            newest = ledger.head(restored)
            at_witness = ledger.hash_at(restored, self.before.ledger.position)
        if newest.position < self.before.ledger.position:
            faults.append(
                f"it ends at {newest.position}, but {self.before.name} saw entry {self.before.ledger.position}"
            )
        elif self.before.ledger.position and at_witness != self.before.ledger.hash:
            faults.append(f"entry {self.before.ledger.position} is not the one that {self.before.name} saw")
        with self.live.session() as live:
            if newest.position and ledger.hash_at(live, newest.position) != newest.hash:
                faults.append(f"entry {newest.position} is not the one of the live ledger")
        return Findings(1, tuple(faults))

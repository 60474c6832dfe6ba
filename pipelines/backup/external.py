"""The external engine, for managed PostgreSQL: it records which snapshots a provider says there are, and trusts none.

Evidence is what a command or a file of the user's says: ids and times. It is recorded in our store (`evidence/`) and in
the ledger, and counts as proved only where a drill restored it. What cannot be proved is refused, never assumed.
"""

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

import psycopg

from pipelines.backup import layout
from pipelines.backup.coverage import Coverage
from pipelines.backup.engine import Catalogue, Check, Choice, Progress, Report, quiet
from pipelines.backup.errors import (
    BackupError,
    BaseUnusableError,
    DamagedError,
    EngineCannotError,
    RestoreFailedError,
    RestoreRefusedError,
)
from pipelines.backup.expiry import ExpiryPlan, ExpiryResult, Policy
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import (
    Kind,
    RestoreRequest,
    Verification,
    Window,
    checked_json,
    read_checked_json,
)
from pipelines.backup.reach import CopyReach
from pipelines.backup.repository import Repository
from pipelines.backup.restore import RestoreResult
from pipelines.backup.verify import RepositoryReport
from resources.database import Connection, Database
from resources.errors import LongboxError
from resources.provider import Provider
from resources.setting_values import without_secret
from resources.sql import Queries

NAME = "external"
OLDEST_EVIDENCE = dt.timedelta(hours=30)  # a daily snapshot that failed once and was not repeated
CLOCK_SKEW = dt.timedelta(minutes=5)
_DRILL = (
    "set LONGBOX_EXTERNAL_RESTORE_COMMAND and LONGBOX_EXTERNAL_DISCARD_COMMAND, and run the job restore_drill"
)
_SQL = Queries.of("pipelines.backup")


@dataclass(frozen=True)
class Snapshot:
    """One snapshot as the provider tells it; `completed_at` is `at` where it does not tell both."""

    snapshot_id: str
    at: dt.datetime
    completed_at: dt.datetime
    size_bytes: int = 0

    @property
    def backup_id(self) -> str:
        """The same for the same snapshot; it sorts by time."""
        mark = hashlib.blake2b(self.snapshot_id.encode(), digest_size=4).hexdigest()
        return f"{self.at.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-external-{mark}"


@dataclass(frozen=True)
class Evidence:
    """A recorded snapshot: what was said, and when we heard it."""

    snapshot: Snapshot
    recorded_at: dt.datetime
    kind: Kind = "full"
    parent_id: None = None

    @property
    def backup_id(self) -> str:
        """Of the snapshot."""
        return self.snapshot.backup_id

    @property
    def snapshot_id(self) -> str:
        """The provider's own."""
        return self.snapshot.snapshot_id

    @property
    def started_at(self) -> dt.datetime:
        """When the snapshot began, by the provider's clock."""
        return self.snapshot.at

    @property
    def ended_at(self) -> dt.datetime:
        """When it was complete, by the provider's clock."""
        return self.snapshot.completed_at

    @property
    def plain_bytes(self) -> int:
        """What the provider says, 0 if nothing."""
        return self.snapshot.size_bytes

    @property
    def stored_bytes(self) -> int:
        """Nothing of it is stored by us."""
        return 0

    @property
    def duration_seconds(self) -> float:
        """By the provider's clock."""
        return (self.ended_at - self.started_at).total_seconds()

    def to_json(self) -> bytes:
        """The object under `evidence/`."""
        said = {
            name: value.isoformat() if isinstance(value, dt.datetime) else value
            for name, value in dataclasses.asdict(self.snapshot).items()
        }
        return checked_json({"recorded_at": self.recorded_at, "snapshot": said})

    @classmethod
    def from_json(cls, name: str, data: bytes) -> Self:
        """Read it. Raises `DamagedError`."""
        found = read_checked_json(name, data)
        try:
            said = found["snapshot"]
            times = {key: dt.datetime.fromisoformat(said[key]) for key in ("at", "completed_at")}
            return cls(Snapshot(**said | times), dt.datetime.fromisoformat(found["recorded_at"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{name} is no evidence ({error})", [name]) from error


class ExternalEngine:
    """The snapshots of one cluster. `live` opens the live server, which a drill must not be led to."""

    name = NAME
    checks_pages = False  # a provider's login is no superuser

    def __init__(self, provider: Provider, repository: Repository, live: Callable[[], Database]) -> None:
        self._provider, self.repository, self._live = provider, repository, live

    @property
    def limits(self) -> tuple[str, ...]:
        """What rests on the provider's word."""
        drill = () if self._provider.can_restore else (f"no snapshot was ever restored: {_DRILL}",)
        return (
            "snapshots are the provider's word, by id and time; none can be read back from here",
            "no moment between snapshots counts as restorable, whatever the provider promises",
            "no partition counts as covered: nothing may be dropped because of these backups",
            "pages and indexes of a restored snapshot are not checked by amcheck",
            *drill,
        )

    def choose(self) -> Choice:
        """Always a full one."""
        return Choice("full", "a provider's snapshot is a whole backup")

    def back_up(self, kind: Kind, report: Report = quiet) -> Evidence:
        """Ask the provider and record what it shows; the newest snapshot, which must be younger than 30 hours.

        Makes no snapshot, unless the user's command does. Raises `BackupError`, `BaseUnusableError`, `ProviderError`.
        """
        if kind == "incremental":
            raise BaseUnusableError("a provider's snapshot is a whole backup; record a full one")
        report(Progress("asking the provider", 0, 0))
        shown, now = self._shown(), dt.datetime.now(dt.UTC)
        if not shown:
            raise BackupError("the provider shows no snapshot: there is no backup; see its console")
        newest = max(shown, key=lambda one: (one.completed_at, one.snapshot_id))
        if newest.completed_at > now + CLOCK_SKEW:
            raise BackupError(
                f"snapshot {newest.snapshot_id} is said to be of {newest.completed_at:%Y-%m-%d %H:%M:%SZ}, which is "
                "still to come; see the clocks and the evidence command"
            )
        if now - newest.at > OLDEST_EVIDENCE:
            raise BackupError(
                f"the provider's newest snapshot, {newest.snapshot_id} of {newest.at:%Y-%m-%d %H:%M:%SZ}, is older "
                f"than {OLDEST_EVIDENCE.total_seconds() / 3600:.0f} h; see why it makes none"
            )
        known = {one.snapshot.snapshot_id: one for one in self._recorded()[0]}
        for snapshot in sorted(shown, key=lambda one: one.at):
            self._record(snapshot, known.get(snapshot.snapshot_id), now)
        return next(one for one in self._recorded()[0] if one.snapshot == newest)

    def mark_wal(self) -> None:
        """Nothing: WAL is the provider's."""

    def catalogue(self) -> Catalogue:
        """Recorded snapshots that the provider still shows; the others are faults."""
        recorded, faults = self._recorded()
        try:
            shown = self._shown()
        except LongboxError as error:
            return Catalogue((), faults | {"evidence": str(error)})
        gone = {
            one.backup_id: f"the provider no longer shows snapshot {one.snapshot.snapshot_id}"
            for one in recorded
            if one.snapshot not in shown
        }
        return Catalogue([one for one in recorded if one.backup_id not in gone], faults | gone)

    def window(self) -> Window | None:
        """From the oldest to the newest snapshot; nothing between them counts."""
        sound = self.catalogue().sound
        return Window(sound[0].ended_at, sound[-1].ended_at, False) if sound else None

    def copies(self) -> tuple[CopyReach, ...]:
        """None: copies are the provider's."""
        return ()

    def verify(self, backup_id: str) -> Verification:
        """Refused: raises `EngineCannotError`."""
        raise EngineCannotError(
            f"{backup_id} is the provider's and cannot be read back from here; a drill can prove it: {_DRILL}"
        )

    def read_back(
        self, backup_id: str | None = None, named: Mapping[str, str] | None = None
    ) -> list[RepositoryReport]:
        """Refused: raises `EngineCannotError`."""
        raise EngineCannotError(
            f"{backup_id or 'a provider’s snapshot'} cannot be read back from here; a drill can prove it: {_DRILL}"
        )

    def require_drill(self) -> None:
        """Raise `EngineCannotError` unless there are commands that restore and discard."""
        if not self._provider.can_restore:
            raise EngineCannotError(f"there is no drill without commands that restore and discard: {_DRILL}")

    def preview(self, request: RestoreRequest) -> str:
        """Refused: a provider's snapshot does not go into a folder. Raises `EngineCannotError`."""
        raise EngineCannotError(
            "a provider's snapshot cannot be restored into a folder; restore it with the provider's own tools "
            "(`longbox backup list --json` names its id), then compare by `longbox digest`"
        )

    def restore(
        self, request: RestoreRequest, report: Report = quiet, check: Check | None = None
    ) -> RestoreResult:
        """Restore a snapshot by the user's command, have it checked, discard it: for drills.

        Raises `EngineCannotError`, `RestoreRefusedError`, `RestoreFailedError`, `ProviderError`.
        """
        if request.backup_id is None or check is None:
            self.preview(request)
        self.require_drill()
        found = next((one for one in self.catalogue().sound if one.backup_id == request.backup_id), None)
        if found is None:
            raise RestoreRefusedError(f"the provider shows no snapshot for {request.backup_id}")
        snapshot_id, started = cast(Evidence, found).snapshot.snapshot_id, time.monotonic()
        report(Progress("restoring", 0, found.plain_bytes))
        with contextlib.ExitStack() as after:
            after.callback(self._provider.discard, snapshot_id)  # also what a failed or killed restore left
            url = self._provider.restore(snapshot_id)
            self._require_another_server(url)
            rto_seconds = time.monotonic() - started
            if check is not None:
                report(Progress("checking", 0, 0))
                check(url)
        return RestoreResult(found.backup_id, request.into, None, rto_seconds)

    def expire(self, policy: Policy, now: dt.datetime, ledger: Ledger | None = None) -> list[ExpiryResult]:
        """Forget recorded snapshots that the provider no longer shows: it expires them. Raises `ProviderError`."""
        shown = self._shown()
        gone = [one for one in self._recorded()[0] if one.snapshot not in shown]
        for one in gone if ledger is not None else ():
            assert ledger is not None
            proof = {"store": NAME, "backup_id": one.backup_id, "snapshot_id": one.snapshot.snapshot_id}
            ledger.write("expire backup", "the provider no longer shows it", proof | {"engine": NAME})
            for store in self.repository.stores:
                self.repository.only(store).delete(layout.evidence(one.backup_id))
        names = tuple(one.backup_id for one in gone)
        kept: dict[str, tuple[str, ...]] = {
            one.backup_id: ("the provider shows it",)
            for one in self._recorded()[0]
            if one.backup_id not in names
        }
        return [ExpiryResult(ExpiryPlan(kept, names, ()), ledger is None, len(names), 0, (), NAME)]

    def covers(
        self, connection: Connection, table: str, partition: str, *, not_before: dt.datetime | None = None
    ) -> Coverage:
        """Always no: a snapshot says neither what it holds nor up to which write."""
        return Coverage(
            False,
            None,
            "no evidence: a provider's snapshot cannot be read back from here and does not say which writes it holds",
        )

    def _shown(self) -> list[Snapshot]:
        return read_evidence(self._provider.evidence())

    def _recorded(self) -> tuple[list[Evidence], dict[str, str]]:
        sound, faults = [], {}
        for name in self.repository.all_names(layout.EVIDENCE):
            try:
                data = self.repository.read(name, lambda found, name=name: Evidence.from_json(name, found))  # type: ignore[misc]
                sound.append(Evidence.from_json(name, data))
            except DamagedError as error:
                faults[name] = str(error)
        return sorted(sound, key=lambda one: (one.ended_at, one.backup_id)), faults

    def _record(self, snapshot: Snapshot, known: Evidence | None, now: dt.datetime) -> None:
        if known is not None and known.snapshot == snapshot:
            return
        if known is not None and known.snapshot.at != snapshot.at:
            raise BackupError(
                f"snapshot {snapshot.snapshot_id} is said to be of {snapshot.at.isoformat()}, and was recorded as of "
                f"{known.snapshot.at.isoformat()}; two snapshots of one id prove nothing: see the evidence command"
            )
        self.repository.put(layout.evidence(snapshot.backup_id), Evidence(snapshot, now).to_json())

    def _require_another_server(self, url: str) -> None:
        """Whether what was restored is not the live server. Raises `RestoreFailedError`."""
        try:
            with psycopg.connect(url, connect_timeout=60, autocommit=True) as restored:
                there = restored.execute(_SQL["server_run"]).fetchone()
        except psycopg.Error as error:
            said = without_secret(" ".join(str(error).split()), url)
            raise RestoreFailedError(f"the restored server does not answer: {said}") from error
        with self._live() as database, database.session() as connection:
            here = connection.execute(_SQL["server_run"]).fetchone()
        if there == here:
            raise RestoreFailedError(
                "LONGBOX_EXTERNAL_RESTORE_COMMAND named the live server; it must print the URL of the restored one"
            )


def read_evidence(text: str) -> list[Snapshot]:
    """Snapshots out of the JSON of a command or file. Raises `BackupError` that says what is wrong, and shows how."""
    try:
        said: Any = json.loads(text)
    except ValueError as error:
        raise _unreadable(f"it is no JSON ({error})") from error
    entries = said.get("snapshots") if isinstance(said, dict) else said
    if not isinstance(entries, list):
        raise _unreadable("it has no list of snapshots")
    found = [_snapshot(entry) for entry in entries]
    if len({one.snapshot_id for one in found}) != len(found):
        raise _unreadable("it has the same id twice")
    return found


def _snapshot(entry: Any) -> Snapshot:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        raise _unreadable(f"the entry {str(entry)[:80]!r} has no id")
    at = _moment(entry, "at")
    completed_at = _moment(entry, "completed_at") if entry.get("completed_at") else at
    size = entry.get("size_bytes", 0)
    if completed_at < at:
        raise _unreadable(f"snapshot {entry['id']} was complete before it began")
    if not isinstance(size, int) or size < 0:
        raise _unreadable(f"snapshot {entry['id']} has a size_bytes that is no number of bytes")
    return Snapshot(entry["id"], at, completed_at, size)


def _moment(entry: Mapping[str, Any], key: Literal["at", "completed_at"]) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(entry[key])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(f"snapshot {entry['id']} has no moment in {key!r}") from error
    if found.tzinfo is None:
        raise _unreadable(f"snapshot {entry['id']} has a {key!r} without a zone")
    return found.astimezone(dt.UTC)


def _unreadable(why: str) -> BackupError:
    return BackupError(
        f"the provider's evidence cannot be used: {why}; it must look like "
        '{"snapshots": [{"id": "nightly-1", "at": "2026-11-21T03:00:00Z"}]}'
    )

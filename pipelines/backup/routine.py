"""What runs by the clock: a witnessed backup, its copies, expiry, reading back, the drill; each leaves a ledger entry.

Both the schedule's assets and a person's command may call these; every one is safe to repeat after a kill.
"""

import contextlib
import dataclasses
import datetime as dt
import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pipelines.backup import expiry, layout, setup, truth
from pipelines.backup.copies import CopyResult, copy_repository
from pipelines.backup.drill import Drill, DrillFailedError, DrillResult, Judge, connector
from pipelines.backup.engine import Backup, BackupEngine, BackupSource, Report, quiet
from pipelines.backup.errors import BackupError, BaseUnusableError, RestoreRefusedError
from pipelines.backup.failover import StandIn
from pipelines.backup.heartbeats import HeartbeatJudge, expire_heartbeats
from pipelines.backup.ledger import Ledger, write_everywhere
from pipelines.backup.model import Kind, RestoreRequest, Verification, Window
from pipelines.backup.repository import Repository
from pipelines.backup.restore import RestoreResult
from pipelines.backup.sealed import Opener
from pipelines.backup.slot import SlotState
from pipelines.backup.slot_guard import give_slot_up
from pipelines.backup.stored import NAME, StoredBackups
from pipelines.backup.verify import RepositoryReport
from resources.database import Database
from resources.errors import LongboxError
from resources.postgres_programs import can_reach, server_user
from resources.settings import Settings
from resources.sql import Queries

_SQL = Queries.of("pipelines.backup")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class BackupMade:
    """A backup, why it is not of the kind that was asked for, and what can be restored now."""

    record: Backup
    reason: str
    window: Window | None


@contextlib.contextmanager
def platform_database(settings: Settings) -> Iterator[Database | None]:
    """The platform's own database, None if it has no chained ledger (it is not migrated). Raises if it is away."""
    with (
        Database(settings.postgres_url, application_name="longbox backup") as database,
        database.as_role(None) as login,
    ):
        with login.session() as connection:
            row = connection.execute(_SQL["has_ledger"]).fetchone()
        yield database if row and row[0] else None


def make_backup(
    settings: Settings,
    database: Database | None,
    kind: Kind,
    *,
    run_id: str | None = None,
    warn: Tell = print,
    report: Report = quiet,
) -> BackupMade:
    """Make a backup between two witnesses; a full one where nothing can be built on, with the reason.

    `database` is the platform's own on the same server; without it there is neither witness nor entry in the ledger.
    Makes keys where there are none, and says so by `warn`. A WAL slot beyond its bound that no receiver reads is
    dropped first, which is ledgered; the backup is a full one then.
    """
    setup.prepare_engine(settings, warn)
    given_up = _give_slot_up(settings, database, run_id, warn)
    with setup.backup_database(settings) as server:
        engine = setup.open_engine(settings, server)
        if database is None:
            made, reason = _back_up(engine, kind, report, given_up)
            engine.mark_wal()
        else:
            repository = engine.repository
            ledger = Ledger(database, repository.system_identifier, run_id)
            before = truth.record_truth(database, repository, ledger)
            made, reason = _back_up(engine, kind, report, given_up)
            proof = {
                "backup_id": made.backup_id,
                "kind": made.kind,
                "parent_id": made.parent_id,
                "started_at": made.started_at.isoformat(),
                "stored_bytes": made.stored_bytes,
            }
            if engine.name != NAME:  # others' backups are not objects of our store
                proof |= {"engine": engine.name, "also": " ".join(getattr(made, "also", ()))}
            ledger.write("backup", "backups by schedule" if run_id else "asked for", proof)
            truth.record_truth(database, repository, ledger, before.tables)
            engine.mark_wal()
        return BackupMade(made, reason, engine.window())


def _give_slot_up(settings: Settings, database: Database | None, run_id: str | None, warn: Tell) -> str:
    if settings.backup_engine != NAME:
        return ""  # the slot is the default engine's

    def tell(reason: str, state: SlotState) -> None:
        warn(f"{reason}; it is dropped, and a full backup begins")
        if database is not None:
            with database.connection() as connection:
                ledger = Ledger(database, truth.system_of(connection), run_id)
            proof = {"retained_bytes": state.retained_bytes, "restart_lsn": state.restart_lsn}
            ledger.write("drop wal slot", "LONGBOX_WAL_SLOT_MAX_BYTES", proof)

    return give_slot_up(settings, tell)


def _back_up(engine: BackupEngine, kind: Kind, report: Report, given_up: str) -> tuple[Backup, str]:
    if kind == "full" or given_up:
        return engine.back_up("full", report), given_up if kind != "full" else ""
    choice = engine.choose()
    if choice.kind == "full":
        return engine.back_up("full", report), choice.reason
    try:
        return engine.back_up("incremental", report), ""
    except BaseUnusableError as error:
        return engine.back_up("full", report), str(error)


def read_back_newest(settings: Settings, database: Database) -> Verification:
    """Read the newest full backup back. Raises `BackupError` if there is none, `EngineCannotError`."""
    source = open_source(settings, database)
    fulls = [one for one in source.catalogue().sound if one.kind == "full"]
    if not fulls:
        raise BackupError("there is no full backup; make one: `longbox backup --full`")
    return source.verify(fulls[-1].backup_id)


def read_back_all(
    settings: Settings, database: Database, *, run_id: str | None = None
) -> list[RepositoryReport]:
    """Read everything back, from the store and each copy. Faults are in the reports. Raises `EngineCannotError`."""
    source = open_source(settings, database)
    ledger = Ledger(database, source.repository.system_identifier, run_id)
    reports = source.read_back(named=_ledgered(database, source, ledger))
    for report in reports:
        proof = {
            "store": report.store,
            "objects": report.objects,
            "stored_bytes": report.stored_bytes,
            "is_decrypted": report.is_decrypted,
            "faults": [str(fault) for fault in report.faults][:20],
        }
        ledger.write("verify backups", "backups are read back every week", proof)
    return reports


def _ledgered(database: Database, source: BackupSource, ledger: Ledger) -> dict[str, str]:
    """What the ledger names and what did not expire, with digests.

    Only since the oldest backup of this engine: the ledger also knows of the store that was used before.
    """
    kept = source.catalogue().sound
    if not kept:
        return {}
    with database.session() as connection:
        found = truth.named_objects(
            connection, ledger.relation, source.repository.store.url, kept[0].started_at
        )
    return {
        name: digest
        for name, digest in found.items()
        if source.name == NAME or not name.startswith(f"{layout.CATALOGUE}/")
    }


def named_by_ledger(settings: Settings, source: BackupSource) -> dict[str, str]:
    """What must be in the first store as far as the ledger knows, with digests. Raises if it cannot be asked."""
    with platform_database(settings) as database:
        if database is None:
            raise BackupError("the database is not migrated: it has no ledger")
        return _ledgered(database, source, Ledger(database, source.repository.system_identifier))


def copy_all(settings: Settings, database: Database) -> list[CopyResult]:
    """Bring what is missing to each copy store. Raises `BackupError` naming what could not be brought."""
    results = copy_repository(open_own(settings, database))
    faults = [f"{result.store}: {fault}" for result in results for fault in result.faults]
    if faults:
        raise BackupError(f"{len(faults)} object(s) could not be copied: {'; '.join(faults[:5])}")
    return results


def expire_all(
    settings: Settings, database: Database, policy: expiry.Policy | None = None, *, run_id: str | None = None
) -> list[expiry.ExpiryResult]:
    """Delete what the policy no longer keeps, in the store and in each copy; the ledger is told before.

    Witnesses of moments that are gone with it go too. A copy store that is away is left for the next time, and told in
    its result.
    """
    return expire_source(open_source(settings, database), database, policy or expiry.Policy(), run_id=run_id)


def expire_source(
    source: BackupSource, database: Database, policy: expiry.Policy, *, run_id: str | None = None
) -> list[expiry.ExpiryResult]:
    """The same for one engine's backups."""
    repository = source.repository
    ledger = Ledger(database, repository.system_identifier, run_id)
    results = source.expire(policy, dt.datetime.now(dt.UTC), ledger)
    away = {result.store for result in results if result.fault}
    for store in (one for one in repository.stores if one.url not in away):
        one = repository.only(store)
        kept = (StoredBackups(one, Opener()) if source.name == NAME else source).catalogue()
        if not kept.faults:  # what cannot be read may be the oldest
            _expire_witnesses(one, kept.sound, ledger)
    return results


def _expire_witnesses(one: Repository, kept: Sequence[Backup], ledger: Ledger) -> None:
    """Witnesses of moments that can no longer be restored, but for the one just before the first that can."""
    old = truth.witness_names(one, before=kept[0].started_at)[:-1] if kept else []
    if old:
        proof = {"store": one.store.url, "first": old[0], "last": old[-1]}
        ledger.write("expire witnesses", "no backup is as old", proof, len(old))
    for name in old:
        one.delete(name)
    if kept:
        expire_heartbeats(one, kept[0].started_at)


def run_drill(
    settings: Settings,
    database: Database,
    judges: Sequence[Judge] = (),
    *,
    run_id: str | None = None,
    seed: int | None = None,
) -> DrillResult:
    """Restore a random moment and compare it with its truth, heartbeats among it; see `Drill.run`."""
    return _drill(settings, database, judges, run_id).run(seed)


def run_disaster_drill(
    settings: Settings, database: Database, *, run_id: str | None = None
) -> list[DrillResult]:
    """Restore the newest moment from each store as if it and the keys were all that is left; compare each.

    Another engine's backups are in one place. Raises `DrillFailedError` naming every store that failed.
    """
    whole = _drill(settings, database, (), run_id)
    opener, source = setup.opener(settings), whole.backups
    stores = source.repository.stores if source.name == NAME else ()
    alone: list[tuple[str, BackupSource]] = [
        (store.url, StoredBackups(source.repository.only(store), opener)) for store in stores
    ]
    results, faults = [], []
    for name, one in alone or [(source.name, source)]:
        drill = dataclasses.replace(whole, source=one, act="disaster drill", is_newest=True)
        try:
            results.append(drill.run())
        except (DrillFailedError, RestoreRefusedError) as error:
            faults.append(f"from {name} alone: {error}")
    if faults:
        raise DrillFailedError("each store alone", faults)
    return results


def run_failover_drill(settings: Settings, database: Database, *, run_id: str | None = None) -> DrillResult:
    """Restore the newest moment, compare it, and let the restored server take the platform's writes."""
    whole = _drill(settings, database, (), run_id)
    with database.connection() as connection:
        stand_in = StandIn(connection.info.dbname, whole.ledger.relation)
    return dataclasses.replace(whole, act="fail-over drill", is_newest=True, last_judges=(stand_in,)).run()


def _drill(settings: Settings, database: Database, judges: Sequence[Judge], run_id: str | None) -> Drill:
    source = open_source(settings, database)
    repository = source.repository
    ledger = Ledger(database, repository.system_identifier, run_id)
    with database.connection() as connection:
        beats = HeartbeatJudge(repository, connection.info.dbname)
    place, every_judge = drill_folder(settings), (*judges, beats)
    return Drill(database, repository, setup.opener(settings), place, ledger, every_judge, source)


def restore_and_tell(
    settings: Settings,
    source: BackupSource,
    request: RestoreRequest,
    report: Report = quiet,
    warn: Tell = print,
) -> RestoreResult:
    """Meet a request by hand, and tell the ledger: the live platform's or, where that is gone, the restored one's.

    Raises as `BackupSource.restore` does; a ledger that cannot be told is told by `warn`.
    """
    system, policy = source.repository.system_identifier, "asked for"
    proof: dict[str, str | float | None] = {
        "to": request.to.isoformat() if request.to else None,
        "into": str(request.into),
        "host": socket.gethostname(),
    }
    told: list[str] = []

    def tell_restored(url: str) -> None:
        try:
            told.extend(write_everywhere(connector(url), system, "restore", policy, proof))
        except psycopg.Error as error:
            warn(f"the restored ledger does not take the entry of this restore: {error}")

    is_live = _is_live(settings, system)
    result = source.restore(request, report, None if is_live else tell_restored)
    if is_live:
        proof |= {"backup_id": result.backup_id, "rto_seconds": round(result.rto_seconds, 3)}
        try:
            with platform_database(settings) as database:
                if database is not None:
                    Ledger(database, system).write("restore", policy, proof)
                    told.append("live")
        except LongboxError as error:
            warn(f"restored, but the ledger could not be told: {error}")
    if not told:
        warn(
            "no ledger knows of this restore: the platform's cannot be asked, and what was restored has none"
        )
    return result


def _is_live(settings: Settings, system: str) -> bool:
    """Whether the platform's database answers and is of that cluster."""
    try:
        with platform_database(settings) as database:
            if database is None:
                return False
            with database.connection() as connection:
                return truth.system_of(connection) == system
    except LongboxError:
        return False


def open_source(settings: Settings, database: Database) -> BackupSource:
    """The backups of the server behind `database`, of whichever engine the settings name."""
    with database.connection() as connection:
        system = truth.system_of(connection)
    return setup.open_source(settings, system)


def open_own(settings: Settings, database: Database) -> Repository:
    """The repository of the server behind `database`."""
    with database.connection() as connection:
        return setup.open_repository(settings, truth.system_of(connection))


def observe_archive(settings: Settings) -> Window | None:
    """What can be restored now that the engine's archive was asked to take all WAL. Raises `BackupError`."""
    with setup.backup_database(settings) as server:
        engine = setup.open_engine(settings, server)
        engine.mark_wal()
        return engine.window()


def drill_folder(settings: Settings) -> Path:
    """Where drills restore to: in LONGBOX_HOME, or beside it where PostgreSQL's own user may not enter that."""
    folder, user = settings.home / "drills", server_user(Path("/nonexistent"))
    above = next(place for place in folder.parents if place.exists())
    if user is None or can_reach(user, above):
        return folder
    mark = hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"longbox-drills-{mark}"

"""Migrating: lock, prepare, verify, run what is missing through Alembic, make what YAML declares, partitions ahead.

`migrate` moves up to the newest revision of every folder given, `migrate_down` undoes, `plan` and `status`
only look. A transaction a revision; a session lock around it all; DDL never queues behind a busy table for
longer than `LOCK_TIMEOUT_SECONDS`, but lets go and tries again, so that readers and writers behind it are not
held up.
"""

import contextlib
import datetime
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
import sqlalchemy
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script.revision import RevisionError, RevisionMap
from psycopg import Connection, sql
from sqlalchemy.pool import StaticPool

from pipelines.catalog.loader import load_catalog
from pipelines.catalog.model import Catalog
from pipelines.migration import bootstrap
from pipelines.migration.declared import apply_declared, keep_partitions_ahead, plan_declared
from pipelines.migration.errors import DownRefusedError, MigrationBusyError
from pipelines.migration.executors import OfflineExecutor, OnlineExecutor, body_of, file_of
from pipelines.migration.history import (
    AppliedRevision,
    absent_revisions,
    read_applied,
    verify_files,
    verify_heads,
)
from pipelines.migration.lock import migration_lock
from pipelines.migration.revisions import (
    PLATFORM,
    RevisionFile,
    build_map,
    read_systems,
    revision_id,
)
from resources.database import Database
from resources.sql import Queries

LOCK_TIMEOUT_SECONDS = 4.0
LOCK_ATTEMPTS = 10
LOCK_WAIT_SECONDS = 300.0
VERSION_TABLE = "alembic_version"
_SQL = Queries.of("pipelines.migration")

AnyConnection = Connection[tuple[object, ...]]
Report = Callable[[str], None]
Done = TypeVar("Done")


@dataclass(frozen=True)
class MigrationResult:
    """What one `migrate` did: revisions applied in order, relations made for YAML tables, partitions made."""

    applied: tuple[str, ...]
    already_applied: int
    declared: tuple[str, ...]
    partitions: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class DownResult:
    """What `migrate_down` undid, newest first; `is_dry_run` means it only would have. `sql` is its text."""

    undone: tuple[str, ...]
    is_dry_run: bool
    sql: str


@dataclass(frozen=True)
class RevisionStatus:
    """One revision. `state`: applied, pending, edited, lost (applied, its file gone), absent (applied, its system
    is not among the folders)."""

    revision: str
    system: str
    title: str
    state: str
    applied_at: datetime.datetime | None


@dataclass(frozen=True)
class _Source:
    """What the folders hold: the catalogue, the systems' folders, their revision files."""

    catalog: Catalog
    systems: Mapping[str, Path]
    files: Sequence[RevisionFile]


@dataclass(frozen=True)
class _Story:
    """Files and history, held against each other and found to agree."""

    applied: Mapping[str, AppliedRevision]
    heads: tuple[str, ...]
    revision_map: RevisionMap

    def steps_up(self) -> list[RevisionStep]:
        """Missing revisions in the order of their dependencies, the platform's own (which depend on none) first."""
        path = list(self.revision_map.iterate_revisions("heads", self.heads, implicit_base=True))
        path.reverse()
        ordered = sorted(path, key=lambda revision: not revision.revision.startswith(f"{PLATFORM}_"))
        return [MigrationStep.upgrade_from_script(self.revision_map, r) for r in ordered]  # type: ignore[arg-type]

    def steps_down(self, target: str) -> list[RevisionStep]:
        """Revisions above `target` (`system@0002`, `system@base`) and all that depend on them, newest first."""
        path = self.revision_map.iterate_revisions(self.heads, target, select_for_downgrade=True)
        return [MigrationStep.downgrade_from_script(self.revision_map, r) for r in path]  # type: ignore[arg-type]


def migrate(
    url: str,
    folders: Sequence[Path],
    *,
    clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    report: Report = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> MigrationResult:
    """Bring the database at `url` up to the newest revision of the platform and of every system folder.

    Idempotent; a second migrator waits up to `lock_wait_seconds`. `clock` gives "now" in UTC for the
    partitions kept ahead; `report` is told each step. Raises `UserError` for faults of files and rights,
    `RevisionFailedError` for refused SQL (earlier revisions stay, the failed one leaves nothing),
    `MigrationBusyError` for locks not obtained.
    """
    started = time.monotonic()
    source = _read_source(folders)  # faults of files are told before anything is touched
    done: list[str] = []
    with _session(url, sleep, lock_wait_seconds, report) as connection:
        bootstrap.prepare(connection, [PLATFORM, *source.systems], report=report, sleep=sleep)
        _become_owner(connection)
        _ensure_history(connection)
        _with_retries(lambda: _run(connection, source, _Story.steps_up, report, done), report, sleep)
        before = len(read_applied(connection)) - len(done)
        declared = _with_retries(lambda: apply_declared(connection, source.catalog), report, sleep)
    partitions = keep_partitions_ahead(url, source.catalog, clock(), sleep=sleep)
    for name in (*declared, *partitions):
        report(f"made {name}")
    return MigrationResult(tuple(done), before, declared, partitions, time.monotonic() - started)


def plan(url: str, folders: Sequence[Path]) -> str:
    """The SQL that `migrate` would run, as one script. Changes nothing.

    What declared tables need shows once all revisions are applied, because it follows from what those leave; the
    partitions to come are not in it.
    """
    source = _read_source(folders)
    with _connection(url) as connection:
        prepare = bootstrap.missing_statements(connection, [PLATFORM, *source.systems])
        has_history = _has_history(connection)
        story = _read_story(connection, source)
        text, names = _offline(story, story.steps_up())
        run_as = [*_owner_statements(connection), *([] if has_history else [_SQL.compose("create_history")])]
        statements = [*prepare, *(run_as if names else [])]
        lines = [statement.as_string(connection).strip().rstrip(";") + ";" for statement in statements]
        declared = [] if lines or names else _declared(connection, source.catalog)
    guard = [_SQL["guard_version_table"]] if names else []
    return "\n\n".join(filter(None, [*lines, text.strip(), *guard, *declared]))


def _declared(connection: Connection[tuple[object, ...]], catalog: Catalog) -> list[str]:
    _become_owner(connection)
    return [f"{statement.rstrip(';')};" for statement in plan_declared(connection, catalog)]


def status(url: str, folders: Sequence[Path]) -> tuple[RevisionStatus, ...]:
    """Every revision that files or database know, platform first, then by system and number. Changes nothing."""
    source = _read_source(folders)
    files = {file.revision: file for file in source.files}
    with _connection(url) as connection:
        applied = read_applied(connection)
    found = []
    for revision in {**applied, **files}:
        file, row = files.get(revision), applied.get(revision)
        if file is None and row is not None:
            here = row.system in source.systems or row.system == PLATFORM
            found.append(
                RevisionStatus(revision, row.system, row.title, "lost" if here else "absent", row.applied_at)
            )
        elif file is not None:
            state = "pending" if row is None else "applied" if row.sha256 == file.sha256 else "edited"
            at = row.applied_at if row else None
            found.append(RevisionStatus(revision, file.system, file.title, state, at))
    return tuple(sorted(found, key=lambda s: (s.system != PLATFORM, s.system, s.revision)))


def migrate_down(
    url: str,
    folders: Sequence[Path],
    target: str,
    *,
    dry_run: bool = True,
    report: Report = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> DownResult:
    """Undo the revisions above `target`: `comics@0002` keeps 0002, `comics@base` keeps none of that system.

    What depends on an undone revision is undone first, also in other systems. Refused before anything runs if
    one of them has no way down. Destroys what those revisions made: a dry run unless told otherwise, and each
    is ledgered.
    """
    source = _read_source(folders)
    with _session(url, sleep, lock_wait_seconds, report) as connection:
        if not _has_history(connection):
            raise DownRefusedError("this database was never migrated by Longbox; there is nothing to undo")
        story = _read_story(connection, source)
        text, names = _offline(story, _steps_down(story, target))
        if not dry_run:
            _become_owner(connection)

            def choose(story: _Story) -> list[RevisionStep]:
                return _steps_down(story, target)

            _with_retries(lambda: _run(connection, source, choose, report, []), report, sleep)
    return DownResult(tuple(names), dry_run, text)


def _steps_down(story: _Story, target: str) -> list[RevisionStep]:
    system, separator, number = target.partition("@")
    known = {revision.system for revision in story.applied.values()}
    if not separator or system not in known or not (number == "base" or number.isdigit()):
        raise DownRefusedError(
            f"{target!r} is no way down; write SYSTEM@NUMBER (that revision stays) or SYSTEM@base, "
            f"SYSTEM being one of {', '.join(sorted(known))}"
        )
    if number == "base" or int(number) == 0:
        goal = f"{system}@base"
    else:
        goal = revision_id(system, number)
        if goal not in story.applied:
            raise DownRefusedError(f"{goal} is not applied to this database; see `longbox migrate --status`")
    try:
        steps = story.steps_down(goal)
    except RevisionError as error:
        raise DownRefusedError(f"there is no way down to {target}: {error}") from error
    for step in steps:
        body_of(file_of(step.revision), "down")  # type: ignore[arg-type]
    return steps


@contextlib.contextmanager
def _connection(url: str) -> Iterator[AnyConnection]:
    database = Database(url, role=None, application_name="longbox migrate", max_size=1)
    with database, database.connection() as connection:
        yield connection


@contextlib.contextmanager
def _session(
    url: str, sleep: Callable[[float], None], wait_seconds: float, report: Report
) -> Iterator[AnyConnection]:
    with _connection(url) as connection, migration_lock(connection, sleep, wait_seconds, report):
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT_SECONDS:g}s"])
        connection.execute("SELECT set_config('statement_timeout', '0', false)")
        # a killed migrator's session, and its lock, end within seconds instead of with its statement
        connection.execute("SELECT set_config('client_connection_check_interval', '2s', false)")
        connection.commit()
        yield connection


def _become_owner(connection: AnyConnection) -> None:
    for statement in _owner_statements(connection):
        connection.execute(statement)
    connection.commit()


def _owner_statements(connection: AnyConnection) -> list[sql.Composed]:
    """What is made belongs to longbox_owner; an unqualified name finds nothing but PostgreSQL's and extensions' own."""
    path = sql.SQL(", ").join(map(sql.Identifier, bootstrap.search_path(connection)))
    return [
        sql.SQL("SET ROLE {}").format(sql.Identifier(bootstrap.OWNER)),
        sql.SQL("SET search_path TO {}").format(path),
    ]


def _read_source(folders: Sequence[Path]) -> _Source:
    catalog = load_catalog(folders)
    systems = {name: system.folder for name, system in sorted(catalog.systems.items())}
    return _Source(catalog, systems, read_systems(systems))


def _has_history(connection: AnyConnection) -> bool:
    row = connection.execute(_SQL["history_exists"]).fetchone()
    return bool(row and row[0])


def _ensure_history(connection: AnyConnection) -> None:
    if not _has_history(connection):
        connection.execute(_SQL.compose("create_history"))
    connection.commit()


def _read_story(connection: AnyConnection, source: _Source) -> _Story:
    applied = read_applied(connection)
    verify_files(applied, source.files, source.systems)
    revision_map = build_map(source.files, absent_revisions(applied, source.systems))
    with _context(connection) as context:
        heads = context.get_current_heads()
    verify_heads(applied, heads, revision_map)
    connection.rollback()
    return _Story(applied, heads, revision_map)


def _run(
    connection: AnyConnection,
    source: _Source,
    choose: Callable[[_Story], list[RevisionStep]],
    report: Report,
    done: list[str],
) -> None:
    """Run the steps that are to be run now; `done` gets each as it is committed, also when a later one fails."""
    steps = choose(_read_story(connection, source))
    if steps:
        with _context(connection, fn=lambda heads, context: steps) as context:
            context.run_migrations(executor=OnlineExecutor(context, connection, report, done))


def _offline(story: _Story, steps: Sequence[RevisionStep]) -> tuple[str, list[str]]:
    output = io.StringIO()
    options = {
        **_OPTIONS,
        "as_sql": True,
        "output_buffer": output,
        "fn": lambda heads, context: steps,
        "starting_rev": story.heads or None,
    }
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    executor = OfflineExecutor(context)
    if steps:
        context.run_migrations(executor=executor)
    return output.getvalue(), executor.done


_OPTIONS = {
    "version_table": VERSION_TABLE,
    "version_table_schema": PLATFORM,
    "transaction_per_migration": True,
}


@contextlib.contextmanager
def _context(connection: AnyConnection, **options: object) -> Iterator[MigrationContext]:
    """Alembic over a psycopg connection that stays ours: the static pool lends it out and never closes it."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
    )
    with engine.connect() as alchemy:
        alchemy.rollback()  # Alembic keeps its hands off the transaction of a connection that is in one already
        yield MigrationContext.configure(connection=alchemy, opts={**_OPTIONS, **options})


def _with_retries(work: Callable[[], Done], report: Report, sleep: Callable[[float], None]) -> Done:
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            return work()
        except psycopg.errors.LockNotAvailable as error:
            if attempt == LOCK_ATTEMPTS:
                raise MigrationBusyError(
                    f"a table stayed locked through {LOCK_ATTEMPTS} tries of {LOCK_TIMEOUT_SECONDS:g} s "
                    f"({error.diag.message_primary}); what was applied before stays: end the long transaction "
                    "(see pg_stat_activity) and migrate again"
                ) from error
            report(f"a table is busy, trying again ({attempt} of {LOCK_ATTEMPTS})")
            sleep(min(5.0, 0.2 * 2**attempt))
    raise AssertionError("unreachable")

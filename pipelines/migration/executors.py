"""How one revision is carried out: on a live connection, or as SQL text for a dry run.

Online, a revision, its record and (downwards) its ledger entry are one transaction. A revision marked
`transaction: none` runs statement by statement instead and is recorded afterwards: it must bear a second run.
"""

import re
import time
from collections.abc import Callable, Iterator

import psycopg
from alembic.runtime.migration import MigrationContext
from psycopg import Connection, sql

from pipelines.migration.errors import DownRefusedError, RevisionFailedError
from pipelines.migration.revisions import RevisionFile, SqlRevision
from pipelines.migration.statements import split_statements
from resources.sql import Queries

_SQL = Queries.of("pipelines.migration")
_CONCURRENT_INDEX = re.compile(
    r"\s*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?\"?(\w+)\"?\s+on\s",
    re.IGNORECASE,
)

AnyConnection = Connection[tuple[object, ...]]


class OnlineExecutor:
    """Runs revisions on `connection`, which is the one under Alembic's context."""

    def __init__(
        self,
        context: MigrationContext,
        connection: AnyConnection,
        report: Callable[[str], None],
        done: list[str],
    ) -> None:
        self._context = context
        self._connection = connection
        self._report = report
        self._done = done

    def run(self, revision: SqlRevision, direction: str) -> None:
        """Carry out one direction of a revision and record it. Raises `RevisionFailedError` with file and line."""
        file = file_of(revision)
        self._report(f"{'applying' if direction == 'up' else 'undoing'} {revision.revision}: {file.title}")
        started = time.monotonic()
        body, first_line = body_of(file, direction)
        if file.is_transactional:
            self._run_whole(file, body, first_line)
        else:
            with self._context.autocommit_block():
                self._run_each(file, body, first_line)
        for statement in records(file, direction, duration_ms=round((time.monotonic() - started) * 1000)):
            self._connection.execute(statement)
        self._connection.execute(_SQL["guard_version_table"])
        self._done.append(revision.revision)

    def _run_whole(self, file: RevisionFile, body: str, first_line: int) -> None:
        try:
            self._connection.execute(body.encode())
        except psycopg.errors.LockNotAvailable:
            raise
        except psycopg.Error as error:
            if self._connection.closed:
                raise  # the server went away: no fault of the file
            position = error.diag.statement_position
            line = first_line + body.count("\n", 0, int(position) - 1) if position else None
            raise _failure(file, line, error) from error

    def _run_each(self, file: RevisionFile, body: str, first_line: int) -> None:
        for statement, line in split_statements(body):
            try:
                self._drop_invalid_index(statement)
                self._connection.execute(statement.encode())
            except psycopg.errors.LockNotAvailable:
                raise
            except psycopg.Error as error:
                if self._connection.closed:
                    raise
                raise _failure(file, first_line + line, error) from error

    def _drop_invalid_index(self, statement: str) -> None:
        match = _CONCURRENT_INDEX.match(statement)
        if not match:
            return
        for (name,) in self._connection.execute(_SQL["invalid_index"], {"name": match[1]}).fetchall():
            self._report(f"index {name} was left half-built by an interrupted run; building it again")
            schema_and_name = str(name).split(".")
            self._connection.execute(
                sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(*schema_and_name))
            )


class OfflineExecutor:
    """Writes what `OnlineExecutor` would run into Alembic's output."""

    def __init__(self, context: MigrationContext) -> None:
        self._context = context
        self.done: list[str] = []

    def run(self, revision: SqlRevision, direction: str) -> None:
        """Write one direction of a revision, its record included."""
        file = file_of(revision)
        write = self._context.impl.static_output
        write(f"-- {revision.revision}: {file.title} ({file.path.name}, {direction})")
        body, _ = body_of(file, direction)
        if file.is_transactional:
            write(body.strip())
        else:
            with self._context.autocommit_block():
                write(body.strip())
        for statement in records(file, direction, duration_ms=0):
            write(statement.as_string(None) + "")
        self.done.append(revision.revision)


def file_of(revision: SqlRevision) -> RevisionFile:
    """The file of a revision; without it nothing can be run."""
    if revision.file is None:
        raise DownRefusedError(
            f"undoing reaches {revision.revision}, whose system {revision.system!r} is not among the folders; "
            "name its folder in LONGBOX_SYSTEMS and try again"
        )
    return revision.file


def body_of(file: RevisionFile, direction: str) -> tuple[str, int]:
    """The SQL of one direction and the line of the file it starts in."""
    if direction == "up":
        return file.up, file.up_line
    if file.down is None:
        raise DownRefusedError(
            f"{file.path} has no `-- migrate: down` section, so {file.revision} cannot be undone; "
            "restore a backup from before it, or write a new revision that takes the change back"
        )
    return file.down, file.down_line


def records(file: RevisionFile, direction: str, *, duration_ms: int) -> Iterator[sql.Composed]:
    """The statements that remember, or forget and ledger, one revision."""
    parts = {
        "revision": file.revision,
        "system": file.system,
        "number": file.number,
        "title": file.title,
        "file_name": file.path.name,
        "sha256": file.sha256,
        "depends": list(file.depends),
        "duration_ms": duration_ms,
    }
    literals = {name: sql.Literal(value) for name, value in parts.items()}
    if direction == "up":
        yield _SQL.compose("record", **literals)
        return
    yield _SQL.compose("forget", revision=literals["revision"])
    yield _SQL.compose("ledger_down", **{name: literals[name] for name in ("system", "revision", "sha256")})


def _failure(file: RevisionFile, line: int | None, error: psycopg.Error) -> RevisionFailedError:
    place = f"{file.path}:{line}" if line else str(file.path)
    more = "".join(f" ({text})" for text in (error.diag.message_detail, error.diag.message_hint) if text)
    kept = (
        "nothing of it was kept"
        if file.is_transactional
        else "what ran before it stays, and is run again next time"
    )
    return RevisionFailedError(
        f"{place}: revision {file.revision} failed: {error.diag.message_primary or error}{more}; "
        f"{kept}. Mend the file and migrate again",
        revision=file.revision,
        path=file.path,
        line=line,
    )

"""How far the work on a table is, kept in the database: whoever continues after a kill reads it there.

One row a table in the work schema, changed in the transaction of the step that it records.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import sql

from pipelines.adoption.errors import TableBusyError
from pipelines.adoption.facts import AnyConnection, Facts, Target, copied_columns
from pipelines.adoption.twin import listed
from pipelines.catalog.lock_waits import lock_timeout_ms
from pipelines.catalog.model import PartitionUnit
from resources.errors import DatabaseUnavailableError
from resources.setting_values import without_secret
from resources.sql import Queries

COPYING, COPIED, VERIFIED, SWITCHED = "copying", "copied", "verified", "switched"
HOLD_MS = 5_000  # PostgreSQL itself ends a switch that holds its locks for longer
ATTEMPTS = 30
Done = TypeVar("Done")
_SQL = Queries.of("pipelines.adoption")
_PASSING = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.QueryCanceled,
)


@dataclass(frozen=True)
class Job:
    """The carrying over of one table. `copied_to` is the key of the last row copied; `proof` the last verdict."""

    target: Target
    phase: str
    time: str
    time_type: str
    unit: PartitionUnit
    owner: str
    key: tuple[str, ...]
    key_types: tuple[str, ...]
    columns: tuple[str, ...]
    signature: list[list[object]]
    copied_to: tuple[str, ...] | None = None
    copied_rows: int = 0
    proof: dict[str, Any] | None = None

    @classmethod
    def begin(
        cls, target: Target, facts: Facts, time: str, unit: PartitionUnit, signature: list[list[object]]
    ) -> Self:
        """A job that has copied nothing yet."""
        types = {column["name"]: column["type"] for column in facts["columns"]}
        return cls(
            target, COPYING, time, types[time], unit, facts["owner"], tuple(facts["key"]),
            tuple(types[name] for name in facts["key"]), tuple(copied_columns(facts)), signature,
        )  # fmt: skip

    @classmethod
    def read(cls, connection: AnyConnection, target: Target) -> Self | None:
        """The job of `target`, or None when none is under way."""
        exists = connection.execute(_SQL["job_table_exists"], {"schema": target.work_schema}).fetchone()
        if not exists or not exists[0]:
            return None
        row = connection.execute(
            _SQL.compose("read_job", jobs=target.jobs), {"table": target.table}
        ).fetchone()
        if row is None:
            return None
        fields = cast("dict[str, Any]", row[0])
        for name in ("key", "key_types", "columns", "copied_to"):
            fields[name] = None if fields[name] is None else tuple(fields[name])
        return cls(**{**fields, "target": target})

    def save(self, connection: AnyConnection, **changes: object) -> Self:
        """Record `changes` in the caller's transaction; returns the job as it is then."""
        changed = replace(self, **changes)  # type: ignore[arg-type]
        fields = {name: value for name, value in asdict(changed).items() if name != "target"}
        connection.execute(
            _SQL.compose("save_job", jobs=self.target.jobs),
            {"table": self.target.table, "job": json.dumps(fields)},
        )
        return changed

    @property
    def source(self) -> sql.Identifier:
        """The table that applications use: the plain one before the switch, the partitioned one after it."""
        return self.target.public

    @property
    def other_schema(self) -> str:
        """Where the table is that is kept in step."""
        return self.target.old_schema if self.phase == SWITCHED else self.target.work_schema

    @property
    def other(self) -> sql.Identifier:
        """The table that is kept in step."""
        return sql.Identifier(self.other_schema, self.target.table)

    @property
    def period(self) -> sql.Composed:
        """The first day of a row's partition, in UTC."""
        column: sql.Composable = sql.Identifier(self.time)
        if self.time_type.endswith("with time zone"):
            column = sql.SQL("({} AT TIME ZONE 'UTC')").format(column)
        return sql.SQL("date_trunc({}, {}::timestamp)::date").format(sql.Literal(self.unit), column)

    def parts(self) -> dict[str, sql.Composable]:
        """The identifiers that most statements need."""
        key = list(self.key)
        return {
            "source": self.source,
            "target": self.other,
            "marks": self.target.marks,
            "columns": listed(list(self.columns)),
            "keys": listed(key),
            "same_key": sql.SQL("({}) = ({})").format(listed(key, "m"), listed(key, "t")),
            "period": self.period,
        }

    def values(self, key: Sequence[str]) -> sql.Composed:
        """A key that was read as text, typed again."""
        return sql.SQL(", ").join(
            sql.SQL("{}::{}").format(sql.Literal(text), sql.SQL(kind))
            for text, kind in zip(key, self.key_types, strict=True)
        )


@contextlib.contextmanager
def open_connection(url: str, application_name: str = "longbox partition") -> Iterator[AnyConnection]:
    """A connection of the step's own, in UTC, each transaction under one snapshot."""
    try:
        connection = psycopg.connect(
            url,
            application_name=application_name,
            connect_timeout=10,
            options="-c timezone=UTC -c datestyle=ISO -c idle_in_transaction_session_timeout=0",
        )
    except psycopg.OperationalError as error:
        said = " ".join(without_secret(str(error), url).split())
        raise DatabaseUnavailableError(
            f"PostgreSQL did not accept a connection ({said}); check the URL"
        ) from error
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with contextlib.closing(connection):
        yield connection


def in_short_transaction(
    connection: AnyConnection,
    target: Target,
    work: Callable[[], Done],
    sleep: Callable[[float], None] = time.sleep,
    between: Callable[[], None] = lambda: None,
) -> Done:
    """Run `work` as one transaction that waits shortly for a lock and holds none for longer than `HOLD_MS`.

    Refused, it lets go, does `between`, waits a little longer each time and tries again; after `ATTEMPTS` tries it
    raises `TableBusyError` naming who is in the way.
    """
    for attempt in range(1, ATTEMPTS + 1):
        with connection.transaction():
            patience = lock_timeout_ms(connection, attempt)
        try:
            with connection.transaction():
                # SET, not set_config(): a query would take the transaction's snapshot before the lock is held
                connection.execute(f"SET LOCAL lock_timeout = {patience}".encode())
                connection.execute(f"SET LOCAL statement_timeout = {HOLD_MS}".encode())
                return work()
        except _PASSING as error:
            if attempt == ATTEMPTS:
                raise TableBusyError(_busy(connection, target, error)) from error
        between()
        sleep(min(2.0, 0.05 * 1.5**attempt))
    raise AssertionError("unreachable")


def _busy(connection: AnyConnection, target: Target, error: psycopg.Error) -> str:
    with connection.transaction():
        rows = connection.execute(
            _SQL["blockers"], {"schema": target.schema, "table": target.table}
        ).fetchall()
    who = "; ".join(f"process {pid} ({name}, {state})" for pid, name, state in rows) or "nobody any more"
    return (
        f"{target.name} stayed locked in {ATTEMPTS} tries ({error.diag.message_primary}); it is held by {who}: "
        "let it end and ask again, nothing was changed"
    )

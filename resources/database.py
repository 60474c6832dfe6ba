"""PostgreSQL as Longbox uses it: one lazily opened pool a role, checked connections, named time-outs.

Every connection speaks UTC and UTF-8, carries an `application_name`, and works as one of Longbox's own roles
(`longbox_app` unless said otherwise), whatever user the URL logs in as. Driver errors that mean
"the server is away" are translated here and nowhere else. No SQL of a stage belongs here.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Self

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolTimeout

from resources.errors import (
    DatabaseBusyError,
    DatabaseLimitError,
    DatabaseUnavailableError,
    OutcomeUnknownError,
)
from resources.setting_values import without_secret

# The pool warns at every attempt; what is wrong is told once, in the error that ends the waiting.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

Connection = psycopg.Connection[tuple[object, ...]]

APP_ROLE = "longbox_app"
OWNER_ROLE = "longbox_owner"
READER_ROLE = "longbox_reader"

# What a statement means must not depend on PGCLIENTENCODING, nor on what ALTER ROLE or ALTER DATABASE say: texts would
# be stored in another encoding than they were sent in, and a lock taken after the snapshot would protect nothing.
_ENCODING = "UTF8"
_OPTIONS = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c standard_conforming_strings=on"
_SESSION = {
    "default_transaction_isolation": "read committed", "array_nulls": "on", "bytea_output": "hex",
    "extra_float_digits": "1", "transform_null_equals": "off", "quote_all_identifiers": "off",
}  # fmt: skip


class Database:
    """A pool of connections to one PostgreSQL server, all working as one role.

    Safe to share between threads. Nothing is opened until the first `connection()`.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str | None = APP_ROLE,
        application_name: str = "longbox",
        max_size: int = 10,
        connect_timeout_seconds: float = 10.0,
    ) -> None:
        self._url = url
        self.role = role
        self._application_name = application_name
        self._max_size = max_size
        self._connect_timeout_seconds = connect_timeout_seconds
        self._pool: ConnectionPool[Connection] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Database(role={self.role!r}, application_name={self._application_name!r})"

    def as_role(self, role: str | None) -> "Database":
        """The same server as another role, with a pool of its own that the caller closes."""
        return Database(
            self._url,
            role=role,
            application_name=self._application_name,
            max_size=self._max_size,
            connect_timeout_seconds=self._connect_timeout_seconds,
        )

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection as one transaction: committed on a clean exit, rolled back on an error.

        Raises `DatabaseUnavailableError` when the server is away before or during the work, and
        `OutcomeUnknownError` when the connection was lost while COMMIT was being answered.
        """
        pool = self._open_pool()
        try:
            connection = pool.getconn(timeout=self._connect_timeout_seconds)
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise DatabaseUnavailableError(
                f"PostgreSQL did not accept a connection within {self._connect_timeout_seconds:g} s "
                f"({self._reason(error)}); "
                "check that it runs and that LONGBOX_POSTGRES_URL is right (`longbox status`)"
            ) from error
        try:
            yield from _one_transaction(connection)
        finally:
            pool.putconn(connection)

    @contextlib.contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection of its own for long work outside any transaction (autocommit), closed at the end.

        Session-level locks and temporary replication slots live as long as it. Raises `DatabaseUnavailableError`, also
        when the server goes away during the work.
        """
        try:
            connection = psycopg.connect(
                self._url,
                autocommit=True,
                application_name=self._application_name,
                connect_timeout=max(2, int(self._connect_timeout_seconds)),
                client_encoding=_ENCODING,
                options=_OPTIONS,
            )
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError(
                f"PostgreSQL did not accept a connection ({without_secret(str(error), self._url).strip()}); "
                "check that it runs and that its URL is right (`longbox status`)"
            ) from error
        with connection:
            try:
                self._settle(connection)
                yield connection
            except psycopg.OperationalError as error:
                if not (connection.broken or connection.closed):
                    raise
                raise DatabaseUnavailableError(
                    f"PostgreSQL went away in the middle of the work ({error}); run it again"
                ) from error

    def close(self) -> None:
        """Close the pool. The next `connection()` opens a new one."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_pool(self) -> "ConnectionPool[Connection]":
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._url,
                    min_size=0,
                    max_size=self._max_size,
                    open=True,
                    configure=self._configure,
                    check=ConnectionPool.check_connection,
                    max_idle=900.0,
                    reconnect_timeout=self._connect_timeout_seconds,
                    kwargs={
                        "application_name": self._application_name,
                        "connect_timeout": max(2, int(self._connect_timeout_seconds)),
                        "client_encoding": _ENCODING,
                        "options": _OPTIONS,
                    },
                )
            return self._pool

    def _reason(self, error: Exception) -> str:
        """Why no connection was had: the pool only knows that it waited, one plain attempt knows more."""
        try:
            with psycopg.connect(self._url, connect_timeout=2) as connection:
                self._configure(connection)
        except psycopg.errors.InvalidParameterValue as refusal:  # the role does not exist
            return f"{refusal.diag.message_primary}; run `longbox migrate`"
        except psycopg.Error as refusal:
            return str(refusal).strip().split("\n", 1)[0]
        return str(error)

    def _configure(self, connection: Connection) -> None:
        self._settle(connection)
        connection.commit()

    def _settle(self, connection: Connection) -> None:
        """Give a new connection its role, and the settings that statements rely on; one round trip."""
        wanted = [
            sql.SQL("SET SESSION {} = {}").format(sql.Identifier(name), value)
            for name, value in _SESSION.items()
        ]
        if self.role is not None:
            wanted.append(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role)))
        connection.execute(sql.SQL("; ").join(wanted))


def _one_transaction(connection: Connection) -> Iterator[Connection]:
    try:
        yield connection
    except psycopg.errors.ProgramLimitExceeded as error:
        connection.rollback()
        raise DatabaseLimitError(
            f"PostgreSQL cannot hold it ({error}); nothing of it was kept, and trying again will not help: a text that "
            "is part of an index, a key or an aggregate's `by` has at most some 2,700 bytes; put `max_length` under "
            "`rules` of its feed, and correct the rows that are there"
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        connection.rollback()
        raise DatabaseLimitError(
            f"PostgreSQL takes no writes ({error}); if it is a replica, name the primary in LONGBOX_POSTGRES_URL, "
            "else see default_transaction_read_only of the login and the database"
        ) from error
    except psycopg.OperationalError as error:
        if connection.broken or connection.closed:
            raise DatabaseUnavailableError(
                f"PostgreSQL went away in the middle of a transaction ({error}); nothing of it was kept, run it again"
            ) from error
        connection.rollback()
        if isinstance(error, psycopg.errors.DiskFull):
            raise DatabaseBusyError(
                f"PostgreSQL has no room left on its disk ({error}); nothing of it was kept: make room there, then "
                "run it again"
            ) from error
        raise DatabaseBusyError(
            f"PostgreSQL could not do the work ({type(error).__name__}: {error}); nothing of it was kept, "
            "run it again, and see `longbox status` if it stays so"
        ) from error
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise
    try:
        connection.commit()
    except psycopg.OperationalError as error:
        raise OutcomeUnknownError(
            f"PostgreSQL went away while a COMMIT was being answered ({error}); it may have happened, "
            "running the same again is safe and shows it"
        ) from error

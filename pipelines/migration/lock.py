"""One migrator at a time in a database: a session advisory lock, asked for again and again, never waited for.

Two databases of one cluster do not hold each other up. The lock goes with the session, so a killed migrator
leaves none behind. https://www.postgresql.org/docs/18/explicit-locking.html#ADVISORY-LOCKS
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from psycopg import Connection

from pipelines.migration.errors import MigrationBusyError
from resources.sql import Queries

LOCK_KEY = int.from_bytes(b"longbox", "big")
_POLL_SECONDS = 0.1
_SQL = Queries.of("pipelines.migration")


@contextlib.contextmanager
def migration_lock(
    connection: Connection[tuple[object, ...]],
    sleep: Callable[[float], None],
    wait_seconds: float,
    report: Callable[[str], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Hold the lock of this database. Raises `MigrationBusyError` after `wait_seconds` of another holding it."""
    deadline = monotonic() + wait_seconds
    is_told = False
    while not _try(connection):
        holder = _holder(connection)
        if monotonic() >= deadline:
            raise MigrationBusyError(
                f"another migration ({holder}) still runs after {wait_seconds:g} s of waiting; "
                "let it finish and migrate again"
            )
        if not is_told:
            report(f"another migration runs ({holder}); waiting up to {wait_seconds:g} s for it")
            is_told = True
        sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if not connection.closed and not connection.broken:
            connection.rollback()
            connection.execute(_SQL["unlock"], {"key": LOCK_KEY})
            connection.commit()


def _try(connection: Connection[tuple[object, ...]]) -> bool:
    row = connection.execute(_SQL["try_lock"], {"key": LOCK_KEY}).fetchone()
    connection.commit()  # keep no snapshot between two tries
    return bool(row and row[0])


def _holder(connection: Connection[tuple[object, ...]]) -> str:
    row = connection.execute(_SQL["lock_holder"], {"key": LOCK_KEY}).fetchone()
    connection.commit()
    return (
        f"process {row[0]}, {row[1]!r} from {row[2]}, since {row[3]:%H:%M:%S} UTC" if row else "just ending"
    )

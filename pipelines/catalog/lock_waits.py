"""How long to wait for a lock of a table that others work on, and queue behind whoever waits for it.

A vacuum that PostgreSQL began by itself gives way, but only to who has waited for `deadlock_timeout`; on a large table
it would outlast any number of shorter waits. https://www.postgresql.org/docs/18/routine-vacuuming.html#AUTOVACUUM
"""

from psycopg import Connection

LOCK_TIMEOUT_MS = 500  # long enough for an ordinary moment, short enough for those who queue behind us
PATIENT_EVERY = 4  # tries, one waits until such a vacuum gives way


def lock_timeout_ms(connection: Connection[tuple[object, ...]], attempt: int) -> int:
    """The `lock_timeout` of try number `attempt`, from 1. A query where the try is a patient one."""
    if attempt % PATIENT_EVERY:
        return LOCK_TIMEOUT_MS
    row = connection.execute(
        "SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'"
    ).fetchone()
    assert row is not None, "every server has this setting"
    return int(str(row[0])) + LOCK_TIMEOUT_MS

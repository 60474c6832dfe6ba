"""A shop whose orders are written all the time, and a shadow table that every write goes to as well: the truth.

For tests that change the table under the writers. A writer that waits longer for a lock than `LOCK_TIMEOUT` fails
its test; PostgreSQL itself measures that.
"""

import contextlib
import random
import threading
from collections.abc import Iterator

import psycopg

from tests.integration.migration_support import execute, value

LOCK_TIMEOUT = "8s"
SCHEMA = """
CREATE SCHEMA shop;
CREATE ROLE {role} NOLOGIN;
CREATE TABLE shop.users (id bigint PRIMARY KEY);
INSERT INTO shop.users SELECT generate_series(1, 40);
CREATE TABLE shop.orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id bigint NOT NULL CONSTRAINT orders_user REFERENCES shop.users ON DELETE CASCADE,
  number bigserial,
  placed_at timestamptz NOT NULL DEFAULT now(),
  total numeric CHECK (total >= 0),
  twice numeric GENERATED ALWAYS AS (total * 2) STORED,
  note text DEFAULT 'none',
  UNIQUE (number, placed_at));
CREATE INDEX orders_by_note ON shop.orders (lower(note) DESC) WHERE note IS NOT NULL;
COMMENT ON TABLE shop.orders IS 'One order';
COMMENT ON COLUMN shop.orders.note IS 'What the customer said';
GRANT USAGE ON SCHEMA shop TO {role};
GRANT SELECT ON shop.orders TO {role};
GRANT UPDATE (note) ON shop.orders TO {role};
CREATE VIEW shop.large WITH (security_barrier=true) AS SELECT id, total FROM shop.orders WHERE total > 500;
GRANT SELECT ON shop.large TO {role};
INSERT INTO shop.orders (user_id, placed_at, total)
  SELECT 1 + n % 40, '2026-01-01'::timestamptz + n * interval '365 days' / {rows}, n % 1000
  FROM generate_series(1, {rows}) n;
CREATE TABLE shop.shadow (id bigint PRIMARY KEY, placed_at timestamptz, total numeric, note text);
INSERT INTO shop.shadow SELECT id, placed_at, total, note FROM shop.orders;
"""
_DIFFERENCE = """
SELECT count(*) FROM (
  (SELECT id, placed_at, total, note FROM {table} EXCEPT ALL SELECT * FROM shop.shadow) UNION ALL
  (SELECT * FROM shop.shadow EXCEPT ALL SELECT id, placed_at, total, note FROM {table})) AS different
"""


def open_shop(url: str, rows: int = 3000) -> str:
    """Make the shop; returns the name of a role of this database's own that has rights on it."""
    role = "clerk_of_" + url.rsplit("/", 1)[-1]
    execute(url, f"DROP ROLE IF EXISTS {role}")
    execute(url, SCHEMA.format(rows=rows, role=role))
    return role


def difference(url: str, table: str = "shop.orders") -> object:
    """How many rows of `table` are not in the shadow, or the other way round: lost, doubled or stale ones."""
    return value(url, _DIFFERENCE.format(table=table))


def is_partitioned(url: str) -> bool:
    return value(url, "SELECT relkind = 'p' FROM pg_class WHERE oid = 'shop.orders'::regclass") is True


class Writers:
    """Threads that insert, change, move in time, and delete, and tell the shadow in the same transaction."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._seed = seed
        self._stop = threading.Event()
        self.faults: list[BaseException] = []
        self.done = 0
        self._lock = threading.Lock()

    def run(self, number: int) -> None:
        chance = random.Random(self._seed + number)
        isolation = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ][
            number % 2
        ]
        try:
            with psycopg.connect(self._url, options=f"-c lock_timeout={LOCK_TIMEOUT}") as connection:
                connection.isolation_level = isolation
                while not self._stop.is_set():
                    self._write(connection, chance)
                    with self._lock:
                        self.done += 1
        except BaseException as error:
            self.faults.append(error)

    def _write(self, connection: "psycopg.Connection[tuple[object, ...]]", chance: random.Random) -> None:
        try:
            with connection.transaction():
                # before the first snapshot, as PostgreSQL advises for REPEATABLE READ
                connection.execute("LOCK TABLE shop.orders IN ROW EXCLUSIVE MODE")
                for _ in range(chance.randint(1, 3)):
                    _write_once(connection, chance)
                if chance.random() < 0.1:
                    raise psycopg.Rollback
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            return

    def wait_for(self, more: int) -> None:
        """Until `more` further transactions were done, or a writer failed."""
        wanted = self.done + more
        event = threading.Event()
        for _ in range(3000):
            if self.done >= wanted or self.faults:
                return
            event.wait(0.02)
        raise AssertionError("the writers did not get on within 60 s")

    def stop(self) -> None:
        self._stop.set()


def _write_once(connection: "psycopg.Connection[tuple[object, ...]]", chance: random.Random) -> None:
    kind = chance.random()
    at = f"2026-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d} 12:00+00"
    if kind < 0.5:
        connection.execute(
            "WITH made AS (INSERT INTO shop.orders (user_id, placed_at, total) VALUES (%s, %s, %s) RETURNING *)"
            " INSERT INTO shop.shadow SELECT id, placed_at, total, note FROM made",
            [chance.randint(1, 30), at, chance.randint(0, 999)],
        )
        return
    row = connection.execute(
        "SELECT id FROM shop.orders WHERE id >= %s ORDER BY id LIMIT 1 FOR UPDATE", [chance.randint(1, 3000)]
    ).fetchone()
    if row is None:
        return
    changes = {
        0.7: "UPDATE {} SET note = %(text)s WHERE id = %(id)s",
        0.85: "UPDATE {} SET placed_at = %(at)s WHERE id = %(id)s",
    }
    statement = next(
        (text for below, text in changes.items() if kind < below), "DELETE FROM {} WHERE id = %(id)s"
    )
    values = {"id": row[0], "at": at, "text": f"n{chance.random()}"}
    for table in ("shop.orders", "shop.shadow"):
        connection.execute(statement.format(table), values)


@contextlib.contextmanager
def writing(url: str, *, writers: int = 2, seed: int = 1) -> Iterator[Writers]:
    """Writers for the length of a block; none of them may have failed."""
    team = Writers(url, seed)
    threads = [threading.Thread(target=team.run, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    try:
        team.wait_for(10)
        yield team
    finally:
        team.stop()
        for thread in threads:
            thread.join(60)
    assert team.faults == []

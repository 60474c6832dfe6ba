"""A writer that knows what it committed: changes rows without pause and keeps the truth outside of the cluster.

    python -m tests.faults.truth_writer URL LOG SEED
Every transaction adds, changes or removes rows of `journal` and counts itself in `commits`. Afterwards a line of LOG
says between which two readings of the server's clock it was committed, its number, and the digest of all rows by then:
the sum of their hashes, which is kept without reading them. `truth_of` computes the same from a restored database.
"""

import bisect
import hashlib
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

TABLES = (
    "CREATE TABLE public.journal (id bigint PRIMARY KEY, body text NOT NULL)",
    "CREATE TABLE public.commits (number bigint NOT NULL)",
    "INSERT INTO public.commits VALUES (0)",
)
_PAUSE_SECONDS = 0.02
_MODULUS = 1 << 128


@dataclass(frozen=True)
class State:
    """Number of the last commit, rows, and the digest of all rows."""

    number: int
    rows: int
    digest: int


@dataclass(frozen=True)
class Commit:
    """A state and when it came about: committed after `began` and before `ended`, in seconds of the server's clock."""

    began: float
    ended: float
    state: State


def hash_of(row_id: int, body: str) -> int:
    """The part of one row in the digest."""
    return int.from_bytes(hashlib.blake2b(f"{row_id}:{body}".encode(), digest_size=16).digest())


def truth_of(url: str) -> State:
    """What a database holds, computed from its rows."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT number FROM public.commits").fetchone()
        assert row is not None
        rows = connection.execute("SELECT id, body FROM public.journal").fetchall()
    return State(row[0], len(rows), sum(hash_of(*row) for row in rows) % _MODULUS)


def read_log(path: Path) -> list[Commit]:
    """Every whole line."""
    lines = path.read_text(encoding="ascii").split("\n")[:-1]
    found = []
    for line in lines:
        began, ended, number, rows, digest = line.split()
        found.append(Commit(float(began), float(ended), State(int(number), int(rows), int(digest, 16))))
    return found


def states_at(log: list[Commit], moment: float) -> list[State]:
    """What may be true at a moment: one state, or two where a commit was just under way."""
    after = bisect.bisect_left(log, moment, key=lambda commit: commit.ended)
    found = [log[after - 1].state] if after else []
    if after < len(log) and log[after].began <= moment:
        found.append(log[after].state)
    return found


def write(url: str, path: Path, seed: int) -> None:
    """Until it is ended."""
    random_source, rows, digest = random.Random(seed), dict[int, str](), 0
    with psycopg.connect(url, autocommit=True) as connection, path.open("a", encoding="ascii") as log:
        for number in range(1, sys.maxsize):
            began = clock(connection)
            with connection.transaction():
                digest = (digest + change(connection, random_source, rows, number)) % _MODULUS
                connection.execute("UPDATE public.commits SET number = %s", [number])
            log.write(f"{began:.6f} {clock(connection):.6f} {number} {len(rows)} {digest:032x}\n")
            log.flush()
            time.sleep(_PAUSE_SECONDS * random_source.random())


def change(
    connection: psycopg.Connection[tuple[object, ...]],
    random_source: random.Random,
    rows: dict[int, str],
    number: int,
) -> int:
    """Change some rows; returns by how much the digest of all changes."""
    difference = 0
    for place in range(random_source.randrange(1, 4)):
        act = random_source.random()
        body = f"{random_source.getrandbits(800):x}"
        if act < 0.6 or not rows:
            row_id = number * 10 + place
            connection.execute("INSERT INTO public.journal VALUES (%s, %s)", [row_id, body])
        else:
            row_id = random_source.choice(list(rows))
            difference -= hash_of(row_id, rows.pop(row_id))
            if act < 0.85:
                connection.execute("UPDATE public.journal SET body = %s WHERE id = %s", [body, row_id])
            else:
                connection.execute("DELETE FROM public.journal WHERE id = %s", [row_id])
                continue
        rows[row_id] = body
        difference += hash_of(row_id, body)
    return difference


def clock(connection: psycopg.Connection[tuple[object, ...]]) -> float:
    """The server's clock in seconds, exact to the microsecond."""
    row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
    assert row is not None and isinstance(row[0], int)
    return row[0] / 1e6


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

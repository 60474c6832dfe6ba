"""Who may write a derived table: advisory locks of PostgreSQL, held until the transaction ends, across all processes.

A table (`system.table`) is written as a whole by one, or in `PARTS` parts by one each, what a part is being up to the
writer. Who needs it to stand still shares it with others of that kind. Several are always taken in the order in which
rows go from table to table, parts by number, so that nobody waits in a circle.
https://www.postgresql.org/docs/18/explicit-locking.html#ADVISORY-LOCKS
"""

from resources.database import Connection
from resources.sql import Queries

PARTS = 2  # as many as the smallest machine has cores; each costs a batch all of its statements once more
_QUERIES = Queries.of("pipelines.normalisation")


def lock_relation(connection: Connection, relation: str) -> None:
    """Wait to be the only writer of a derived table (`system.table`)."""
    connection.execute(_QUERIES["lock_relation"], {"relation": relation})


def lock_part(connection: Connection, relation: str, number: int) -> None:
    """Wait to be the only writer of a part (0..PARTS-1) of a derived table."""
    _share(connection, relation)
    lock_relation(connection, _part(relation, number))


def share_relation(connection: Connection, relation: str) -> None:
    """Wait until nobody writes a derived table, or any part of it, and keep it so."""
    for name in (relation, *(_part(relation, number) for number in range(PARTS))):
        _share(connection, name)


def _share(connection: Connection, name: str) -> None:
    connection.execute(_QUERIES["share_relation"], {"relation": name})


def _part(relation: str, number: int) -> str:
    return f"{relation} part {number} of {PARTS}"

"""Acts of backups in `longbox.ledger`, and whether its chain is whole.

A trigger links each entry to the one before (migration 0004): a changed or removed entry breaks the chain, and a
removed end shows against the heads that are kept in the store (`truth`).
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from psycopg.types.json import Jsonb

from resources.database import Connection, Database
from resources.sql import Queries

_SQL = Queries.of("pipelines.backup")


@dataclass(frozen=True)
class Head:
    """The newest entry: its position in the chain (0 in an empty ledger) and its hash, in hex."""

    position: int
    hash: str


class Ledger:
    """Writes the acts of one run about one cluster; each entry is a transaction of its own."""

    def __init__(self, database: Database, system_identifier: str, run_id: str | None = None) -> None:
        self._database, self.relation, self._run_id = database, f"cluster {system_identifier}", run_id

    def write(self, act: str, policy: str, proof: Mapping[str, Any], affected: int | None = None) -> None:
        """Add an entry. Raises `DatabaseUnavailableError`, `OutcomeUnknownError`."""
        entry = _entry(act, self.relation, policy, proof, affected, self._run_id)
        with self._database.connection() as connection:
            connection.execute(_SQL["ledger_entry"], entry)


def write_everywhere(
    connect: Callable[[str], contextlib.AbstractContextManager[Connection]],
    system_identifier: str,
    act: str,
    policy: str,
    proof: Mapping[str, Any],
) -> list[str]:
    """Add an entry to the ledger of every database of a server that has one; returns their names."""
    with connect("postgres") as connection:
        names = [str(row[0]) for row in connection.execute(_SQL["databases"])]
    told = []
    for name in names:
        with connect(name) as connection:
            row = connection.execute(_SQL["has_ledger"]).fetchone()
            if row and row[0]:
                connection.execute(
                    _SQL["ledger_entry"], _entry(act, f"cluster {system_identifier}", policy, proof)
                )
                told.append(name)
    return told


def _entry(
    act: str,
    relation: str,
    policy: str,
    proof: Mapping[str, Any],
    affected: int | None = None,
    run_id: str | None = None,
) -> dict[str, Any]:
    return {
        "act": act,
        "relation": relation,
        "policy": policy,
        "affected_rows": affected,
        "proof": Jsonb(dict(proof)),
        "run_id": run_id,
    }


def head(connection: Connection) -> Head:
    """The newest entry."""
    row = connection.execute(_SQL["ledger_head"]).fetchone()
    return Head(*cast("tuple[int, str]", row)) if row else Head(0, "")


def hash_at(connection: Connection, position: int) -> str | None:
    """The hash of one entry, None if there is none."""
    row = connection.execute(_SQL["ledger_hash_at"], {"position": position}).fetchone()
    return str(row[0]) if row else None


def faults(connection: Connection) -> list[str]:
    """Where the chain is broken."""
    return [
        f"longbox.ledger at {place}: {fault}" for place, fault in connection.execute(_SQL["ledger_faults"])
    ]

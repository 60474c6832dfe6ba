"""Witnesses: what the database held at a moment, kept in the store, outside of what is restored.

A witness holds digests of tables and the head of the ledger's chain, all of one snapshot. It is true of every moment
between it and a later witness that says the same: so a restore to any moment is compared without stopping writers, and
what changed in between is not compared. The ledger names every witness, hence a missing one shows.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

import psycopg
from psycopg import sql

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError
from pipelines.backup.ledger import Head, Ledger, head
from pipelines.backup.model import checked_json, read_checked_json
from pipelines.backup.repository import Repository
from resources.database import Connection, Database
from resources.sql import Queries

BUDGET_BYTES = 256 << 20
"""Heap bytes that one witness reads: some seconds. Which tables it reads changes from day to day."""
_SQL = Queries.of("pipelines.backup")
_NAME = re.compile(rf"{layout.TRUTH}/\d{{8}}T\d{{6}}\.\d{{6}}Z\.json")


@dataclass(frozen=True)
class TableTruth:
    """Rows of a table and the digest of their content."""

    rows: int
    digest: str


@dataclass(frozen=True)
class Truth:
    """One witness. Every commit before `began_at` is in it, and nothing committed after `ended_at`."""

    began_at: dt.datetime
    ended_at: dt.datetime
    system_identifier: str
    database: str
    ledger: Head
    tables: Mapping[tuple[str, str], TableTruth]

    @property
    def name(self) -> str:
        """Its object in the repository."""
        return layout.truth(self.ended_at)

    def to_json(self) -> bytes:
        """The object."""
        tables = [
            [schema, table, said.rows, said.digest] for (schema, table), said in sorted(self.tables.items())
        ]
        return checked_json(
            {
                "began_at": self.began_at,
                "ended_at": self.ended_at,
                "system_identifier": self.system_identifier,
                "database": self.database,
                "ledger": [self.ledger.position, self.ledger.hash],
                "tables": tables,
            }
        )

    @classmethod
    def from_json(cls, name: str, data: bytes) -> Self:
        """Read it. Raises `DamagedError`."""
        found = read_checked_json(name, data)
        try:
            tables = {
                (schema, table): TableTruth(rows, digest) for schema, table, rows, digest in found["tables"]
            }
            return cls(
                dt.datetime.fromisoformat(found["began_at"]),
                dt.datetime.fromisoformat(found["ended_at"]),
                found["system_identifier"],
                found["database"],
                Head(*found["ledger"]),
                tables,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{name} is no witness ({error})", [name]) from error


def record_truth(
    database: Database,
    repository: Repository,
    ledger: Ledger,
    tables: Collection[tuple[str, str]] | None = None,
) -> Truth:
    """Look at the database and put what it holds into the store, then name that in the ledger.

    Reads `tables`, or as many as `BUDGET_BYTES` allow. Takes ACCESS SHARE locks for that time. Raises what is told of
    a server or a store that is away; what a killed call left is an object that nobody names.
    """
    with database.session() as connection:
        found = look(connection, tables)
    data = found.to_json()
    repository.put(found.name, data)
    proof = {
        "name": found.name,
        "blake2b": _digest(data),
        "ledger_position": found.ledger.position,
        "ledger_hash": found.ledger.hash,
        "tables": len(found.tables),
    }
    ledger.write("witness", "what restores are compared with", proof)
    return found


def look(connection: Connection, tables: Collection[tuple[str, str]] | None = None) -> Truth:
    """What the database of `connection` (autocommit) holds now; writes nothing."""
    fix_output(connection)
    began_at, system, name = _clock(connection)
    with connection.transaction():
        connection.execute(_SQL["one_snapshot"])
        newest = head(connection)
        read = {one: table_truth(connection, *one) for one in _chosen(connection, tables)}
    present = {one: said for one, said in read.items() if said is not None}
    return Truth(began_at, _clock(connection)[0], system, name, newest, present)


def fix_output(connection: Connection) -> None:
    """Let rows of this session become the same text everywhere, whatever a role's or a database's settings are."""
    connection.execute(_SQL["fix_output"])


def table_truth(connection: Connection, schema: str, table: str) -> TableTruth | None:
    """Rows and digest of one table, None if it is not there (any more)."""
    query = _SQL.compose("table_truth", table=sql.Identifier(schema, table))
    try:
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return TableTruth(*cast("tuple[int, str]", row))


def named_witnesses(connection: Connection, relation: str) -> dict[str, str]:
    """Name and digest of each witness that the ledger of the live database knows."""
    rows = connection.execute(_SQL["ledgered_witnesses"], {"relation": relation}).fetchall()
    return {str(name): str(digest) for name, digest in rows}


def named_objects(connection: Connection, relation: str, store: str, since: dt.datetime) -> dict[str, str]:
    """What the ledger knows to have come into a store since a moment, with digests or an empty text."""
    asked = {"relation": relation, "store": store, "since": since}
    drills = connection.execute(_SQL["ledgered_drills"], {"relation": relation}).fetchall()
    backups = connection.execute(_SQL["ledgered_backups"], asked).fetchall()
    results = named_witnesses(connection, relation) | {str(name): str(digest) for name, digest in drills}
    return {name: digest for name, digest in results.items() if layout.moment_of(name) >= since} | {
        layout.record(str(backup_id)): "" for (backup_id,) in backups
    }


def read_witnesses(repository: Repository) -> tuple[list[Truth], dict[str, str]]:
    """Sound witnesses, oldest first, and the faults of the others by name."""
    sound, broken = [], {}
    for name in repository.all_names(layout.TRUTH):
        if _NAME.fullmatch(name):
            try:
                sound.append(read_witness(repository, name))
            except DamagedError as error:
                broken[name] = str(error)
    return sound, broken


def witness_names(repository: Repository, before: dt.datetime) -> list[str]:
    """Names of the witnesses of the first store that are older than `before`, oldest first."""
    limit = layout.truth(before)
    found = (info.path for info in repository.names(layout.TRUTH))
    return sorted(name for name in found if _NAME.fullmatch(name) and name < limit)


def system_of(connection: Connection) -> str:
    """The system identifier of the server."""
    return _clock(connection)[1]


def read_witness(repository: Repository, name: str, digest: str | None = None) -> Truth:
    """One witness, in whichever store it is whole (and the one that was recorded). Raises `DamagedError`."""

    def is_whole(data: bytes) -> None:
        Truth.from_json(name, data)
        if digest is not None and _digest(data) != digest:
            raise DamagedError(f"{name} is not the witness that the ledger names", [name])

    return Truth.from_json(name, repository.read(name, is_whole))


def expected(before: Truth, later: Sequence[Truth]) -> dict[tuple[str, str], TableTruth]:
    """Tables of which `before` and a later witness say the same: so they held at every moment between."""
    return {
        one: said
        for one, said in before.tables.items()
        if any(after.tables.get(one) == said for after in later)
    }


def _chosen(connection: Connection, tables: Collection[tuple[str, str]] | None) -> list[tuple[str, str]]:
    rows = cast("list[tuple[str, str, int]]", connection.execute(_SQL["tables"]).fetchall())
    if tables is not None:
        return [(schema, table) for schema, table, _ in rows if (schema, table) in tables]
    chosen, left = [], BUDGET_BYTES
    for schema, table, size_bytes in rows:
        # the ledger grows by its own witnesses; its chain says more than a digest
        if size_bytes <= left and (schema, table) != ("longbox", "ledger"):
            chosen.append((schema, table))
            left -= size_bytes
    return chosen


def _clock(connection: Connection) -> tuple[dt.datetime, str, str]:
    return cast("tuple[dt.datetime, str, str]", connection.execute(_SQL["truth_clock"]).fetchone())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()

"""The proof of promise 2 for a landing day: the accounts of its files against the rows that are in the table."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from psycopg import sql

from pipelines.catalog.model import Feed
from pipelines.ingestion.writer import QUERIES
from resources.database import Connection, Database


@dataclass(frozen=True)
class Reconciliation:
    """A day's account and, beside it, the rows and deletions counted in the tables. `problems`: empty when all agrees.

    A deletion that is accepted is a loaded row: loaded_rows = table_rows + tombstones.
    """

    landing_day: dt.date
    landed_rows: int
    loaded_rows: int
    duplicate_rows: int
    quarantined_rows: int
    table_rows: int
    tombstones: int
    problems: tuple[str, ...]
    file_faults: tuple[str, ...]


def accounted_days(connection: Connection, feed_id: int, days: Sequence[dt.date]) -> frozenset[dt.date]:
    """Those of `days` of which a file, or a row put aside, is kept. Of the others there is nothing to account for."""
    rows = connection.execute(QUERIES["days_with_accounts"], {"feed_id": feed_id, "days": list(days)})
    return frozenset(cast(dt.date, row[0]) for row in rows)


def reconcile_days(database: Database, feed: Feed, days: Sequence[dt.date]) -> list[Reconciliation]:
    """`reconcile` of those of `days` that have anything to reconcile, in order. Reads only."""
    with database.connection() as connection:
        accounted = accounted_days(connection, _feed_id(connection, feed), days)
    return [reconcile(database, feed, day) for day in days if day in accounted]


def reconcile(database: Database, feed: Feed, landing_day: dt.date) -> Reconciliation:
    """Check landed = loaded + duplicate + quarantined, and that the loaded rows are in the table. Reads only."""
    with database.connection() as connection:
        day = {"feed_id": _feed_id(connection, feed), "landing_day": landing_day}
        totals = cast(
            tuple[int, int, int, int],
            connection.execute(QUERIES["day_totals"], day).fetchone(),
        )
        table = sql.Identifier(feed.system, feed.table)
        counted = connection.execute(QUERIES.compose("raw_rows_of_day", table=table), day).fetchone()
        deleted = connection.execute(QUERIES["tombstones_of_day"], day).fetchone()
        open_rows = connection.execute(QUERIES["open_rows_of_day"], day).fetchone()
        faults = connection.execute(QUERIES["open_file_faults"], day).fetchall()
    landed, loaded, duplicate, quarantined = totals
    table_rows, kept = cast(tuple[int], counted)[0], cast(tuple[int], open_rows)[0]
    tombstones = cast(tuple[int], deleted)[0]
    problems = []
    if landed != loaded + duplicate + quarantined:
        problems.append(
            f"landed {landed} is not loaded {loaded} + duplicate {duplicate} + quarantined {quarantined}"
        )
    if table_rows + tombstones != loaded:
        problems.append(
            f"{loaded} rows were loaded, {feed.system}.{feed.table} has {table_rows} of them and longbox.tombstones "
            f"{tombstones}"
        )
    if kept != quarantined:
        problems.append(f"{quarantined} rows were quarantined, the quarantine keeps {kept} of them")
    return Reconciliation(
        landing_day, landed, loaded, duplicate, quarantined, table_rows, tombstones, tuple(problems),
        tuple(f"{name}: {reason}, {detail}" for name, reason, detail in faults),
    )  # fmt: skip


def _feed_id(connection: Connection, feed: Feed) -> int:
    row = connection.execute(QUERIES["feed_id"], {"system": feed.system, "feed": feed.name}).fetchone()
    return cast(tuple[int], row)[0]

"""Materialised views after their aggregates: refreshed concurrently, so that their readers are never blocked.

A concurrent refresh compares the new rows with the old ones by a unique index of the view and writes the difference.
https://www.postgresql.org/docs/18/sql-refreshmaterializedview.html
"""

import time
from dataclasses import dataclass
from typing import cast

from psycopg import sql

from pipelines.aggregation.job import QUERIES
from pipelines.catalog.views import view_state
from resources.database import Database
from resources.errors import UserError


@dataclass(frozen=True)
class ViewRefresh:
    """A materialised view that was refreshed, its rows and the seconds it took."""

    name: str
    rows: int
    seconds: float


def refresh_view(database: Database, system: str, name: str) -> ViewRefresh:
    """Refresh `system.name` from what its tables hold now, in one transaction. Idempotent; two at once take turns.

    Readers go on with the old rows until it commits. A view that was never filled is filled without `CONCURRENTLY`.
    Raises UserError when there is no such view, or when it has no unique index to compare rows by.
    """
    started = time.monotonic()
    view = sql.Identifier(system, name)
    with database.connection() as connection:
        state = view_state(connection, system, name)
        if state is None:
            raise UserError(f"there is no materialised view {system}.{name}; run `longbox migrate`")
        if not state.has_key:
            raise UserError(
                f"the materialised view {system}.{name} has no unique index over plain columns, and without one it "
                "cannot be refreshed without blocking its readers; add `CREATE UNIQUE INDEX` in a migration"
            )
        connection.execute(QUERIES["analyse_little"])
        connection.execute(QUERIES.compose("refresh_view" if state.is_filled else "fill_view", view=view))
        row = connection.execute(QUERIES.compose("count_view", view=view)).fetchone()
    return ViewRefresh(name, cast(tuple[int], row)[0], time.monotonic() - started)

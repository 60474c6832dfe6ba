"""Materialised views as they are in the database: whether one is there, filled, and can be refreshed concurrently.

https://www.postgresql.org/docs/18/sql-refreshmaterializedview.html
"""

from dataclasses import dataclass
from typing import cast

from resources.database import Connection
from resources.sql import Queries


@dataclass(frozen=True)
class ViewState:
    """`is_filled`: it was refreshed before. `has_key`: a unique index over plain columns covers all of its rows."""

    is_filled: bool
    has_key: bool


def view_state(connection: Connection, system: str, view: str) -> ViewState | None:
    """The state of the materialised view `system.view`; None when there is none of that name. Only reads."""
    query = Queries.of("pipelines.catalog")["view_state"]
    row = connection.execute(query, {"schema": system, "view": view}).fetchone()
    return None if row is None else ViewState(*cast("tuple[bool, bool]", row))

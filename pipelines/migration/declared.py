"""The seam to the catalogue: what systems declare in YAML, made after their revisions ran.

Nothing is decided here: tables and aggregates are `pipelines.catalog.ddl`'s, partitions
`pipelines.catalog.partitions`'.
"""

import datetime
from collections.abc import Callable

from psycopg import Connection

from pipelines.catalog.ddl import apply_declared_tables, declared_sql
from pipelines.catalog.model import Catalog
from pipelines.catalog.partitions import keep_ahead
from resources.database import OWNER_ROLE, Database


def apply_declared(connection: Connection[tuple[object, ...]], catalog: Catalog) -> tuple[str, ...]:
    """Make the tables and aggregates that YAML declares, or widen them; returns what was changed. Commits."""
    changed = apply_declared_tables(connection, catalog)
    connection.commit()
    return tuple(changed)


def plan_declared(connection: Connection[tuple[object, ...]], catalog: Catalog) -> list[str]:
    """The statements that `apply_declared` would run, on a database with every revision. Changes nothing."""
    return declared_sql(connection, catalog)


def keep_partitions_ahead(
    url: str, catalog: Catalog, now: datetime.datetime, *, sleep: Callable[[float], None]
) -> tuple[str, ...]:
    """Make the partitions of the near future as longbox_owner; returns their names."""
    with Database(url, role=OWNER_ROLE, application_name="longbox migrate", max_size=1) as owner:
        return keep_ahead(owner, catalog, now, sleep=sleep)

"""The planner's statistics after a load: autovacuum looks at a table once a minute and never at a partitioned parent.

A first load of 20,000 sales made the next stage's join a nested loop: 117 s instead of 8 s.
https://www.postgresql.org/docs/18/routine-vacuuming.html#VACUUM-FOR-STATISTICS
"""

from typing import cast

from psycopg import sql

from resources.database import Database
from resources.sql import Queries

CHANGED_RATIO = 0.1  # autovacuum_analyze_scale_factor's default


def refresh_statistics(database: Database, schema: str, table: str, *, rows_written: int) -> bool:
    """ANALYZE `schema.table` when `rows_written` is a tenth or more of what the planner knows of. Returns whether.

    Cheap when nothing is due: one catalogue query. Idempotent; the transaction is its own.
    """
    queries = Queries.of("pipelines.monitoring")
    with database.connection() as connection:
        name = {"table": f"{schema}.{table}"}
        row = connection.execute(queries["estimated_rows"], name).fetchone()
        known = cast("tuple[int]", row)[0] if row is not None else 0
        if not rows_written or rows_written < known * CHANGED_RATIO:
            return False
        connection.execute(queries.compose("analyse", table=sql.Identifier(schema, table)))
    return True

"""What of landing days a declared aggregate has taken in, kept in `longbox.taken_in` and changed in its transaction.

A day that runs again, because another file came or a schedule and a sensor both asked, is computed only as far as it
brought something new. An aggregate whose statements changed, or whose table was emptied or made anew, begins anew.
"""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pipelines.aggregation.statements import Statements
from resources.database import Connection
from resources.sql import Queries

_SQL = Queries.of("pipelines.aggregation")


@dataclass(frozen=True)
class News:
    """Days that brought something since they were taken in, the loads that did, and those that are taken in already.

    Only loads that hold rows.
    """

    days: tuple[dt.date, ...]
    loads: tuple[int, ...]
    known_loads: tuple[int, ...]


def take_in(
    connection: Connection, asset: str, statements: Statements, days: Sequence[dt.date], meaning: str
) -> News:
    """What `days` brought that is not in the asset's table, noted as being in it once the transaction commits.

    `meaning` is the SQL that computes a group. Call it under the lock of the table and before rows are looked at: what
    commits in between is computed now, and again the next time.
    """
    files = connection.execute(_SQL["table_files"], {"relation": statements.relation}).fetchone()
    definition = hashlib.sha256(f"{meaning}\n{files}".encode()).digest()
    scope = {
        "asset": asset, "days": list(days), "definition": definition, "feeds": list(statements.feed_ids),
    }  # fmt: skip
    found = connection.execute(_SQL["news_of_days"], scope).fetchall()
    rows = cast("list[tuple[dt.date, bool, list[int], list[int], list[int]]]", found)
    taken = [(asset, day, definition, accounts) for day, is_news, accounts, _, _ in rows if is_news]
    if taken:
        connection.cursor().executemany(_SQL["take_in"], taken)
    return News(
        tuple(day for _, day, *_ in taken),
        tuple(load for row in rows for load in row[3]),
        tuple(load for row in rows for load in row[4]),
    )


def forget_taken_in(connection: Connection, asset: str) -> None:
    """Have the next run of any day of the asset compute all that the day touched."""
    connection.execute(_SQL["forget_taken_in"], {"asset": asset})

"""Records that were loaded and cannot be normalised: a state, told with the file they came in and what would help.

They are not in the quarantine, as they are in the raw table; they leave this list when they can be normalised.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any, cast

from pipelines.normalisation.batch import QUERIES
from resources.database import Database


@dataclass(frozen=True)
class RejectedRecord:
    """One record. `record` is its number in the file, from 1; `detail` says what is wrong and what would be right."""

    feed: str
    landing_day: dt.date
    file_name: str
    record: int
    reason: str
    detail: str


def list_rejections(
    database: Database, *, feed: str | None = None, reason: str | None = None, limit: int = 50
) -> list[RejectedRecord]:
    """Rejected records by landing day, file and place, at most `limit`. Reads only."""
    with database.connection() as connection:
        scope = {"feed": feed, "reason": reason, "limit": limit}
        rows = connection.execute(QUERIES["list_rejections"], scope).fetchall()
    return [RejectedRecord(*cast(Any, row)) for row in rows]

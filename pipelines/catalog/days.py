"""What became of landing days at an asset, kept in `longbox.day_results`: written by every stage, through here alone.

A day is complete, incomplete (files were put aside whole) or failed; stages downstream take only days that did not
fail. What the outcomes mean together (a verdict, freshness) is judged in `pipelines.monitoring`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import cast

from psycopg.types.json import Jsonb

from resources.database import Connection
from resources.sql import Queries, storable

_SQL = Queries.of("pipelines.catalog")


def record_days(
    connection: Connection,
    asset: str,
    days: Sequence[dt.date],
    outcome: str,
    counts: Mapping[str, int],
    problems: Sequence[str],
    run_id: str | None,
) -> None:
    """Note what became of landing days at an asset, the same for each. Idempotent: the newest run has the word.

    One statement in the caller's transaction. Text that PostgreSQL cannot keep is written out as escapes.
    """
    values = {
        "asset": asset, "days": list(days), "outcome": outcome, "counts": Jsonb(dict(counts)),
        "problems": Jsonb([storable(problem) for problem in problems]), "run_id": run_id,
    }  # fmt: skip
    connection.execute(_SQL["record_days"], values)


def record_day(
    connection: Connection,
    asset: str,
    landing_day: dt.date,
    outcome: str,
    counts: Mapping[str, int],
    problems: Sequence[str],
    run_id: str | None,
) -> None:
    """Note what became of one landing day: `record_days` of one."""
    record_days(connection, asset, [landing_day], outcome, counts, problems, run_id)


def combine_days(
    connection: Connection, asset: str, parts: Sequence[str], days: Sequence[dt.date], run_id: str | None
) -> None:
    """Note for `asset`, of each day, the worst outcome of `parts`, the sums of their counts and all their problems.

    Runs that combine the same day at once take turns until they commit, so that neither misses the other's part.
    That takes a lock a day: give a few hundred days at most to one transaction.
    """
    values = {"asset": asset, "parts": list(parts), "days": list(days), "run_id": run_id}
    connection.execute(_SQL["lock_days"], values)
    connection.execute(_SQL["combine_days"], values)


def failed_days(connection: Connection, asset: str, days: Sequence[dt.date]) -> frozenset[dt.date]:
    """Those of `days` whose last result at `asset` is failed."""
    rows = connection.execute(_SQL["failed_days"], {"asset": asset, "days": list(days)})
    return frozenset(cast(dt.date, row[0]) for row in rows)

"""Landing days through matching and normalisation: one bad day never sinks the others.

Which days go on is decided by `longbox.day_results`; what happens to a day's rows is in `matching` and `normalise`.
No Dagster here: the same calls serve the command line and the tests.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from pipelines.monitoring.days import days_to_work_on, record_day
from pipelines.monitoring.statistics import refresh_statistics
from resources.database import Database
from resources.errors import LongboxError

MATCHED = "comics/comics"
RAW = "comics/pricing_data_raw"
NORMALISED = "comics/pricing_data_normalized"


@dataclass(frozen=True)
class HeldBack:
    """A landing day that was not worked on, because it failed here or before."""

    landing_day: dt.date
    error: Exception
    outcome: str = "failed"


@dataclass(frozen=True)
class Renormalised:
    """What changed rules changed in the whole history. Stands beside the results of the days."""

    landing_day: dt.date
    records: int
    rows_changed: int
    rows_deleted: int
    outcome: str = "complete"

    def counts(self) -> dict[str, int]:
        """The numbers, by names that no day has."""
        return {"renormalised_records": self.records, "renormalised_rows_changed": self.rows_changed}


def match_days(normaliser: Any, database: Database, days: Sequence[dt.date], run_id: str | None) -> list[Any]:
    """Match the titles of `days` that did not fail before. Records each day's outcome for `comics/comics`."""
    from assets.comics.normalise import match_comics

    results: list[Any] = []
    ready = set(days_to_work_on(database, days, asset=MATCHED, upstream=RAW, run_id=run_id))
    for day in days:
        if day not in ready:
            results.append(HeldBack(day, LongboxError(f"{RAW} failed on {day}")))
            continue
        try:
            matched = match_comics(normaliser, day)
            record_day(database, MATCHED, day, "complete", matched.counts(), [], run_id)
            results.append(matched)
        except (LongboxError, psycopg.Error) as error:
            record_day(database, MATCHED, day, "failed", {}, [f"{type(error).__name__}: {error}"], run_id)
            results.append(HeldBack(day, error))
    return results


def normalise_matched_days(
    normaliser: Any,
    database: Database,
    days: Sequence[dt.date],
    run_id: str | None,
    *,
    whole_history: bool = False,
) -> list[Any]:
    """Normalise `days` whose titles are matched; the others come back as held back, in order of the days.

    With `whole_history` also every record, of any landing day, that other rules than today's made or refused; what
    that changes is noted under the last of `days`.
    """
    from pipelines.normalisation.engine import normalise_days

    ready = days_to_work_on(database, days, asset=NORMALISED, upstream=MATCHED, run_id=run_id)
    held = [
        HeldBack(day, LongboxError(f"{MATCHED} failed on {day}")) for day in days if day not in set(ready)
    ]
    results = [*normalise_days(normaliser, ready), *held]
    if whole_history and ready:
        again = normaliser.renormalise(max(ready))
        # first, so that the outcome of the day itself is what stands
        results.insert(
            0, Renormalised(again.landing_day, again.records, again.rows_written, again.rows_deleted)
        )
    written = sum(getattr(r, "rows_written", 0) + getattr(r, "rows_changed", 0) for r in results)
    refresh_statistics(database, *NORMALISED.split("/"), rows_written=written)
    return sorted(results, key=lambda result: result.landing_day)

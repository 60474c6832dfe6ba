"""Loading several landing days: those that are empty at once, the others one by one, none sinking the rest.

Most days of most feeds are empty where a range is run for the sake of one. What a day costs by itself is in `load`.
"""

import datetime as dt
from collections.abc import Callable, Sequence

from pipelines.ingestion.landing import landing_days
from pipelines.ingestion.load import Loader
from pipelines.ingestion.reconcile import accounted_days
from pipelines.ingestion.results import DayFailure, DayLoad
from resources.errors import DatabaseUnavailableError, LongboxError, OutcomeUnknownError

_DAYS_AT_ONCE = 366  # a transaction locks each of its days


def load_days(
    loader: Loader,
    days: Sequence[dt.date],
    on_day: Callable[[DayLoad | DayFailure], None] | None = None,
) -> list[DayLoad | DayFailure]:
    """Load several landing days. A day that fails is recorded as failed and does not stop the others.

    Raises `DatabaseUnavailableError` or `OutcomeUnknownError` when PostgreSQL goes away; running again completes.
    """
    empty = _close_empty_days(loader, days) if len(days) > 1 else {}
    results: list[DayLoad | DayFailure] = []
    for day in days:
        result = empty.get(day) or _load_day(loader, day)
        results.append(result)
        if on_day is not None:
            on_day(result)
    return results


def _load_day(loader: Loader, day: dt.date) -> DayLoad | DayFailure:
    try:
        return loader.load_day(day)
    except (DatabaseUnavailableError, OutcomeUnknownError):
        raise  # no fault of the day, and the next one would fare no better
    except Exception as error:  # whatever one day's files do to a parser, the other days go on
        failure = DayFailure(day, error)
        _record_failure(loader, failure)
        return failure


def _record_failure(loader: Loader, failure: DayFailure) -> None:
    try:
        with loader.database.connection() as connection:
            problems = [f"{type(failure.error).__name__}: {failure.error}"]
            loader.record(connection, [failure.landing_day], "failed", {}, problems)
    except LongboxError:
        return  # the database itself is away: the caller reports the day all the same


def _close_empty_days(loader: Loader, days: Sequence[dt.date]) -> dict[dt.date, DayLoad]:
    """Record as complete the days without a folder in the landing zone of which nothing is kept either.

    What goes wrong here goes wrong, and is told, at each day by itself.
    """
    closed: dict[dt.date, DayLoad] = {}
    try:
        landed = frozenset(landing_days(loader.store, loader.feed))
        absent = [day for day in days if day not in landed]
        for start in range(0, len(absent), _DAYS_AT_ONCE):
            some = absent[start : start + _DAYS_AT_ONCE]
            with loader.database.connection() as connection:
                kept = accounted_days(connection, loader.target(connection).feed_id, some)
                empty = [DayLoad(day, (), 0, 0, 0, 0) for day in some if day not in kept]
                if empty:
                    loader.record(
                        connection,
                        [load.landing_day for load in empty],
                        empty[0].outcome,
                        empty[0].counts(),
                        (),
                    )
            closed |= {load.landing_day: load for load in empty}
    except (DatabaseUnavailableError, OutcomeUnknownError):
        raise
    except LongboxError:
        pass
    return closed

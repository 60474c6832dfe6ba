"""The generic normaliser: for a landing day, bring the target table up to the winning versions of what it touched.

What a day touched are its own raw versions and the records of which it switched versions. The work goes in batches,
a transaction each: kill it anywhere and run the day again. What a record means is the system's `Rules`.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader

from pipelines.catalog.days import failed_days, record_day
from pipelines.catalog.model import Feed, System
from pipelines.catalog.partitions import ensure_periods
from pipelines.normalisation.batch import (
    QUERIES,
    BatchCounts,
    BatchWriter,
    Landed,
    PeriodsMissingError,
    in_parts,
)
from pipelines.normalisation.results import DayFailure, NormalisedDay, Reconciliation, Replay
from pipelines.normalisation.rules import Rules
from resources.database import Database
from resources.errors import DatabaseUnavailableError, LongboxError, OutcomeUnknownError
from resources.runtime import at_once, collector_at_rest

__all__ = ["DayFailure", "NormalisedDay", "Normaliser", "Reconciliation", "Replay", "normalise_days"]

BATCH_ROWS = 20_000
PARTS_FROM = 4_000  # fewer are done before a second connection has brought anything
_PERIOD_ATTEMPTS = 3


class UpstreamFailedError(LongboxError):
    """A landing day failed at the stage before, so there is nothing sound to work on."""


@dataclass(frozen=True)
class Normaliser:
    """What normalising the rows of one feed needs. `owner` may make partitions, `database` may not."""

    database: Database
    owner: Database
    system: System
    feed: Feed
    rules: Rules
    run_id: str | None = None
    batch_rows: int = BATCH_ROWS
    parts_from: int = PARTS_FROM  # from which on a batch is done in parts, at the same time
    _known_periods: set[dt.date] = field(default_factory=set)

    @property
    def asset(self) -> str:
        """The asset whose day results these are: `<system>/<target>`."""
        return f"{self.system.name}/{self.rules.target}"

    def normalise_day(self, landing_day: dt.date) -> NormalisedDay:
        """Normalise the winning version of every record that the landing day touched. Idempotent.

        One transaction a batch, or a part of a large one, each of which accounts for its raw versions before it
        commits, and notes the groups it changed in `longbox.touched`. Records the outcome in `longbox.day_results`. Two
        runs at once take turns.
        """
        writer = self._writer()
        if writer is None:
            return self._close_day(NormalisedDay(landing_day))
        done = self._run(writer, self._keys_of_day(writer, landing_day), landing_day)
        problems = []
        if done.absent_rows:
            problems.append(
                f"{done.absent_rows} records have their winning version in a month that is not in PostgreSQL; what was "
                "normalised of them before stands"
            )
        return self._close_day(
            NormalisedDay(
                landing_day, done.raw_rows, done.normalised_rows, done.superseded_rows, done.rejected_rows,
                done.rows_written, done.rows_deleted, done.touched_groups, done.absent_rows, tuple(problems),
                deleted_rows=done.deleted_rows,
            )
        )  # fmt: skip

    def replay(self, landing_day: dt.date) -> Replay:
        """Normalise again what newer outside facts (exchange rates) may change, if they are newer than last time.

        The groups it changes are noted under `landing_day`, so that aggregating that day sees them.
        """
        writer = self._writer()
        if writer is None:
            return Replay(landing_day)
        with self.database.connection() as connection:
            facts = self.rules.facts(connection)
            row = connection.execute(QUERIES["newest_counts"], {"asset": self._replay_asset}).fetchone()
            seen = cast("dict[str, int]", row[0]) if row else {}
            if {name: seen.get(name) for name in facts} == facts:
                return Replay(landing_day, facts=facts)
            outdated = self.rules.outdated(connection, seen)
        done = self._run(writer, self._keys_of(outdated.query, outdated.parameters), landing_day)
        counts = {**facts, "records": done.records, "rows_written": done.rows_written}
        with self.database.connection() as connection:
            record_day(connection, self._replay_asset, landing_day, "complete", counts, (), self.run_id)
        return Replay(
            landing_day, done.records, done.rows_written, done.rows_deleted, done.touched_groups, facts
        )

    def renormalise(self, landing_day: dt.date) -> Replay:
        """Normalise again every record that other rules than today's made or refused, whenever it landed.

        Rows that come out the same are stamped with the new version and no more. Groups that change are noted under
        `landing_day`: aggregating that day takes them in. Killed and run again, it goes on where it was.
        """
        writer = self._writer()
        if writer is None:
            return Replay(landing_day)
        parameters = {"rule_version": self.rules.rule_version, "feed_id": self._feed_id()}
        query = QUERIES.compose("keys_of_other_rules", **writer.parts)
        done = self._run(writer, self._keys_of(query, parameters), landing_day)
        return Replay(landing_day, done.records, done.rows_written, done.rows_deleted, done.touched_groups)

    def reconcile(self, landing_day: dt.date) -> Reconciliation:
        """Count the equation of a landing day in the tables: raw = normalised + superseded + rejected + deleted.

        Reads only.
        """
        writer = self._writer()
        if writer is None:
            return Reconciliation(landing_day, 0, 0, 0, 0, 0, ())
        day = {"feed_id": self._feed_id(), "landing_day": landing_day}
        with self.database.connection() as connection:
            loads = [row[0] for row in connection.execute(QUERIES["loads_of_day"], day)]
            query = QUERIES.compose("account_day", **writer.parts)
            row = connection.execute(query, {**day, "loads": loads}, prepare=False).fetchone()
        raw, deleted, superseded, rejected, normalised = cast(tuple[int, int, int, int, int], row)
        problems = []
        if raw != superseded + rejected + normalised + deleted:
            problems.append(
                f"{landing_day}: {raw} raw versions are not {normalised} normalised + {superseded} superseded + "
                f"{rejected} rejected + {deleted} deleted; materialise {self.asset} for that day again"
            )
        return Reconciliation(landing_day, raw, normalised, superseded, rejected, deleted, tuple(problems))

    @property
    def _replay_asset(self) -> str:
        return f"{self.asset}/replay"

    def _run(self, writer: BatchWriter, keys: Generator[Landed], landing_day: dt.date) -> BatchCounts:
        total = BatchCounts()
        with closing(keys):  # a batch that fails leaves its connection to nobody
            for batch in _batches(keys, self.batch_rows):
                calls = [partial(self._run_batch, writer, batch, landing_day)]
                if len(batch) >= self.parts_from:
                    calls = [
                        partial(self._run_batch, writer, landed, landing_day, part)
                        for part, landed in enumerate(in_parts(batch))
                    ]
                for counts in at_once(calls):
                    total += counts
        return total

    def _run_batch(
        self, writer: BatchWriter, batch: Sequence[Landed], landing_day: dt.date, part: int | None = None
    ) -> BatchCounts:
        for _ in range(_PERIOD_ATTEMPTS):
            try:
                with collector_at_rest(), self.database.connection() as connection:
                    return writer.run(connection, batch, landing_day, self._known_periods, part)
            except PeriodsMissingError as missing:
                # Attaching a partition waits for writers of the tables its foreign keys point at: not from within.
                self._ensure(missing.days)
        raise LongboxError(
            f"{writer.relation}, landing day {landing_day}: records move to other months faster than partitions are "
            "made; run this again when no other day is being loaded"
        )

    def _ensure(self, days: set[dt.date]) -> None:
        unit = self.system.tables[self.rules.target].partition
        if unit is not None:
            ensure_periods(self.owner, self.system.name, self.rules.target, days, unit)
        self._known_periods.update(days)

    def _keys_of_day(self, writer: BatchWriter, landing_day: dt.date) -> Generator[Landed]:
        day: dict[str, object] = {"feed_id": self._feed_id(), "landing_day": landing_day}
        with self.database.connection() as connection:
            loads = [row[0] for row in connection.execute(QUERIES["loads_of_day"], day)]
        return self._keys_of(QUERIES.compose("keys_of_day", **writer.parts), {**day, "loads": loads})

    def _keys_of(self, query: sql.Composed | sql.SQL, parameters: Mapping[str, object]) -> Generator[Landed]:
        """Stream keys from a cursor on the server, on a connection of its own: memory stays bounded."""
        with self.database.connection() as connection, connection.cursor(name="touched_keys") as cursor:
            cursor.adapters.register_loader("uuid", TextLoader)  # they only go back to the server
            cursor.execute(query, parameters)
            while rows := cursor.fetchmany(self.batch_rows):
                yield from cast("list[Landed]", rows)

    def _feed_id(self) -> int | None:
        with self.database.connection() as connection:
            names = {"system": self.system.name, "feed": self.feed.name}
            row = connection.execute(QUERIES["feed_id"], names).fetchone()
        return cast(int, row[0]) if row else None

    def _writer(self) -> BatchWriter | None:
        """The batch writer, or None while the feed has never loaded anything."""
        feed_id = self._feed_id()
        return (
            BatchWriter(self.system, self.feed, self.rules, feed_id, self.run_id)
            if feed_id is not None
            else None
        )

    def _close_day(self, result: NormalisedDay) -> NormalisedDay:
        with self.database.connection() as connection:
            record_day(
                connection, self.asset, result.landing_day, result.outcome, result.counts(), result.problems,
                self.run_id,
            )  # fmt: skip
        return result


def normalise_days(
    normaliser: Normaliser,
    days: Sequence[dt.date],
    on_day: Callable[[NormalisedDay | DayFailure], None] | None = None,
    *,
    upstream: str | None = None,
) -> list[NormalisedDay | DayFailure]:
    """Normalise several landing days. A bad day does not stop the others, it comes back as a failure.

    With the first sound day, records that newer facts allow are replayed, and noted under that day. A day that failed
    at `upstream` (the raw table's asset unless given) is not worked on: it is a failure here too. Failed days are
    recorded as failed.
    """
    asset = upstream or f"{normaliser.system.name}/{normaliser.feed.table}"
    with normaliser.database.connection() as connection:
        failed = failed_days(connection, asset, days)
    first = next((day for day in days if day not in failed), None)
    results: list[NormalisedDay | DayFailure] = []
    for day in days:
        result = _normalise_day(normaliser, day, asset if day in failed else None, replays=day == first)
        results.append(result)
        if on_day is not None:
            on_day(result)
    return results


def _normalise_day(
    normaliser: Normaliser, day: dt.date, failed_upstream: str | None, *, replays: bool
) -> NormalisedDay | DayFailure:
    try:
        if failed_upstream is not None:
            raise UpstreamFailedError(
                f"landing day {day} failed at {failed_upstream}; mend that, then materialise the day again"
            )
        if replays:
            normaliser.replay(day)
        return normaliser.normalise_day(day)
    except (DatabaseUnavailableError, OutcomeUnknownError):
        raise  # no fault of the day, and the next one would fare no better
    except (LongboxError, psycopg.Error) as error:
        try:
            with normaliser.database.connection() as connection:
                record_day(connection, normaliser.asset, day, "failed", {}, [str(error)], normaliser.run_id)
        except LongboxError:
            pass  # the database is away: the error that is returned says so
        return DayFailure(day, error)


def _batches(keys: Iterator[Landed], size: int) -> Iterator[list[Landed]]:
    while batch := list(itertools.islice(keys, size)):
        yield batch

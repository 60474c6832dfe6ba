"""Dagster's runs, events, checks and logs past their days: deleted in batches, without what its UI stands on.

Dagster trims ticks only, and `delete_run` takes the materialisations of a run with it, so that a partition would look
as if it had never been made. Here the newest event of each kind about an asset or partition outlives its run, and so
does the whole run that is the last, failed attempt at one. See docs/decisions/0016-dagsters-history.md.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from psycopg.types.json import Jsonb

from resources.database import Database
from resources.sql import Queries

BATCH_RUNS = 500
MOST_RUNS = 200_000
BATCH_EVENTS = 50_000
_SQL = Queries.of("pipelines.retention")


@dataclass(frozen=True)
class HistoryPurge:
    """What went, or in a dry run would go. `protected_runs` stay for being the last, failed attempt at something."""

    before: dt.datetime
    is_dry_run: bool
    runs: int
    protected_runs: int
    stopped: str
    events: int = 0
    checks: int = 0
    backfills: int = 0
    batches: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    def counts(self) -> dict[str, int]:
        """The numbers, by name."""
        return {
            "runs_deleted": self.runs, "events_deleted": self.events, "checks_deleted": self.checks,
            "backfills_deleted": self.backfills, "protected_runs": self.protected_runs, "batches": self.batches,
            "bytes_before": self.bytes_before, "bytes_after": self.bytes_after,
        }  # fmt: skip


@dataclass(frozen=True)
class HistoryJob:
    """What a purge needs: `database` holds the ledger, `dagster` is the instance's own, `delete_logs` takes run ids."""

    database: Database
    dagster: Database
    days_kept: int
    delete_logs: Callable[[Sequence[str]], None]
    run_id: str | None = None
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    batch_runs: int = BATCH_RUNS
    most_runs: int = MOST_RUNS

    def purge(self, *, dry_run: bool = False) -> HistoryPurge:
        """Delete finished runs that ended more than `days_kept` days ago, and what only they needed. Idempotent.

        A transaction a batch: logs first, the ledger before the rows, so that a kill leaves nothing undone that the
        next purge does not find, and nothing done that the ledger does not know. Unfinished runs, and runs of a
        backfill under way, are never touched. Raises `LongboxError` when a server is away; what was deleted stays so.
        """
        before = self.clock() - dt.timedelta(days=self.days_kept)
        kept = self._failed_attempts()
        bytes_before = self._size_bytes()
        if dry_run:
            scope = {"before": _naive(before), "kept": kept}
            count = self._one("count_deletable_runs", scope)
            return HistoryPurge(before, True, count, len(kept), "dry run", bytes_before=bytes_before,
                                bytes_after=bytes_before)  # fmt: skip
        runs = events = checks = batches = 0
        while runs < self.most_runs:
            done = self._batch(before, kept)
            if not done[0]:
                break
            runs, events, checks, batches = runs + done[0], events + done[1], checks + done[2], batches + 1
        events += self._delete_superseded_events(before)
        checks += self._delete_superseded_checks(before)
        backfills = self._one("delete_backfills", {"before": _naive(before)})
        if events:
            with self.dagster.session() as connection:
                connection.execute(_SQL["vacuum"])
        stopped = (
            "nothing is left" if runs < self.most_runs else f"{self.most_runs} runs are the most at once"
        )
        return HistoryPurge(
            before, False, runs, len(kept), stopped, events, checks, backfills, batches, bytes_before,
            self._size_bytes(),
        )  # fmt: skip

    def _batch(self, before: dt.datetime, kept: list[str]) -> tuple[int, int, int]:
        """One batch: how many runs, events and executions of checks went."""
        with self.dagster.connection() as connection:
            connection.execute(_SQL["bound_statements"])
            scope = {"before": _naive(before), "kept": kept, "count": self.batch_runs}
            found = cast(
                "list[tuple[str, dt.datetime]]", connection.execute(_SQL["deletable_runs"], scope).fetchall()
            )
            runs = [run_id for run_id, _ in found]
            if not runs:
                return 0, 0, 0
            self.delete_logs(runs)
            self._record(before, found)
            row = connection.execute(_SQL["delete_events"], {"runs": runs}).fetchone()
            checks = connection.execute(_SQL["delete_checks"], {"runs": runs}).rowcount
            deleted = connection.execute(_SQL["delete_runs"], {"runs": runs}).rowcount
        return deleted, cast("tuple[int]", row)[0], checks

    def _record(self, before: dt.datetime, found: Sequence[tuple[str, dt.datetime]]) -> None:
        proof = {
            "ended_before": before.isoformat(), "first_run": found[0][0], "last_run": found[-1][0],
            "oldest_ended_at": f"{min(ended for _, ended in found)}Z",
        }  # fmt: skip
        values = {
            "policy": f"LONGBOX_DAGSTER_HISTORY_DAYS={self.days_kept}", "runs": len(found), "proof": Jsonb(proof),
            "run_id": self.run_id,
        }  # fmt: skip
        with self.database.connection() as connection:
            connection.execute(_SQL["record_purge"], values)

    def _failed_attempts(self) -> list[str]:
        with self.dagster.connection() as connection:
            return [cast(str, row[0]) for row in connection.execute(_SQL["failed_attempts"])]

    def _delete_superseded_events(self, before: dt.datetime) -> int:
        with self.dagster.connection() as connection:
            assets = [row[0] for row in connection.execute(_SQL["asset_keys"])]
        total = 0
        for asset_key in assets:
            scope = {"asset_key": asset_key, "before": _naive(before), "count": BATCH_EVENTS}
            while gone := self._one("delete_superseded_events", scope):
                total += gone
        return total

    def _delete_superseded_checks(self, before: dt.datetime) -> int:
        with self.dagster.connection() as connection:
            connection.execute(_SQL["bound_statements"])
            return connection.execute(_SQL["delete_superseded_checks"], {"before": _naive(before)}).rowcount

    def _size_bytes(self) -> int:
        return self._one("size_bytes", {})

    def _one(self, name: str, parameters: dict[str, object]) -> int:
        with self.dagster.connection() as connection:
            connection.execute(_SQL["bound_statements"])
            row = connection.execute(_SQL[name], parameters).fetchone()
        return cast("tuple[int]", row)[0]


def _naive(moment: dt.datetime) -> dt.datetime:
    """As Dagster keeps it: UTC without a zone."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None)

"""From a plain table to a partitioned one while it is read and written: build, switch, undo, finish, each resumable.

`Repartition` is the entry. Until the switch applications see the original only; after it both tables are kept in
step, so that `undo` loses nothing; `finish` drops the original. Every step may be killed and asked for again.
Decision 0015 tells why it is done by marks.
"""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import psycopg
from psycopg import sql

from pipelines.adoption import switch as places
from pipelines.adoption.errors import RefusedError, UnequalError
from pipelines.adoption.facts import (
    AnyConnection,
    Facts,
    Target,
    column_signature,
    notes,
    read_facts,
    refusals,
    weaker_keys,
)
from pipelines.adoption.job import COPYING, SWITCHED, VERIFIED, Job, in_short_transaction, open_connection
from pipelines.adoption.keeping import BATCH_ROWS, Step, Verdict, catch_up, copy_rows, mark_periods, verify
from pipelines.adoption.twin import mark_statements, trigger_statements, twin_statements
from pipelines.catalog.model import PartitionUnit
from pipelines.catalog.partitions import AHEAD_PERIODS, Span, ensure_partitions, spans_around
from resources.errors import LongboxError, UserError
from resources.sql import Queries

_SQL = Queries.of("pipelines.adoption")
LOCK_SECONDS = 5.0
"""How long a command waits for another one of the same table to end."""


@dataclass(frozen=True)
class Result:
    """How a step ended: the phase after it (None: nothing is under way any more) and the last comparison."""

    phase: str | None
    copied_rows: int
    verdict: Verdict | None


class Repartition:
    """The carrying over of `schema.table` in the database at `url`. Each method is one command; none stays open."""

    def __init__(
        self,
        url: str,
        schema: str,
        table: str,
        *,
        step: Step = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        """`step` is told the name of each step when it is committed; `batch_rows` bounds a transaction of the copy."""
        self._url = url
        self.target = Target(schema, table)
        self._step = step
        self._sleep = sleep
        self._clock = clock
        self._batch_rows = batch_rows

    def plan(self, time_column: str, unit: PartitionUnit) -> str:
        """What `build` would do, as text: refusals, what changes, the SQL of the twin. Changes nothing."""
        with open_connection(self._url) as connection, connection.transaction(force_rollback=True):
            job = Job.read(connection, self.target)
            if job is not None:
                return f"-- {self.target.name} is under way: {job.phase}, {job.copied_rows:,} rows copied\n"
            facts = read_facts(connection, self.target.schema, self.target.table)
            self._require_possible(connection, facts, time_column, has_weaker_keys=True)
            told = [f"-- {note}" for note in notes(facts, self.target, time_column)]
            statements = twin_statements(self.target, facts, time_column) + mark_statements(
                self.target, facts
            )
            statements += trigger_statements(self.target, self.target.public)
            texts = [statement.as_string(connection).strip().rstrip(";") + ";" for statement in statements]
        key = ", ".join(facts["key"])
        steps = (
            f"-- then: copy by ({key}), {self._batch_rows:,} rows a batch, settle marks, compare every {unit}"
        )
        return "\n".join([*told, *texts, steps, ""])

    def build(self, time_column: str, unit: PartitionUnit, *, has_weaker_keys: bool = False) -> Result:
        """Make the twin, copy, settle and verify; applications notice nothing. Goes on where an earlier one ended."""
        with self._session() as connection:
            job = Job.read(connection, self.target)
            connection.commit()
            if job is None:
                job = self._prepare(connection, time_column, unit, has_weaker_keys)
            elif (job.time, job.unit) != (time_column, unit):
                raise RefusedError(
                    f"{self.target.name} is under way by {job.time} in partitions of a {job.unit}; "
                    f"go on with those, or "
                    f"take it back (`longbox partition {self.target.name} --undo --yes`)"
                )
            self._become(connection, job)
            if job.phase == COPYING:
                job = copy_rows(connection, job, self._step, batch_rows=self._batch_rows)
            verdict = self._made_equal(connection, job)
            with connection.transaction():
                phase = SWITCHED if job.phase == SWITCHED else VERIFIED
                job = job.save(connection, phase=phase, proof=asdict(verdict))
                if phase == VERIFIED:
                    connection.execute(_SQL.compose("analyse", table=job.other))
            self._step("verified")
            return Result(job.phase, job.copied_rows, verdict)

    def switch(self) -> Result:
        """Put the partitioned table in the place of the plain one, which is kept in step from then on."""
        with self._job() as (connection, job):
            if job.phase == SWITCHED:
                places.validate_foreign_keys(connection, self.target)
                return Result(SWITCHED, job.copied_rows, None)
            if job.phase != VERIFIED:
                raise RefusedError(
                    f"{self.target.name} is not verified yet ({job.phase}); build it first, without --switch"
                )
            with connection.transaction():
                days = [span.lower for span in _spans(self._clock(), job.unit)]
                ensure_partitions(connection, self.target.work_schema, self.target.table, days, job.unit)
            job = places.switch(connection, job, self._step, self._sleep)
            return Result(job.phase, job.copied_rows, None)

    def sync(self) -> Result:
        """Settle every mark, before or after the switch, and compare."""
        with self._job() as (connection, job):
            if job.phase == COPYING:
                raise RefusedError(f"{self.target.name} is not copied yet; build it first, without --sync")
            verdict = self._made_equal(connection, job)
            return Result(job.phase, job.copied_rows, verdict)

    def undo(self) -> Result:
        """After the switch: change places back, with every write made since. Before it: take the twin away."""
        with self._job() as (connection, job):
            if job.phase == SWITCHED:
                verdict = self._made_equal(connection, job)
                job = places.switch(connection, job, self._step, self._sleep)
                return Result(job.phase, job.copied_rows, verdict)
            places.abandon(connection, job, self._sleep)
            self._step("abandoned")
            connection.execute("RESET ROLE")
            connection.commit()
            places.remove_empty_schemas(connection, self.target)
            return Result(None, 0, None)

    def finish(self) -> Result:
        """Drop the original after a last comparison that finds both equal; the ledger tells of it."""
        with self._job() as (connection, job):
            if job.phase != SWITCHED:
                raise RefusedError(
                    f"{self.target.name} is not switched ({job.phase}); there is no original to drop"
                )
            with connection.transaction():
                row = connection.execute(_SQL["ledger_exists"]).fetchone()
            if not row or not row[0]:
                raise RefusedError(
                    "this database has no ledger to record the drop in; run `longbox migrate` first"
                )
            places.validate_foreign_keys(connection, self.target)
            verdict = self._made_equal(connection, job)
            places.finish(connection, job, verdict, self._step, self._sleep)
            connection.execute("RESET ROLE")
            connection.commit()
            places.remove_empty_schemas(connection, self.target)
            return Result(None, job.copied_rows, verdict)

    def _prepare(
        self, connection: AnyConnection, time_column: str, unit: PartitionUnit, has_weaker_keys: bool
    ) -> Job:
        target = self.target
        with connection.transaction():
            facts = read_facts(connection, target.schema, target.table)
            self._require_possible(connection, facts, time_column, has_weaker_keys)
        with connection.transaction():
            for schema in map(sql.Identifier, (target.work_schema, target.old_schema)):
                connection.execute(_SQL.compose("create_work_schema", schema=schema))
                connection.execute(
                    _SQL.compose("lend_work_schema", schema=schema, owner=sql.Identifier(facts["owner"]))
                )
            connection.execute(_SQL.compose("create_job_table", jobs=target.jobs))
            owner = sql.Identifier(facts["owner"])
            connection.execute(_SQL.compose("lend_job_table", jobs=target.jobs, owner=owner))
        self._step("schemas made")
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(facts["owner"])))
        connection.commit()
        job = in_short_transaction(
            connection, target, lambda: self._make_twin(connection, time_column, unit), self._sleep
        )
        self._step("twin made")
        return job

    def _make_twin(self, connection: AnyConnection, time_column: str, unit: PartitionUnit) -> Job:
        target = self.target
        facts = read_facts(connection, target.schema, target.table)
        for statement in twin_statements(target, facts, time_column) + mark_statements(target, facts):
            connection.execute(statement)
        days = [span.lower for span in _spans(self._clock(), unit)]
        ensure_partitions(connection, target.work_schema, target.table, days, unit)
        job = Job.begin(target, facts, time_column, unit, column_signature(facts)).save(connection)
        for statement in trigger_statements(target, target.public):  # last: it is what writers wait for
            connection.execute(statement)
        return job

    def _require_possible(
        self, connection: AnyConnection, facts: Facts, time_column: str, has_weaker_keys: bool
    ) -> None:
        found = refusals(facts, self.target, time_column, connection.info.server_version)
        weaker = weaker_keys(facts, time_column)
        if weaker and not has_weaker_keys:
            found.append(
                f"unique {', '.join(weaker)} would hold only together with {time_column}, since "
                f"PostgreSQL needs the partition "
                "column in every unique key; if that will do, say --weaker-keys"
            )
        if found:
            raise RefusedError("\n  ".join([f"{self.target.name} cannot be carried over:", *found]))

    def _made_equal(self, connection: AnyConnection, job: Job) -> Verdict:
        """Settle and compare; once again when periods differ: a TRUNCATE may have come between, or after a switch a
        partition been truncated or detached on its own. Raises `UnequalError`."""
        catch_up(connection, job, self._step)
        verdict = verify(connection, job)
        if verdict.different:
            if job.phase == SWITCHED:
                mark_periods(connection, job, verdict.different)
            catch_up(connection, job, self._step)
            verdict = verify(connection, job)
        if verdict.different:
            raise UnequalError(
                f"{self.target.name} and its other half differ in {len(verdict.different)} of "
                f"{verdict.periods} periods "
                f"({', '.join(verdict.different[:5])}); nothing was switched or dropped. Look at these rows in "
                f"{job.other_schema}.{self.target.table}, or take the twin away and begin anew"
            )
        return verdict

    @contextlib.contextmanager
    def _job(self) -> Iterator[tuple[AnyConnection, Job]]:
        with self._session() as connection:
            job = Job.read(connection, self.target)
            connection.commit()
            if job is None:
                places.remove_empty_schemas(connection, self.target)
                raise RefusedError(
                    f"nothing is under way for {self.target.name}; begin with `longbox partition "
                    f"{self.target.name} --by month`"
                )
            self._become(connection, job)
            yield connection, job

    @contextlib.contextmanager
    def _session(self) -> Iterator[AnyConnection]:
        """A connection that holds the right to work on this table; driver errors become Longbox's."""
        with open_connection(self._url) as connection:
            self._take_turn(connection)
            try:
                yield connection
            except psycopg.Error as error:
                said = error.diag.message_primary or str(error)
                raise LongboxError(
                    f"{self.target.name}: PostgreSQL said: {said}; the step it refused left nothing "
                    f"behind: mend the cause, "
                    "then ask again, it goes on from there"
                ) from error

    def _take_turn(self, connection: AnyConnection) -> None:
        """Take the lock of this table's job. The server needs a moment to notice that a killed one let go of it."""
        until = time.monotonic() + LOCK_SECONDS
        while True:
            is_last = time.monotonic() > until
            row = connection.execute(
                _SQL["job_lock"], {"name": f"longbox partition {self.target.name}"}
            ).fetchone()
            connection.commit()
            if row and row[0]:
                return
            if is_last:
                raise RefusedError(
                    f"another `longbox partition {self.target.name}` runs; let it end, or end it, and ask again"
                )
            time.sleep(0.1)

    def _become(self, connection: AnyConnection, job: Job) -> None:
        """Work as the table's owner, unless as a superuser, who may also move what others attached meanwhile."""
        row = connection.execute(_SQL["session_facts"]).fetchone()
        if row and not row[1]:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(job.owner)))
        else:
            connection.execute("RESET ROLE")
        connection.commit()


def _spans(now: datetime.datetime, unit: PartitionUnit) -> list[Span]:
    """The period of `now`, the one before it, and those to come."""
    return spans_around(now.astimezone(datetime.UTC).date(), unit, behind=1, ahead=AHEAD_PERIODS[unit])


def parse_target(text: str) -> tuple[str, str]:
    """`shop/orders` (or `shop.orders`) as schema and table. Raises `UserError`."""
    schema, _, table = text.replace(".", "/", 1).partition("/")
    if not schema or not table:
        raise UserError(f"{text!r} is no table; write SCHEMA/TABLE, as in shop/orders")
    return schema, table

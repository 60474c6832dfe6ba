"""The moment in which two tables change places, forth and back, and the removal of the one that is no longer wanted.

Tables move between schemas and keep their names, so indexes and constraints keep theirs. One short transaction does
all of it: either applications see everything switched, or nothing was. Like every rewrite in PostgreSQL it is not
MVCC-safe: a transaction that took its snapshot before and first touches the table after it sees the rows as copied by
then (https://www.postgresql.org/docs/18/mvcc-caveats.html).
"""

import json
import time
from collections.abc import Callable, Sequence

from psycopg import sql

from pipelines.adoption.errors import RefusedError, TableBusyError
from pipelines.adoption.facts import AnyConnection, Facts, Target, column_signature, read_facts
from pipelines.adoption.job import ATTEMPTS, SWITCHED, VERIFIED, Job, in_short_transaction
from pipelines.adoption.keeping import (
    BATCH_MARKS,
    CATCH_UP_BELOW_MARKS,
    Step,
    Verdict,
    catch_up,
    count_marks,
    settle,
)
from pipelines.adoption.twin import grant_statements, trigger_statements, view_statements
from resources.sql import Queries

MARK_TRIGGERS = ("longbox_mark", "longbox_mark_truncate")
_SQL = Queries.of("pipelines.adoption")


def switch(
    connection: AnyConnection,
    job: Job,
    step: Step = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Job:
    """Let the tables change places: forth when `job` is verified, back when it is switched. Returns the job after it.

    Holds ACCESS EXCLUSIVE on both while at most `CATCH_UP_BELOW_MARKS` marks are settled and names change. Raises
    `RefusedError` when the table was altered since the twin was made, `TableBusyError` when no lock was had.
    """
    for _ in range(ATTEMPTS):
        catch_up(connection, job)
        changed = in_short_transaction(
            connection,
            job.target,
            lambda: _change_places(connection, job, step),
            sleep,
            between=lambda: catch_up(connection, job),
        )
        if changed is not None:
            step("switched")
            validate_foreign_keys(connection, job.target)
            return changed
    raise TableBusyError(
        f"{job.target.name} is written to faster than it can be carried over; ask again in a quieter hour"
    )


def validate_foreign_keys(connection: AnyConnection, target: Target) -> None:
    """Check the rows under foreign keys that a switch only declared; readers and writers go on. Twice is once."""
    with connection.transaction():
        rows = connection.execute(
            _SQL["unvalidated"], {"schema": target.schema, "table": target.table}
        ).fetchall()
    for (name,) in rows:
        with connection.transaction():
            parts = {"table": target.public, "constraint": sql.Identifier(str(name))}
            connection.execute(_SQL.compose("validate_constraint", **parts))


def abandon(connection: AnyConnection, job: Job, sleep: Callable[[float], None] = time.sleep) -> None:
    """Take the twin and the marks away again, before a switch; the original stays as it always was."""

    def work() -> None:
        _drop_marks(connection, job)
        connection.execute(_SQL.compose("drop_table", table=job.other))
        connection.execute(_SQL.compose("forget_job", jobs=job.target.jobs), {"table": job.target.table})

    in_short_transaction(connection, job.target, work, sleep)


def finish(
    connection: AnyConnection,
    job: Job,
    verdict: Verdict,
    step: Step,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Drop the original, its proof in the ledger in the same transaction. There is no way back after it."""
    proof = json.dumps(
        {"content_hash": verdict.content_hash, "periods": verdict.periods, "marked": verdict.marked}
    )

    def work() -> None:
        _drop_marks(connection, job)
        connection.execute(_SQL.compose("drop_table", table=job.other))
        connection.execute(_SQL.compose("forget_job", jobs=job.target.jobs), {"table": job.target.table})
        relation = f"{job.target.schema}.{job.target.table}"
        connection.execute("SET LOCAL ROLE longbox_app")
        connection.execute(_SQL["record_drop"], {"relation": relation, "rows": verdict.rows, "proof": proof})
        step("before finish commits")

    in_short_transaction(connection, job.target, work, sleep)


def remove_empty_schemas(connection: AnyConnection, target: Target) -> None:
    """Drop the schemas of the work when no other table of the schema is under way."""
    with connection.transaction():
        exists = connection.execute(_SQL["job_table_exists"], {"schema": target.work_schema}).fetchone()
        if not exists or not exists[0]:
            return
        row = connection.execute(_SQL.compose("job_count", jobs=target.jobs)).fetchone()
        if row and row[0] == 0:
            connection.execute(_SQL.compose("drop_table", table=target.jobs))
            for schema in (target.work_schema, target.old_schema):
                connection.execute(_SQL.compose("drop_schema", schema=sql.Identifier(schema)))


def _change_places(connection: AnyConnection, job: Job, step: Step) -> Job | None:
    """The switch inside its transaction; None when writers left too many marks to settle under the lock."""
    target, forth = job.target, job.phase != SWITCHED
    _run(connection, "lock_tables", tables=sql.SQL(", ").join([job.source, job.other]))
    if count_marks(connection, job, CATCH_UP_BELOW_MARKS) >= CATCH_UP_BELOW_MARKS:
        return None
    settle(connection, job, BATCH_MARKS)
    leaving = read_facts(connection, target.schema, target.table)
    arriving = read_facts(connection, job.other_schema, target.table)
    _require_unaltered(job, leaving, arriving)
    leave_to = target.old_schema if forth else target.work_schema
    _carry_identities(connection, job, leaving)
    _drop_triggers(connection, target)
    for key in leaving["foreign_keys"]:
        _run(connection, "drop_constraint", table=target.public, constraint=sql.Identifier(key["name"]))
    _move(connection, target.schema, target.table, leave_to)
    _move(connection, job.other_schema, target.table, target.schema)
    _hang_on(connection, target, leaving)
    for statement in trigger_statements(target, target.public):
        connection.execute(statement)
    step("before switch commits")
    return job.save(connection, phase=SWITCHED if forth else VERIFIED)


def _require_unaltered(job: Job, leaving: Facts, arriving: Facts) -> None:
    name = job.target.name
    for facts in (leaving, arriving):
        if column_signature(facts) != job.signature:
            raise RefusedError(
                f"the columns of {name} were altered since the work began; `longbox partition {name} "
                f"--undo --yes` takes the "
                "twin away, then begin anew (after a switch: alter the columns back first)"
            )
    hanging = [*leaving["triggers"], *leaving["rules"], *leaving["dependents"], *leaving["referenced_by"]]
    if hanging:
        raise RefusedError(
            f"these were attached to {name} since the work began and cannot move: "
            f"{', '.join(hanging)}; drop them, ask again, "
            "and make them anew after it"
        )


def _carry_identities(connection: AnyConnection, job: Job, leaving: Facts) -> None:
    """Numbers go on where they are; a serial's sequence stays in place and is handed over."""
    to_table = job.other.as_string(connection)
    for serial in leaving["serials"]:
        sequence = sql.Identifier(serial["schema"], serial["sequence"])
        if serial["is_identity"]:
            parameters = {"to_table": to_table, "column": serial["column"]}
            connection.execute(_SQL.compose("carry_sequence", sequence=sequence), parameters)
        else:
            _run(connection, "release_sequence", sequence=sequence)


def _hang_on(connection: AnyConnection, target: Target, leaving: Facts) -> None:
    """Everything that belonged to the table that left, for the one that has its name now."""
    for serial in leaving["serials"]:
        if not serial["is_identity"]:
            column = sql.Identifier(target.schema, target.table, serial["column"])
            _run(
                connection,
                "take_sequence",
                sequence=sql.Identifier(serial["schema"], serial["sequence"]),
                column=column,
            )
    for key in leaving["foreign_keys"]:
        definition = sql.SQL(key["definition"].removesuffix(" NOT VALID"))
        _run(
            connection,
            "add_foreign_key",
            table=target.public,
            constraint=sql.Identifier(key["name"]),
            definition=definition,
        )
    for statement in [*grant_statements(leaving, target.public), *view_statements(leaving)]:
        connection.execute(statement)


def _move(connection: AnyConnection, schema: str, table: str, to: str) -> None:
    """`schema.table` and its partitions into the schema `to`."""
    partitions: Sequence[tuple[object, ...]] = connection.execute(
        _SQL["partitions_of"], {"schema": schema, "table": table}
    ).fetchall()
    for of_schema, name in [*partitions, (schema, table)]:
        if of_schema == schema:
            relation = sql.Identifier(str(of_schema), str(name))
            _run(connection, "set_schema", table=relation, schema=sql.Identifier(to))


def _drop_triggers(connection: AnyConnection, target: Target) -> None:
    for trigger in MARK_TRIGGERS:
        _run(connection, "drop_mark_trigger", trigger=sql.Identifier(trigger), table=target.public)


def _drop_marks(connection: AnyConnection, job: Job) -> None:
    # DROP TRIGGER on a partitioned table locks the partitions last to first and its root not at all: writers, who
    # lock from the root down, and it would wait for one another
    _run(connection, "lock_tables", tables=job.source)
    _drop_triggers(connection, job.target)
    _run(connection, "drop_function", function=job.target.mark_function)
    _run(connection, "drop_table", table=job.target.marks)


def _run(connection: AnyConnection, block: str, **parts: sql.Composable) -> None:
    connection.execute(_SQL.compose(block, **parts))

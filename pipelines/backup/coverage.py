"""Is the content of a partition in a verified backup? Answered from evidence; without it the answer is no.

The evidence: a backup that was read back sound, and the server's WAL summaries, which name every relation whose
blocks changed since that backup began. A relation that appears in none of them, over a span without a hole, is in the
backup as it is now. https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-WAL-SUMMARY
"""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import psycopg

from pipelines.backup.errors import DamagedError
from pipelines.backup.model import format_lsn
from pipelines.backup.repository import Repository
from resources.database import Connection
from resources.sql import Queries

_SQL = Queries.of("pipelines.backup")
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Coverage:
    """The answer, the backup that it rests on, and the reason in words."""

    is_covered: bool
    backup_id: str | None
    reason: str


@dataclass(frozen=True)
class Proven:
    """A backup that was read back sound. What was written from `start_lsn` on may be missing in it."""

    backup_id: str
    timeline: int
    start_lsn: int


def covers(
    connection: Connection,
    repository: Repository,
    table: str,
    partition: str,
    *,
    wait_seconds: float = 30.0,
    not_before: dt.datetime | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Coverage:
    """Whether `partition` of `table` stands in a verified backup of `repository` as it is now; see `covered_by`."""

    def newest(timeline: int) -> Proven | None:
        return newest_verified(repository, timeline, not_before)

    return covered_by(
        connection,
        repository.system_identifier,
        newest,
        table,
        partition,
        wait_seconds=wait_seconds,
        clock=clock,
        sleep=sleep,
    )


def covered_by(
    connection: Connection,
    system_identifier: str,
    newest: Callable[[int], Proven | None],
    table: str,
    partition: str,
    *,
    wait_seconds: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Coverage:
    """Whether `partition` of `table` (both `schema.name`) stands in a verified backup as it is now.

    Call it while nobody can write to the partition (under a lock, or detached): the answer is of the moment of the
    call. `connection` is of a user who may read WAL summaries (superuser or granted), in autocommit; a CHECKPOINT
    makes the server summarise up to now, which is waited for. `newest` finds the backup of the server's present
    timeline that the answer may rest on: what another timeline holds beyond their branch is another database.
    """
    try:
        return _answer(connection, system_identifier, newest, table, partition, wait_seconds, clock, sleep)
    except psycopg.errors.UndefinedFunction:
        return Coverage(
            False, None, "no evidence: PostgreSQL before 17 does not tell what changed since a backup"
        )
    except psycopg.errors.InsufficientPrivilege as error:
        return Coverage(False, None, f"no evidence: the user may not read it ({error.diag.message_primary})")


def _answer(
    connection: Connection,
    system_identifier: str,
    newest_proven: Callable[[int], Proven | None],
    table: str,
    partition: str,
    wait_seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Coverage:
    row = connection.execute(_SQL["partition_files"], {"table": table, "partition": partition}).fetchone()
    if row is None:
        return Coverage(False, None, f"{partition} is not a relation, or no partition of {table}")
    system, persistence, files = cast("tuple[str, str, list[int]]", row)
    if system != system_identifier:
        return Coverage(False, None, f"the backups are of another cluster ({system_identifier})")
    if persistence != "p":
        return Coverage(False, None, f"{partition} is unlogged or temporary: backups do not hold it")
    row = connection.execute(_SQL["current_timeline"]).fetchone()
    assert row is not None
    timeline = int(cast(int, row[0]))
    newest = newest_proven(timeline)
    if newest is None:
        return Coverage(
            False, None, f"no backup that was read back sound on timeline {timeline}, where the server is now"
        )
    now_lsn = _summarised_up_to_now(connection, wait_seconds, clock, sleep)
    if now_lsn is None:
        return Coverage(
            False, newest.backup_id, "the server has not summarised its WAL up to now; is summarize_wal on?"
        )
    hole = _hole(connection, newest, now_lsn)
    if hole:
        return Coverage(False, newest.backup_id, hole)
    changed = connection.execute(
        _SQL["changed_files"],
        {"timeline": newest.timeline, "from_lsn": format_lsn(newest.start_lsn), "files": files},
    ).fetchone()
    if changed is None or changed[0]:
        return Coverage(
            False, newest.backup_id, f"{partition} was written to since backup {newest.backup_id} began"
        )
    return Coverage(
        True, newest.backup_id, f"unchanged since backup {newest.backup_id} began, which was read back sound"
    )


def newest_verified(
    repository: Repository, timeline: int, not_before: dt.datetime | None = None
) -> Proven | None:
    """The newest backup of a timeline whose last reading back, with all that it builds on, found nothing wrong.

    A reading back that is older than `not_before` does not count.
    """
    records = repository.records()
    for record in reversed(records.sound):
        if record.timeline != timeline:
            continue
        try:
            chain = records.chain(record)
        except DamagedError:
            continue
        found = [repository.verification(one.backup_id) for one in chain]
        last = found[-1]
        # of what it builds on, an answer of its own is not needed: a backup's verification covers its chain
        if any(one is not None and not one.is_sound for one in found):
            continue
        if last is not None and (not_before is None or last.verified_at >= not_before):
            return Proven(record.backup_id, record.timeline, record.start_lsn)
    return None


def _summarised_up_to_now(
    connection: Connection, wait_seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> int | None:
    """The LSN of now, once every change up to it is in a summary; None if that did not come in time."""
    row = connection.execute(_SQL["lsn_now"]).fetchone()
    assert row is not None
    now_lsn = int(cast(int, row[0]))
    deadline = clock() + wait_seconds
    connection.execute(_SQL["checkpoint"])
    while True:
        row = connection.execute(_SQL["summarised_lsn"]).fetchone()
        if row is not None and row[0] is not None and int(cast(int, row[0])) >= now_lsn:
            return now_lsn
        if clock() >= deadline:
            return None
        sleep(_POLL_SECONDS)


def _hole(connection: Connection, record: Proven, now_lsn: int) -> str:
    """What is missing of summaries from the backup's begin to now, empty if nothing is."""
    if record.start_lsn > now_lsn:
        return (
            f"the server is at {format_lsn(now_lsn)}, before {format_lsn(record.start_lsn)}, where backup "
            f"{record.backup_id} began: it was set back; make a full backup and verify it"
        )
    rows = connection.execute(_SQL["summaries"], {"timeline": record.timeline}).fetchall()
    reached = record.start_lsn
    for start, end in cast("list[tuple[int, int]]", rows):
        if start <= reached < end:
            reached = int(end)
    if reached >= now_lsn:
        return ""
    return f"WAL summaries from {format_lsn(reached)} on are gone; make a new backup and verify it"

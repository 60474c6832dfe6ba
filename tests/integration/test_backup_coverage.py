"""`covers` says yes from evidence alone: a backup that was read back sound, and no write to the partition since."""

import dataclasses
import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest

from pipelines.backup import layout
from pipelines.backup.coverage import Coverage, covers
from pipelines.backup.model import Verification
from pipelines.backup.pgbackrest import PgBackRestEngine
from pipelines.backup.verify import verify_backup
from resources.pgbackrest import PgBackRest
from tests.backup_cluster import Backups, Cluster
from tests.conftest import with_database

NAME = "longbox_covered"
TABLE, CLOSED, OPEN = "public.events", "public.events_2025", "public.events_2026"


@pytest.fixture
def connection(cluster: Cluster) -> Iterator[psycopg.Connection]:
    """A database with a partitioned table; one partition is closed."""
    cluster.run(f"CREATE DATABASE {NAME}")
    with psycopg.connect(with_database(cluster.url, NAME), autocommit=True) as opened:
        opened.execute("CREATE TABLE events (at date NOT NULL, body text) PARTITION BY RANGE (at)")
        for name, first, after in (
            ("2025", "2025-01-01", "2026-01-01"),
            ("2026", "2026-01-01", "2027-01-01"),
        ):
            opened.execute(
                f"CREATE TABLE events_{name} PARTITION OF events FOR VALUES FROM ('{first}') TO ('{after}')"
            )
        opened.execute("INSERT INTO events SELECT '2025-06-01', md5(n::text) FROM generate_series(1, 1000) n")
        opened.execute("INSERT INTO events VALUES ('2026-06-01', 'open')")
        # nothing is left for autovacuum to do: what it looks at it may write to
        opened.execute("VACUUM (FREEZE, ANALYZE) events_2025")
        yield opened
    cluster.run(f"DROP DATABASE {NAME} WITH (FORCE)")


def backed_up(backups: Backups, kind: str = "full") -> str:
    """A backup that was read back sound."""
    record = backups.engine.back_up(kind)  # type: ignore[arg-type]
    assert verify_backup(backups.repository, record.backup_id, backups.opener, True).is_sound
    return record.backup_id


def asked(
    backups: Backups, connection: psycopg.Connection, partition: str = CLOSED, **more: object
) -> Coverage:
    return covers(connection, backups.repository, TABLE, partition, **more)  # type: ignore[arg-type]


def test_a_closed_partition_in_a_verified_backup_is_covered_and_one_that_was_written_to_is_not(
    backups: Backups, connection: psycopg.Connection
):
    backup_id = backed_up(backups)
    connection.execute("INSERT INTO events VALUES ('2026-07-01', 'later')")
    closed, written = asked(backups, connection), asked(backups, connection, OPEN)
    assert closed.is_covered and closed.backup_id == backup_id
    assert not written.is_covered and "written to since backup" in written.reason

    connection.execute("UPDATE events SET body = 'x' WHERE ctid = '(0,1)' AND at = '2025-06-01'")
    assert not asked(backups, connection).is_covered
    second = backed_up(backups, "incremental")
    again = asked(backups, connection)
    assert again.is_covered and again.backup_id == second
    # detached, as an archive does before it drops, it is still the same content
    connection.execute("ALTER TABLE events DETACH PARTITION events_2025")
    assert asked(backups, connection).is_covered


def test_without_evidence_the_answer_is_no(backups: Backups, connection: psycopg.Connection):
    assert "no backup that was read back" in asked(backups, connection).reason
    record = backups.engine.back_up("full")
    assert "no backup that was read back" in asked(backups, connection).reason  # made, never read back
    backups.flip(record.parts[0].name)
    assert not verify_backup(backups.repository, record.backup_id, backups.opener, True).is_sound
    assert not asked(backups, connection).is_covered  # read back, damaged
    backups.flip(record.parts[0].name)
    verify_backup(backups.repository, record.backup_id, backups.opener, True)
    assert asked(backups, connection).is_covered

    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert not asked(backups, connection, not_before=later).is_covered  # evidence too old for the caller
    backups.flip(f"verifications/{record.backup_id}.json")
    assert not asked(backups, connection).is_covered  # the evidence itself is damaged
    for name in backups.repository.all_names("verifications"):
        backups.repository.delete(name)
    assert not asked(backups, connection).is_covered  # and gone


def test_a_base_that_was_lost_takes_the_coverage_of_what_builds_on_it(
    backups: Backups, connection: psycopg.Connection
):
    base = backed_up(backups)
    backed_up(backups, "incremental")
    assert asked(backups, connection).is_covered
    backups.repository.delete(f"catalogue/{base}.json")
    assert not asked(backups, connection).is_covered


def test_what_backups_do_not_hold_is_never_covered(backups: Backups, connection: psycopg.Connection):
    connection.execute("CREATE UNLOGGED TABLE public.passing (n int)")
    backed_up(backups)
    assert "unlogged" in asked(backups, connection, "public.passing").reason
    for name in ("public.no_such_table", TABLE, "pg_class_oid_index"):
        assert not asked(backups, connection, name).is_covered
    other = dataclasses.replace(backups)
    other.repository.system_identifier = "1"
    assert "another cluster" in asked(other, connection).reason


def test_a_partition_that_was_rewritten_into_a_new_file_is_not_covered(
    backups: Backups, connection: psycopg.Connection
):
    backed_up(backups)
    connection.execute("VACUUM FULL events_2025")
    assert not asked(backups, connection).is_covered


def test_a_backup_of_another_timeline_or_from_beyond_where_the_server_is_covers_nothing(
    backups: Backups, connection: psycopg.Connection
):
    """As after a recovery to an earlier moment: what was written since is in none of the backups made before it."""
    own = backed_up(backups)
    repository = backups.repository
    record, last = repository.record(own), repository.verification(own)
    assert last is not None
    beyond = record.start_lsn + (1 << 40)
    later = record.ended_at + dt.timedelta(hours=1)
    for timeline, backup_id in ((2, f"{own[:-4]}0002"), (1, f"{own[:-4]}0001")):
        other = dataclasses.replace(
            record,
            backup_id=backup_id,
            timeline=timeline,
            start_lsn=beyond,
            stop_lsn=beyond + 1,
            ended_at=later,
        )
        repository.put_record(other)
        repository.put(
            layout.verification(backup_id), dataclasses.replace(last, backup_id=backup_id).to_json()
        )
        if timeline == 2:
            assert asked(backups, connection).backup_id == own  # the server's own still counts
            connection.execute("INSERT INTO events VALUES ('2025-07-01', 'later')")
            assert "written to since backup" in asked(backups, connection).reason
    answer = asked(backups, connection)
    assert not answer.is_covered and "it was set back" in answer.reason
    repository.delete(layout.record(own))
    repository.delete(layout.record(f"{own[:-4]}0001"))
    answer = asked(backups, connection)
    assert not answer.is_covered and "on timeline 1, where the server is now" in answer.reason


INFO = """#!/bin/sh
cat <<'END'
[{{"name": "shop", "status": {{"code": 0, "message": "ok"}},
  "db": [{{"id": 1, "repo-key": 1, "system-id": {system}, "version": "18"}}],
  "repo": [{{"cipher": "none", "key": 1, "status": {{"code": 0, "message": "ok"}}}}],
  "backup": [{{"label": "20261121-010000F", "type": "full", "prior": null, "reference": null, "error": false,
    "annotation": null, "database": {{"id": 1, "repo-key": 1}},
    "timestamp": {{"start": 1763686800, "stop": 1763686860}},
    "lsn": {{"start": "{lsn}", "stop": "{lsn}"}}, "info": {{"size": 1, "repository": {{"delta": 1}}}},
    "archive": {{"start": "{segment}", "stop": "{segment}"}}}}]}}]
END
"""


def test_a_backup_of_pgbackrest_covers_by_what_it_says_of_its_begin_and_what_we_read_back(
    backups: Backups, connection: psycopg.Connection
):
    """pgBackRest's words are given, for Debian's cannot back this server up; the evidence is the server's."""
    system, repository, label = backups.cluster.system, backups.repository, "20261121-010000F"
    backups.cluster.run("CHECKPOINT")
    row = connection.execute(
        "SELECT pg_current_wal_insert_lsn()::text, pg_walfile_name(pg_current_wal_insert_lsn())"
    ).fetchone()
    assert row is not None
    program = backups.scratch / "pgbackrest"

    def engine(segment: str) -> PgBackRestEngine:
        program.write_text(INFO.format(system=system, lsn=row[0], segment=segment), encoding="utf-8")
        program.chmod(0o755)
        return PgBackRestEngine(PgBackRest("shop", (str(program),)), repository)

    def verified(*, is_sound: bool) -> None:
        now = dt.datetime.now(dt.UTC)
        repository.put(layout.verification(label), Verification(label, now, is_sound, True, 1, 1).to_json())

    own = engine(row[1])
    assert "no backup that was read back sound" in own.covers(connection, TABLE, CLOSED).reason
    verified(is_sound=True)
    answer = own.covers(connection, TABLE, CLOSED)
    assert answer.is_covered and answer.backup_id == label, answer
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert not own.covers(connection, TABLE, CLOSED, not_before=later).is_covered
    verified(is_sound=False)
    assert not own.covers(connection, TABLE, CLOSED).is_covered
    verified(is_sound=True)
    answer = engine(f"00000002{row[1][8:]}").covers(connection, TABLE, CLOSED)
    assert not answer.is_covered and "on timeline 1, where the server is now" in answer.reason
    own = engine(row[1])
    connection.execute("INSERT INTO events VALUES ('2025-07-01', 'later')")
    assert "written to since backup" in own.covers(connection, TABLE, CLOSED).reason

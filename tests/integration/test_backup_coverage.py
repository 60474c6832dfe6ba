"""`covers` says yes from evidence alone: a backup that was read back sound, and no write to the partition since."""

import dataclasses
import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest

from pipelines.backup.coverage import Coverage, covers
from pipelines.backup.verify import verify_backup
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

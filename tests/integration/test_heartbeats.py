"""Heartbeats: chained, kept as evidence, known outside of the cluster; a drill that misses one fails by its name."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pipelines.backup import drill as stage
from pipelines.backup import layout
from pipelines.backup.beats import lineage, read_hour, to_json
from pipelines.backup.drill import Drill, DrillFailedError, Findings, Moment
from pipelines.backup.heartbeats import Heart, HeartbeatJudge, HeartbeatsDivergeError
from pipelines.backup.ledger import Ledger
from pipelines.backup.repository import Repository
from pipelines.backup.truth import record_truth
from pipelines.migration import migrate, migrate_down
from resources.database import Database
from resources.errors import ObjectStoreUnavailableError
from resources.object_store import ObjectStore
from tests.backup_cluster import Backups, Cluster, migrated_database, one_value, ship_wal
from tests.integration.migration_support import new_database

NAME = "longbox_beating"
UNGUARDED = "ALTER TABLE longbox.heartbeats DISABLE TRIGGER USER"


@pytest.fixture
def platform_url(cluster: Cluster) -> Iterator[str]:
    """A database with the platform's tables in the cluster that is backed up."""
    with migrated_database(cluster, NAME) as url:
        yield url


@pytest.fixture
def database(platform_url: str) -> Iterator[Database]:
    """As the platform's processes work."""
    with Database(platform_url) as opened:
        yield opened


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def judged(backups: Backups, url: str, at: dt.datetime | None = None) -> tuple[int, tuple[str, ...]]:
    """What the judge says of the live database, taken for a restored one."""
    moment = at or backups.cluster.now()
    judge = HeartbeatJudge(backups.repository, NAME)
    found = judge.judge(lambda _: psycopg.connect(url, autocommit=True), Moment(moment, moment))
    return found.compared, found.faults


def test_every_heartbeat_of_before_the_moment_is_compared_and_none_of_after_it(
    backups: Backups, platform_url: str, database: Database
):
    heart = Heart(database, backups.repository)
    first = heart.beat()
    middle = backups.cluster.now()
    second = heart.beat()
    assert first and second and (first.beat, second.beat) == (1, 2)
    assert second.prev_hash == first.hash
    assert judged(backups, platform_url) == (2, ())
    compared, faults = judged(backups, platform_url, middle)
    assert compared == 1
    assert len(faults) == 1 and "heartbeat 2 is of" in faults[0] and "after the moment" in faults[0]


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("DELETE FROM longbox.heartbeats WHERE beat = 2", "heartbeat 2 of"),
        ("DELETE FROM longbox.heartbeats WHERE beat = 3", "heartbeat 3 of"),
        ("DELETE FROM longbox.heartbeats WHERE beat = 1", "heartbeat 1 of"),
        ("UPDATE longbox.heartbeats SET beat_at = '2020-01-01' WHERE beat = 2", "2: the heartbeat was changed"),
        ("DROP TABLE longbox.heartbeats CASCADE; DROP FUNCTION longbox.trim_heartbeats()", "heartbeats is missing"),
    ],
)  # fmt: skip
def test_a_heartbeat_that_is_missing_or_changed_is_named(
    backups: Backups, platform_url: str, database: Database, act: str, told: str
):
    heart = Heart(database, backups.repository)
    for _ in range(3):
        heart.beat()
    run(platform_url, UNGUARDED, act)
    compared, faults = judged(backups, platform_url)
    assert compared == 3
    assert any(told in fault for fault in faults), faults


def test_a_heartbeat_that_the_store_lost_is_named(backups: Backups, platform_url: str, database: Database):
    heart = Heart(database, backups.repository)
    for _ in range(3):
        heart.beat()
    for name in backups.repository.all_names(layout.HEARTBEATS):  # two where an hour ends between them
        kept = [one for one in read_hour(backups.repository, name) if one.beat != 2]
        backups.repository.put(name, to_json(kept))
    assert any("heartbeat 2 is missing in the store" in fault for fault in judged(backups, platform_url)[1])


def test_heartbeats_that_a_dead_store_did_not_take_reach_it_later(
    backups: Backups, platform_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
):
    heart = Heart(database, backups.repository)
    heart.beat()

    def away(*_: object) -> None:
        raise ObjectStoreUnavailableError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(backups.repository, "put", away)
        for _ in range(2):
            with pytest.raises(ObjectStoreUnavailableError):
                heart.beat()
    Heart(database, backups.repository).beat()  # also by another process
    assert [one.beat for one in lineage(backups.repository)[0]] == [1, 2, 3, 4]
    assert judged(backups, platform_url) == (4, ())


def test_a_copy_store_that_is_away_holds_no_heartbeat_up(
    backups: Backups, platform_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "copy").mkdir()
    copy = ObjectStore.from_url((tmp_path / "copy").as_uri())
    both = Repository(backups.repository.store, backups.cluster.system, (copy,))

    def away(*_: object) -> None:
        raise ObjectStoreUnavailableError("the copy store is away")

    for call in ("head", "fetch", "list"):
        monkeypatch.setattr(copy, call, away)
    heart = Heart(database, both)
    for _ in range(2):
        heart.beat()
    assert [one.beat for one in lineage(backups.repository)[0]] == [1, 2]
    assert judged(backups, platform_url) == (2, ())


def test_a_database_that_lost_its_newest_heartbeats_cannot_rewrite_what_the_store_knows(
    backups: Backups, platform_url: str, database: Database
):
    heart = Heart(database, backups.repository)
    for _ in range(3):
        heart.beat()
    run(
        platform_url,
        UNGUARDED,
        "DELETE FROM longbox.heartbeats WHERE beat > 1",
        UNGUARDED.replace("DIS", "EN"),
    )
    with pytest.raises(HeartbeatsDivergeError, match="heartbeat 3 is in the store"):
        heart.beat()
    assert [one.beat for one in lineage(backups.repository)[0]] == [1, 2, 3]


def test_a_drill_fails_by_name_when_one_restored_heartbeat_is_missing(
    backups: Backups, platform_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
):
    ledger = Ledger(database, backups.cluster.system, "test")
    record_truth(database, backups.repository, ledger)
    backups.engine.back_up("full")
    heart = Heart(database, backups.repository)
    for _ in range(3):
        heart.beat()
    backups.cluster.write()
    until = ship_wal(backups)
    judge = HeartbeatJudge(backups.repository, NAME)
    drill = Drill(database, backups.repository, backups.opener, backups.scratch / "drills", ledger, (judge,))

    class Vandal:
        name = "vandal"

        def judge(self, connect, moment: Moment) -> Findings:
            with connect(NAME) as restored:
                restored.execute(UNGUARDED)
                restored.execute("DELETE FROM longbox.heartbeats WHERE beat = 2")
            return Findings(0)

    monkeypatch.setattr(stage, "choose_moment", lambda *_: Moment(until, until))
    assert drill.run().is_proven
    with pytest.raises(DrillFailedError, match=r"heartbeats: heartbeat 2 of .* is missing"):
        replace(drill, judges=(Vandal(), judge)).run()
    assert drill.run().is_proven


def test_heartbeats_are_evidence_until_they_are_old_and_trimming_keeps_the_chain(
    postgres_admin_url: str, backups: Backups
):
    with new_database(postgres_admin_url) as url:
        migrate(url, [])
        insert = "INSERT INTO longbox.heartbeats DEFAULT VALUES"
        run(url, insert, insert)
        for act in ("UPDATE longbox.heartbeats SET beat = 9", "DELETE FROM longbox.heartbeats"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="evidence for 20 days"):
                run(url, act)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(url, "TRUNCATE longbox.heartbeats")
        age(url)
        run(url, insert)
        assert one_value(url, "SELECT count(*) FROM longbox.heartbeat_faults()") == 0
        with Database(url) as database:
            assert Heart(database, backups.repository).trim() == 2
            assert Heart(database, backups.repository).trim() == 0
        assert one_value(url, "SELECT array_agg(beat) FROM longbox.heartbeats") == [3]
        run(url, insert)
        assert one_value(url, "SELECT count(*) FROM longbox.heartbeat_faults()") == 0
        migrate_down(url, [], "longbox@0004", dry_run=False)


def age(url: str) -> None:
    """Make what is there 30 days old, as if it had been beaten then."""
    run(
        url,
        UNGUARDED,
        "UPDATE longbox.heartbeats SET beat_at = beat_at - interval '30 days'",
        "UPDATE longbox.heartbeats SET row_hash = longbox.heartbeat_digest(prev_hash, beat, beat_at) WHERE beat = 1",
        "UPDATE longbox.heartbeats SET prev_hash = (SELECT row_hash FROM longbox.heartbeats WHERE beat = 1) "
        "WHERE beat = 2",
        "UPDATE longbox.heartbeats SET row_hash = longbox.heartbeat_digest(prev_hash, beat, beat_at) WHERE beat = 2",
        "ALTER TABLE longbox.heartbeats ENABLE ALWAYS TRIGGER heartbeats_are_kept",
        "ALTER TABLE longbox.heartbeats ENABLE ALWAYS TRIGGER heartbeats_are_chained",
    )

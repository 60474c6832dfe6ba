"""Drills on a real cluster: what they prove, and that they fail by name when anything is not as it was."""

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local.processes import processes_in
from pipelines.backup.drill import (
    Drill,
    DrillFailedError,
    DrillRunningError,
    Findings,
    Moment,
    drill_results,
    scratch_folder,
)
from pipelines.backup.errors import RestoreRefusedError
from pipelines.backup.failover import StandIn
from pipelines.backup.ledger import Ledger
from pipelines.backup.truth import record_truth
from resources.database import Database
from tests.backup_cluster import Backups, Cluster, migrated_database, one_value, ship_wal

NAME = "longbox_drilled"


@pytest.fixture(scope="module")
def platform_url(cluster: Cluster) -> Iterator[str]:
    """A database with the platform's tables in the cluster that is backed up."""
    with migrated_database(cluster, NAME) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # no page of it changes any more: one that WAL brought again would be read from memory, not its file
            connection.execute(
                "CREATE TABLE public.closed WITH (autovacuum_enabled = off) AS "
                "SELECT n, md5(n::text) AS body FROM generate_series(1, 5000) n"
            )
            connection.execute("VACUUM (FREEZE) public.closed")
            connection.execute("GRANT SELECT ON public.closed TO longbox_app")
        yield url


@pytest.fixture
def drill(backups: Backups, platform_url: str, tmp_path: Path) -> Iterator[Drill]:
    """A drill over a witnessed full backup."""
    with Database(platform_url) as database:
        ledger = Ledger(database, backups.cluster.system, "test")
        made = Drill(database, backups.repository, backups.opener, backups.scratch / "drills", ledger)
        record_truth(database, backups.repository, ledger)
        backups.engine.back_up("full")
        record_truth(database, backups.repository, ledger)
        yield made


class Vandal:
    """A judge who does something to the restored server before the others look at it."""

    name = "vandal"

    def __init__(self, act) -> None:
        self.act = act

    def judge(self, connect, moment: Moment) -> Findings:
        self.act(connect)
        return Findings(0)


def test_a_drill_restores_compares_and_records_what_it_proved(
    drill: Drill, backups: Backups, platform_url: str
) -> None:
    result = drill.run(seed=1)
    assert result.is_proven
    assert result.compared > 2
    assert result.rto_seconds > 0
    assert list(drill.scratch.iterdir()) == []
    assert drill_results(backups.repository) == [result]
    assert one_value(platform_url, "SELECT count(*) FROM longbox.ledger WHERE act = 'restore drill'") == 1
    assert one_value(platform_url, "SELECT count(*) FROM longbox.ledger_faults()") == 0


def failed(drill: Drill, **changed: object) -> str:
    """What a drill that must fail says; it leaves nothing, and the ledger says that it failed."""
    with pytest.raises(DrillFailedError) as caught:
        dataclasses.replace(drill, **changed).run(seed=1)
    assert list(drill.scratch.iterdir()) == []
    assert [one.is_proven for one in drill_results(drill.repository)] == [False]
    return str(caught.value)


def corrupt_a_page(connect) -> None:
    with connect(NAME) as restored:
        folder = one_of(restored, "SHOW data_directory")
        restored.execute("CHECKPOINT")
        file = Path(folder) / one_of(restored, "SELECT pg_relation_filepath('public.closed')")
    data = bytearray(file.read_bytes())
    data[8192 + 4000] ^= 0x10
    file.write_bytes(data)


def one_of(connection: psycopg.Connection, query: str) -> str:
    row = connection.execute(query).fetchone()
    assert row is not None
    return str(row[0])


def test_a_drill_fails_by_name_when_one_restored_page_is_corrupted(drill: Drill) -> None:
    said = failed(drill, judges=(Vandal(corrupt_a_page),))
    assert "tables: public.closed cannot be read" in said
    assert "amcheck" in said


def test_a_drill_fails_by_name_when_one_restored_row_differs(drill: Drill) -> None:
    def change(connect) -> None:
        with connect(NAME) as restored:
            restored.execute("UPDATE public.closed SET body = 'x' WHERE n = 17")

    assert "public.closed has 5,000 rows" in failed(drill, judges=(Vandal(change),))


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("DELETE FROM longbox.ledger WHERE chain_position > 4", "ledger: it ends at 4"),
        ("DELETE FROM longbox.ledger WHERE chain_position = 2", "longbox.ledger at 3: the entry before is missing"),
        ("UPDATE longbox.ledger SET policy = 'no' WHERE chain_position = 2", "at 2: the entry was changed"),
    ],
)  # fmt: skip
def test_a_drill_fails_by_name_when_one_ledger_entry_is_rolled_back(
    drill: Drill, backups: Backups, platform_url: str, act: str, told: str
) -> None:
    with psycopg.connect(platform_url, autocommit=True) as connection:
        for _ in range(3):
            connection.execute("INSERT INTO longbox.ledger (act, relation, policy) VALUES ('test', 'x', 'y')")
    record_truth(drill.database, backups.repository, drill.ledger)
    backups.repository.delete(f"catalogue/{backups.engine.catalogue().sound[0].backup_id}.json")
    backups.engine.back_up("full")

    def roll_back(connect) -> None:
        with connect(NAME) as restored:
            restored.execute("ALTER TABLE longbox.ledger DISABLE TRIGGER ledger_is_append_only")
            restored.execute(act)

    assert told in failed(drill, judges=(Vandal(roll_back),))


def test_a_failover_drill_fails_by_name_when_the_restored_server_takes_no_writes(
    drill: Drill, backups: Backups
) -> None:
    def refuse(connect) -> None:
        with connect(NAME) as restored:
            restored.execute("REVOKE INSERT ON longbox.heartbeats FROM longbox_app")

    stand_in = StandIn(NAME, drill.ledger.relation)
    proved = dataclasses.replace(drill, is_newest=True, last_judges=(stand_in,)).run()
    assert proved.moment == proved.newest_restorable
    backups.repository.delete(backups.repository.all_names("drills")[0])
    said = failed(drill, is_newest=True, last_judges=(Vandal(refuse), stand_in))
    assert "stand-in: the restored server said: permission denied for table heartbeats" in said


def test_a_drill_fails_by_name_when_one_witness_is_missing(drill: Drill, backups: Backups) -> None:
    lost = backups.repository.all_names("truth")[-1]
    backups.repository.delete(lost)
    assert f"witness {lost}: missing in" in failed(drill)


def test_a_drill_without_any_witness_proves_nothing(drill: Drill, backups: Backups) -> None:
    for name in backups.repository.all_names("truth"):
        backups.repository.delete(name)
    with pytest.raises(DrillFailedError, match="no witness"):
        drill.run(seed=1)


def test_what_a_killed_drill_left_goes_at_the_next_start_and_two_never_meet(drill: Drill) -> None:
    left = drill.scratch / "restored" / "data"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18")
    with scratch_folder(drill.scratch) as folder:
        assert list(folder.iterdir()) == []
        with pytest.raises(DrillRunningError):
            drill.run(seed=1)


def test_a_server_that_a_killed_drill_was_just_starting_is_ended(drill: Drill, tmp_path: Path) -> None:
    left, program = drill.scratch / "restored" / "data", tmp_path / "postgres"
    left.mkdir(parents=True)
    program.symlink_to("/bin/sh")
    writes = f"while :; do mkdir -p {left}; : > {left}/file; done"  # no postmaster.pid yet
    with subprocess.Popen([program, "-c", writes], cwd=left) as server:
        try:
            with scratch_folder(drill.scratch) as folder:
                assert list(folder.iterdir()) == []
                assert server.wait(10) is not None and processes_in(left) == []
        finally:
            server.kill()


def test_a_drill_never_empties_a_folder_that_a_link_leads_to(drill: Drill, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    drill.scratch.symlink_to(tmp_path / "kept")
    with pytest.raises(RestoreRefusedError, match="is a link"):
        drill.run(seed=1)
    assert (tmp_path / "kept" / "file").read_text() == "mine"


def test_any_moment_is_drilled_where_wal_leads_to_it(
    drill: Drill, backups: Backups, platform_url: str
) -> None:
    with psycopg.connect(platform_url, autocommit=True) as connection:
        connection.execute("INSERT INTO longbox.ledger (act, relation, policy) VALUES ('test', 'x', 'y')")
    covered = ship_wal(backups)
    result = drill.run(seed=7)
    assert result.is_from_wal
    assert result.first_restorable <= result.moment <= covered
    assert result.is_proven

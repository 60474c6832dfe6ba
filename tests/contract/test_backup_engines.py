"""What every backup engine promises: made, listed, read back, restored, and nothing claimed without evidence.

The default engine on a local store and on S3; pgBackRest where Debian's is installed. The external engine can do less,
and has tests of its own (`tests/integration/test_external_engine.py`) beside those here that it takes part in.
"""

import datetime as dt
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from pipelines.backup.engine import BackupEngine
from pipelines.backup.errors import (
    BackupRefusedError,
    BaseUnusableError,
    DamagedError,
    RestoreRefusedError,
)
from pipelines.backup.external import ExternalEngine
from pipelines.backup.model import RestoreRequest
from pipelines.backup.repository import Repository
from resources.database import Database
from resources.object_store import ObjectStore
from resources.provider import Provider
from tests.backup_cluster import Backups, Cluster, fast_folder, new_backups, running_cluster, truth
from tests.pgbackrest_cluster import StanzaCluster, restored_truth, running_stanza


@dataclass(frozen=True)
class Stand:
    """An engine over a cluster of its own kind, and what a test does with both."""

    engine: BackupEngine
    cluster: Cluster
    scratch: Path
    restored_truth: Callable[..., str]
    damage: Callable[[str], str]  # one flipped bit in a backup; what a verification has to say


@pytest.fixture(scope="session")
def stanza() -> Iterator[StanzaCluster]:
    with running_stanza() as running:
        yield running


@pytest.fixture(params=["postgres-file", "postgres-s3", "pgbackrest"])
def stand(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path, object_store_url: str
) -> Iterator[Stand]:
    if request.param == "pgbackrest":
        running: StanzaCluster = request.getfixturevalue("stanza")
        running.start_anew()
        engine, scratch = running.engine(object_store_url), fast_folder("longbox-restored-")
        yield Stand(
            engine,
            running.cluster,
            scratch,
            lambda **wanted: restored_truth(engine, scratch, **wanted),
            running.damage,
        )
    else:
        url = request.getfixturevalue("s3_url") if request.param == "postgres-s3" else object_store_url
        made = new_backups(cluster, url, tmp_path)
        scratch = made.scratch
        yield Stand(
            made.engine, cluster, scratch, made.restored_truth, lambda backup_id: damage(made, backup_id)
        )
    shutil.rmtree(scratch, ignore_errors=True)


def damage(made: Backups, backup_id: str) -> str:
    victim = made.repository.record(backup_id).parts[0]
    data = bytearray(b"".join(made.repository.store.read(made.repository.path(victim.name))))
    data[len(data) // 2] ^= 4
    made.repository.put(victim.name, data)
    return victim.name


def external(folder: Path, store_url: str, cluster: Cluster) -> ExternalEngine:
    """The external engine over a file of evidence with one snapshot of now."""
    evidence = folder / "snapshots.json"
    evidence.write_text(
        f'[{{"id": "nightly", "at": "{dt.datetime.now(dt.UTC).isoformat()}"}}]', encoding="utf-8"
    )
    repository = Repository(ObjectStore.from_url(store_url), cluster.system)
    return ExternalEngine(
        Provider(evidence_file=evidence), repository, lambda: Database(cluster.url, role=None)
    )


def test_a_full_and_an_incremental_backup_are_listed_sound_and_restorable(stand: Stand):
    engine = stand.engine
    stand.cluster.write()
    assert engine.choose().kind == "full"
    full = engine.back_up("full")
    stand.cluster.write()
    expected = stand.cluster.truth()
    assert engine.choose().kind == "incremental"
    second = engine.back_up("incremental")

    listed = engine.catalogue()
    assert [record.backup_id for record in listed.sound] == [full.backup_id, second.backup_id]
    assert listed.faults == {}
    assert (full.kind, second.kind) == ("full", "incremental")
    assert second.parent_id == full.backup_id and second.stored_bytes < full.stored_bytes / 5
    assert full.started_at < full.ended_at <= second.ended_at
    found = engine.verify(second.backup_id)
    assert found.is_sound and found.is_decrypted and found.objects > 1
    assert engine.repository.verification(second.backup_id) == found
    assert all(report.is_sound for report in engine.read_back())
    assert stand.restored_truth(backup_id=second.backup_id) == expected


def test_a_cluster_that_is_written_to_meanwhile_is_backed_up_as_of_the_end(stand: Stand):
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.01):
            stand.cluster.write(5)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = int(stand.cluster.truth().split()[0])
        record = stand.engine.back_up("full")
        after = int(stand.cluster.truth().split()[0])
    finally:
        done.set()
        writer.join()
    rows = int(stand.restored_truth(backup_id=record.backup_id).split()[0])
    assert before <= rows <= after and (rows - before) % 5 == 0


def test_an_incremental_without_anything_to_build_on_is_refused_and_leaves_nothing(stand: Stand):
    with pytest.raises(BaseUnusableError, match="full"):
        stand.engine.back_up("incremental")
    assert list(stand.engine.catalogue().sound) == []
    assert stand.engine.window() is None
    choice = stand.engine.choose()
    assert choice.kind == "full" and choice.reason


def test_a_flipped_bit_is_named_and_the_backup_is_not_restored(stand: Stand):
    record = stand.engine.back_up("full")
    named = stand.damage(record.backup_id)

    found = stand.engine.verify(record.backup_id)

    assert not found.is_sound and any(named in fault for fault in found.faults)
    assert any(named in str(fault) for report in stand.engine.read_back() for fault in report.faults)
    with pytest.raises(Exception, match=record.backup_id):
        stand.restored_truth(backup_id=record.backup_id)
    assert list(stand.scratch.iterdir()) == []


def test_what_cannot_be_reached_is_refused_before_anything_is_written(stand: Stand):
    with pytest.raises(RestoreRefusedError, match="there is no backup"):
        stand.restored_truth()
    record = stand.engine.back_up("full")
    soon = record.ended_at + dt.timedelta(hours=1)
    with pytest.raises(RestoreRefusedError, match="after the newest restorable moment"):
        stand.restored_truth(to=soon)
    with pytest.raises(RestoreRefusedError, match="before the first restorable moment"):
        stand.restored_truth(to=record.started_at - dt.timedelta(hours=1))
    with pytest.raises(RestoreRefusedError, match="there is no backup"):
        stand.restored_truth(backup_id="20200101T000000Z-full-0000")
    with pytest.raises((DamagedError, RestoreRefusedError)):
        stand.engine.verify("20200101T000000Z-full-0000")
    taken = stand.scratch / "taken"
    taken.mkdir()
    (taken / "mine").touch()
    with pytest.raises(RestoreRefusedError, match="not empty"):
        stand.engine.preview(RestoreRequest(taken, backup_id=record.backup_id))
    assert sorted(stand.scratch.rglob("*")) == [taken, taken / "mine"]


def test_without_a_verified_backup_no_partition_is_covered(stand: Stand):
    require_no_cover(stand.engine, stand.cluster)


def test_the_external_engine_never_covers_and_builds_on_nothing(
    cluster: Cluster, tmp_path: Path, object_store_url: str
):
    engine = external(tmp_path, object_store_url, cluster)
    assert engine.window() is None and engine.choose().kind == "full" and engine.limits
    with pytest.raises(BaseUnusableError, match="full"):
        engine.back_up("incremental")
    require_no_cover(engine, cluster)
    assert [one.kind for one in engine.catalogue().sound] == ["full"]


def require_no_cover(engine: BackupEngine, cluster: Cluster) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        for _ in range(2):
            answer = engine.covers(connection, "public.notes", "public.notes")
            assert not answer.is_covered and answer.backup_id is None and answer.reason
            engine.back_up("full")  # made, but never read back


def test_a_cluster_with_a_tablespace_is_refused_before_anything_is_written(
    tmp_path: Path, object_store_url: str
):
    with running_cluster() as other:
        with_space = new_backups(other, object_store_url, tmp_path)
        other.run("SET allow_in_place_tablespaces = on", "CREATE TABLESPACE fast LOCATION ''")
        with pytest.raises(BackupRefusedError, match=r"tablespaces \(fast\)"):
            with_space.engine.back_up("full")
        assert list(with_space.repository.names()) == []
        with_space.scratch.rmdir()


def test_files_are_laid_out_by_the_default_engine_without_starting_anything(backups: Backups):
    record = backups.engine.back_up("full")
    into = backups.scratch / "data"
    backups.engine.lay_out(record.backup_id, into)
    assert (into / "PG_VERSION").exists() and (into / "backup_label").exists()


def test_what_is_compared_here_would_notice_a_lost_row(cluster: Cluster):
    before = truth(cluster.url)
    cluster.write(1)
    assert truth(cluster.url) != before

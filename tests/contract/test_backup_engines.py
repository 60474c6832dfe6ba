"""What every backup engine promises, on a local store and on S3: made, listed, read back, laid out, started."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.backup.errors import BackupRefusedError, BaseUnusableError
from tests.backup_cluster import Backups, Cluster, new_backups, running_cluster, truth


@pytest.fixture(params=["postgres"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["file", "s3"])
def stored(
    request: pytest.FixtureRequest, engine_name: str, cluster: Cluster, tmp_path: Path, object_store_url: str
) -> Iterator[Backups]:
    url = request.getfixturevalue("s3_url") if request.param == "s3" else object_store_url
    made = new_backups(cluster, url, tmp_path)
    yield made
    shutil.rmtree(made.scratch, ignore_errors=True)


def test_a_full_and_an_incremental_backup_are_listed_sound_and_restorable(stored: Backups):
    engine = stored.engine
    stored.cluster.write()
    full = engine.back_up("full")
    stored.cluster.write()
    expected = stored.cluster.truth()
    second = engine.back_up("incremental")

    assert [record.backup_id for record in engine.backups()] == [full.backup_id, second.backup_id]
    assert second.parent_id == full.backup_id and second.stored_bytes < full.stored_bytes / 5
    found = engine.verify(second.backup_id)
    assert found.is_sound and found.is_decrypted and found.objects == len(full.objects) + len(second.objects)
    into = stored.scratch / "data"
    engine.lay_out(second.backup_id, into)
    assert (into / "PG_VERSION").exists() and (into / "backup_label").exists()
    assert stored.restored_truth(backup_id=second.backup_id) == expected


def test_a_cluster_that_is_written_to_meanwhile_is_backed_up_as_of_the_end(stored: Backups):
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.01):
            stored.cluster.write(5)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = int(stored.cluster.truth().split()[0])
        record = stored.engine.back_up("full")
        after = int(stored.cluster.truth().split()[0])
    finally:
        done.set()
        writer.join()
    rows = int(stored.restored_truth(backup_id=record.backup_id).split()[0])
    assert before <= rows <= after and (rows - before) % 5 == 0


def test_an_incremental_without_anything_to_build_on_is_refused_and_leaves_nothing(stored: Backups):
    with pytest.raises(BaseUnusableError, match="full"):
        stored.engine.back_up("incremental")
    assert list(stored.repository.names()) == []
    assert stored.engine.choose().kind == "full"


def test_a_damaged_part_is_named(stored: Backups):
    record = stored.engine.back_up("full")
    victim = record.parts[0]
    data = bytearray(b"".join(stored.repository.store.read(stored.repository.path(victim.name))))
    data[len(data) // 2] ^= 4
    stored.repository.put(victim.name, data)

    found = stored.engine.verify(record.backup_id)

    assert not found.is_sound and len(found.faults) == 1 and victim.name in found.faults[0]


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


def test_what_is_compared_here_would_notice_a_lost_row(cluster: Cluster):
    before = truth(cluster.url)
    cluster.write(1)
    assert truth(cluster.url) != before

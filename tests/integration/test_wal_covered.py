"""What is said of all WAL in the store keeps up with what each segment says of itself."""

import datetime as dt
from pathlib import Path

from pipelines.backup.shipper import Samples, Shipper
from pipelines.backup.slot import Sample
from pipelines.backup.spool import Spool
from pipelines.backup.verify import verify_wal
from pipelines.backup.wal import WalArchive, segment_name
from tests.backup_cluster import Backups

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


def test_a_segment_that_is_shipped_between_two_turns_does_not_make_what_is_said_of_all_look_stale(
    backups: Backups, tmp_path: Path
):
    archive, samples = WalArchive(backups.repository), Samples()
    size = archive.segment_bytes
    spool = Spool(tmp_path / "spool", backups.cluster.system)
    run = spool.make_run(spool.new_run_name())
    shipper = Shipper(spool, archive, lambda: backups.server_keys, samples, lambda gap: None)
    archive.put_kept(5 * size)
    for number in (5, 6):
        at = NOON + dt.timedelta(seconds=number)
        samples.add(Sample(at, number * size + 4096, 1), (number + 1) * size)
        (run / segment_name(1, number, size)).write_bytes(bytes(size))
        shipper.ship(is_due=number == 5, live_run=lambda: run.name)
        said = archive.covered()
        assert said is not None and (said.at, said.lsn) == (at, number * size + 4096)
        found = verify_wal(backups.repository, backups.opener, [])
        assert found.faults == [] and found.notes == ()

"""How far the WAL is: what can be restored up to when, what is missing, what the slot and the spool hold.

Read from the server, the store and (where this runs on the receiver's machine) the spool; writes nothing.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.backup import setup, spool
from pipelines.backup.model import BackupRecord
from pipelines.backup.planning import window
from pipelines.backup.reach import CopyReach, copy_reaches
from pipelines.backup.sealed import Opener
from pipelines.backup.slot import SlotSession, SlotState
from pipelines.backup.spool import Spool
from pipelines.backup.wal import SEGMENT_BYTES, Covered, Gap, Inventory, WalArchive
from resources.settings import Settings


@dataclass(frozen=True)
class WalState:
    """One look. `age_seconds` is the live RPO: what a server that is lost now would cost."""

    at: dt.datetime
    newest_restorable: dt.datetime | None
    covered: Covered | None
    lag_bytes: int | None
    gaps: tuple[Gap, ...]
    open_gaps: tuple[Gap, ...]  # behind the newest backup: nothing bridges them yet
    slot: SlotState
    spool_bytes: int | None
    segments: int
    copies: tuple[CopyReach, ...] = ()

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the newest restorable moment, None if there is none."""
        if self.newest_restorable is None:
            return None
        return max(0.0, (self.at - self.newest_restorable).total_seconds())


def look(settings: Settings, opener: Opener) -> WalState:
    """Look at server, store and spool. Raises what a server or a store that is away raises."""
    with setup.backup_database(settings) as database, SlotSession(database) as session:
        source = session.source()
        sample, slot = session.look()
    repository = setup.open_repository(settings, source.system_identifier)
    records = repository.records().sound
    archive = WalArchive(repository, source.segment_bytes or SEGMENT_BYTES)
    inventory, covered = archive.inventory(), archive.covered()
    reach = window(repository, opener) if records else None
    place = settings.wal_spool
    own = Spool(place, source.system_identifier) if source.system_identifier in spool.systems(place) else None
    return WalState(
        sample.at,
        reach.until if reach else None,
        covered,
        max(0, sample.lsn - covered.lsn) if covered else None,
        tuple(gap for timeline in inventory.timelines for gap in inventory.gaps(timeline)),
        tuple(open_gaps(inventory, records)),
        slot,
        own.size_bytes() if own else None,
        len(inventory.segments),
        copy_reaches(repository, opener),
    )


def is_received(settings: Settings) -> bool:
    """Whether the server sends WAL to a receiver now."""
    with setup.backup_database(settings) as database, SlotSession(database) as session:
        return session.look()[1].holder_pid is not None


def open_gaps(inventory: Inventory, records: Sequence[BackupRecord]) -> list[Gap]:
    """What is missing behind the newest backup, which brings its own WAL along. Pure."""
    if not records:
        return [gap for timeline in inventory.timelines for gap in inventory.gaps(timeline)]
    newest, size = records[-1], inventory.segment_bytes
    start = -(-newest.stop_lsn // size) * size
    found = inventory.gaps(newest.timeline, start)
    later = [timeline for timeline in inventory.timelines if timeline > newest.timeline]
    return found + [gap for timeline in later for gap in inventory.gaps(timeline)]

"""Names of objects in a repository: built and parsed here only.

The folder of a cluster is `backups/<system identifier>/`; names inside it are relative to that folder and are what
headers, records and messages quote. https://www.postgresql.org/docs/18/wal-internals.html (names of segments)
"""

import datetime as dt
import re
import secrets
from dataclasses import dataclass

ROOT = "backups"
CATALOGUE, DATA, LEASES, VERIFICATIONS, WAL = "catalogue", "data", "leases", "verifications", "wal"
SEALED = ".sealed"
COVERED = f"{WAL}/covered.json"
KEPT = f"{WAL}/kept.json"
EVIDENCE = "evidence"  # of the external engine: what a provider said
ARCHIVED = "pgbackrest/archived.json"  # of the pgbackrest engine: how far WAL was in its archive
TRUTH, DRILLS, HEARTBEATS = "truth", "drills", "heartbeats"
KINDS = {"full": "full", "incremental": "incr"}
_BACKUP_ID = re.compile(r"\d{8}T\d{6}Z-(full|incr)-[0-9a-f]{4}")
_SEGMENT = re.compile(rf"{WAL}/([0-9A-F]{{8}})/([0-9A-F]{{24}}){SEALED}")
_PARTIAL = re.compile(rf"{WAL}/([0-9A-F]{{8}})/([0-9A-F]{{24}})\.([0-9a-f]{{8}})\.partial{SEALED}")
_HISTORY = re.compile(rf"{WAL}/([0-9A-F]{{8}})/history{SEALED}")


def new_backup_id(kind: str, at: dt.datetime) -> str:
    """An identifier that sorts by time and is not used twice."""
    return f"{at.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-{KINDS[kind]}-{secrets.token_hex(2)}"


def is_backup_id(text: str) -> bool:
    """Whether `text` has the form of a backup id."""
    return _BACKUP_ID.fullmatch(text) is not None


def began_at(backup_id: str) -> dt.datetime:
    """When a backup began, to the second."""
    return dt.datetime.strptime(backup_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)


def record(backup_id: str) -> str:
    """The catalogue object of a backup."""
    return f"{CATALOGUE}/{backup_id}.json"


def lease(backup_id: str) -> str:
    """The object that says that a backup is in progress."""
    return f"{LEASES}/{backup_id}.json"


def verification(backup_id: str) -> str:
    """The result of the last reading back of a backup."""
    return f"{VERIFICATIONS}/{backup_id}.json"


def evidence(backup_id: str) -> str:
    """What a provider said of one snapshot."""
    return f"{EVIDENCE}/{backup_id}.json"


def part(backup_id: str, number: int) -> str:
    """Part `number` (from 1) of a backup's tar."""
    return f"{DATA}/{backup_id}/part-{number:06d}{SEALED}"


def manifest(backup_id: str) -> str:
    """PostgreSQL's manifest of a backup."""
    return f"{DATA}/{backup_id}/manifest{SEALED}"


def segment(timeline: int, name: str) -> str:
    """A whole WAL segment."""
    return f"{WAL}/{timeline:08X}/{name}{SEALED}"


def partial(timeline: int, name: str, valid_bytes: int) -> str:
    """The first `valid_bytes` of a segment that was still written to."""
    return f"{WAL}/{timeline:08X}/{name}.{valid_bytes:08x}.partial{SEALED}"


def history(timeline: int) -> str:
    """The history file of a timeline (timeline 1 has none)."""
    return f"{WAL}/{timeline:08X}/history{SEALED}"


def truth(at: dt.datetime) -> str:
    """What the database held at a moment; names sort by time."""
    return f"{TRUTH}/{at.astimezone(dt.UTC):%Y%m%dT%H%M%S.%f}Z.json"


def drill(at: dt.datetime) -> str:
    """The result of the drill that began at a moment."""
    return f"{DRILLS}/{at.astimezone(dt.UTC):%Y%m%dT%H%M%S.%f}Z.json"


def moment_of(name: str) -> dt.datetime:
    """The moment in the name of a witness or of a drill's result."""
    rest = name.partition("/")[2]
    return dt.datetime.strptime(rest, "%Y%m%dT%H%M%S.%fZ.json").replace(tzinfo=dt.UTC)


def heartbeats_of(timeline: int) -> str:
    """Where the heartbeats of a timeline are."""
    return f"{HEARTBEATS}/{timeline:08X}/"


def heartbeats(timeline: int, at: dt.datetime) -> str:
    """The heartbeats of the hour of `at`."""
    return f"{heartbeats_of(timeline)}{at.astimezone(dt.UTC):%Y%m%dT%H}Z.json"


@dataclass(frozen=True)
class WalName:
    """What the name of an object under `wal/` says; `valid_bytes` None for a whole segment."""

    name: str
    timeline: int
    segment: str
    valid_bytes: int | None = None

    @property
    def is_history(self) -> bool:
        """Whether it is a history file; then `segment` is empty."""
        return not self.segment


def parse_wal(name: str) -> WalName | None:
    """The parts of `name`, None if it is no object of WAL."""
    if match := _SEGMENT.fullmatch(name):
        return WalName(name, int(match[1], 16), match[2])
    if match := _PARTIAL.fullmatch(name):
        return WalName(name, int(match[1], 16), match[2], int(match[3], 16))
    if match := _HISTORY.fullmatch(name):
        return WalName(name, int(match[1], 16), "")
    return None

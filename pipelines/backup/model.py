"""Records of the repository as values, and their JSON, which carries a checksum of its own.

A record is plain text, readable without keys: the server that may not decrypt a backup still has to know what there
is, what depends on what, and what may go. Times are the database server's, in UTC. LSNs are integers in Python and
PostgreSQL's notation (`1/A2000028`) in JSON.
"""

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pipelines.backup.errors import DamagedError

Kind = Literal["full", "incremental"]
FORMAT = 1


@dataclass(frozen=True)
class StoredObject:
    """One object of a backup: its name, bytes in the store, bytes before compression, hash of what is stored."""

    name: str
    size_bytes: int
    plain_bytes: int
    blake2b: str


@dataclass(frozen=True)
class BackupRecord:
    """One backup. `parent_id` is the backup that an incremental builds on; all facts are those of the run."""

    backup_id: str
    kind: Kind
    engine: str
    system_identifier: str
    server_version: int  # 180006 for 18.6
    timeline: int
    start_lsn: int
    stop_lsn: int
    started_at: dt.datetime
    ended_at: dt.datetime
    parent_id: str | None
    parts: tuple[StoredObject, ...]
    manifest: StoredObject | None
    recovery_key_id: str
    wrapped_key: (
        str  # base64, as in the header of each part: shows before anything is read whether a key opens it
    )
    wal_segment_bytes: int
    superuser: str
    files: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)  # an engine's own
    format: int = FORMAT

    @property
    def plain_bytes(self) -> int:
        """Bytes of the tar."""
        return sum(part.plain_bytes for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Bytes in the store, manifest included."""
        return sum(stored.size_bytes for stored in self.objects)

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """Every object of the backup but the record itself."""
        return self.parts + ((self.manifest,) if self.manifest else ())

    @property
    def major(self) -> int:
        """Major version of the server."""
        return self.server_version // 10000

    @property
    def duration_seconds(self) -> float:
        """From the start of the stream to its end."""
        return (self.ended_at - self.started_at).total_seconds()

    def to_json(self) -> bytes:
        """The catalogue object."""
        return checked_json(self)

    @classmethod
    def from_json(cls, name: str, data: bytes) -> Self:
        """Read a catalogue object. Raises `DamagedError`."""
        found = read_checked_json(name, data)
        try:
            if found["format"] != FORMAT:
                raise DamagedError(f"{name} is of format {found['format']}; a newer Longbox wrote it", [name])
            found["start_lsn"], found["stop_lsn"] = (
                parse_lsn(found["start_lsn"]),
                parse_lsn(found["stop_lsn"]),
            )
            for key in ("started_at", "ended_at"):
                found[key] = dt.datetime.fromisoformat(found[key])
            found["parts"] = tuple(StoredObject(**part) for part in found["parts"])
            found["manifest"] = StoredObject(**found["manifest"]) if found["manifest"] else None
            return cls(**found)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{name} is no catalogue record ({error})", [name]) from error


@dataclass(frozen=True)
class RestoreRequest:
    """What is wanted: `to` a moment, or `backup_id` to its own end, or (neither) the newest moment there is."""

    into: Path
    to: dt.datetime | None = None
    backup_id: str | None = None
    port: int | None = None  # leave the server running there
    is_durable: bool = True  # False for what is thrown away again: a drill, a test


@dataclass(frozen=True)
class Window:
    """What can be restored. `until` is the newest moment up to which every commit is in the store.

    With `is_from_wal` every moment from `first` on; older backups, whose WAL has expired, to their own ends alone.
    """

    first: dt.datetime
    until: dt.datetime
    is_from_wal: bool


@dataclass(frozen=True)
class Verification:
    """What one reading back of a backup found; `is_decrypted` says whether the recovery keys were at hand."""

    backup_id: str
    verified_at: dt.datetime
    is_sound: bool
    is_decrypted: bool
    objects: int
    stored_bytes: int
    faults: tuple[str, ...] = ()
    is_restored: bool = False  # a drill restored it and compared

    def to_json(self) -> bytes:
        """The object under `verifications/`."""
        return checked_json(self)

    @classmethod
    def from_json(cls, name: str, data: bytes) -> Self:
        """Read it. Raises `DamagedError`."""
        found = read_checked_json(name, data)
        try:
            found["verified_at"] = dt.datetime.fromisoformat(found["verified_at"])
            found["faults"] = tuple(found["faults"])
            return cls(**found)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{name} is no verification ({error})", [name]) from error


def format_lsn(lsn: int) -> str:
    """`0x1A2000028` as `1/A2000028`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """The inverse of `format_lsn`. Raises ValueError."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def checked_json(value: Any) -> bytes:
    """A dataclass or dict as JSON with the hash of its content as the last field."""
    content = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else dict(value)  # type: ignore[arg-type]
    content = {name: _plain(name, item) for name, item in content.items()}
    text = json.dumps(content, indent=1, sort_keys=True)
    return json.dumps(json.loads(text) | {"~blake2b": _hash(text)}, indent=1, sort_keys=True).encode() + b"\n"


def read_checked_json(name: str, data: bytes) -> dict[str, Any]:
    """The content of `checked_json`. Raises `DamagedError` that names the object."""
    try:
        content = json.loads(data)
        said = content.pop("~blake2b")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedError(f"{name} is damaged: it is not the JSON that was written", [name]) from error
    text = json.dumps(content, indent=1, sort_keys=True)
    # every byte counts: white space that a JSON parser forgives is damage too
    if (
        said != _hash(text)
        or data != json.dumps(content | {"~blake2b": said}, indent=1, sort_keys=True).encode() + b"\n"
    ):
        raise DamagedError(f"{name} is damaged: its content does not match its checksum", [name])
    return dict(content)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def _plain(name: str, item: Any) -> Any:
    if isinstance(item, dt.datetime):
        return item.astimezone(dt.UTC).isoformat()
    if name == "lsn" or name.endswith("_lsn"):
        return format_lsn(item)
    return item

"""What pgBackRest says, as values: `info` and `repo-ls` (JSON), `verify` and the dry run of `expire` (text). Pure.

https://pgbackrest.org/command.html#command-info
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.backup.errors import BackupError
from pipelines.backup.model import Kind, parse_lsn
from pipelines.backup.wal import SEGMENT_BYTES, Inventory
from resources.errors import UserError

SUPERUSER, SEGMENT = "longbox-superuser", "longbox-wal-segment-bytes"
_NO_BACKUP_YET = 2
_SEGMENT = re.compile(r"(?:.*/)?([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?")
_HISTORY = re.compile(r"(?:.*/)?([0-9A-F]{8})\.history")
_SECTION = re.compile(
    r"  (archiveId|backup): ([^,\s]+)(?:, status: ([^,]+))?(?:, total \w+ (?:\w+ )?checked: (\d+))?"
)
_COUNT = re.compile(r"([a-z ]+): (\d+)")
_EXPIRED = re.compile(r"repo\d+: remove expired backup (\S+)")


@dataclass(frozen=True)
class PgBackRestBackup:
    """One backup of `info`. pgBackRest tells whole seconds: the end is rounded up, so that no moment is too early."""

    backup_id: str
    kind: Kind
    started_at: dt.datetime
    ended_at: dt.datetime
    parent_id: str | None
    plain_bytes: int
    stored_bytes: int
    start_lsn: int
    stop_lsn: int
    timeline: int
    first_segment: str
    last_segment: str
    references: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    has_bad_pages: bool = False
    repository: int = 1  # where it is
    also: tuple[str, ...] = ()  # the backups that were made with it in the stanza's other repositories

    @property
    def duration_seconds(self) -> float:
        """From its start to its end."""
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def superuser(self) -> str:
        """The bootstrap superuser, as whom a restored server is looked at."""
        return self.annotations.get(SUPERUSER, "postgres")

    @property
    def wal_segment_bytes(self) -> int:
        """Bytes of a WAL segment of the cluster."""
        return int(self.annotations.get(SEGMENT, SEGMENT_BYTES))


@dataclass(frozen=True)
class StanzaInfo:
    """A stanza: the cluster that it is of now, and this cluster's backups, oldest first."""

    system_identifier: str
    major: int
    archive_id: str
    repositories: tuple[int, ...]
    backups: tuple[PgBackRestBackup, ...]
    faults: Mapping[str, str] = field(default_factory=dict)


def read_info(stanza: str, said: Any) -> StanzaInfo:
    """The answer of `info --output=json`. Raises `UserError` for a stanza that is not there, `BackupError`."""
    try:
        [found] = [one for one in said if one["name"] == stanza]
        databases = {one["id"]: one for one in found["db"]}
        if not databases:
            raise UserError(
                f"pgBackRest has no stanza {stanza!r} ({found['status']['message']}); make it with "
                "`pgbackrest stanza-create`, or name another one with LONGBOX_PGBACKREST_STANZA"
            )
        newest = databases[max(databases)]
        own = [one for one in found["backup"] if one["database"]["id"] == newest["id"]]
        faults = {
            f"repository {one['key']}": str(one["status"]["message"])
            for one in found["repo"]
            if one["status"]["code"] not in (0, _NO_BACKUP_YET)
        }
        backups = tuple(sorted(map(_backup, own), key=lambda one: (one.ended_at, one.backup_id)))
        bad = {one.backup_id: "pages in it have a wrong checksum" for one in backups if one.has_bad_pages}
        return StanzaInfo(
            str(newest["system-id"]),
            int(str(newest["version"]).split(".")[0]),
            f"{newest['version']}-{newest['id']}",
            tuple(one["key"] for one in found["repo"]),
            tuple(one for one in backups if not one.has_bad_pages),
            faults | bad,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BackupError(f"pgBackRest's info of stanza {stanza!r} was not understood ({error!r})") from error


def _backup(said: Mapping[str, Any]) -> PgBackRestBackup:
    return PgBackRestBackup(
        said["label"],
        "full" if said["type"] == "full" else "incremental",
        _moment(said["timestamp"]["start"]),
        _moment(said["timestamp"]["stop"] + 1),
        said["prior"],
        said["info"]["size"],
        said["info"]["repository"]["delta"],
        parse_lsn(said["lsn"]["start"]),
        parse_lsn(said["lsn"]["stop"]),
        int(said["archive"]["start"][:8], 16),
        said["archive"]["start"],
        said["archive"]["stop"],
        tuple(said["reference"] or ()),
        dict(said.get("annotation") or {}),
        bool(said.get("error")),
        int(said["database"]["repo-key"]),
    )


def _moment(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def read_archive(listings: list[Any], segment_bytes: int) -> Inventory:
    """The answers of `repo-ls --recurse --output=json` of one archive in each repository: which WAL is there."""
    segments: dict[tuple[int, str], str] = {}
    histories: dict[int, str] = {}
    for name in (name for listing in listings for name in listing):
        if match := _SEGMENT.fullmatch(name):
            segments[int(match[1][:8], 16), match[1]] = name
        elif match := _HISTORY.fullmatch(name):
            histories[int(match[1], 16)] = name
    return Inventory(segment_bytes, segments, histories=histories)


@dataclass(frozen=True)
class Verified:
    """What `verify` said: files looked at and faults, of WAL, of each backup, and of the whole."""

    files: Mapping[str, int]
    faults: Mapping[str, tuple[str, ...]]
    wal_files: int
    wal_faults: tuple[str, ...]
    general_faults: tuple[str, ...]


def read_verify(said: str) -> Verified:
    """The answer of `verify --output=text --verbose`. What is not understood, and is not "ok", is a fault."""
    files: dict[str, int] = {}
    faults: dict[str, list[str]] = {}
    wal: list[str] = []
    general: list[str] = []
    wal_files, is_ok, current = 0, False, general
    for line in said.splitlines():
        if match := _SECTION.match(line):
            kind, name, status, checked = match.groups()
            current = wal if kind == "archiveId" else faults.setdefault(name, [])
            if kind == "archiveId":
                wal_files += int(checked or 0)
            else:
                files[name] = int(checked or 0)
                if status != "valid":
                    current.append(f"pgBackRest calls it {status}")
        elif line.startswith("status: "):
            is_ok = line == "status: ok"
        elif line.startswith("    "):
            current += [f"{what.strip()}: {count}" for what, count in _COUNT.findall(line) if count != "0"]
        elif line.strip() and not line.startswith("stanza: "):
            general.append(line.strip())
    if not is_ok and not general and not wal and not any(faults.values()):
        general.append(
            f"pgBackRest did not say that all is well: {' '.join(said.split())[:200] or 'nothing'}"
        )
    return Verified(
        files, {name: tuple(found) for name, found in faults.items()}, wal_files, tuple(wal), tuple(general)
    )


def read_expired(said: str) -> tuple[str, ...]:
    """Labels that the dry run of `expire` would remove, in its order: dependents first."""
    return tuple(dict.fromkeys(_EXPIRED.findall(said)))


def read_archived(data: Mapping[str, Any]) -> tuple[dt.datetime, int, int]:
    """Moment, LSN and timeline of `layout.ARCHIVED`."""
    return dt.datetime.fromisoformat(data["at"]), parse_lsn(data["lsn"]), int(data["timeline"])

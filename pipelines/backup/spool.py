"""The spool: WAL on the receiver's own disk, synced there before the server is told, until it is proved in the store.

    <spool>/receiver                     who this receiver is, for good; locked while it lives
    <spool>/store-fault                  why the store takes no WAL, while it takes none
    <spool>/<system identifier>/<run>/   one folder for each start of pg_receivewal; only that process writes there
    <spool>/<system identifier>/outbox/          sealed objects for copies while the first store is away; see `outbox`
    <spool>/<system identifier>/backup-due.json   a gap that only a backup bridges; see `bridge`
A fresh folder a start keeps a left-over process from writing where its successor does, and makes every file begin as
zeros: what was received of an open segment ends with its last byte that is not zero.
"""

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.backup.errors import ReceiverRunningError

_SEGMENT = re.compile(r"([0-9A-F]{8})[0-9A-F]{16}")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
_PARTIAL = ".partial"
_STORE_FAULT = "store-fault"
OUTBOX = "outbox"  # sealed objects for copies while the first store is away; see `outbox`


@dataclass(frozen=True, order=True)
class SpoolFile:
    """One file of WAL. `segment` is empty for a history file."""

    run: Path
    position: str  # log and segment number: orders by where in WAL, not by timeline
    timeline: int
    segment: str
    is_partial: bool

    @property
    def path(self) -> Path:
        """Where it is."""
        if not self.segment:
            return self.run / f"{self.timeline:08X}.history"
        return self.run / f"{self.segment}{_PARTIAL if self.is_partial else ''}"


class Spool:
    """The spool of one cluster."""

    def __init__(self, folder: Path, system_identifier: str) -> None:
        self.system_identifier = system_identifier
        self.folder = folder / system_identifier

    def new_run_name(self) -> str:
        """Names sort by time; after those that are there also when the clock was set back."""
        newest = max((int(run.name) for run in self.runs()), default=0)
        return f"{max(time.time_ns(), newest + 1):020d}"

    def make_run(self, name: str) -> Path:
        """A fresh folder for one start of pg_receivewal."""
        run = self.folder / name
        run.mkdir(parents=True, mode=0o700)
        return run

    def runs(self) -> list[Path]:
        """Folders of all starts, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name.isdecimal())

    def files(self, run: Path) -> list[SpoolFile]:
        """WAL in one folder: history files first, then segments in the order of WAL."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in run.iterdir():
                if match := _HISTORY.fullmatch(path.name):
                    found.append(SpoolFile(run, "", int(match[1], 16), "", False))
                name = path.name.removesuffix(_PARTIAL)
                if match := _SEGMENT.fullmatch(name):
                    found.append(SpoolFile(run, name[8:], int(match[1], 16), name, name != path.name))
        return sorted(found)

    def size_bytes(self) -> int:
        """Bytes on disk."""
        total = 0
        for run in self.runs():
            for file in self.files(run):
                with contextlib.suppress(FileNotFoundError):
                    total += file.path.stat().st_size
        for path in (self.folder / OUTBOX).rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def forget_if_empty(self, run: Path) -> None:
        """Remove the folder of a start whose files all went."""
        with contextlib.suppress(OSError):
            run.rmdir()


def systems(folder: Path) -> list[str]:
    """Clusters that have something in the spool."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name.isdecimal())


def note_store_fault(folder: Path, fault: str) -> None:
    """Keep why the store takes no WAL, for whoever asks; an empty text when it takes it again."""
    with contextlib.suppress(OSError):  # a full disk must not stop what would empty it
        if fault:
            (folder / _STORE_FAULT).write_text(fault)
        else:
            (folder / _STORE_FAULT).unlink(missing_ok=True)


def store_fault(folder: Path) -> str:
    """Why the store takes no WAL from the receiver that works in this spool; empty if it does."""
    with contextlib.suppress(OSError):
        return " ".join((folder / _STORE_FAULT).read_text(errors="replace").split())
    return ""


@contextlib.contextmanager
def own(folder: Path) -> Iterator[str]:
    """Hold the spool, for one receiver at a time; gives its name. Raises `ReceiverRunningError`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder / "receiver", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ReceiverRunningError(
                f"another receiver works in {folder}; one is enough: end it first, or leave the work to it"
            ) from error
        name = os.pread(handle, 64, 0).decode("ascii", "ignore").strip()
        if not name:
            name = secrets.token_hex(4)
            os.pwrite(handle, name.encode(), 0)
            os.fsync(handle)
        yield name
    finally:
        os.close(handle)


def received_bytes(data: bytes) -> int:
    """How much of an open segment is there: up to the last byte that is not zero, a whole number of 8 bytes."""
    return -(-len(data.rstrip(b"\0")) // 8) * 8

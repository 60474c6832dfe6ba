"""What a load tells: per file, per landing day, and the failure of a day. Plain facts, no behaviour."""

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class FileLoad:
    """The account of one landed file. `status` is loaded, duplicate, empty, quarantined, or seen (read before)."""

    file_name: str
    status: str
    landed: int = 0
    loaded: int = 0
    duplicate: int = 0
    quarantined: int = 0
    reason: str | None = None
    unknown_columns: tuple[str, ...] = ()
    schema_changes: tuple[object, ...] = ()  # in words when printed
    bytes_read: int = 0


@dataclass(frozen=True)
class DayLoad:
    """The account of a landing day: totals over all its files, also those that earlier runs read.

    A day with a file quarantined whole, or one that vanished while it was read, is `incomplete`: its other files are
    loaded and go on, and the day is named until the file is replaced or dismissed.
    """

    landing_day: dt.date
    files: tuple[FileLoad, ...]
    landed_rows: int
    loaded_rows: int
    duplicate_rows: int
    quarantined_rows: int
    problems: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """`complete` or `incomplete`."""
        return "incomplete" if self.problems else "complete"

    @property
    def schema_changes(self) -> tuple[str, ...]:
        """What this very run found changed in the files' columns, in words."""
        return tuple(f"{file.file_name}: {change}" for file in self.files for change in file.schema_changes)

    @property
    def rows_written(self) -> int:
        """Rows that this very run added; zero when everything was loaded before."""
        return sum(file.loaded for file in self.files if file.status == "loaded")

    @property
    def bytes_read(self) -> int:
        """Bytes of the objects that this very run read."""
        return sum(file.bytes_read for file in self.files)

    def counts(self) -> dict[str, int]:
        """The numbers of the day, by name.

        `rows_in_files` and `rows_put_aside` are of the files as they lie there now. The others of rows are of all that
        ever landed on the day: what was replaced since, and what was read under another catalogue, too.
        """
        return {
            "files": len(self.files),
            "landed_rows": self.landed_rows,
            "loaded_rows": self.loaded_rows,
            "duplicate_rows": self.duplicate_rows,
            "quarantined_rows": self.quarantined_rows,
            "rows_in_files": sum(file.landed for file in self.files),
            "rows_put_aside": sum(file.quarantined for file in self.files),
        }


@dataclass(frozen=True)
class DayFailure:
    """A landing day that could not be worked on, and why."""

    landing_day: dt.date
    error: Exception

    @property
    def outcome(self) -> str:
        """Always `failed`."""
        return "failed"

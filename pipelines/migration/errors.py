"""What can go wrong while the schema is changed, each told with its file, its revision and the way out.

Faults of files and of their history are the author's (`UserError`); a lock that was not obtained passes.
"""

from pathlib import Path

from resources.errors import LongboxError, RetryableError, UserError


class RevisionFileError(UserError):
    """A revision file cannot be read as one: wrong name, heading, section or dependency."""


class EditedRevisionError(UserError):
    """A file changed after it was applied, so that database and files no longer tell the same story."""


class MissingRevisionError(UserError):
    """The database has a revision whose file is gone."""


class DownRefusedError(UserError):
    """A way down was asked for that does not exist or would break a promise."""


class PrivilegeError(UserError):
    """The login user may not do what the first migration needs; an administrator has to, once."""


class MigrationBusyError(RetryableError):
    """Another migrator held the lock, or a table stayed locked, longer than we were told to wait."""


class RevisionFailedError(LongboxError):
    """PostgreSQL refused a statement of a revision; nothing of that revision was kept."""

    def __init__(self, message: str, *, revision: str, path: Path, line: int | None) -> None:
        super().__init__(message)
        self.revision = revision
        self.path = path
        self.line = line

"""What may go wrong with backups, each with what to do next.

Bad input is a `UserError` (exit code 2). A `RestoreRefusedError` is raised before anything is written or started;
`DamagedError` names the objects. Errors of keys are in `resources.keys`, those of the programs in
`resources.postgres_tools`.
"""

from collections.abc import Sequence

from resources.errors import LongboxError, RetryableError, UserError


class BackupError(LongboxError):
    """A backup could not be made; nothing of it counts."""


class BackupRefusedError(UserError):
    """The cluster cannot be backed up as it is; nothing was written."""


class EngineCannotError(UserError):
    """The engine of the settings cannot do what was asked; the message says what to do instead."""


class BaseUnusableError(BackupError):
    """No incremental can be made; a full backup can."""


class BackupRunningError(RetryableError):
    """Another backup of the same cluster is in progress."""


class ReceiverRunningError(UserError):
    """Another receiver takes this server's WAL, or works in the same spool."""


class TimelineTakenError(UserError):
    """The server's timeline has the number of another one that the repository holds."""


class RestoreRefusedError(UserError):
    """What was asked for cannot be restored; nothing was written."""


class RestoreFailedError(LongboxError):
    """The restore began and did not end in a checked database; what was laid out must not be used."""


class WalMissingError(RestoreRefusedError):
    """WAL that leads to the target is not in the repository."""


class DamagedError(LongboxError):
    """Objects of the repository are damaged or missing."""

    def __init__(self, message: str, objects: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.objects = tuple(objects)

"""The error families of Longbox: every error a user may meet derives from `LongboxError`.

Three kinds are kept apart: retryable (try the same again), permanent (the default), and outcome
unknown (the commit or upload may have happened). A stage adds its own subclasses beside its code.
"""


class LongboxError(Exception):
    """Something failed; the message says what, to which object, and what to do next."""

    retryable: bool = False


class UserError(LongboxError):
    """Bad input of a user: told as one sentence, exit code 2, never a traceback."""


class RetryableError(LongboxError):
    """A passing fault (a lost connection, a lock not obtained): the same call may succeed later."""

    retryable = True


class OutcomeUnknownError(LongboxError):
    """The answer to a commit or an upload was lost: it may have happened. Look before trying again."""


class DatabaseUnavailableError(RetryableError):
    """PostgreSQL refused or dropped the connection."""


class DatabaseBusyError(RetryableError):
    """PostgreSQL gave the work up: a lock not obtained in time, a deadlock, a full disk, a cancelled statement."""


class CacheUnavailableError(RetryableError):
    """Redis did not answer; reads go on without it (promise 6)."""


class DatabaseLimitError(LongboxError):
    """PostgreSQL cannot hold, or does not take, what it was given, now or later."""


class ObjectStoreError(LongboxError):
    """The object store refused or failed an operation for good."""


class ObjectStoreUnavailableError(RetryableError):
    """The object store did not answer or failed in a passing way."""


class ObjectForbiddenError(ObjectStoreError):
    """An object is there, and the store may not hand it to us."""


class ObjectMissingError(ObjectStoreError):
    """An object that was expected is not (or no longer) in the store."""

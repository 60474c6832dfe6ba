"""What can go wrong while a table is carried over, each told with its table and the way out."""

from resources.errors import LongboxError, RetryableError, UserError


class RefusedError(UserError):
    """The table, or the moment, does not admit the step; nothing was changed."""


class TableBusyError(RetryableError):
    """A lock was not obtained in time, or writers outran us; the step can be asked for again."""


class UnequalError(LongboxError):
    """The two tables do not hold the same rows where they should; nothing was switched or dropped."""

"""What may go wrong with the local stack, each with what to do next.

Add an error here when a phase gains a new way to fail; what users mistype is a `UserError`.
"""

from resources.errors import LongboxError, UserError


class StackError(LongboxError):
    """A part of the local stack could not be started, reached or stopped."""


class AlreadyRunningError(UserError):
    """Another process holds this home."""


class MissingServerError(UserError):
    """No Valkey or Redis that would do is installed."""


class PortTakenError(UserError):
    """A port that was asked for by a setting is in use."""


class ExternalServerError(StackError):
    """A server given by a setting does not answer as it should."""


class ChildDiedError(StackError):
    """A process of the running stack ended by itself."""

"""Ports on loopback: the one that was set, else the one of last time, else a free one.

Free ones are drawn below the range from which the kernel takes ports for outgoing connections, so that one is not
lost again between two starts.
"""

import random
import socket

from deploy.local.errors import PortTakenError, StackError

LOOPBACK = "127.0.0.1"
_LOWEST, _HIGHEST = 15_000, 31_999


def choose(variable: str, wanted: int | None, *, remembered: int | None, preferred: int | None = None) -> int:
    """A port that is free now. Raises `PortTakenError` if the one set by `variable` is not."""
    if wanted is not None:
        if not is_free(wanted):
            raise PortTakenError(
                f"{variable} asks for port {wanted}, which is in use or not allowed; "
                "stop what listens there, or unset the variable to take a free port"
            )
        return wanted
    for candidate in (remembered, preferred):
        if candidate is not None and is_free(candidate):
            return candidate
    for candidate in random.sample(range(_LOWEST, _HIGHEST), 200):
        if is_free(candidate):
            return candidate
    raise StackError(f"no free port found between {_LOWEST} and {_HIGHEST}; set one with {variable}")


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True

"""Python's own machinery where the work of a stage asks for it: calls on threads, the cyclic collector at rest.

Threads are for waiting: PostgreSQL works on several connections at once while the driver leaves the GIL.
https://docs.python.org/3/library/concurrent.futures.html
"""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

Done = TypeVar("Done")


def at_once(calls: Sequence[Callable[[], Done]], stop: threading.Event | None = None) -> list[Done]:
    """Do all calls at the same time, each on a thread of its own; returns what they return, in their order.

    When one fails, or the caller is interrupted, `stop` is set for the others to end early; the first failure in order
    is raised after all have ended. A single call is done on the caller's thread.
    """
    if len(calls) == 1:
        return [calls[0]()]
    with ThreadPoolExecutor(len(calls), thread_name_prefix="longbox-at-once") as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if stop is not None:
                stop.set()
    return [future.result() for future in futures]


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """Rows make no cycles, but hundreds of thousands of them make the cyclic collector take half of all the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

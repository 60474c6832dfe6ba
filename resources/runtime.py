"""Python's own machinery where the work of a stage asks for it: threads, the cyclic collector, imports left out.

Threads are for waiting: PostgreSQL works on several connections at once while the driver leaves the GIL.
https://docs.python.org/3/library/concurrent.futures.html
"""

import contextlib
import gc
import importlib.abc
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

Done = TypeVar("Done")
_arrow_lock = threading.Lock()
_TURN_SECONDS = 0.0005


def at_once(calls: Sequence[Callable[[], Done]], stop: threading.Event | None = None) -> list[Done]:
    """Do all calls at the same time, each on a thread of its own; returns what they return, in their order.

    When one fails, or the caller is interrupted, `stop` is set for the others to end early; the first failure in order
    is raised after all have ended. A single call is done on the caller's thread.
    """
    if len(calls) == 1:
        return [calls[0]()]
    with threads_alternate(), ThreadPoolExecutor(len(calls), thread_name_prefix="longbox-at-once") as pool:
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


class _Turns:
    """How many blocks of `threads_alternate` there are, and what the interpreter's interval was before the first."""

    lock = threading.Lock()
    wanted = 0
    before = 0.0


@contextlib.contextmanager
def threads_alternate() -> Iterator[None]:
    """Let a thread wait for half a millisecond of another's Python, not for five.

    A thread that PostgreSQL has answered would wait those five before each next word to it: measured, a load into 24
    new partitions takes a tenth longer. https://docs.python.org/3/library/sys.html#sys.setswitchinterval
    """
    with _Turns.lock:
        _Turns.wanted += 1
        if _Turns.wanted == 1:
            _Turns.before = sys.getswitchinterval()
            sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        with _Turns.lock:
            _Turns.wanted -= 1
            if not _Turns.wanted:
                sys.setswitchinterval(_Turns.before)


def arrow_without_pandas() -> None:
    """Let Arrow find that there is no pandas, which it would import with the first Python value that it is given.

    That takes half a second of work and 40 MB, for nothing. Where pandas is needed after all (`to_pandas`), Arrow
    imports it then. Does nothing in a process that has imported pandas already.
    https://github.com/apache/arrow/blob/main/python/pyarrow/pandas-shim.pxi
    """
    import pyarrow

    with _arrow_lock:
        if "pandas" in sys.modules:
            return
        refusing = _NoPandas(threading.get_ident())
        sys.meta_path.insert(0, refusing)
        try:
            pyarrow.scalar("")
        finally:
            sys.meta_path.remove(refusing)


class _NoPandas(importlib.abc.MetaPathFinder):
    """Refuses one import on one thread: others may be about to import pandas for themselves."""

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "pandas" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("pandas is not wanted here", name=name)

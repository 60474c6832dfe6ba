"""Processes of a test's own that begin with all that they import: forked from one that has imported it.

Every process of a test session is forked from the same one, so what any of them needs stands in `_PRELOADED`: what is
missing there each of them imports anew, which takes it seconds.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess

_PRELOADED = [
    "definitions",
    "tests.daily_runs",
    "tests.comics_market",
    "tests.shop",
    "tests.faults.kill_worker",
    "assets.comics.warm",
    "pandas",
    "pyarrow.compute",
]
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(_PRELOADED)


def start(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """Do `work` in a new process; the caller waits for its end."""
    process = _PROCESSES.Process(target=work, args=arguments)
    process.start()
    return process

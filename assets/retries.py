"""Steps run again for faults that may pass, and for nothing else: the one place where that is decided.

A lost connection, a busy server or an unanswered COMMIT may be gone in a moment, and every step looks at what is there
before it writes, so that running it again is safe (promise 3). Bad data, wrong settings and our own faults stay as they
are: they fail at once. What a fault is says its class in `resources.errors`.
https://docs.dagster.io/guides/build/ops/op-retries
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg

from resources.errors import LongboxError, OutcomeUnknownError

MOST_RETRIES = 3
WAIT_SECONDS = (5.0, 20.0, 60.0)
"""Before the first, second and third retry: PostgreSQL restarts in seconds, and recovers from a crash in a minute."""
F = TypeVar("F", bound=Callable[..., Any])


def may_pass(error: BaseException | None) -> bool:
    """Whether `error`, or what caused it, is a fault that may be gone when the same is tried again."""
    while error is not None:
        if isinstance(error, OutcomeUnknownError) or (isinstance(error, LongboxError) and error.retryable):
            return True
        error = error.__cause__
    return False


def retry_passing_faults(compute: F) -> F:
    """Let an asset's or a check's function be run again, later, when it raises a fault that may pass.

    It goes under Dagster's decorator, which sees the signature of the function itself.
    """

    @functools.wraps(compute)
    def function(*arguments: Any, **named: Any) -> Any:
        with _retrying():
            return compute(*arguments, **named)

    @functools.wraps(compute)
    def generator(*arguments: Any, **named: Any) -> Iterator[Any]:
        with _retrying():
            yield from compute(*arguments, **named)

    return generator if inspect.isgeneratorfunction(compute) else function  # type: ignore[return-value]


def retry_failed_days(results: Sequence[Any]) -> None:
    """Ask for the step again if a landing day failed for a fault that may pass; the days that are done cost little.

    Returns when no day did, or when the step was run again often enough: then the days are held back as failed.
    """
    for result in results:
        error = getattr(result, "error", None)
        if may_pass(error):
            _request_retry(error)
            return


@contextmanager
def _retrying() -> Iterator[None]:
    try:
        yield
    except LongboxError as error:
        if may_pass(error):
            _request_retry(error)
        raise


def _request_retry(error: BaseException) -> None:
    """Raise Dagster's request unless the attempts are used up, or no step is under way."""
    number = _retry_number()
    if number is not None and number < MOST_RETRIES:
        wait = WAIT_SECONDS[min(number, len(WAIT_SECONDS) - 1)]
        raise dg.RetryRequested(max_retries=MOST_RETRIES, seconds_to_wait=wait) from error


def _retry_number() -> int | None:
    try:
        return dg.OpExecutionContext.get().retry_number
    except dg.DagsterInvariantViolationError:
        return None

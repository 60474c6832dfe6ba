"""What is tried again: passing faults and lost answers, never bad data; and every step of ours takes part."""

import pytest
from dagster import AssetsDefinition

from assets.metadata import DayError
from assets.retries import may_pass, retry_passing_faults
from definitions import build_definitions
from pipelines.monitoring.days import BadDaysError
from resources import errors


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (errors.DatabaseUnavailableError("gone"), True),
        (errors.DatabaseBusyError("lock timeout"), True),
        (errors.ObjectStoreUnavailableError("503"), True),
        (errors.CacheUnavailableError("no answer"), True),
        (errors.OutcomeUnknownError("COMMIT was not answered"), True),
        (errors.ObjectStoreError("403"), False),
        (errors.ObjectMissingError("deleted"), False),
        (errors.UserError("a bad setting"), False),
        (BadDaysError([]), False),
        (ValueError("our own fault"), False),
        (None, False),
    ],
)
def test_only_faults_that_may_be_gone_in_a_moment_are_tried_again(
    error: Exception | None, passes: bool
) -> None:
    assert may_pass(error) is passes


def test_the_cause_of_an_error_tells_whether_it_may_pass() -> None:
    error = DayError("landing day failed")
    error.__cause__ = errors.DatabaseUnavailableError("gone")
    assert may_pass(error)


def test_outside_a_step_the_error_itself_is_raised() -> None:
    @retry_passing_faults
    def compute() -> None:
        raise errors.DatabaseUnavailableError("gone")

    @retry_passing_faults
    def steps() -> object:
        yield 1
        raise errors.DatabaseUnavailableError("gone")

    for call in (compute, lambda: list(steps())):
        with pytest.raises(errors.DatabaseUnavailableError):
            call()


def test_every_asset_and_check_of_ours_takes_part() -> None:
    definitions = build_definitions()
    steps = [*definitions.assets, *definitions.asset_checks]
    executable = [step for step in steps if isinstance(step, AssetsDefinition) and step.is_executable]
    assert len(executable) > 10
    without = [
        step.op.name for step in executable if not hasattr(step.op.compute_fn.decorated_fn, "__wrapped__")
    ]
    assert without == []

"""Calls at once end together, and the cyclic collector works again after it has rested."""

import gc
import threading

import pytest

from resources.runtime import at_once, collector_at_rest


def test_calls_at_once_meet_and_return_in_their_order():
    barrier = threading.Barrier(2, timeout=30)
    assert at_once([lambda: (barrier.wait(), "one")[1], lambda: (barrier.wait(), "other")[1]]) == [
        "one",
        "other",
    ]


def test_a_single_call_is_done_on_the_callers_thread():
    assert at_once([threading.get_ident]) == [threading.get_ident()]


def test_a_failure_tells_the_others_to_stop_and_is_raised_when_all_have_ended():
    stop, ended = threading.Event(), []

    def fail():
        raise ValueError("no")

    def go_on():
        assert stop.wait(30)
        ended.append(True)

    with pytest.raises(ValueError, match="no"):
        at_once([go_on, fail], stop)
    assert ended == [True]


def test_the_collector_rests_and_works_again_as_it_did_before():
    was_enabled = gc.isenabled()
    with collector_at_rest():
        assert not gc.isenabled()
        with collector_at_rest():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() == was_enabled

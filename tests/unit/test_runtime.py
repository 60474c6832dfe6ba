"""Calls at once end together, the cyclic collector works again after it has rested, Arrow finds pandas when it must."""

import gc
import subprocess
import sys
import threading

import pytest

from resources.runtime import at_once, collector_at_rest, threads_alternate
from resources.settings import PROJECT_ROOT


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


def test_threads_alternate_sooner_until_the_last_who_asked_has_ended():
    before = sys.getswitchinterval()
    first, second = threads_alternate(), threads_alternate()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() < before / 2
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == before


ARROW = """
import sys
from resources.runtime import arrow_without_pandas
arrow_without_pandas()
import pyarrow as pa, pyarrow.compute as pc
table = pa.table({"number": pc.add(pa.array([1, 2]), 1)})
assert "pandas" not in sys.modules
import pandas as pd
arrow_without_pandas()
frame = table.to_pandas(types_mapper=pd.ArrowDtype)
assert pa.Table.from_pandas(frame).equals(table), frame
print(list(frame["number"]))
"""


def test_arrow_works_without_pandas_and_with_it_once_somebody_asks_for_a_frame():
    done = subprocess.run(
        [sys.executable, "-c", ARROW], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[2, 3]", "")

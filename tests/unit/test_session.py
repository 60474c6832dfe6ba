"""What a session of tests is started with does not change what its tests see."""

import subprocess
import sys

from resources.settings import PROJECT_ROOT

AFTER_A_RUN = """
import subprocess
import tests.conftest
from dagster._utils.interrupts import capture_interrupts

with capture_interrupts():  # what Dagster does around a run
    pass
child = subprocess.Popen(["sleep", "600"])
child.terminate()
try:
    print(child.wait(30))
finally:
    child.kill()
"""


def test_what_tests_start_ends_by_a_signal_also_when_the_session_runs_in_the_background() -> None:
    ignoring = ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, AFTER_A_RUN]
    done = subprocess.run(ignoring, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "-15\n", done.stderr

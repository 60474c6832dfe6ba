"""What the command does when what it says cannot be written."""

import subprocess
import sys
from pathlib import Path

from resources.settings import PROJECT_ROOT


def test_a_full_disk_under_the_output_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "--help"],
            cwd=PROJECT_ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "longbox: the disk is full (where its output goes); make room there, then try again\n"
    )

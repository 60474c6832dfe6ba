"""What the command does when what it says cannot be written."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o664), (0o002, 0o664), (0o077, 0o600)])
def test_nothing_that_a_command_makes_can_be_written_by_everyone(
    tmp_path: Path, umask: int, mode: int
) -> None:
    """The local stack runs what stands in its home."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "sample", "--out", str(tmp_path), "--rows", "1", "--days", "1"],
        cwd=PROJECT_ROOT, capture_output=True, umask=umask, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((tmp_path / "manifest.json").stat().st_mode) == mode

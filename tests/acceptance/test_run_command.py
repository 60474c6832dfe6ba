"""`longbox run` launches as the UI does, follows the run, and answers wrong input with a sentence."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resources.settings import PROJECT_ROOT
from tests import covered_lines
from tests.acceptance.conftest import Platform
from tests.daily_runs import sales


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", "LONGBOX_HOME": str(home), **covered_lines.environment()}
    command = [sys.executable, "-m", "cli.main", "run", *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environ, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["daily_pipeline", "--date", "2026-02-30"], "--date '2026-02-30' is not a date"),
        (["daily_pipeline", "--to", "2026-10-02"], "give its first with --date"),
        (["daily_pipeline", "--date", "2026-10-03", "--to", "2026-10-02"], "on or before it"),
        (["daily_pipeline", "--date", "2026-10-03"], "no Dagster runs in"),
    ],
)
def test_wrong_use_is_a_sentence_and_exit_code_2(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run(tmp_path / "none", *arguments)
    assert done.returncode == 2
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_range_is_one_run_that_is_followed_step_by_step(platform: Platform) -> None:
    platform.start_over()
    platform.daily.land("2026-10-05", "a.csv", sales("2026-10-04", 12))
    home = platform.stack.home.path
    done = run(home, "daily_pipeline", "--date", "2026-10-04", "--to", "2026-10-06")
    assert (done.returncode, done.stderr) == (0, "")
    assert "comics/pricing_data_raw" in done.stdout and "daily_pipeline: SUCCESS in" in done.stdout
    assert platform.daily.count("comics.pricing_data_normalized") == 12
    assert "never read" not in done.stdout and "put aside" not in done.stdout


def test_a_run_that_ends_well_tells_what_it_left_and_what_it_did_not_read(platform: Platform) -> None:
    platform.start_over()
    bad = b"ebay,x,A,fine,ten,USD,2026-10-01,2026-10-01,red\n"
    platform.daily.land("2026-10-05", "a.csv", sales("2026-10-04", 3))
    platform.daily.store.put("landing/comics/marketplace_slaes/2026-10-06/a.csv", b"x")
    home = platform.stack.home.path
    assert run(home, "daily_pipeline", "--date", "2026-10-05").returncode == 0
    more = (
        sales("2026-10-05", 3).replace(b"updated_at\n", b"updated_at,colour\n").replace(b"Z,\n", b"Z,,red\n")
    )
    platform.daily.land("2026-10-06", "a.csv", more + bad)
    done = run(home, "daily_pipeline", "--date", "2026-10-06")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "comics/pricing_data_raw: 1 of 4 rows were put aside; `longbox quarantine list` tells why"
        in done.stdout
    )
    assert "  comics/marketplace_sales 2026-10-06/a.csv: colour is new: before in no file" in done.stdout
    assert (
        "  landing/comics/marketplace_slaes/ is never read: no feed of that name is declared" in done.stdout
    )


def test_a_run_that_fails_ends_with_exit_code_1_and_its_reason(platform: Platform) -> None:
    platform.start_over()
    platform.daily.land("2026-10-07", "cut.csv.gz", b"\x1f\x8b\x08\x00 no gzip")
    done = run(platform.stack.home.path, "daily_pipeline", "--date", "2026-10-07")
    assert done.returncode == 1
    assert "the run ended as FAILURE" in done.stderr and "2026-10-07" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_waiting_and_says_that_the_run_goes_on(platform: Platform) -> None:
    platform.start_over()
    platform.daily.land("2026-10-08", "a.csv", sales("2026-10-07", 12))
    command = [sys.executable, "-m", "cli.main", "run", "daily_pipeline", "--date", "2026-10-08"]
    environ = {
        "PATH": "/usr/bin:/bin",
        "LONGBOX_HOME": str(platform.stack.home.path),
        "PYTHONUNBUFFERED": "1",
    }
    follower = subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    url = follower.stdout.readline().strip()
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=60)
    assert (follower.returncode, said) == (130, f"no longer waiting; the run goes on: {url}\n")
    assert platform.finish(url.rpartition("/")[2]).status == "SUCCESS"
    assert platform.daily.count("comics.pricing_data_normalized") == 12


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["daily_pipline", "--date", "2026-10-07"], "did you mean daily_pipeline?"),
        (["daily_pipeline", "--date", "2001-01-01"], "has the landing days 2024-01-01 to"),
        (["daily_pipeline"], "runs by landing day; name one with --date"),
        (["maintenance", "--date", "2026-10-07"], "leave --date out"),
    ],
)
def test_a_job_or_day_that_does_not_exist_launches_nothing(
    platform: Platform, arguments: list[str], told: str
) -> None:
    before = [launched["runId"] for launched in platform.client.runs()]
    done = run(platform.stack.home.path, *arguments)
    assert done.returncode == 2, done.stdout
    assert told in done.stderr and len(done.stderr.splitlines()) == 1
    assert [launched["runId"] for launched in platform.client.runs()] == before

"""The local stack's life: started, held, stopped, killed, found again; never an orphan, never a row lost."""

import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from cli.dagster_client import DagsterClient
from deploy.local import leftovers, privileges
from deploy.local import supervisor as keeper
from deploy.local.checkup import check_stack
from deploy.local.processes import ProcessId, wait_until
from deploy.local.report import collect
from deploy.local.stack import Stack
from deploy.local.state import Home, Secrets, State
from resources.errors import LongboxError, UserError
from resources.settings import PROJECT_ROOT, Settings
from tests.conftest import new_home, remove_home
from tests.integration.stack_support import PORT_THAT_WAS_TAKEN, environment, longbox, supervised

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT


@pytest.fixture
def home() -> Iterator[Path]:
    path = new_home()
    yield path
    supervisor = State.read(Home(path)).supervisor
    if supervisor is not None:
        supervisor.signal(KILL)
    leftovers.stop(Home(path))
    remove_home(path)


def url_of(home: Path) -> str:
    return Settings.load({"LONGBOX_HOME": str(home)}).postgres_url


def keep_a_row(home: Path) -> None:
    with psycopg.connect(url_of(home)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")


def kept_row(home: Path) -> object:
    with psycopg.connect(url_of(home)) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    return row and row[0]


def assert_nothing_is_left(home: Path) -> None:
    assert leftovers.find(Home(home)) == []
    assert State.read(Home(home)).urls == {}


def postgres_log(home: Path) -> str:
    return (home / "logs" / "postgres.log").read_text()


def test_the_command_starts_shows_and_stops_a_stack_whose_data_and_ports_outlive_it(home: Path) -> None:
    up = longbox(home, "up", "--detach", "--no-dagster")
    assert up.returncode == 0, up.stdout + up.stderr
    for part in ("PostgreSQL 1", "Valkey", "object store", "migrations"):
        assert re.search(rf"^{part}.* ready", up.stdout, re.MULTILINE), up.stdout
    keep_a_row(home)
    before = State.read(Home(home)).urls

    status = longbox(home, "status", "--json")
    assert status.returncode == 0, status.stdout
    facts = json.loads(status.stdout)
    assert {part["health"] for part in facts["parts"]} == {"healthy"}
    assert Secrets.of(Home(home)).postgres not in status.stdout

    exports = dict(
        line.removeprefix("export ").split("=", 1) for line in longbox(home, "env").stdout.splitlines()
    )
    values = {name: shlex.split(value)[0] for name, value in exports.items()}
    assert {"LONGBOX_HOME", "DAGSTER_HOME", "LONGBOX_OBJECT_STORE"} < set(values)
    for name in ("LONGBOX_POSTGRES_URL", "LONGBOX_DAGSTER_POSTGRES_URL"):
        psycopg.connect(values[name]).close()
    with redis.Redis.from_url(values["LONGBOX_REDIS_URL"]) as client:
        assert client.ping()

    for again in (longbox(home, "up"), longbox(home, "up", "--detach")):
        assert again.returncode == 2
        assert "already running" in again.stderr
        assert "longbox down" in again.stderr

    assert longbox(home, "down").returncode == 0
    assert_nothing_is_left(home)
    assert "database system is shut down" in postgres_log(home)
    assert longbox(home, "status").returncode == 3
    assert longbox(home, "down").returncode == 0

    # the shell still holds the URLs of `longbox env`: they are this very stack, not servers of somebody else
    urls = {name: value for name, value in values.items() if name.endswith("_URL")}
    assert longbox(home, "up", "--detach", "--no-dagster", **urls).returncode == 0
    assert State.read(Home(home)).urls == before
    assert kept_row(home) == 42
    assert longbox(home, "down").returncode == 0
    assert "not properly shut down" not in postgres_log(home)


@pytest.mark.parametrize("number", [TERM, INT])
def test_a_signal_stops_everything_in_order(home: Path, number: signal.Signals) -> None:
    with supervised(home) as supervisor:
        code, said = supervisor.end(number)
    assert code == 0, said
    assert said.rstrip().endswith("stopped")
    assert "database system is shut down" in postgres_log(home)
    assert_nothing_is_left(home)


class Cleared:
    """Gets a request to stop while it is cleared away: Python tells what is raised there, and drops it."""

    def __del__(self) -> None:
        signal.raise_signal(TERM)


def test_a_request_to_stop_that_came_while_an_object_was_cleared_away_is_not_lost(
    home: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {
        "LONGBOX_POSTGRES_URL": stack.settings.postgres_url,
        "LONGBOX_DAGSTER_POSTGRES_URL": stack.settings.dagster_postgres_url,
        "LONGBOX_REDIS_URL": stack.settings.redis_url,
    }
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))
    monkeypatch.setattr(keeper, "_WATCH_SECONDS", 0.0)
    own = Stack(home, dagster=False, environ=urls)
    said: list[str] = []
    turns = itertools.count()

    def watch() -> None:
        assert next(turns) < 100, "the request was lost"

    def ready() -> None:
        Cleared()

    monkeypatch.setattr(own, "restart_ended", watch)
    keeper.run_in_foreground(own, said.append, ready)
    assert dropped == [keeper.StopRequested]
    assert said == ["stopping (SIGTERM)", "stopped"]
    assert_nothing_is_left(home)


def test_a_signal_while_starting_leaves_nothing(home: Path) -> None:
    with supervised(home, ready=False) as supervisor:
        assert wait_until(lambda: (home / "stack.json").exists() or None, seconds=60)
        code, said = supervisor.end(TERM)
        assert code == 0, said
        assert_nothing_is_left(home)
    with supervised(home):
        keep_a_row(home)


def test_what_a_killed_supervisor_leaves_is_told_and_stopped(home: Path) -> None:
    with supervised(home) as supervisor:
        keep_a_row(home)
        parts = [supervisor.process(name) for name in ("PostgreSQL", "Valkey")]
        supervisor.end(KILL)
        assert all(process.is_alive() for process in parts)
        told = longbox(home, "status")
        assert told.returncode == 3
        assert "left" in told.stdout

        with supervised(home) as successor:
            assert not any(process.is_alive() for process in parts)
            assert kept_row(home) == 42
            successor.end(KILL)
            down = longbox(home, "down")
        assert down.returncode == 0
        assert "left-over" in down.stdout
        assert_nothing_is_left(home)


def test_a_killed_database_ends_the_stack_by_name_and_the_next_start_has_every_row(home: Path) -> None:
    with supervised(home) as supervisor:
        keep_a_row(home)
        supervisor.process("PostgreSQL").signal(KILL)
        code, said = supervisor.end()
    assert code == 1
    assert re.search(r"PostgreSQL \(pid \d+\) was killed by signal 9", said), said
    assert_nothing_is_left(home)
    report = collect(Home(home), {})
    assert not report.is_running and report.ended.endswith("was killed by signal 9")
    assert report.ended in check_stack(Home(home), {})[0].message
    with supervised(home):
        assert kept_row(home) == 42
    assert collect(Home(home), {}).ended == ""


def test_a_killed_cache_is_started_anew_and_nothing_else_notices(home: Path) -> None:
    with supervised(home) as supervisor:
        keep_a_row(home)
        cache, database = supervisor.process("Valkey"), supervisor.process("PostgreSQL")
        cache.signal(KILL)

        def answers() -> bool | None:
            with contextlib.suppress(redis.RedisError):
                with redis.Redis.from_url(Settings.load({"LONGBOX_HOME": str(home)}).redis_url) as client:
                    return bool(client.ping())
            return None

        assert wait_until(answers, seconds=60)
        assert not cache.is_alive() and database.is_alive() and kept_row(home) == 42
        assert longbox(home, "status").returncode == 0
        code, said = supervisor.end(TERM)
    assert code == 0
    assert re.search(r"Valkey \(pid \d+\) was killed by signal 9 and is started anew", said), said
    assert_nothing_is_left(home)


def test_dagster_is_part_of_the_stack_moves_off_a_taken_port_comes_back_when_killed_and_is_found_when_left(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "definitions.py").write_text(
        "import dagster as dg\n\n@dg.asset\ndef one() -> int:\n    return 1\n\ndefs = dg.Definitions([one])\n"
    )
    with supervised(home, tmp_path) as supervisor:
        status = longbox(home, "status", "--json")
        assert status.returncode == 0, status.stdout
        assert {"code server", "daemon", "webserver"} < {
            part["part"] for part in json.loads(status.stdout)["parts"]
        }
        taken = (home / PORT_THAT_WAS_TAKEN).read_text()
        assert State.read(Home(home)).urls["ui"] != f"http://127.0.0.1:{taken}"
        killed = [supervisor.process(name) for name in ("code server", "daemon", "webserver")]
        for process in killed:
            process.signal(KILL)
        assert wait_until(lambda: longbox(home, "status").returncode == 0 or None, seconds=120), (
            supervisor.end()
        )
        assert not any(process.is_alive() for process in killed)
        client = DagsterClient(State.read(Home(home)).urls["ui"])
        run = client.launch("__ASSET_JOB", assets=["one"])
        assert client.wait(run, timeout_seconds=120).status == "SUCCESS"
        supervisor.end(KILL)
        assert len(leftovers.find(Home(home))) >= 5
        assert longbox(home, "down").returncode == 0
        assert_nothing_is_left(home)


def test_a_run_that_was_killed_with_everything_neither_stays_under_way_nor_keeps_its_place_in_a_pool(
    home: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "definitions.py").write_text(
        "import pathlib, time\nimport dagster as dg\n\n"
        "@dg.asset(pool='ingest')\ndef one() -> None:\n"
        f"    begun = pathlib.Path({str(begun)!r})\n"
        "    if not begun.exists():\n        begun.touch()\n        time.sleep(600)\n\n"
        "defs = dg.Definitions([one], jobs=[dg.define_asset_job('ones')])\n"
    )
    with supervised(home, tmp_path) as supervisor:
        follower = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "run", "ones"],
            cwd=PROJECT_ROOT, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert wait_until(lambda: begun.exists() or None, seconds=120), "the step holds its place in the pool"
        supervisor.end(KILL)
        for process in leftovers.find(Home(home)):
            process.signal(KILL)
        url, told = follower.communicate(timeout=60)
        assert follower.returncode == 1, "it does not wait for a stack that is gone"
        assert f"the stack in {home} stopped while the run was under way" in told
        assert "`longbox up`, then `longbox run ones` completes it" in told
        lost = url.strip().rpartition("/")[2]
    with supervised(home, tmp_path) as supervisor:
        client = DagsterClient(State.read(Home(home)).urls["ui"])
        assert client.wait(lost, timeout_seconds=30).status == "FAILURE"
        assert "launch the run again" in client.failures(lost)["run"]
        run = client.launch("__ASSET_JOB", assets=["one"])
        assert client.wait(run, timeout_seconds=120).status == "SUCCESS"
        _, said = supervisor.end(signal.SIGTERM)
    assert "1 run(s) ended with an earlier start of this stack" in said


def test_servers_that_are_given_are_used_and_nothing_is_started(home: Path, stack: Stack) -> None:
    urls = {
        "LONGBOX_POSTGRES_URL": stack.settings.postgres_url,
        "LONGBOX_DAGSTER_POSTGRES_URL": stack.settings.dagster_postgres_url,
        "LONGBOX_REDIS_URL": stack.settings.redis_url,
    }
    said: list[str] = []
    with Stack(home, dagster=False, environ=urls, report=said.append) as given:
        assert given.settings.postgres_url == stack.settings.postgres_url
        assert [part.process for part in given.state.parts] == [None] * len(given.state.parts)
        assert leftovers.find(Home(home)) == []
        assert not (home / "postgres" / "data").exists()
        assert sum("given by a setting" in line for line in said) == 3, said
    secrets = Secrets.of(stack.home)
    for text in ("\n".join(said), (home / "stack.json").read_text()):
        assert secrets.postgres not in text
        assert secrets.redis not in text


def test_servers_that_refuse_or_are_away_are_told_without_the_secret(home: Path, stack: Stack) -> None:
    def fault(**urls: str) -> str:
        with pytest.raises(LongboxError) as caught:
            Stack(home, dagster=False, environ=urls).start()
        assert "s3cr3t" not in str(caught.value)
        assert_nothing_is_left(home)
        return str(caught.value)

    right = stack.settings
    wrong_postgres = right.postgres_url.replace(Secrets.of(stack.home).postgres, "s3cr3t")
    assert "refuses the user or password" in fault(LONGBOX_POSTGRES_URL=wrong_postgres)
    wrong_redis = right.redis_url.replace(Secrets.of(stack.home).redis, "s3cr3t")
    assert "refuses the user or password" in fault(LONGBOX_REDIS_URL=wrong_redis)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        port = nobody.getsockname()[1]
        away = fault(LONGBOX_POSTGRES_URL=f"postgresql://u:s3cr3t@127.0.0.1:{port}/d")
        assert "cannot be reached" in away
        assert "LONGBOX_POSTGRES_URL" in away
        assert "cannot be reached" in fault(LONGBOX_REDIS_URL=f"redis://:s3cr3t@127.0.0.1:{port}/0")
    lacking = right.postgres_url.rsplit("/", 1)[0] + "/nowhere"
    assert "lacks that database" in fault(LONGBOX_POSTGRES_URL=lacking)


def test_a_port_that_is_set_but_taken_is_wrong_use(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        up = longbox(home, "up", "--no-dagster", LONGBOX_POSTGRES_PORT=str(taken.getsockname()[1]))
    assert up.returncode == 2
    assert "LONGBOX_POSTGRES_PORT" in up.stderr
    assert "Traceback" not in up.stderr
    assert_nothing_is_left(home)


def test_secrets_are_in_files_of_their_owner_and_on_no_command_line(stack: Stack) -> None:
    path = stack.home.path
    for file in (path / "stack.json", path / "secrets.json", path / "valkey" / "valkey.conf"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    secrets = Secrets.of(stack.home)
    assert secrets.postgres not in repr(secrets)
    for part in stack.state.parts:
        if part.process:
            command = " ".join(psutil.Process(part.process.pid).cmdline())
            assert secrets.postgres not in command
            assert secrets.redis not in command


def test_only_loopback_is_listened_on(stack: Stack) -> None:
    for part in stack.state.parts:
        if part.process:
            listening = [
                c.laddr.ip for c in psutil.Process(part.process.pid).net_connections() if c.status == "LISTEN"
            ]
            assert listening == ["127.0.0.1"], part.name


def test_a_pid_that_now_belongs_to_another_process_is_neither_trusted_nor_killed(home: Path) -> None:
    with supervised(home) as supervisor:
        keep_a_row(home)
        supervisor.end(TERM)
    data = next(folder for folder in (home / "postgres" / "data",) if folder.exists())
    user = privileges.server_user(data)
    stranger = subprocess.Popen(["sleep", "120"], **(user.options() if user else {}))  # type: ignore[call-overload]
    try:
        # as a machine that lost power leaves it: pid files whose numbers were given out again since
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n1\n1\n\n127.0.0.1\n1 1\nready\n")
        os.chown(data / "postmaster.pid", data.stat().st_uid, data.stat().st_gid)
        state = State.read(Home(home))
        State("running", ProcessId(stranger.pid, 1.0), dict(state.urls), state.ports).write(Home(home))
        assert longbox(home, "down").returncode == 0
        assert stranger.poll() is None
        with supervised(home):
            assert kept_row(home) == 42
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_damaged_state_file_does_not_hold_up_the_next_start(home: Path) -> None:
    with supervised(home) as supervisor:
        keep_a_row(home)
        supervisor.end(TERM)
    (home / "stack.json").write_text("{half")
    assert longbox(home, "status").returncode == 3
    with supervised(home):
        assert kept_row(home) == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another user")
def test_as_root_below_a_closed_folder_postgresql_lives_where_its_user_can_reach_it(home: Path) -> None:
    home.chmod(0o700)
    closed = home / "inner"
    try:
        with Stack(closed, dagster=False, environ={"PATH": os.environ["PATH"]}, is_durable=False) as stack:
            (note,) = (part.note for part in stack.state.parts if part.name == "PostgreSQL")
            assert str(privileges.relocated_folder(closed)) in note
            keep_a_row(closed)
        with Stack(closed, dagster=False, environ={"PATH": os.environ["PATH"]}, is_durable=False):
            assert kept_row(closed) == 42
        assert_nothing_is_left(closed)
    finally:
        remove_home(closed)


def test_a_home_that_cannot_be_made_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="LONGBOX_HOME"):
        Stack(tmp_path / "file" / "home", dagster=False, environ={}).start()

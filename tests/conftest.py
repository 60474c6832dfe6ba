"""Fixtures that every suite shares: one real PostgreSQL and Valkey a session, a database, a cache and a store a test.

Nothing of the developer's environment or own stack is touched. A fixture that only one suite needs belongs to that
suite; what is started here is stopped by its own pid, whatever the test does.
"""

from tests import covered_lines  # before what it counts

# isort: split

import contextlib
import functools
import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import psycopg
import pytest
import redis
from psycopg import sql
from xdist.scheduler import LoadFileScheduling

from deploy.local import privileges
from deploy.local.stack import Stack
from pipelines.catalog.loader import system_folders
from pipelines.migration import migrate
from resources.settings import Settings
from tests.backup_cluster import Backups, Cluster, fast_folder, new_backups, running_cluster
from tests.s3_server import S3Server, new_bucket_name, running_s3

TEMPLATE = "longbox_template"
# machines are slow at times: an example that takes long, to make or to try, is no fault
_PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
# the same examples each time, so that a change is judged by what it changes; `--hypothesis-profile search` draws others
hypothesis.settings.register_profile("longbox", derandomize=True, **_PATIENT)
hypothesis.settings.register_profile("search", **_PATIENT)
hypothesis.settings.load_profile("longbox")
_numbers = itertools.count(1)


def let_children_be_ended() -> None:
    """Hear and forget the signals that this process was started to ignore, as a shell starts what it puts behind `&`.

    What is ignored is so for every process that tests start, too. And Dagster gives SIGTERM whatever SIGINT has when a
    run ends: the `tail` of the next run, started on another thread, then did not end by SIGTERM.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, lambda number, frame: None)


let_children_be_ended()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the fault tests; `make faults` and `make drills` set them higher."""
    parser.addoption("--kills", type=int, default=6, help="kills of the storm (tests/faults)")
    parser.addoption("--seed", type=int, default=1, help="seed of the storms")
    parser.addoption("--flips", type=int, default=40, help="damages of the corruption storm")
    parser.addoption("--drills", type=int, default=4, help="restores of the drill storm")
    parser.addoption(
        "--stores", default="local", help="kinds of store of tests/acceptance: local, s3, or local,s3"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make `-m s3` known."""
    config.addinivalue_line("markers", "s3: asks the S3 server, moto or that of LONGBOX_TEST_S3_ENDPOINT")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what asks the S3 server, by its fixtures or by its parameter."""
    for item in items:
        variant = item.callspec.id if hasattr(item, "callspec") else ""
        if "s3_server" in item.fixturenames or "s3" in variant.split("-"):
            item.add_marker("s3")


class _ByFile(LoadFileScheduling):
    """A file stays with one worker, and so do all of tests/acceptance: each worker would start its stack anew."""

    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/acceptance/"
        return folder if nodeid.startswith(folder) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: each waits a quarter of its time, for a tick of Dagster or an archived segment."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    """How `make test` spreads the tests over its workers."""
    return _ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session when its tests ran too few lines; SlipCover's own hook has summed them up before."""
    if covered_lines.is_too_little():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report the lines that no test ran, above pytest's last line."""
    terminalreporter.write(covered_lines.report())


@pytest.fixture(scope="session", autouse=True)
def _environment_of_the_developer_is_left_out() -> Iterator[None]:
    """No test sees settings of the shell that runs it, nor the stack that its user may have running."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("LONGBOX_", "DAGSTER_", "AWS_", "PG"))]:
        del os.environ[name]
    os.environ["LONGBOX_HOME"] = str(Path(tempfile.gettempdir()) / "longbox-tests-have-no-home")
    yield
    os.environ.clear()
    os.environ.update(kept)


def new_home() -> Path:
    """A short path that PostgreSQL's own user may enter too: as root it does not run as we do."""
    return fast_folder("longbox-")


def remove_home(home: Path) -> None:
    """Remove a home of `new_home` and what was kept for it elsewhere."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(privileges.relocated_folder(home), ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home for a stack of the test's own."""
    path = new_home()
    yield path
    remove_home(path)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The PostgreSQL and the Valkey of this session, without Dagster and without tables."""
    home = new_home()
    try:
        with Stack(home, dagster=False, environ={"PATH": os.environ["PATH"]}, is_durable=False) as running:
            yield running
    finally:
        remove_home(home)


@pytest.fixture(scope="session")
def postgres_admin_url(stack: Stack) -> str:
    """The server's own database, as a user who may create others."""
    return with_database(stack.settings.postgres_url, "postgres")


@pytest.fixture(scope="session")
def postgres_admin(postgres_admin_url: str) -> Iterator[psycopg.Connection]:
    """A connection there, for all databases that tests get: a new one for each costs more than the copy itself."""
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template_database(postgres_admin: psycopg.Connection, postgres_admin_url: str, stack: Stack) -> str:
    """Name of a database with every migration of the bundled systems, to be cloned, never used."""
    postgres_admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    migrate(with_database(postgres_admin_url, TEMPLATE), system_folders(stack.settings))
    return TEMPLATE


@pytest.fixture(scope="session")
def clone(
    postgres_admin: psycopg.Connection, postgres_admin_url: str, template_database: str
) -> Callable[[], AbstractContextManager[str]]:
    """Makes migrated databases, each for the time of a block that gets its URL."""
    return functools.partial(_database, postgres_admin, postgres_admin_url, template_database)


@pytest.fixture
def database_url(clone: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A migrated database of the test's own."""
    with clone() as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_admin: psycopg.Connection, postgres_admin_url: str) -> Iterator[str]:
    """A database of the test's own without any table."""
    with _database(postgres_admin, postgres_admin_url, "template1") as url:
        yield url


@pytest.fixture
def redis_url(stack: Stack) -> str:
    """The session's Valkey, emptied."""
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        client.flushall()
    return stack.settings.redis_url


@pytest.fixture
def object_store_url(tmp_path: Path) -> str:
    """A local object store of the test's own."""
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder.as_uri()


@pytest.fixture
def settings(database_url: str, redis_url: str, object_store_url: str, tmp_path: Path) -> Settings:
    """Settings that name the test's own database, cache and object store."""
    return Settings.load(
        {
            "LONGBOX_HOME": str(tmp_path / "home"),
            "LONGBOX_POSTGRES_URL": database_url,
            "LONGBOX_REDIS_URL": redis_url,
            "LONGBOX_OBJECT_STORE": object_store_url,
        }
    )


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 API: moto, or the server that LONGBOX_TEST_S3_ENDPOINT names."""
    with running_s3() as server:
        yield server


@pytest.fixture
def s3_endpoint(s3_server: S3Server) -> str:
    """Where it answers."""
    return s3_server.endpoint


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own with a prefix in it; the usual AWS variables lead to it."""
    import boto3

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = new_bucket_name()
    boto3.session.Session().client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/data"


def with_database(url: str, name: str) -> str:
    """`url`, but of another database of that server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextlib.contextmanager
def _database(admin: psycopg.Connection, admin_url: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    # copying the template's hundreds of small files costs a tenth of logging them
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    yield with_database(admin_url, name)
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A small server of the session's own for the tests of backups."""
    with running_cluster() as running:
        yield running


@pytest.fixture
def backups(cluster: Cluster, object_store_url: str, tmp_path: Path) -> Iterator[Backups]:
    """A repository of the test's own in a local store, with keys."""
    made = new_backups(cluster, object_store_url, tmp_path)
    yield made
    shutil.rmtree(made.scratch, ignore_errors=True)

"""A small PostgreSQL of its own for the tests of backups, and what they do with it: write, ship WAL, restore, compare.

The shared cluster of `conftest` is not used: its databases come and go while other tests run.
"""

import contextlib
import datetime as dt
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from deploy.local import postgres
from deploy.local.ports import choose
from deploy.local.state import Home
from pipelines.backup.model import RestoreRequest, parse_lsn
from pipelines.backup.postgres import PostgresEngine
from pipelines.backup.repository import Repository
from pipelines.backup.restore import RestoreResult, restore
from pipelines.backup.sealed import Opener, recovery_lock
from pipelines.backup.wal import Covered, WalArchive, end_of_records, segment_name
from pipelines.migration import migrate
from resources.database import Database
from resources.keys import RecoveryKeys, ServerKeys, make_keys
from resources.object_store import ObjectStore

_numbers = itertools.count(1)
_AT_ONCE = ((signal.SIGQUIT, 30.0), (signal.SIGKILL, 10.0))


@dataclass(frozen=True)
class Cluster:
    """A running server with a table `notes (id, body)`."""

    url: str
    data: Path
    system: str
    restart: Callable[[], None] = field(default=lambda: None, compare=False)  # after an immediate shutdown

    def run(self, *statements: str) -> None:
        """Execute each, in one session."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def value(self, query: str) -> object:
        """The first column of the first row."""
        return one_value(self.url, query)

    def write(self, rows: int = 10) -> None:
        """Commit some rows."""
        self.run(f"INSERT INTO notes (body) SELECT md5(random()::text) FROM generate_series(1, {rows})")

    def truth(self) -> str:
        """Count and content of the table, to compare with what is restored."""
        return truth(self.url)

    def now(self) -> dt.datetime:
        """The server's clock, after what was committed and before what comes."""
        found = self.value("SELECT clock_timestamp()")
        assert isinstance(found, dt.datetime)
        return found


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Make, start and stop a server."""
    folder = fast_folder("longbox-backup-")
    try:
        home = Home(folder)
        home.make()
        server = postgres.prepare(home, "secret", is_durable=False)
        server.initialise()
        port = choose("port", None, remembered=None)
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        child = server.start(port, env)

        def restart() -> None:
            nonlocal child
            child.stop(_AT_ONCE, whole_group=False)
            child = server.start(port, env)
            server.wait_ready(child, port)
            with psycopg.connect(server.url(port, "postgres"), autocommit=True) as connection:
                for database in postgres.DATABASES:
                    connection.execute(f"DROP DATABASE {database}")

        try:
            server.wait_ready(child, port)
            url = server.url(port, "postgres")
            with psycopg.connect(url, autocommit=True) as connection:
                # a thousand files less in each backup
                for database in postgres.DATABASES:
                    connection.execute(f"DROP DATABASE {database}")
                connection.execute("CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, body text)")
            system = str(one_value(url, "SELECT system_identifier::text FROM pg_control_system()"))
            yield Cluster(url, server.data, system, restart)
        finally:
            child.stop(_AT_ONCE, whole_group=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fast_folder(prefix: str) -> Path:
    """A folder that PostgreSQL's own user may enter too; in memory where there is room, for files come by thousands."""
    memory = Path("/dev/shm")
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=memory if has_room else None)).resolve()
    folder.chmod(0o755)
    return folder


@dataclass(frozen=True)
class Backups:
    """A cluster, a repository of the test's own with keys, and a folder to restore into."""

    cluster: Cluster
    repository: Repository
    server_keys: ServerKeys
    recovery_keys: RecoveryKeys
    scratch: Path
    part_bytes: int = 1 << 20

    @property
    def engine(self) -> PostgresEngine:
        """The engine, which opens its connections as it needs them."""
        database = Database(self.cluster.url, role=None, application_name="longbox tests")
        keys = self.server_keys, self.recovery_keys
        return PostgresEngine(database, self.cluster.url, self.repository, *keys, part_bytes=self.part_bytes)

    @property
    def opener(self) -> Opener:
        """Both kinds of keys."""
        return Opener(self.recovery_keys, self.server_keys)

    def restore(self, *, check=None, **wanted: object) -> RestoreResult:
        """Restore into a new folder."""
        into = self.scratch / f"restored-{next(_numbers)}"
        return restore(
            self.repository, RestoreRequest(into, is_durable=False, **wanted), self.opener, check=check
        )

    def restored_truth(self, **wanted: object) -> str:
        """What the restored server holds, asked before it counts as restored."""
        said: list[str] = []
        result = self.restore(check=lambda url: said.append(truth(url)), **wanted)
        shutil.rmtree(result.into)
        return said[0]

    def path_of(self, name: str) -> Path:
        """The file of an object in a local store."""
        return Path(self.repository.store.url.removeprefix("file://")) / self.repository.path(name)

    def flip(self, name: str, position: int = -40) -> None:
        """Damage an object of a local store by one bit."""
        path = self.path_of(name)
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)


def new_backups(cluster: Cluster, store_url: str, folder: Path, copies: tuple[str, ...] = ()) -> Backups:
    """A repository in the store, with fresh keys."""
    made = make_keys(folder / "server.json", folder / "recovery.json", dt.datetime.now(dt.UTC))
    stores = [ObjectStore.from_url(url) for url in (store_url, *copies)]
    repository = Repository(stores[0], cluster.system, stores[1:])
    # the server's user has to pass through to what is restored
    scratch = fast_folder("longbox-restored-")
    keys = ServerKeys.load(made.server_file), RecoveryKeys.load(made.recovery_file)
    return Backups(cluster, repository, *keys, scratch)


def ship_wal(backups: Backups) -> dt.datetime:
    """Put all WAL of the server into the repository, as the receiver does. Returns the moment that is covered."""
    cluster, archive = backups.cluster, WalArchive(backups.repository)
    at, lock, have = cluster.now(), recovery_lock(backups.server_keys), archive.inventory()
    lsn = end_of_records(parse_lsn(str(cluster.value("SELECT pg_current_wal_insert_lsn()::text"))))
    # its commit waits until all before it is on disk, which that of a transaction without records would not
    cluster.value("SELECT pg_logical_emit_message(true, 'longbox', '')::text")
    current = segment_name(1, lsn // archive.segment_bytes, archive.segment_bytes)
    for path in sorted(cluster.data.glob("pg_wal/" + "[0-9A-F]" * 24)):
        if path.name < current and (1, path.name) not in have.segments:
            archive.put_segment(lock, 1, path.name, path.read_bytes(), at)
    if lsn % archive.segment_bytes:
        data = (cluster.data / "pg_wal" / current).read_bytes()
        archive.put_partial(lock, 1, current, data, lsn % archive.segment_bytes, at)
    archive.put_covered(Covered(at, lsn, 1))
    return at


def truth(url: str) -> str:
    """Count and content of the table."""
    content = "coalesce(md5(string_agg(id || body, ',' ORDER BY id)), '')"
    return str(one_value(url, f"SELECT count(*) || ' ' || {content} FROM notes"))


def one_value(url: str, query: str) -> object:
    """The first column of the first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


@contextlib.contextmanager
def migrated_database(cluster: Cluster, name: str) -> Iterator[str]:
    """A database with the platform's tables in the cluster that is backed up; yields its URL, and drops it."""
    cluster.run(f"CREATE DATABASE {name}")
    url = urlsplit(cluster.url)._replace(path=f"/{name}").geturl()
    migrate(url, [])
    yield url
    cluster.run(f"DROP DATABASE {name} WITH (FORCE)")

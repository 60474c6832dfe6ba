"""A small PostgreSQL with WAL archived by pgBackRest, for tests: Debian's own of both, where they are installed.

Debian's pgBackRest 2.45 knows PostgreSQL up to 15, the wheel's 18 not yet; so the server is Debian's 15.
"""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from deploy.local.ports import choose
from pipelines.backup.model import RestoreRequest
from pipelines.backup.pgbackrest import PgBackRestEngine
from pipelines.backup.repository import Repository
from resources.database import Database
from resources.object_store import ObjectStore
from resources.pgbackrest import PgBackRest
from resources.postgres_programs import MissingProgramsError, PostgresPrograms, find_postgres, server_user
from resources.settings import PROJECT_ROOT
from tests.backup_cluster import Cluster, fast_folder, one_value, truth

MAJOR = 15
STANZA = "shop"
INSTALL = "install them with `apt-get install pgbackrest postgresql-15`"


def programs() -> PostgresPrograms:
    """A PostgreSQL that Debian's pgBackRest supports; the test is skipped where either is absent."""
    if shutil.which("pgbackrest") is None:
        pytest.skip(f"pgBackRest is not installed; {INSTALL}")
    try:
        return find_postgres(MAJOR, oldest=MAJOR)
    except MissingProgramsError:
        pytest.skip(
            f"PostgreSQL {MAJOR} is not installed, and Debian's pgBackRest knows none newer; {INSTALL}"
        )


@dataclass(frozen=True)
class StanzaCluster:
    """The server, pgBackRest's configuration, and the folder of its repository."""

    cluster: Cluster
    config: Path
    repository: Path

    @property
    def program(self) -> PgBackRest:
        """pgBackRest for the stanza."""
        return PgBackRest(STANZA, config=self.config)

    def start_anew(self) -> None:
        """An empty repository."""
        user = server_user(Path("/nonexistent"))
        for place in self.repository.iterdir():
            shutil.rmtree(place)
        assert user is None or self.repository.owner() == user.name
        self.program.run("stanza-create")

    @contextlib.contextmanager
    def second_repository(self) -> Iterator[None]:
        """The stanza has one more repository meanwhile, with a passphrase of its own; WAL goes to both."""
        plain, place = self.config.read_text(encoding="utf-8"), self.repository.with_name("repository2")
        _make_folder(place)
        more = f"repo2-path={place}\nrepo2-retention-full=2\n{_cipher(2)}"
        self.config.write_text(plain.replace(f"[{STANZA}]", f"{more}[{STANZA}]"), encoding="utf-8")
        try:
            self.program.run("stanza-create")
            yield
        finally:
            self.config.write_text(plain, encoding="utf-8")
            shutil.rmtree(place)

    def engine(self, store_url: str) -> PgBackRestEngine:
        """The engine, with its witnesses in a store."""
        server = Database(self.cluster.url, role=None, application_name="longbox tests")
        return PgBackRestEngine(
            self.program, Repository(ObjectStore.from_url(store_url), self.cluster.system), server
        )

    def files(self, pattern: str) -> list[Path]:
        """Files of the repository."""
        return sorted(path for path in self.repository.glob(pattern) if path.is_file())

    def damage(self, backup_id: str) -> str:
        """Flip a bit in the largest file of a backup; what a verification has to say of it."""
        victim = max(
            self.files(f"backup/{STANZA}/{backup_id}/pg_data/base/**/*"), key=lambda path: path.stat().st_size
        )
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 4
        victim.write_bytes(data)
        return f"{backup_id}: checksum invalid: 1"


@contextlib.contextmanager
def running_stanza() -> Iterator[StanzaCluster]:
    """Make, start and stop a server that archives through pgBackRest."""
    found = programs()
    folder = fast_folder("longbox-pgbackrest-")
    try:
        port = choose("port", None, remembered=None)
        config = _configure(folder, port)
        data = folder / "data"
        _run(found, "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync")
        command = f"pgbackrest --config={config} --stanza={STANZA} archive-push %p"
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(
                f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{folder / 'socket'}'\n"
                f"archive_mode=on\narchive_command='{command}'\nfsync=off\nmax_wal_size=64MB\n"
            )
        _run(found, "pg_ctl", "-D", data, "-l", folder / "server.log", "-w", "start")
        try:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, body text)")
            system = str(one_value(url, "SELECT system_identifier::text FROM pg_control_system()"))
            yield StanzaCluster(Cluster(url, data, system), config, folder / "repository")
        finally:
            _run(found, "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def platform_database(cluster: Cluster, name: str) -> str:
    """A database with the platform's tables. Migrations refuse a server as old as this one: their SQL is run as it is.

    But for MAINTAIN, a privilege that PostgreSQL 15 does not know.
    """
    cluster.run(f"CREATE DATABASE {name}")
    url = cluster.url.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(url, autocommit=True) as connection:
        for role in ("owner", "app", "reader", "backup"):
            connection.execute(f"CREATE ROLE longbox_{role}")
        connection.execute("CREATE SCHEMA longbox")
        connection.execute("GRANT USAGE ON SCHEMA longbox TO longbox_app, longbox_reader")
        for rights in ("SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE ON SEQUENCES"):
            connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA longbox GRANT {rights} TO longbox_app")
        for path in sorted((PROJECT_ROOT / "pipelines/migration/platform").glob("*.sql")):
            up = path.read_text(encoding="utf-8").partition("-- migrate: down")[0]
            connection.execute(re.sub(r",\s*MAINTAIN\b", "", up))
    return url


def restored_truth(engine: PgBackRestEngine, scratch: Path, **wanted: object) -> str:
    """What the restored server holds, asked before it counts as restored."""
    said: list[str] = []
    into = scratch / f"restored-{len(list(scratch.iterdir()))}"
    request = RestoreRequest(into, is_durable=False, **wanted)  # type: ignore[arg-type]
    result = engine.restore(request, check=lambda url: said.append(truth(url)))
    shutil.rmtree(result.into)
    return said[0]


def _configure(folder: Path, port: int) -> Path:
    user = server_user(Path("/nonexistent"))
    for name in ("repository", "log", "lock", "spool", "socket", "data"):
        _make_folder(folder / name, mode=0o700 if name == "data" else 0o755)
    if user is not None:
        shutil.chown(folder, user.uid, user.gid)
    config = folder / "pgbackrest.conf"
    config.write_text(
        f"[global]\nrepo1-path={folder / 'repository'}\nrepo1-retention-full=2\nlog-path={folder / 'log'}\n"
        f"lock-path={folder / 'lock'}\nspool-path={folder / 'spool'}\nlog-level-file=off\ncompress-type=none\n"
        f"{_cipher(1)}[{STANZA}]\npg1-path={folder / 'data'}\npg1-socket-path={folder / 'socket'}\npg1-port={port}\n"
        "pg1-user=postgres\n",
        encoding="utf-8",
    )
    config.chmod(0o644)
    return config


def _make_folder(place: Path, mode: int = 0o755) -> None:
    user = server_user(Path("/nonexistent"))
    place.mkdir(mode=mode)
    if user is not None:
        shutil.chown(place, user.uid, user.gid)


def _cipher(repository: int) -> str:
    return f"repo{repository}-cipher-type=aes-256-cbc\nrepo{repository}-cipher-pass=passphrase-{repository}\n"


def _run(found: PostgresPrograms, program: str, *arguments: object) -> None:
    user = server_user(Path("/nonexistent"))
    subprocess.run(
        [found.program(program), *map(str, arguments)],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/",
        **(user.options() if user else {}),
    )  # type: ignore[call-overload]  # fmt: skip

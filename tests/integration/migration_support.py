"""What the tests of migrations share: empty databases, folders of revisions and their states, schema dumps.

Databases are made on the server of the test session and dropped afterwards; nothing here is a test.
"""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from deploy.local.binaries import find_postgres
from pipelines.migration import MigrationResult, migrate, status
from pipelines.migration.revisions import PLATFORM_FOLDER
from resources.settings import PROJECT_ROOT

ASSETS = PROJECT_ROOT / "assets"
# the platform's revisions, which every migration applies first
PLATFORM = tuple(sorted(f"longbox_{file.name[:4]}" for file in PLATFORM_FOLDER.glob("*.sql")))
# a first revision of a `Shop`, and how many tables it has
GOODS = "CREATE TABLE shop.goods (id int PRIMARY KEY);"
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'shop'"


def with_database(url: str, name: str) -> str:
    """`url`, but of another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def with_user(url: str, user: str, password: str) -> str:
    """`url`, but as another user."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


@contextlib.contextmanager
def new_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database, empty or a copy of `template`; dropped at the end with whoever is still in it."""
    name = f"migration_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield with_database(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class Shop:
    """A small system in a folder of its own, whose revisions a test writes one by one."""

    folder: Path
    name: str = "shop"
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "migrations").mkdir(parents=True, exist_ok=True)
        (self.folder / "system.yaml").write_text(f"system: {self.name}\n", encoding="utf-8")

    def add(self, number: int, up: str, down: str | None = None, head: str = "") -> Path:
        """Write revision `number` over whatever was there."""
        path = self.folder / "migrations" / f"{number:04d}_step.sql"
        text = f"-- {self.name} {number:04d}: Step {number}\n{head}\n-- migrate: up\n{up}\n"
        path.write_text(text + (f"-- migrate: down\n{down}\n" if down else ""), encoding="utf-8")
        return path

    def migrate(self, url: str) -> MigrationResult:
        """Apply what is there; what is reported ends up in `said`."""
        return migrate(url, [self.folder], report=self.said.append)


def states(url: str, *folders: Path) -> dict[str, str]:
    """The state of each revision: of the platform, of `folders`, and of those that were applied before."""
    return {item.revision: item.state for item in status(url, list(folders))}


def execute(
    url: str, statement: str, *parameters: object, role: str | None = None
) -> list[tuple[object, ...]]:
    """Run one statement, as `role` if given, and commit; its rows if it has any."""
    with psycopg.connect(url) as connection:
        if role:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def value(url: str, statement: str, *parameters: object, role: str | None = None) -> object:
    """The one value a statement gives."""
    return execute(url, statement, *parameters, role=role)[0][0]


def schema_dump(url: str) -> str:
    """pg_dump's text of everything but rows: tables, indexes, constraints, functions, owners, grants, comments."""
    program = find_postgres().program("pg_dump")
    done = subprocess.run([program, "--schema-only", url], capture_output=True, text=True, check=True)
    # \restrict carries a new random word in every dump
    return "\n".join(line for line in done.stdout.splitlines() if "restrict " not in line[:12])


def run_script(url: str, script: str) -> None:
    """Run a script as psql does, stopping at the first error."""
    program = find_postgres().program("psql")
    done = subprocess.run(
        [program, "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", url],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

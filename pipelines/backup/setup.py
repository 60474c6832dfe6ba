"""Repository, keys and engine as the settings name them; opened here so that commands, assets and drills agree.

A server opens its repository by asking its database which cluster it is; an empty machine, which has only the store
and the keys, takes the one that the store holds (`open_stored_repository`).
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from pipelines.backup import external, pgbackrest, stored
from pipelines.backup.engine import BackupEngine, BackupSource
from pipelines.backup.errors import EngineCannotError
from pipelines.backup.external import ExternalEngine
from pipelines.backup.pgbackrest import PgBackRestEngine, read_stanza
from pipelines.backup.postgres import PostgresEngine, inspect_server
from pipelines.backup.repository import Repository, find_system
from pipelines.backup.sealed import Opener
from pipelines.backup.stored import StoredBackups
from pipelines.backup.truth import system_of
from resources.database import Database
from resources.errors import UserError
from resources.keys import MadeKeys, RecoveryKeys, ServerKeys, make_keys
from resources.object_store import ObjectStore
from resources.pgbackrest import PgBackRest
from resources.provider import Provider
from resources.settings import Settings


def backup_urls(settings: Settings) -> list[str]:
    """The store of backups and its copies, by URL."""
    return [settings.backup_store, *settings.backup_copy_stores]


def open_stores(settings: Settings) -> tuple[ObjectStore, list[ObjectStore]]:
    """The store of backups and its copies."""
    return ObjectStore.from_url(settings.backup_store), [
        ObjectStore.from_url(url) for url in settings.backup_copy_stores
    ]


def open_repository(settings: Settings, system: str) -> Repository:
    """The repository of the cluster `system`."""
    store, copies = open_stores(settings)
    return Repository(store, system, copies)


def open_stored_repository(settings: Settings, wanted: str | None = None) -> Repository:
    """The repository that the stores hold. Raises `UserError` if there is none, or several and none is named."""
    store, copies = open_stores(settings)
    return Repository(store, find_system(store, copies, wanted), copies)


def open_engine(settings: Settings, database: Database) -> BackupEngine:
    """The engine of the server behind `database` (the login user's own role). Reads keys; writes nothing."""
    if settings.backup_engine == pgbackrest.NAME:
        program = pgbackrest_program(settings)
        system = read_stanza(program).system_identifier
        return PgBackRestEngine(program, open_repository(settings, system), database)
    if settings.backup_engine == external.NAME:
        with database.session() as connection:
            system = system_of(connection)
        repository = open_repository(settings, system)
        return ExternalEngine(provider(settings), repository, lambda: backup_database(settings))
    keys = ServerKeys.load(settings.backup_keys)
    with database.session() as connection:
        facts, _ = inspect_server(connection)
    repository = open_repository(settings, facts.system_identifier)
    return PostgresEngine(
        database, settings.backup_postgres_url, repository, keys, recovery_keys_at_hand(settings)
    )


def open_source(settings: Settings, system: str) -> BackupSource:
    """The backups of the cluster `system`, without its server. Raises `UserError`."""
    if settings.backup_engine == pgbackrest.NAME:
        return PgBackRestEngine(pgbackrest_program(settings), open_repository(settings, system))
    repository = open_repository(settings, system)
    if settings.backup_engine == external.NAME:
        return ExternalEngine(provider(settings), repository, lambda: backup_database(settings))
    return StoredBackups(repository, opener(settings))


def open_stored_source(settings: Settings, wanted: str | None = None) -> BackupSource:
    """The backups that the stores, or pgBackRest, hold, for an empty machine.

    Raises `UserError` if there are none, or several clusters' and none is named.
    """
    if settings.backup_engine == pgbackrest.NAME:
        system = read_stanza(pgbackrest_program(settings)).system_identifier
        return open_source(settings, wanted or system)
    return open_source(settings, open_stored_repository(settings, wanted).system_identifier)


def provider(settings: Settings) -> Provider:
    """The commands and the file by which a provider of managed PostgreSQL is asked."""
    return Provider(
        settings.external_evidence_command,
        settings.external_evidence_file,
        settings.external_restore_command,
        settings.external_discard_command,
    )


def pgbackrest_program(settings: Settings) -> PgBackRest:
    """pgBackRest as the settings name it. Raises `UserError` without a stanza."""
    if settings.pgbackrest_stanza is None:
        raise UserError(
            "LONGBOX_BACKUP_ENGINE is pgbackrest and no stanza is named; set LONGBOX_PGBACKREST_STANZA to the one of "
            "this server in pgBackRest's configuration"
        )
    return PgBackRest(settings.pgbackrest_stanza, settings.pgbackrest_command, settings.pgbackrest_config)


def prepare_engine(settings: Settings, warn: Callable[[str], None]) -> None:
    """What an engine needs before its first backup: the default one its keys."""
    if settings.backup_engine == stored.NAME:
        default_keys(settings, warn)


def require_own_wal(settings: Settings) -> None:
    """Raise `EngineCannotError` unless Longbox itself ships WAL."""
    if settings.backup_engine != stored.NAME:
        raise EngineCannotError(
            f"LONGBOX_BACKUP_ENGINE is {settings.backup_engine}, which ships WAL by itself: `longbox wal` is of the "
            "engine postgres; see docs/how-to/"
        )


def backup_database(settings: Settings) -> Database:
    """The server as backups reach it."""
    return Database(settings.backup_postgres_url, role=None, application_name="longbox backup")


def recovery_keys_at_hand(settings: Settings) -> RecoveryKeys | None:
    """The recovery keys if their file is here. Raises `KeysUnreadableError` for one that is no such file."""
    path = settings.backup_recovery_keys
    if settings.given_backup_recovery_keys is None and not path.exists():
        return None
    return RecoveryKeys.load(path)


def opener(settings: Settings) -> Opener:
    """Whatever keys are at hand."""
    server = ServerKeys.load(settings.backup_keys) if settings.backup_keys.exists() else None
    return Opener(recovery_keys_at_hand(settings), server)


def default_keys(settings: Settings, warn: Callable[[str], None]) -> MadeKeys | None:
    """Make both files in LONGBOX_HOME if the settings name none and none is there, and say loudly what that means."""
    if settings.given_backup_keys is not None or settings.backup_keys.exists():
        return None
    if settings.backup_recovery_keys.exists():
        raise UserError(
            f"{settings.backup_recovery_keys} is there, but not {settings.backup_keys}; "
            "bring that one back, or move the former away"
        )
    made = make_keys(settings.backup_keys, settings.backup_recovery_keys, dt.datetime.now(dt.UTC))
    warn(key_warning(made.recovery_file))
    return made


def is_key_due(settings: Settings, now: dt.datetime) -> bool:
    """Whether the default engine's newest recovery key is due for rotation; no where there are no readable keys."""
    if settings.backup_engine != stored.NAME or not settings.backup_keys.exists():
        return False
    try:
        return ServerKeys.load(settings.backup_keys).is_due(now)
    except UserError:
        return False  # the next backup says what is wrong with them


def key_warning(path: Path) -> str:
    """What the owner of new recovery keys must know."""
    return (
        f"WARNING: the recovery keys of your backups were made: {path}\n"
        "WITHOUT THIS FILE NO BACKUP CAN BE RESTORED. Copy it to a safe place off this machine now, and remove it here "
        "if this is a server (drills and deep verification then need it named by LONGBOX_BACKUP_RECOVERY_KEYS)."
    )

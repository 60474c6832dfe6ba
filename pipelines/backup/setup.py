"""Repository, keys and engine as the settings name them; opened here so that commands, assets and drills agree.

A server opens its repository by asking its database which cluster it is; an empty machine, which has only the store
and the keys, takes the one that the store holds (`open_stored_repository`).
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from pipelines.backup.postgres import PostgresEngine, inspect_server
from pipelines.backup.repository import Repository, find_system
from pipelines.backup.sealed import Opener
from resources.database import Database
from resources.errors import UserError
from resources.keys import MadeKeys, RecoveryKeys, ServerKeys, make_keys
from resources.object_store import ObjectStore
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


def open_engine(settings: Settings, database: Database) -> PostgresEngine:
    """The engine of the server behind `database` (the login user's own role). Reads keys; writes nothing."""
    keys = ServerKeys.load(settings.backup_keys)
    with database.session() as connection:
        facts, _ = inspect_server(connection)
    repository = open_repository(settings, facts.system_identifier)
    return PostgresEngine(
        database, settings.backup_postgres_url, repository, keys, recovery_keys_at_hand(settings)
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


def key_warning(path: Path) -> str:
    """What the owner of new recovery keys must know."""
    return (
        f"WARNING: the recovery keys of your backups were made: {path}\n"
        "WITHOUT THIS FILE NO BACKUP CAN BE RESTORED. Copy it to a safe place off this machine now, and remove it here "
        "if this is a server (drills and deep verification then need it named by LONGBOX_BACKUP_RECOVERY_KEYS)."
    )

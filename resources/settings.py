"""Every setting of Longbox: environment variables, read once, typed, checked, described.

An unset URL means the local stack: it is read from the state file that `longbox up` keeps in LONGBOX_HOME.
Add a variable here (`SETTINGS` is where the documentation comes from) and nowhere else; secrets never appear in
a repr or a message. Starting servers belongs to `deploy.local`, connecting to them to the other resources.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Self, TypeVar

from resources import setting_values as values
from resources.errors import UserError
from resources.setting_values import redact

PROJECT_ROOT = Path(__file__).resolve().parent.parent
STATE_FILE_NAME = "stack.json"
HISTORY_DAYS = 30
BACKUP_ENGINES = ("postgres", "pgbackrest", "external")
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One environment variable as the documentation shows it."""

    name: str
    default: str
    description: str
    example: str
    is_secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "LONGBOX_HOME",
        ".longbox in the project",
        "Folder of the local stack: data, logs, state.",
        "/srv/longbox",
    ),
    Setting(
        "LONGBOX_POSTGRES_URL",
        "the local stack",
        "PostgreSQL database that holds the systems' tables.",
        "postgresql://longbox:secret@db.internal:5432/longbox",
        is_secret=True,
    ),
    Setting(
        "LONGBOX_POSTGRES_REPLICA_URLS",
        "none",
        "Read replicas of that database, comma-separated.",
        "postgresql://longbox:secret@replica-1.internal/longbox",
        is_secret=True,
    ),
    Setting(
        "LONGBOX_DAGSTER_POSTGRES_URL",
        "the local stack",
        "PostgreSQL database of the Dagster instance: runs, events, schedules.",
        "postgresql://dagster:secret@db.internal:5432/dagster",
        is_secret=True,
    ),
    Setting(
        "LONGBOX_REDIS_URL",
        "the local stack",
        "Redis or Valkey that serves as cache.",
        "rediss://default:secret@cache.internal:6379/0",
        is_secret=True,
    ),
    Setting(
        "LONGBOX_OBJECT_STORE",
        "folder `objects` in LONGBOX_HOME",
        "Where files land and archives go; credentials and AWS_ENDPOINT_URL come from the store's usual variables.",
        "s3://acme-longbox/production",
    ),
    Setting(
        "LONGBOX_BACKUP_ENGINE",
        "postgres",
        "What makes backups: postgres (PostgreSQL's own tools), pgbackrest, or external (a provider's snapshots).",
        "pgbackrest",
    ),
    Setting(
        "LONGBOX_PGBACKREST_STANZA",
        "none",
        "pgbackrest: the stanza of this server in its configuration.",
        "main",
    ),
    Setting(
        "LONGBOX_PGBACKREST_CONFIG",
        "pgBackRest's own",
        "pgbackrest: its configuration file, where it is not in its usual place.",
        "/etc/pgbackrest/pgbackrest.conf",
    ),
    Setting(
        "LONGBOX_PGBACKREST_COMMAND",
        "pgbackrest",
        "pgbackrest: how it is called, where that takes more than its name.",
        "sudo -n -u postgres pgbackrest",
    ),
    Setting(
        "LONGBOX_EXTERNAL_EVIDENCE_COMMAND",
        "none",
        "external: a command that prints the provider's snapshots as JSON.",
        "/etc/longbox/list-snapshots",
    ),
    Setting(
        "LONGBOX_EXTERNAL_EVIDENCE_FILE",
        "none",
        "external: instead of the command, a file with the same JSON that someone else keeps up to date.",
        "/var/lib/longbox/snapshots.json",
    ),
    Setting(
        "LONGBOX_EXTERNAL_RESTORE_COMMAND",
        "none",
        "external: restores the snapshot LONGBOX_SNAPSHOT_ID beside the live server and prints its URL, for drills.",
        "/etc/longbox/restore-snapshot",
    ),
    Setting(
        "LONGBOX_EXTERNAL_DISCARD_COMMAND",
        "none",
        "external: removes what the restore command made of LONGBOX_SNAPSHOT_ID.",
        "/etc/longbox/discard-restored",
    ),
    Setting("LONGBOX_BACKUP_STORE", "the object store", "Where backups go.", "s3://acme-backups/longbox"),
    Setting(
        "LONGBOX_BACKUP_COPY_STORES",
        "none",
        "Further stores that get a copy of each backup, comma-separated.",
        "gs://acme-copies/longbox",
    ),
    Setting(
        "LONGBOX_BACKUP_POSTGRES_URL",
        "LONGBOX_POSTGRES_URL",
        "The same server for backups: straight to it (no pooler), as a user with REPLICATION.",
        "postgresql://backup:secret@db.internal:5432/longbox",
        is_secret=True,
    ),
    Setting(
        "LONGBOX_BACKUP_KEYS",
        "`keys/backup-server.json` in LONGBOX_HOME",
        "Keys that encrypt backups and cannot decrypt them.",
        "/etc/longbox/backup-server.json",
    ),
    Setting(
        "LONGBOX_BACKUP_RECOVERY_KEYS",
        "`keys/backup-recovery.json` in LONGBOX_HOME",
        "Keys that decrypt backups, needed to restore; keep them off the server.",
        "/media/vault/backup-recovery.json",
    ),
    Setting(
        "LONGBOX_WAL_SPOOL",
        "folder `wal` in LONGBOX_HOME",
        "Where the WAL receiver keeps what is not yet in the store, on a disk of its own where there is one.",
        "/var/spool/longbox-wal",
    ),
    Setting(
        "LONGBOX_WAL_SHIP_SECONDS",
        "30",
        "How often the open WAL segment goes to the store, 1 to 60 seconds: what a lost server may cost.",
        "15",
    ),
    Setting(
        "LONGBOX_WAL_SPOOL_MAX_BYTES",
        "2GB",
        "Above it receiving pauses until the store takes WAL again; the server keeps it meanwhile.",
        "20GB",
    ),
    Setting(
        "LONGBOX_WAL_SLOT_MAX_BYTES",
        "8GB",
        "WAL that the server may keep for the receiver; above it the slot is dropped and a full backup begun.",
        "100GB",
    ),
    Setting(
        "LONGBOX_SYSTEMS",
        "none",
        "Extra system folders, or folders of them, colon-separated.",
        "/srv/systems",
    ),
    Setting(
        "LONGBOX_ALERT_URLS",
        "the console only",
        "Channels of alerts as apprise URLs, comma-separated.",
        "mailto://user:secret@mail.internal",
        is_secret=True,
    ),
    Setting(
        "LONGBOX_FX_RATES",
        "the bundled rates",
        "A newer file of the ECB's reference rates (CSV, or ZIP of it).",
        "/srv/eurofxref-hist.zip",
    ),
    Setting(
        "LONGBOX_DAGSTER_HISTORY_DAYS",
        "30",
        "Days for which Dagster's finished runs, events and logs are kept; at least 7.",
        "90",
    ),
    Setting("LONGBOX_POSTGRES_PORT", "a free port", "Port of the local PostgreSQL, on loopback.", "5432"),
    Setting("LONGBOX_REDIS_PORT", "a free port", "Port of the local Valkey, on loopback.", "6379"),
    Setting("LONGBOX_UI_PORT", "3000, or a free port", "Port of the Dagster UI, on loopback.", "3000"),
    Setting("LONGBOX_DEBUG", "off", "1 shows the traceback of an error in full.", "1"),
)


class StackNotRunningError(UserError):
    """A URL is neither set nor known from a running local stack."""


@dataclass(frozen=True)
class Settings:
    """The settings as values. URLs that are not set are looked up in the local stack's state file when read."""

    home: Path
    systems: tuple[Path, ...] = ()
    alert_urls: tuple[str, ...] = field(default=(), repr=False)
    fx_rates_file: Path | None = None
    dagster_history_days: int = HISTORY_DAYS
    postgres_port: int | None = None
    redis_port: int | None = None
    ui_port: int | None = None
    is_debug: bool = False
    postgres_replica_urls: tuple[str, ...] = field(default=(), repr=False)
    backup_copy_stores: tuple[str, ...] = ()
    given_postgres_url: str | None = field(default=None, repr=False)
    given_dagster_postgres_url: str | None = field(default=None, repr=False)
    given_redis_url: str | None = field(default=None, repr=False)
    given_object_store: str | None = None
    given_backup_store: str | None = None
    given_backup_postgres_url: str | None = field(default=None, repr=False)
    given_backup_keys: Path | None = None
    given_backup_recovery_keys: Path | None = None
    given_wal_spool: Path | None = None
    wal_ship_seconds: int = 30
    wal_spool_max_bytes: int = 2 * 10**9
    wal_slot_max_bytes: int = 8 * 10**9
    backup_engine: str = BACKUP_ENGINES[0]
    pgbackrest_stanza: str | None = None
    pgbackrest_config: Path | None = None
    pgbackrest_command: tuple[str, ...] = ("pgbackrest",)
    external_evidence_command: tuple[str, ...] = ()
    external_evidence_file: Path | None = None
    external_restore_command: tuple[str, ...] = ()
    external_discard_command: tuple[str, ...] = ()

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read and check `environ` (the process's own if None). Raises `UserError` that names the variable."""
        read = _Reader(os.environ if environ is None else environ)
        return cls(
            home=read.one("LONGBOX_HOME", values.folder) or PROJECT_ROOT / ".longbox",
            systems=read.many("LONGBOX_SYSTEMS", r":", values.existing_folder),
            alert_urls=read.many(
                "LONGBOX_ALERT_URLS", r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", values.any_url
            ),
            fx_rates_file=read.one("LONGBOX_FX_RATES", values.existing_file),
            dagster_history_days=read.one("LONGBOX_DAGSTER_HISTORY_DAYS", values.history_days)
            or HISTORY_DAYS,
            postgres_port=read.one("LONGBOX_POSTGRES_PORT", values.port),
            redis_port=read.one("LONGBOX_REDIS_PORT", values.port),
            ui_port=read.one("LONGBOX_UI_PORT", values.port),
            is_debug=bool(read.one("LONGBOX_DEBUG", values.switch)),
            postgres_replica_urls=read.many("LONGBOX_POSTGRES_REPLICA_URLS", r",", values.postgres_url),
            backup_copy_stores=read.many("LONGBOX_BACKUP_COPY_STORES", r",", values.store_url),
            given_postgres_url=read.one("LONGBOX_POSTGRES_URL", values.postgres_url),
            given_dagster_postgres_url=read.one("LONGBOX_DAGSTER_POSTGRES_URL", values.postgres_url),
            given_redis_url=read.one("LONGBOX_REDIS_URL", values.redis_url),
            given_object_store=read.one("LONGBOX_OBJECT_STORE", values.store_url),
            given_backup_store=read.one("LONGBOX_BACKUP_STORE", values.store_url),
            given_backup_postgres_url=read.one("LONGBOX_BACKUP_POSTGRES_URL", values.postgres_url),
            given_backup_keys=read.one("LONGBOX_BACKUP_KEYS", values.path),
            given_backup_recovery_keys=read.one("LONGBOX_BACKUP_RECOVERY_KEYS", values.path),
            given_wal_spool=read.one("LONGBOX_WAL_SPOOL", values.path),
            wal_ship_seconds=read.one("LONGBOX_WAL_SHIP_SECONDS", values.ship_seconds)
            or cls.wal_ship_seconds,
            wal_spool_max_bytes=read.one("LONGBOX_WAL_SPOOL_MAX_BYTES", values.size_bytes)
            or cls.wal_spool_max_bytes,
            wal_slot_max_bytes=read.one("LONGBOX_WAL_SLOT_MAX_BYTES", values.size_bytes)
            or cls.wal_slot_max_bytes,
            backup_engine=read.one("LONGBOX_BACKUP_ENGINE", values.one_of(*BACKUP_ENGINES))
            or cls.backup_engine,
            pgbackrest_stanza=read.one("LONGBOX_PGBACKREST_STANZA", values.name),
            pgbackrest_config=read.one("LONGBOX_PGBACKREST_CONFIG", values.existing_file),
            pgbackrest_command=read.one("LONGBOX_PGBACKREST_COMMAND", values.command)
            or cls.pgbackrest_command,
            external_evidence_command=read.one("LONGBOX_EXTERNAL_EVIDENCE_COMMAND", values.command) or (),
            external_evidence_file=read.one("LONGBOX_EXTERNAL_EVIDENCE_FILE", values.path),
            external_restore_command=read.one("LONGBOX_EXTERNAL_RESTORE_COMMAND", values.command) or (),
            external_discard_command=read.one("LONGBOX_EXTERNAL_DISCARD_COMMAND", values.command) or (),
        )

    @property
    def postgres_url(self) -> str:
        """URL of the systems' database. Raises `StackNotRunningError`."""
        return self.given_postgres_url or self._of_stack("postgres", "LONGBOX_POSTGRES_URL")

    @property
    def dagster_postgres_url(self) -> str:
        """URL of Dagster's database, always `postgresql+psycopg2://`. Raises `StackNotRunningError`.

        SQLAlchemy 2.1 takes a bare `postgresql://` for psycopg 3, with which Dagster's storage breaks.
        """
        plain = self.given_dagster_postgres_url or self._of_stack(
            "dagster_postgres", "LONGBOX_DAGSTER_POSTGRES_URL"
        )
        return re.sub(r"^[^:]+://", "postgresql+psycopg2://", plain)

    @property
    def redis_url(self) -> str:
        """URL of the cache. Raises `StackNotRunningError`."""
        return self.given_redis_url or self._of_stack("redis", "LONGBOX_REDIS_URL")

    @property
    def object_store(self) -> str:
        """URL of the object store; a folder of the home unless set."""
        return self.given_object_store or (self.home / "objects").as_uri()

    @property
    def backup_store(self) -> str:
        """URL of the store for backups; the object store unless set."""
        return self.given_backup_store or self.object_store

    @property
    def backup_postgres_url(self) -> str:
        """URL by which backups reach the server. Raises `StackNotRunningError`."""
        return self.given_backup_postgres_url or self.postgres_url

    @property
    def backup_keys(self) -> Path:
        """The file of the keys that encrypt backups."""
        return self.given_backup_keys or self.home / "keys" / "backup-server.json"

    @property
    def backup_recovery_keys(self) -> Path:
        """The file of the keys that decrypt backups; it need not exist on a server."""
        return self.given_backup_recovery_keys or self.home / "keys" / "backup-recovery.json"

    @property
    def wal_spool(self) -> Path:
        """The folder of the WAL receiver's spool."""
        return self.given_wal_spool or self.home / "wal"

    @property
    def state_file(self) -> Path:
        """The file in which the local stack says where it runs."""
        return self.home / STATE_FILE_NAME

    def _of_stack(self, part: str, variable: str) -> str:
        try:
            state = json.loads(self.state_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            state = {}
        except PermissionError as error:
            raise UserError(
                f"{self.state_file} belongs to another user; run as the user who started the local stack, "
                "or set LONGBOX_HOME to a folder of your own"
            ) from error
        except ValueError as error:
            raise UserError(
                f"{self.state_file} is not readable as JSON; run `longbox down`, then `longbox up`"
            ) from error
        url = state.get("urls", {}).get(part)
        if not url:
            raise StackNotRunningError(
                f"{variable} is not set and no local stack runs in {self.home}; start it with `longbox up`, "
                "or set the variable to a server of yours"
            )
        return str(url)


class _Reader:
    """Takes variables out of an environment and tells which one is wrong, why, and what would be right."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def one(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self._environ.get(name, "").strip()
        return self._parse(name, text, parse) if text else None

    def many(self, name: str, separator: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        texts = re.split(separator, self._environ.get(name, "").strip())
        return tuple(self._parse(name, text.strip(), parse) for text in texts if text.strip())

    def _parse(self, name: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except ValueError as error:
            example = next(setting.example for setting in SETTINGS if setting.name == name)
            raise UserError(f"{name} {error}; for example {name}={redact(example)}") from error


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that look like settings but are none, each with the nearest known name, for a warning."""
    known = [setting.name for setting in SETTINGS]
    found = sorted(name for name in environ if name.startswith("LONGBOX_") and name not in known)
    return {name: next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), None) for name in found}

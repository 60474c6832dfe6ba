"""What `longbox doctor` finds: one `Finding` a check, each with what is wrong and what to do about it.

Judges what probes have read: versions, clocks, disks, locks, migrations, settings. Nothing here changes anything but
the probe object of a store, which it takes away again. Checks of the local stack's own processes are in
`deploy.local.checkup`. A new check is a function that returns findings, and a line in `server_checks`.
"""

import datetime
import importlib.metadata
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pipelines.monitoring.landing import first_of
from resources import probes
from resources.errors import LongboxError, UserError
from resources.probes import Clock, LockHolder, PostgresFacts, RedisFacts
from resources.s3_admin import S3Administration
from resources.setting_values import redact
from resources.settings import PROJECT_ROOT, Settings, StackNotRunningError, unknown_variables

State = Literal["ok", "warning", "problem"]
OK: Literal["ok"] = "ok"
WARNING: Literal["warning"] = "warning"
PROBLEM: Literal["problem"] = "problem"
OLDEST_POSTGRES = 170000
OLDEST_CACHE = {"Redis": (7,), "Valkey": (7, 2)}
SKEW_WARNING_SECONDS = 2.0
SKEW_PROBLEM_SECONDS = 60.0  # S3 refuses signatures at 15 minutes; landing days go wrong long before
IDLE_SECONDS = 60.0
_GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: `check` names what was looked at; `remedy` is empty when nothing is to be done."""

    check: str
    state: State
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Space:
    """Room on the file system of a folder, in bytes."""

    total_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, folder: Path) -> "Space":
        """Asked of the kernel, for the folder or the nearest one above it that exists."""
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        answer = os.statvfs(folder)
        return cls(answer.f_frsize * answer.f_blocks, answer.f_frsize * answer.f_bavail)


def guarded(check: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of one check; an error of it is its finding, so that one failure hides no other."""
    try:
        return list(look())
    except StackNotRunningError as error:
        message, _, remedy = str(error).partition("; ")
        return [Finding(check, WARNING, message, remedy)]
    except (LongboxError, OSError) as error:
        message, _, remedy = str(error).partition("; ")
        return [Finding(check, PROBLEM, message, remedy or "see `longbox status`")]


def check_settings(environ: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings if they can be read, and what is wrong with them: malformed values, names that are no setting."""
    found = []
    for name, nearest in unknown_variables(environ).items():
        remedy = f"did you mean {nearest}? correct or unset it" if nearest else "unset it"
        found.append(Finding("settings", WARNING, f"{name} is no setting of Longbox", remedy))
    try:
        settings = Settings.load(environ)
    except UserError as error:
        message, _, remedy = str(error).partition("; ")
        return None, [*found, Finding("settings", PROBLEM, message, remedy or "correct the variable")]
    return settings, found or [Finding("settings", OK, "every LONGBOX_ variable is known and well formed")]


def check_versions(
    python: tuple[int, ...] = sys.version_info[:3],
    installed: Callable[[str], str] = importlib.metadata.version,
    project: Path = PROJECT_ROOT / "pyproject.toml",
) -> list[Finding]:
    """Python, and every library that is pinned to one version, as `pyproject.toml` wants them."""
    wanted = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    least = tuple(int(part) for part in re.findall(r"\d+", wanted["requires-python"]))
    shown = ".".join(map(str, python))
    if python < least:
        needed = ".".join(map(str, least))
        return [
            Finding(
                "python",
                PROBLEM,
                f"Python {shown} is too old",
                f"make the environment anew with {needed} or newer",
            )
        ]
    found = []
    pins = [text.split("==") for text in wanted["dependencies"] if "==" in text]
    for name, version in pins:
        try:
            has = installed(name)
        except importlib.metadata.PackageNotFoundError:
            has = "missing"
        if has != version:
            found.append(
                Finding("libraries", PROBLEM, f"{name} is {has}, {version} is needed", "run `make setup`")
            )
    fine = Finding("libraries", OK, f"Python {shown}; {len(pins)} pinned libraries are as they should be")
    return found or [fine]


def check_space(label: str, folder: Path, space: Callable[[Path], Space] = Space.of) -> list[Finding]:
    """Room under `folder`: less than 2 % (or 256 MiB) is full, less than 10 % (and 20 GiB) nearly full."""
    room = space(folder)
    ratio = room.free_bytes / room.total_bytes if room.total_bytes else 0.0
    told = f"{folder}: {room.free_bytes / _GIB:,.2f} GiB free of {room.total_bytes / _GIB:,.2f} ({ratio:.0%})"
    remedy = "free some, or move it to a larger disk: what cannot be written fails, and PostgreSQL ends"
    if ratio < 0.02 or room.free_bytes < _GIB // 4:
        return [Finding(f"disk of {label}", PROBLEM, f"the disk is full; {told}", remedy)]
    if ratio < 0.1 and room.free_bytes < 20 * _GIB:
        return [Finding(f"disk of {label}", WARNING, f"the disk is nearly full; {told}", remedy)]
    return [Finding(f"disk of {label}", OK, told)]


def check_clock(server: str, clock: Clock) -> list[Finding]:
    """A server's clock against ours. Less than the time the question took is no difference."""
    off = max(abs(clock.skew_seconds) - clock.uncertainty_seconds, 0.0)
    side = "ahead of" if clock.skew_seconds > 0 else "behind"
    message = f"{server} is {abs(clock.skew_seconds):.1f} s {side} this machine"
    remedy = (
        "set both by NTP (chrony, systemd-timesyncd): landing days, leases and S3 signatures go by the clock"
    )
    if off >= SKEW_PROBLEM_SECONDS:
        return [Finding("clock", PROBLEM, message, remedy)]
    if off >= SKEW_WARNING_SECONDS:
        return [Finding("clock", WARNING, message, remedy)]
    return [Finding("clock", OK, f"{server} and this machine agree")]


def check_idle_sessions(sessions: Iterable[LockHolder], idle_seconds: float = IDLE_SECONDS) -> list[Finding]:
    """Sessions that do nothing and hold others up: the lock of migrations, another advisory lock, a transaction."""
    found = []
    for session in sessions:
        if session.idle_seconds < idle_seconds:
            continue
        who = f"process {session.pid} ({session.application_name}) is {session.state} for {session.idle_seconds:.0f} s"
        remedy = f"let it end, or end it: SELECT pg_terminate_backend({session.pid})"
        if session.has_migration_lock:
            found.append(Finding("stale locks", PROBLEM, f"{who} and holds the lock of migrations", remedy))
        elif session.has_advisory_lock:
            found.append(Finding("stale locks", WARNING, f"{who} and holds an advisory lock", remedy))
        else:
            message = f"{who}: vacuum and schema changes wait for it"
            found.append(Finding("stale locks", WARNING, message, remedy))
    return found or [Finding("stale locks", OK, "no idle session holds a lock or a transaction")]


def check_postgres(
    label: str, facts: PostgresFacts, *, has_roles: bool, idle_seconds: float = IDLE_SECONDS
) -> list[Finding]:
    """Version, roles, clock and idle sessions of a PostgreSQL that answered."""
    found = [Finding(label, OK, f"PostgreSQL {facts.version} answers")]
    if facts.version_number < OLDEST_POSTGRES:
        remedy = f"upgrade it to {OLDEST_POSTGRES // 10000} or newer, or name another server"
        found = [Finding(label, PROBLEM, f"PostgreSQL {facts.version} is too old", remedy)]
    if has_roles and facts.missing_roles:
        missing = ", ".join(facts.missing_roles)
        found.append(Finding("roles", PROBLEM, f"the roles {missing} are missing", "run `longbox migrate`"))
    return found + check_clock(label, facts.clock) + check_idle_sessions(facts.idle_sessions, idle_seconds)


def check_cache(facts: RedisFacts) -> list[Finding]:
    """Version and clock of a Redis or Valkey that answered."""
    version = ".".join(map(str, facts.version))
    least = OLDEST_CACHE[facts.name]
    if facts.version < least:
        remedy = f"upgrade it to {'.'.join(map(str, least))} or newer"
        return [Finding("cache", PROBLEM, f"{facts.name} {version} is too old", remedy)]
    return [Finding("cache", OK, f"{facts.name} {version} answers"), *check_clock(facts.name, facts.clock)]


def check_store(
    label: str, url: str, now: Callable[[], datetime.datetime] = probes.LOCAL_CLOCK
) -> list[Finding]:
    """A store: an object is written, read back and deleted; S3's clock."""
    if url.startswith("file://") and not Path(unquote(urlsplit(url).path)).is_dir():
        remedy = "`longbox up` makes it; if files should be there, correct the setting"
        return [Finding(label, WARNING, f"the folder of {url} does not exist yet", remedy)]
    clock = probes.store_clock(url, now=now)
    found = [] if clock is None else check_clock("S3", clock)
    try:
        probes.probe_store(url)
    except LongboxError as error:
        remedy = "check that it exists, the credentials and the rights to write; for a folder, who owns it"
        return [*found, Finding(label, PROBLEM, " ".join(str(error).split()), remedy)]
    return [*found, Finding(label, OK, f"{redact(url)} takes, gives back and deletes an object")]


def check_protection(label: str, url: str) -> list[Finding]:
    """An S3 store of backups: can what is overwritten or deleted there be brought back? Others cannot tell."""
    if not url.startswith("s3://"):
        return []
    found = S3Administration.from_url(url).describe()
    if found.is_protected:
        return [Finding(label, OK, f"bucket {found.bucket}: {found.protection}")]
    remedy = "`longbox backup protect --yes` sets both; docs/runbooks/ransomware.md says what they are for"
    message = f"bucket {found.bucket}: {found.protection}; backups there can be deleted for good"
    return [Finding(label, WARNING, message, remedy)]


def check_migrations(states: Mapping[str, str]) -> list[Finding]:
    """Revisions by state (pending, edited, lost, applied, absent), as the migrations tell them."""
    found = []
    wrong = {
        "pending": ("not applied", "run `longbox migrate`"),
        "edited": ("edited after being applied", "restore the file; write the change as a new revision"),
        "lost": ("applied, but the file is gone", "restore the file from version control"),
    }
    for state, (message, remedy) in wrong.items():
        names = sorted(name for name, of in states.items() if of == state)
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            found.append(Finding("migrations", PROBLEM, f"{shown}: {message}", remedy))
    return found or [Finding("migrations", OK, f"{len(states)} revisions, none is missing or changed")]


def check_landing_zone(told: Sequence[str]) -> list[Finding]:
    """What lies in the landing zone and no run reads, in words."""
    if not told:
        return [Finding("landing zone", OK, "every file lies in a landing day of a feed")]
    remedy = (
        "move them to the day and feed they are of (`longbox land`), or declare the feed; then run the day"
    )
    message = f"{len(told):,} files or folders are read by no run: {'; '.join(first_of(told))}"
    return [Finding("landing zone", WARNING, message, remedy)]


def check_quarantine(open_rows: int, open_files: int) -> list[Finding]:
    """Rows, and whole files, that were put aside and neither replayed nor dismissed since."""
    if not open_rows and not open_files:
        return [Finding("quarantine", OK, "nothing waits in it")]
    remedy = "`longbox quarantine list` tells why; then replay them after a fix, or dismiss them"
    message = f"{open_rows:,} rows and {open_files:,} whole files wait in it"
    return [Finding("quarantine", WARNING, message, remedy)]


def server_checks(
    settings: Settings,
    *,
    migration_lock_key: int,
    migration_states: Callable[[], Mapping[str, str]],
    now: Callable[[], datetime.datetime] = probes.LOCAL_CLOCK,
    idle_seconds: float = IDLE_SECONDS,
) -> list[Finding]:
    """Everything about the servers and stores that the settings name, or that the local stack runs."""

    def database(label: str, url: Callable[[], str], *, has_roles: bool) -> list[Finding]:
        facts = probes.probe_postgres(url(), migration_lock_key=migration_lock_key, now=now)
        return check_postgres(label, facts, has_roles=has_roles, idle_seconds=idle_seconds)

    def dagster_url() -> str:
        return settings.dagster_postgres_url.replace("postgresql+psycopg2://", "postgresql://", 1)

    found = guarded(
        "PostgreSQL", lambda: database("PostgreSQL", lambda: settings.postgres_url, has_roles=True)
    )
    if found[0].state == OK:
        found += guarded("migrations", lambda: check_migrations(migration_states()))
    found += guarded(
        "PostgreSQL (Dagster)", lambda: database("PostgreSQL (Dagster)", dagster_url, has_roles=False)
    )
    for number, url in enumerate(settings.postgres_replica_urls, 1):
        label = f"replica {number}"
        found += guarded(label, lambda label=label, url=url: database(label, lambda: url, has_roles=False))  # type: ignore[misc]
    found += guarded("cache", lambda: check_cache(probes.probe_redis(settings.redis_url, now=now)))
    stores = {settings.object_store: "object store"}
    stores.setdefault(settings.backup_store, "backup store")
    for number, url in enumerate(settings.backup_copy_stores, 1):
        stores.setdefault(url, f"backup copy {number}")
    for url, label in stores.items():
        found += guarded(label, lambda label=label, url=url: check_store(label, url, now))  # type: ignore[misc]
    for url in dict.fromkeys([settings.backup_store, *settings.backup_copy_stores]):
        label = f"protection of the {stores[url]}"
        found += guarded(label, lambda label=label, url=url: check_protection(label, url))  # type: ignore[misc]
    return found

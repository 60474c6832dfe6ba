"""What can be wrong with the local stack of a home: ports, disks, reach, left-overs, dead processes. Only looks.

Findings for `longbox doctor`; what `status` asks of each running part is reused. Nothing is started or stopped.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.local import ports, privileges, report
from deploy.local.state import STOPPED, Home, State, is_locked
from pipelines.monitoring.diagnosis import OK, PROBLEM, WARNING, Finding, Space, check_space, guarded
from resources.settings import Settings


def local_checks(
    settings: Settings, environ: Mapping[str, str], space: Callable[[Path], Space] = Space.of
) -> list[Finding]:
    """Everything about this machine that the stack of the settings' home needs."""
    home = Home(settings.home.absolute().resolve())
    found = guarded("home", lambda: check_home(home, settings))
    found += guarded("disks", lambda: check_disks(home, settings, space))
    found += guarded("ports", lambda: check_ports(home, settings))
    return found + guarded("stack", lambda: check_stack(home, environ))


def check_home(home: Home, settings: Settings) -> list[Finding]:
    """Whether the home can be written, and be reached by the user of a PostgreSQL that is started in it."""
    existing = next(folder for folder in (home.path, *home.path.parents) if folder.exists())
    if not _is_writable(existing):
        remedy = "set LONGBOX_HOME to a folder of your own"
        return [Finding("home", PROBLEM, f"{existing} cannot be written", remedy)]
    is_ours = not (settings.given_postgres_url and settings.given_dagster_postgres_url)
    user = privileges.server_user(home.postgres / "data") if is_ours else None
    if user is not None and not privileges.can_reach(user, existing):
        message = f"{user.name}, as whom PostgreSQL runs under root, cannot reach {existing}"
        return [
            Finding("home", WARNING, f"{message}: its data lie in {privileges.relocated_folder(home.path)}",
                    "set LONGBOX_HOME to a folder that all may enter, if you want them in the home")
        ]  # fmt: skip
    return [Finding("home", OK, f"{home.path} can be written")]


def check_disks(home: Home, settings: Settings, space: Callable[[Path], Space]) -> list[Finding]:
    """Room for the home, PostgreSQL's data and a store in a folder; one line a file system."""
    folders = {"the home": home.path}
    relocated = privileges.relocated_folder(home.path)
    folders["PostgreSQL's data"] = relocated if relocated.exists() else home.postgres
    for label, url in (
        ("the object store", settings.object_store),
        ("the backup store", settings.backup_store),
    ):
        if url.startswith("file://"):
            folders[label] = Path(unquote(urlsplit(url).path))
    found: list[Finding] = []
    for label, folder in folders.items():
        finding = check_space(label, folder, space)[0]
        if finding.state != OK or _device(folder) not in {
            _device(folders[name]) for name in _before(folders, label)
        }:
            found.append(finding)
    return found


def check_ports(home: Home, settings: Settings) -> list[Finding]:
    """The ports that are asked for by a setting, while no stack of this home runs."""
    if is_locked(home):
        return [Finding("ports", OK, "the stack of this home runs on its ports")]
    wanted = {
        "LONGBOX_POSTGRES_PORT": None if settings.given_postgres_url else settings.postgres_port,
        "LONGBOX_REDIS_PORT": None if settings.given_redis_url else settings.redis_port,
        "LONGBOX_UI_PORT": settings.ui_port,
    }
    found = [
        Finding("ports", PROBLEM, f"{name} asks for port {port}, which is taken",
                "stop what listens there, or unset the variable to take a free port")
        for name, port in wanted.items()
        if port is not None and not ports.is_free(port)
    ]  # fmt: skip
    return found or [Finding("ports", OK, "every port that a setting asks for is free")]


def check_stack(home: Home, environ: Mapping[str, str]) -> list[Finding]:
    """What runs, what should and does not, and what a killed stack left behind."""
    seen = report.collect(home, environ)
    if not seen.is_running:
        return _stopped(home, seen)
    faults = [
        Finding(
            "stack", PROBLEM, f"{part.part}: {part.health}", "see its log; `longbox down`, then `longbox up`"
        )
        for part in seen.parts
        if not part.health.startswith((report.HEALTHY, report.UNKNOWN, "starting"))
    ]
    return faults or [
        Finding("stack", OK, f"{seen.status}, {len(seen.parts)} parts (pid {seen.supervisor_pid})")
    ]


def _stopped(home: Home, seen: "report.Report") -> list[Finding]:
    state = State.read(home)
    if seen.left_over:
        message = f"{seen.left_over} process(es) of a killed stack still run"
        return [Finding("stack", PROBLEM, message, "`longbox down` stops them")]
    if state.status != STOPPED:
        message = f"{home.state_file} says {state.status}, but its supervisor is gone"
        return [Finding("stack", WARNING, message, "`longbox up` starts it anew, `longbox down` clears it")]
    if seen.ended:
        message = f"{seen.ended}, so the whole stack was stopped"
        return [Finding("stack", PROBLEM, message, f"see the logs in {home.logs}, then `longbox up`")]
    return [Finding("stack", OK, "no local stack runs here")]


def _before(folders: Mapping[str, Path], label: str) -> list[str]:
    names = list(folders)
    return names[: names.index(label)]


def _device(folder: Path) -> int:
    return next(path for path in (folder, *folder.parents) if path.exists()).stat().st_dev


def _is_writable(folder: Path) -> bool:
    """By trying: rights alone do not tell of a read-only file system."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False

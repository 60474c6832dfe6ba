"""The stack of one home as an object: start it in phases, ask whether it lives, stop it in reverse order.

    with Stack(home) as stack: ...   # `dagster=False` for PostgreSQL and Valkey alone
A phase is one method that starts its part, waits for its health and reports one line; add a part as a phase. What a
URL in the settings names is checked, not started. Signals, exit codes and the background belong to `supervisor`.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from deploy.local import dagster, external, leftovers, ports, postgres, valkey, wal
from deploy.local.dagster import LocalDagster
from deploy.local.errors import ChildDiedError, StackError
from deploy.local.member import Member
from deploy.local.processes import Child, ProcessId, tail
from deploy.local.state import RUNNING, STARTING, STOPPED, STOPPING, Home, HomeLock, Part, Secrets, State
from resources.setting_values import redact
from resources.settings import BACKUP_ENGINES, PROJECT_ROOT, Settings

Report = Callable[[str], None]
_SERVER_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
_UI_ATTEMPTS = 3
_URL_VARIABLES = ("LONGBOX_POSTGRES_URL", "LONGBOX_DAGSTER_POSTGRES_URL", "LONGBOX_REDIS_URL")


class Stack:
    """The servers of one home. One process at a time may hold a home; see `HomeLock`."""

    def __init__(
        self,
        home: Path | None = None,
        *,
        dagster: bool = True,
        migrate: bool | None = None,
        environ: Mapping[str, str] | None = None,
        report: Report = lambda line: None,
        module: str = "definitions",
        working_directory: Path = PROJECT_ROOT,
        is_durable: bool = True,
    ) -> None:
        """`home` None takes LONGBOX_HOME; `migrate` None follows `dagster`; `module` holds Dagster's definitions.

        `is_durable` False is for tests: commits survive a kill of the server, not of the machine, and passwords are
        hashed once.
        """
        given = dict(os.environ if environ is None else environ)
        self.home = Home((home or Settings.load(given).home).absolute().resolve())
        self.environ = _without_own_urls({**given, "LONGBOX_HOME": str(self.home.path)}, self.home)
        self.settings = Settings.load(self.environ)
        self._with_dagster = dagster
        self._with_migrations = dagster if migrate is None else migrate
        self._target = (module, working_directory)
        self._report = report
        self._is_durable = is_durable
        self._lock = HomeLock(self.home)
        self._members: list[Member] = []
        self.state = State()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bring everything up. Raises `UserError` or `StackError` after stopping what was started."""
        self.home.make()
        self._lock.acquire()
        try:
            before = State.read(self.home)
            self.state = State(
                STARTING, ProcessId.of(os.getpid()), {}, before.ports, (), before.dagster_schema
            )
            self._stop_left_over()
            self.state.write(self.home)
            self._start_postgres()
            self._start_valkey()
            self._check_object_store()
            if self._with_migrations:
                self._migrate()
                self._start_wal_receiver()
            self._start_dagster()
            self._set(replace(self.state, status=RUNNING))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what this object started, in reverse order, and what else belongs to the home. Safe to repeat."""
        if not self._lock.is_held:
            return
        faults = []
        self._set(replace(self.state, status=STOPPING))
        for member in reversed(self._members):
            try:
                member.child.stop(member.steps, whole_group=member.whole_group)
            except StackError as error:
                faults.append(str(error))
        self._members.clear()
        try:
            self._stop_left_over()
        except StackError as error:
            faults.append(str(error))
        self._set(replace(self.state, status=STOPPED, supervisor=None, urls={}, parts=()))
        self._lock.release()
        if faults:
            raise StackError("; ".join(faults))

    def restart_ended(self) -> None:
        """Start anew what ended by itself; raise `ChildDiedError` if that was PostgreSQL, or before all were up."""
        for member in self._members:
            code = member.child.exit_code()
            if code is None:
                continue
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            room = (
                " for want of room on its disk (make room there first)" if member.child.lacked_room() else ""
            )
            ended = f"{member.part} (pid {member.child.id.pid}) {how}{room}"
            if member.start is None or (self.state.status != RUNNING and member.part != wal.NAME):
                self._set(replace(self.state, ended=ended))
                raise ChildDiedError(
                    f"{ended}, so the whole stack was stopped; start it again with "
                    f"`longbox up`. The end of {member.child.log}:\n{tail(member.child.log)}"
                )
            if member.is_due():
                member.start_again()
                known = next(part for part in self.state.parts if part.name == member.part)
                self._set(self.state.with_part(replace(known, process=member.child.id)))
                self._report(f"{ended} and is started anew; its log is {member.child.log}")

    def _start_postgres(self) -> None:
        settings = self.settings
        url, dagster_url = settings.given_postgres_url, settings.given_dagster_postgres_url
        if url:
            self._use_external(
                "PostgreSQL", url, lambda: external.check_postgres(url, "LONGBOX_POSTGRES_URL")
            )
        if url and dagster_url:
            return
        started = time.monotonic()
        server = postgres.prepare(self.home, Secrets.of(self.home).postgres, is_durable=self._is_durable)
        port = self._port("postgres", "LONGBOX_POSTGRES_PORT", settings.postgres_port)
        made = server.initialise()
        start = partial(server.start, port, self._server_environment())
        name = "PostgreSQL (Dagster)" if url else "PostgreSQL"
        part = Part(name, server.programs.version, f"{ports.LOOPBACK}:{port}", note=server.note)
        child = self._start(part, start, postgres.STOP_STEPS, is_vital=True)
        version = server.wait_ready(child, port)
        wanted = {"postgres": ("longbox", url), "dagster_postgres": ("dagster", dagster_url)}
        urls = {key: server.url(port, database) for key, (database, other) in wanted.items() if not other}
        self._ready(replace(part, version=version), started, urls, "new database cluster" if made else "")

    def _start_valkey(self) -> None:
        url = self.settings.given_redis_url
        if url:
            self._use_external("Redis", url, lambda: external.check_redis(url, "LONGBOX_REDIS_URL"))
            return
        started = time.monotonic()
        server = valkey.prepare(self.home, Secrets.of(self.home).redis)
        port = self._port("redis", "LONGBOX_REDIS_PORT", self.settings.redis_port)
        start = partial(server.start, port, self._server_environment())
        part = Part("Valkey", "", f"{ports.LOOPBACK}:{port}")
        child = self._start(part, start, valkey.STOP_STEPS)
        part = replace(part, version=server.wait_ready(child, port))
        self._ready(part, started, {"redis": server.url(port)})

    def _check_object_store(self) -> None:
        started = time.monotonic()
        external.check_object_store(self.settings.object_store)
        self._ready(Part("object store", "", redact(self.settings.object_store)), started)

    def _migrate(self) -> None:
        from pipelines.catalog.loader import system_folders  # loaded only where tables are wanted
        from pipelines.migration import migrate

        started = time.monotonic()
        result = migrate(self.settings.postgres_url, system_folders(self.settings))
        total = len(result.applied) + result.already_applied
        self._ready(
            Part("migrations", f"{total} revisions"), started, note=f"{len(result.applied)} applied now"
        )

    def _start_wal_receiver(self) -> None:
        """Ship WAL from now on: of our own server, or of the one that a setting names for backups."""
        settings = self.settings
        if settings.given_postgres_url and not settings.given_backup_postgres_url:
            return
        if settings.backup_engine != BACKUP_ENGINES[0]:  # the others ship WAL themselves
            return
        from pipelines.backup.setup import key_warning  # heavy, and wanted here only

        started, had_keys = time.monotonic(), settings.backup_recovery_keys.exists()
        environment = dagster.environment(self.home, self._absolute_environment())
        part = Part(wal.NAME, is_ready=True)  # its health is the slot's: it may come later
        start = partial(wal.start_receiver, self.home, environment)
        child = self._start(part, start, wal.STOP_STEPS, whole_group=True)
        if wal.wait_receiving(child, Settings.load(self.environ).backup_postgres_url):
            self._ready(part, started)
        else:
            self._report(
                f"{wal.NAME} is not ready; it is tried again, see {child.log}:\n{tail(child.log, 5)}"
            )
        if not had_keys and settings.backup_recovery_keys.exists():
            self._report(key_warning(settings.backup_recovery_keys))

    def _start_dagster(self) -> None:
        self._prepare_dagster_url()
        if not self._with_dagster:
            return
        env = dagster.environment(self.home, self._absolute_environment())
        local = LocalDagster(self.home, env, *self._target)
        code_port = self._port("code_server", "", None)
        local.configure(code_port)
        self._prepare_dagster_tables(
            local
        )  # before any other process opens the instance and creates them too
        self._end_lost_runs(local)
        started = time.monotonic()
        code_part = Part("code server", dagster.installed_version(), f"{ports.LOOPBACK}:{code_port}")
        start = partial(local.start_code_server, code_port)
        code_server = self._start(code_part, start, dagster.STOP_STEPS, whole_group=True)
        dagster.wait_code_server(code_server, code_port)
        self._ready(code_part, started)
        since, started = datetime.now(UTC), time.monotonic()
        daemon_part = Part("daemon", code_part.version)
        daemon = self._start(daemon_part, local.start_daemon, dagster.STOP_STEPS, whole_group=True)
        self._start_webserver(local, started)
        dagster.wait_daemon(daemon, self._dagster_url, since)
        self._ready(daemon_part, started)

    def _start_webserver(self, local: LocalDagster, started: float) -> None:
        """Start the UI; on another port when somebody took the free one in the seconds that it needs to listen."""
        for _ in range(_UI_ATTEMPTS):
            port = self._port("ui", "LONGBOX_UI_PORT", self.settings.ui_port, preferred=3000)
            part = Part("webserver", "", f"http://{ports.LOOPBACK}:{port}")
            start = partial(local.start_webserver, port)
            webserver = self._start(part, start, dagster.STOP_STEPS, whole_group=True)
            if dagster.wait_listening(webserver, port):
                break
            if self.settings.ui_port is None and not ports.is_free(port):
                self._members.pop()
        part = replace(part, version=dagster.wait_webserver(webserver, port))
        self._ready(part, started, {"ui": part.address})

    @property
    def _dagster_url(self) -> str:
        return self.settings.given_dagster_postgres_url or self.state.urls["dagster_postgres"]

    def _prepare_dagster_url(self) -> None:
        url = self.settings.given_dagster_postgres_url
        if url:
            check = partial(external.check_postgres, url, "LONGBOX_DAGSTER_POSTGRES_URL")
            self._use_external("PostgreSQL (Dagster)", url, check)

    def _prepare_dagster_tables(self, local: LocalDagster) -> None:
        started, version = time.monotonic(), dagster.installed_version()
        url = self._dagster_url
        # the port of our own server may change, its content does not
        place = redact(url).rsplit("@", 1)[-1] if self.settings.given_dagster_postgres_url else "home"
        mark = f"{version} at {place}"
        is_current = self.state.dagster_schema == mark and dagster.has_tables(url)
        if not is_current:
            local.initialise_database()
            self._set(replace(self.state, dagster_schema=mark))
        self._ready(
            Part("Dagster database", version),
            started,
            note="" if is_current else "tables created or upgraded",
        )

    def _end_lost_runs(self, local: LocalDagster) -> None:
        """Left over processes are stopped: a run that is under way in the home's own database has none."""
        if self.settings.given_dagster_postgres_url or not dagster.has_runs_under_way(self._dagster_url):
            return
        ended = local.end_lost_runs()
        self._report(
            f"{ended} run(s) ended with an earlier start of this stack and are marked so; launch them again"
        )

    def _use_external(self, name: str, url: str, check: Callable[[], str]) -> None:
        started = time.monotonic()
        version = check().rsplit(" ", 1)
        part = Part(
            version[0] if len(version) == 2 else name, version[-1], redact(url), note="given by a setting"
        )
        self._ready(part, started)

    def _port(self, key: str, variable: str, wanted: int | None, *, preferred: int | None = None) -> int:
        port = ports.choose(variable, wanted, remembered=self.state.ports.get(key), preferred=preferred)
        self._set(replace(self.state, ports={**self.state.ports, key: port}))
        return port

    def _start(
        self,
        part: Part,
        start: Callable[[], Child],
        steps: postgres.Steps,
        *,
        whole_group: bool = False,
        is_vital: bool = False,
    ) -> Child:
        """Start a process and keep it: where nothing works without it (`is_vital`), the stack ends with it."""
        child = start()
        again = None if is_vital else start
        self._members.append(Member(part.name, child, steps, whole_group, again))
        self._set(self.state.with_part(replace(part, process=child.id, log=str(child.log))))
        return child

    def _ready(
        self, part: Part, started: float, urls: Mapping[str, str] | None = None, note: str = ""
    ) -> None:
        self.restart_ended()
        known = next((p for p in self.state.parts if p.name == part.name), part)
        part = replace(part, process=known.process, log=known.log, is_ready=True)
        self._set(replace(self.state.with_part(part), urls={**self.state.urls, **(urls or {})}))
        notes = "; ".join(filter(None, (note, part.note)))
        where = f" on {part.address}" if part.address else ""
        about = ", ".join(filter(None, (f"{time.monotonic() - started:.1f} s", notes)))
        self._report(f"{f'{part.name} {part.version}'.strip()} ready{where} ({about})")

    def _set(self, state: State) -> None:
        self.state = state
        state.write(self.home)

    def _stop_left_over(self) -> None:
        for line in leftovers.stop(self.home):
            self._report(line)

    def _server_environment(self) -> dict[str, str]:
        # servers get none of the caller's variables: PG* would change them, and they need no secrets
        kept = {name: self.environ[name] for name in _SERVER_VARIABLES if name in self.environ}
        return {"PATH": os.defpath, **kept, "LC_ALL": "C", leftovers.MARK: str(self.home.path)}

    def _absolute_environment(self) -> dict[str, str]:
        # Dagster's processes run in the project folder: relative paths would mean another place there
        env = dict(self.environ)
        if self.settings.systems:
            env["LONGBOX_SYSTEMS"] = ":".join(str(folder) for folder in self.settings.systems)
        if self.settings.fx_rates_file:
            env["LONGBOX_FX_RATES"] = str(self.settings.fx_rates_file)
        return env


def _without_own_urls(environ: dict[str, str], home: Home) -> dict[str, str]:
    """`environ` less URLs of this very stack, as `eval "$(longbox env)"` leaves them in a shell that starts it anew."""
    if not home.secrets_file.exists():
        return environ
    own = Secrets.of(home)
    for name in _URL_VARIABLES:
        try:
            parts = urlsplit(environ.get(name, ""))
        except ValueError:
            continue
        if parts.hostname == ports.LOOPBACK and parts.password in (own.postgres, own.redis):
            environ = {key: value for key, value in environ.items() if key != name}
    return environ

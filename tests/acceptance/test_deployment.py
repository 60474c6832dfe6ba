"""The commands that deploy/compose gives its containers, run by hand: from empty servers to a landing day in the UI.

There is no Docker here, so the containers' environment and commands are taken from compose.yaml and started on
loopback: PostgreSQL prepared by the init script of its image, Valkey by its own command, an S3 API by moto. What only
containers have (names of hosts, fixed ports, /opt/longbox) is replaced, and the bucket's name, for other S3 servers.
"""

import base64
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from psycopg import sql

from cli.dagster_client import DagsterClient
from deploy.local import binaries
from deploy.local.dagster import STOP_STEPS
from deploy.local.ports import choose
from deploy.local.processes import Child, start, wait_until
from deploy.local.stack import Stack
from pipelines.catalog.digest import digest_tables
from pipelines.catalog.loader import load_catalog, system_folders
from resources.database import Database
from resources.settings import PROJECT_ROOT, Settings
from tests import covered_lines
from tests.compose import FOLDER, Compose, env_file, on_this_machine
from tests.conftest import new_home, remove_home, with_database
from tests.daily_runs import sales, small_rates
from tests.s3_server import S3Server, new_bucket_name

DAY = "2026-10-05"
SUPERUSER = "a-password-of-the-test"
WEBSOCKET = (
    "GET /graphql HTTP/1.1\r\nHost: longbox.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n{more}\r\n"
)


def free_port() -> int:
    """One that no outgoing connection takes before the service listens, a minute later."""
    return choose("port", None, remembered=None)


@dataclass
class Deployment:
    """The services of compose.yaml as processes of this machine."""

    home: Path
    compose: Compose
    replacements: Mapping[str, str]
    path: str
    image: frozenset[str] = field(default_factory=lambda: frozenset(os.listdir(PROJECT_ROOT)))
    children: list[Child] = field(default_factory=list)

    def environment(self, service: str) -> dict[str, str]:
        given = {
            key: on_this_machine(value, self.replacements)
            for key, value in self.compose.environment(service).items()
        }
        return {**given, "CODE_LOCATION_HOST": "127.0.0.1", **covered_lines.environment(), "PATH": self.path}

    def start(self, service: str) -> Child:
        command = [on_this_machine(part, self.replacements) for part in self.compose.command(service)]
        log = self.home / f"{service}.log"
        child = start(service, command, log=log, env=self.environment(service), cwd=PROJECT_ROOT)
        self.children.append(child)
        return child

    def run(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """`docker compose exec SERVICE COMMAND`."""
        return subprocess.run(
            list(command), env=self.environment(service), cwd=PROJECT_ROOT, capture_output=True, text=True
        )

    def is_healthy(self, service: str) -> bool:
        """What the healthcheck of the service says."""
        command = [on_this_machine(part, self.replacements) for part in self.compose.health_command(service)]
        return self.run(service, *command).returncode == 0

    def wait_healthy(self, child: Child) -> None:
        """Wait as `docker compose up --wait` does."""
        found = wait_until(
            lambda: self.is_healthy(child.name) or None, seconds=120, child=child, poll_seconds=1
        )
        assert found, f"{child.name}: {child.log.read_text(errors='replace')[-4000:]}"

    def stop(self) -> None:
        for child in reversed(self.children):
            child.stop(STOP_STEPS, whole_group=True)

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.replacements['3000']}"


def empty_server(stack: Stack) -> str:
    """The stack's PostgreSQL as the image makes it: the superuser is `postgres`, and nothing of ours is there."""
    first = with_database(stack.settings.postgres_url, "postgres")
    with psycopg.connect(first, autocommit=True) as connection:
        statement = sql.SQL("CREATE ROLE postgres SUPERUSER LOGIN PASSWORD {}")
        connection.execute(statement.format(sql.Literal(SUPERUSER)))
    parts = urlsplit(first)
    url = f"postgresql://postgres:{SUPERUSER}@127.0.0.1:{parts.port}/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        for statement_text in (
            "DROP DATABASE longbox",
            "DROP DATABASE dagster",
            "ALTER ROLE longbox RENAME TO first",
        ):
            connection.execute(statement_text)
    return url


def run_init_script(url: str, variables: Mapping[str, str], programs: Path) -> None:
    """What the postgres image does with /docker-entrypoint-initdb.d, once."""
    environment = {
        **variables, "POSTGRES_USER": "postgres", "PGPASSWORD": SUPERUSER, "PGHOST": "127.0.0.1",
        "PGPORT": str(urlsplit(url).port), "PATH": f"{programs}:{os.defpath}",
    }  # fmt: skip
    done = subprocess.run(
        [str(FOLDER / "postgres/10-longbox.sh")], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def deployment(s3_server: S3Server) -> Iterator[Deployment]:
    home = new_home()
    for name in (".env.example", "new-env.sh"):
        shutil.copy(FOLDER / name, home / name)
    subprocess.run(["sh", str(home / "new-env.sh")], check=True, capture_output=True)
    with (home / ".env").open("a", encoding="utf-8") as settings:
        settings.write(f"LONGBOX_FX_RATES={small_rates(home)}\n")
        settings.write(f"S3_ACCESS_KEY={s3_server.access_key}\nS3_SECRET_KEY={s3_server.secret_key}\n")
    compose = Compose.read(env_file(home / ".env"))
    valkey, _ = binaries.find_valkey()
    ports = {name: free_port() for name in ("valkey", "code", "webserver")}
    try:
        with Stack(
            home / "servers", dagster=False, environ={"PATH": os.environ["PATH"]}, is_durable=False
        ) as stack:
            url = empty_server(stack)
            run_init_script(url, compose.environment("postgres"), binaries.find_postgres().folder)
            replacements = {
                "@postgres:5432": f"@127.0.0.1:{urlsplit(url).port}",
                "@valkey:6379": f"@127.0.0.1:{ports['valkey']}",
                "http://objects:8333": s3_server.endpoint, "s3://longbox/": f"s3://{new_bucket_name()}/",
                "valkey-server -": f"valkey-server - --port {ports['valkey']} --bind 127.0.0.1",
                "valkey-cli": f"valkey-cli -p {ports['valkey']}",
                "4000": str(ports["code"]), "3000": str(ports["webserver"]), "0.0.0.0": "127.0.0.1",
                "/opt/longbox": str(PROJECT_ROOT), "/var/lib/longbox": str(home / "state"),
            }  # fmt: skip
            path = os.pathsep.join([str(Path(sys.executable).parent), str(valkey.parent), os.environ["PATH"]])
            running = Deployment(home, compose, replacements, path)
            try:
                running.start("valkey")
                yield running
            finally:
                running.stop()
    finally:
        remove_home(home / "servers")
        remove_home(home)


@pytest.fixture(scope="module")
def services(deployment: Deployment) -> Deployment:
    """All of them up, in the order of compose.yaml, each as soon as what it waits for is healthy."""
    prepare = deployment.compose.command("prepare")
    first = deployment.run("prepare", *prepare)
    assert first.returncode == 0, first.stderr
    bucket = urlsplit(deployment.environment("prepare")["LONGBOX_OBJECT_STORE"]).netloc
    assert f"bucket {bucket} made" in first.stdout
    assert not deployment.is_healthy("wal"), "a healthcheck that cannot fail"
    deployment.wait_healthy(deployment.start("wal"))
    assert not deployment.is_healthy("code"), "a healthcheck that cannot fail"
    deployment.wait_healthy(deployment.start("code"))
    assert not deployment.is_healthy("webserver"), "a healthcheck that cannot fail"
    daemon, webserver = deployment.start("daemon"), deployment.start("webserver")
    deployment.wait_healthy(webserver)
    deployment.wait_healthy(daemon)
    return deployment


def test_a_landing_day_runs_in_the_containers_commands(services: Deployment) -> None:
    file = services.home / "sales.csv"
    file.write_bytes(sales("2026-10-04", 30))
    landed = services.run("code", "longbox", "land", "comics/marketplace_sales", str(file), "--date", DAY)
    assert (landed.returncode, landed.stderr) == (0, "")
    assert f"`longbox run daily_pipeline --date {DAY}`" in landed.stdout
    client = DagsterClient(services.ui)
    run_id = client.launch("daily_pipeline", partition=DAY)
    run = client.wait(run_id, timeout_seconds=240, poll_seconds=0.5)
    assert run.status == "SUCCESS", client.failures(run_id)
    url = services.environment("code")["LONGBOX_POSTGRES_URL"]
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT current_user::text, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), count(*) "
            "FROM comics.pricing_data_normalized"
        ).fetchone()
    assert found == ("longbox", False, 30)


def test_a_run_that_was_killed_with_its_container_ends_when_that_starts_again(services: Deployment) -> None:
    day = "2026-10-06"
    file = services.home / "sales-killed.csv"
    file.write_bytes(sales("2026-10-05", 20))
    landed = services.run("code", "longbox", "land", "comics/marketplace_sales", str(file), "--date", day)
    assert landed.returncode == 0, landed.stderr
    client = DagsterClient(services.ui)
    code = next(child for child in services.children if child.name == "code")
    with psycopg.connect(services.environment("code")["LONGBOX_POSTGRES_URL"]) as connection:
        connection.execute("LOCK TABLE longbox.loads IN ACCESS EXCLUSIVE MODE")
        lost = client.launch("daily_pipeline", partition=day)
        waiting = (
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'longbox.loads'::regclass"
        )
        assert wait_until(lambda: connection.execute(waiting).fetchone() == (True,) or None, seconds=120)
        container = psutil.Process(code.id.pid)
        for process in (container, *container.children(recursive=True)):
            process.kill()
        assert wait_until(lambda: code.exit_code() is not None or None, seconds=30)
    services.wait_healthy(services.start("code"))
    assert client.wait(lost, timeout_seconds=30).status == "FAILURE"
    # the webserver asks for the definitions anew once it sees another server
    assert wait_until(lambda: "daily_pipeline" in client.jobs() or None, seconds=120, poll_seconds=1)
    again = client.launch("daily_pipeline", partition=day, assets=["comics/pricing_data_raw"])
    assert client.wait(again, timeout_seconds=240).status == "SUCCESS", client.failures(again)
    with psycopg.connect(services.environment("code")["LONGBOX_POSTGRES_URL"]) as connection:
        found = connection.execute("SELECT count(*) FROM comics.pricing_data_raw").fetchone()
    assert found == (50,)


def test_what_the_steps_printed_is_in_the_object_store_and_nothing_in_the_read_only_image(
    services: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.object_store import ObjectStore

    environment = services.environment("code")
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    stored = [info.path for info in ObjectStore.from_url(environment["LONGBOX_OBJECT_STORE"]).list("")]
    assert [path for path in stored if path.startswith("compute_logs/")], stored
    written = set(os.listdir(PROJECT_ROOT)) - services.image
    assert not written & {"logs", ".logs_queue", "storage", "history", "schedules"}, "the image is read-only"
    assert (Path(services.environment("daemon")["DAGSTER_HOME"]) / "logs").is_dir()


def test_preparing_again_changes_nothing(services: Deployment) -> None:
    again = services.run("prepare", *services.compose.command("prepare"))
    assert again.returncode == 0, again.stderr
    assert "made" not in again.stdout
    assert "migrations: 0 applied" in again.stdout


def test_the_backup_that_the_operators_page_shows_restores_to_the_same_rows(services: Deployment) -> None:
    programs = binaries.find_postgres().folder
    url = services.environment("code")["LONGBOX_POSTGRES_URL"]
    environment = {"PGHOST": "127.0.0.1", "PGPORT": str(urlsplit(url).port), "PGPASSWORD": SUPERUSER}
    page = (PROJECT_ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8")
    commands = [line for line in page.splitlines() if line.startswith(("pg_dump", "createdb", "pg_restore"))]
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(
            shlex.split(command),
            env={**environment, "PATH": str(programs)},
            cwd=services.home,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    digests = []
    for name in ("longbox", "longbox_restored"):
        with Database(with_database(url, name)) as database, database.connection() as connection:
            digests.append(digest_tables(connection, load_catalog(system_folders(Settings.load({})))))
    assert digests[0] == digests[1]
    assert any(table.rows == 50 for table in digests[0]), digests[0]


def test_preparing_with_a_wrong_password_is_a_sentence_that_hides_it(services: Deployment) -> None:
    environment = services.environment("prepare")
    secret = services.compose.variables["DATABASE_PASSWORD"]
    environment["LONGBOX_POSTGRES_URL"] = environment["LONGBOX_POSTGRES_URL"].replace(secret, "0ther5ecret")
    done = subprocess.run(
        [sys.executable, "-m", "deploy.prepare"],
        env=environment,
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (1, 2)
    assert "LONGBOX_POSTGRES_URL" in done.stderr and "password" in done.stderr
    assert "0ther5ecret" not in done.stderr and "Traceback" not in done.stderr


@dataclass
class Proxy:
    """nginx with the example of deploy/reverse-proxy, in front of the deployment's UI."""

    port: int
    certificate: Path
    login: str

    def ask(
        self, path: str, *, login: str | None = None, origin: str = "", body: bytes | None = None
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data=body)
        if login:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        if origin:
            request.add_header("Origin", origin)
        if body:
            request.add_header("Content-Type", "application/json")
        try:
            with self._opener().open(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def upgrade(self, *headers: str) -> str:
        """The status line of an answer to a WebSocket handshake."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=30) as plain,
            self._context().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            more = "".join(f"{header}\r\n" for header in headers)
            secure.sendall(WEBSOCKET.format(more=more).encode())
            return secure.recv(4096).decode(errors="replace").splitlines()[0]

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def _opener(self) -> urllib.request.OpenerDirector:
        handler = urllib.request.HTTPSHandler(context=self._context())
        return urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)


@pytest.fixture(scope="module")
def proxy(services: Deployment) -> Iterator[Proxy]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light): the reverse proxy was not run")
    folder = services.home / "proxy"
    folder.mkdir()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "right"], check=True, capture_output=True, text=True
    )
    (folder / "users").write_text(f"ann:{hashed.stdout.strip()}\n")
    ports = {"80": free_port(), "443": free_port()}
    text = (PROJECT_ROOT / "deploy/reverse-proxy/nginx.conf").read_text(encoding="utf-8")
    text = on_this_machine(text, {
        "listen 80;": f"listen 127.0.0.1:{ports['80']};", "listen 443 ssl;": f"listen 127.0.0.1:{ports['443']} ssl;",
        "/etc/nginx/longbox": str(folder), "127.0.0.1:3000": urlsplit(services.ui).netloc,
    })  # fmt: skip
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # as root its workers would be `nobody`, who may not enter a temporary folder
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {paths}\n{text}\n}}\n"
    )
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    child = start("nginx", command, log=folder / "nginx.log")
    try:
        assert wait_until(lambda: child.listens_on(ports["443"]) or None, seconds=30, child=child), (
            folder / "nginx.log"
        ).read_text()
        yield Proxy(ports["443"], certificate, "ann:right")
    finally:
        child.stop(STOP_STEPS, whole_group=True)


def test_the_proxy_asks_for_a_login(proxy: Proxy) -> None:
    assert proxy.ask("/server_info")[0] == 401
    assert proxy.ask("/server_info", login="ann:wrong")[0] == 401
    status, body = proxy.ask("/server_info", login=proxy.login)
    assert (status, b"dagster_webserver_version" in body) == (200, True)


def test_graphql_goes_through_the_proxy_from_the_ui_and_from_tools_and_from_no_other_site(
    proxy: Proxy,
) -> None:
    query = b'{"query": "{ version }"}'
    for origin, expected in (("", 200), ("https://longbox.example.com", 200), ("https://evil.example", 403)):
        status, body = proxy.ask("/graphql", login=proxy.login, origin=origin, body=query)
        assert (status, b'"version"' in body) == (expected, expected == 200), origin


def test_subscriptions_reach_the_ui_as_a_websocket_with_the_login_only(proxy: Proxy) -> None:
    login = f"Authorization: Basic {base64.b64encode(proxy.login.encode()).decode()}"
    assert proxy.upgrade(login).startswith("HTTP/1.1 101")
    assert proxy.upgrade().startswith("HTTP/1.1 401")
    assert proxy.upgrade(login, "Origin: https://evil.example").startswith("HTTP/1.1 403")

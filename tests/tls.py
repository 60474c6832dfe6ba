"""PostgreSQL behind TLS, for tests: Debian's own with certificates, and a TLS front before a server that has none.

The wheel's PostgreSQL is built without OpenSSL. What its clients see through `TlsFront` is what a managed PostgreSQL
shows them: an SSLRequest answered with S, then TLS with a certificate. https://www.postgresql.org/docs/current/protocol-flow.html
"""

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from deploy.local import ports, privileges
from deploy.local.processes import wait_until

SSL_REQUEST = struct.pack("!II", 8, 80877103)


@dataclass(frozen=True)
class Certificates:
    """A root, a certificate of `localhost` signed by it, and the root of somebody else."""

    root: Path
    server: Path
    key: Path
    other_root: Path

    @classmethod
    def made_in(cls, folder: Path) -> "Certificates":
        folder.mkdir(parents=True, exist_ok=True)
        files = cls(*(folder / name for name in ("root.crt", "server.crt", "server.key", "other.crt")))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(files.root))
        trustme.CA().cert_pem.write_to_path(str(files.other_root))
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(str(files.key))
        issued.cert_chain_pems[0].write_to_path(str(files.server))
        return files


class TlsFront:
    """Answers PostgreSQL's SSLRequest on a port of loopback and passes what is inside on to another; TLS 1.3 only."""

    def __init__(self, target_port: int, certificates: Certificates) -> None:
        self._target = (ports.LOOPBACK, target_port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_cert_chain(certificates.server, certificates.key)
        self._listener = socket.create_server((ports.LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.plain_connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                self.plain_connections += 1
                return
            client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as inside,
                socket.create_connection(self._target) as server,
            ):
                up = threading.Thread(target=_pass_on, args=(inside, server), daemon=True)
                up.start()
                _pass_on(server, inside)
                up.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65_536):
            target.sendall(chunk)
    for side in (source, target):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def system_postgres() -> Path | None:
    """The programs of the newest PostgreSQL that Debian's packages installed; None without any."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def running_with_tls(programs: Path, folder: Path, certificates: Certificates) -> Iterator[int]:
    """A cluster of `programs` in `folder` that takes TLS only; yields its port."""
    user = privileges.server_user(folder / "data")
    options = user.options() if user else {}
    certificate, key = (Path(shutil.copy(file, folder)) for file in (certificates.server, certificates.key))
    key.chmod(0o600)
    if user:
        for path in (folder, certificate, key):
            shutil.chown(path, user.uid, user.gid)
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "-U", "longbox", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd=folder, **options,
    )  # fmt: skip
    (folder / "data" / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    port = ports.choose("", None, remembered=None)
    settings = {
        "port": port, "listen_addresses": ports.LOOPBACK, "unix_socket_directories": "", "fsync": "off", "ssl": "on",
        "ssl_cert_file": certificate, "ssl_key_file": key, "ssl_min_protocol_version": "TLSv1.3",
    }  # fmt: skip
    command = [programs / "postgres", "-D", folder / "data"]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **options)
    try:
        assert wait_until(lambda: _listens(port) or None, seconds=60), "PostgreSQL does not listen"
        yield port
    finally:
        server.terminate()
        server.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((ports.LOOPBACK, port)) == 0

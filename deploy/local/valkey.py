"""The local Valkey (or Redis): a cache and nothing else, on loopback, behind a password, bounded in memory.

Nothing is written to disk: the cache is never the truth (promise 6), and an old value must not come back from a
snapshot. https://valkey.io/topics/lru-cache/
"""

import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis

from deploy.local import binaries
from deploy.local.errors import StackError
from deploy.local.ports import LOOPBACK
from deploy.local.processes import Child, start, tail, wait_until
from deploy.local.state import Home, write_private

START_SECONDS = 20.0
STOP_STEPS = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
MAX_MEMORY = "256mb"


@dataclass(frozen=True)
class LocalValkey:
    """The cache server of one home."""

    program: Path
    folder: Path
    log: Path
    password: str

    def url(self, port: int) -> str:
        """Its URL, password included."""
        return f"redis://:{quote(self.password, safe='')}@{LOOPBACK}:{port}/0"

    def start(self, port: int, env: dict[str, str]) -> Child:
        """Start the server. It is not ready yet: see `wait_ready`."""
        config = self.folder / "valkey.conf"
        settings = {
            "bind": LOOPBACK,
            "port": str(port),
            "protected-mode": "yes",
            "requirepass": self.password,
            "dir": f'"{self.folder}"',
            "daemonize": "no",
            "save": '""',
            "appendonly": "no",
            "maxmemory": MAX_MEMORY,
            "maxmemory-policy": "allkeys-lru",
        }
        # in a file of mode 0600: a command line is readable by every user of the machine
        write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return start("Valkey", [self.program, config], log=self.log, cwd=self.folder, env=env)

    def wait_ready(self, child: Child, port: int) -> str:
        """Wait until it answers. Returns its version."""
        version = wait_until(lambda: _try_version(self.url(port)), seconds=START_SECONDS, child=child)
        if version is None:
            raise StackError(
                f"Valkey did not become ready on {LOOPBACK}:{port}; the end of {self.log}:\n{tail(self.log)}"
            )
        return version


def prepare(home: Home, password: str) -> LocalValkey:
    """Find the program and the place of the server of `home`."""
    program, _ = binaries.find_valkey()
    return LocalValkey(program, home.valkey, home.logs / "valkey.log", password)


def server_version(info: dict[str, object]) -> str:
    """Name and version of a server by its INFO: Valkey calls itself Redis 7.2 to old clients."""
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', '?')}"


def _try_version(url: str) -> str | None:
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        info: dict[str, object] = client.info("server")
        return server_version(info).split(" ")[1]
    except redis.RedisError:
        return None
    finally:
        client.close()

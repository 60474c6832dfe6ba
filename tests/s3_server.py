"""The S3 API of the tests: moto as a process of its own, or the server that LONGBOX_TEST_S3_ENDPOINT names.

A named server takes the usual AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Buckets have names that no other run uses,
and stay: what Object Lock holds nobody can remove. Name a server that may be thrown away.
"""

import contextlib
import itertools
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploy.local.ports import choose
from deploy.local.processes import wait_until

_RUN = secrets.token_hex(4)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class S3Server:
    """An endpoint and the keys that it takes."""

    endpoint: str
    access_key: str = "testing"
    secret_key: str = "testing"
    is_moto: bool = True

    @classmethod
    def named(cls, environ: Mapping[str, str]) -> "S3Server | None":
        """The server that the developer names, if any."""
        endpoint = environ.get("LONGBOX_TEST_S3_ENDPOINT")
        if not endpoint:
            return None
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        assert all(map(environ.get, names)), f"LONGBOX_TEST_S3_ENDPOINT needs {' and '.join(names)}"
        return cls(endpoint.rstrip("/"), *(environ[name] for name in names), is_moto=False)

    @property
    def environment(self) -> dict[str, str]:
        """The usual AWS variables, leading to it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


NAMED = S3Server.named(os.environ)  # before the fixture that leaves the developer's environment out


def new_bucket_name(kind: str = "test") -> str:
    """A bucket's name that no other test and no other run uses, nor the same one in another process."""
    return f"longbox-{kind}-{_RUN}-{os.getpid()}-{next(_numbers)}"


@contextlib.contextmanager
def running_s3() -> Iterator[S3Server]:
    """The named server, else moto for the time of the block."""
    if NAMED is not None:
        assert _answers(NAMED.endpoint), (
            f"{NAMED.endpoint} does not answer: start the S3 server that it names"
        )
        yield NAMED
        return
    port = choose("port", None, remembered=None)
    found = S3Server(f"http://127.0.0.1:{port}")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answers = wait_until(
            lambda: True if _answers(found.endpoint) or process.poll() is not None else None, seconds=60
        )
        assert answers, "moto did not answer within 60 s"
        assert process.poll() is None, f"moto ended with exit code {process.poll()}"
        yield found
    finally:
        process.kill()
        process.wait()


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False

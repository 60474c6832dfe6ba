"""What a server says of itself when it is asked once: version, clock, rights, sessions. For diagnosis, not for work.

Each probe opens a connection of its own and closes it; judging the answers is `pipelines.monitoring.diagnosis`'s.
Errors are Longbox's and never hold a password.
"""

import datetime
import email.utils
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import redis

from resources.errors import CacheUnavailableError, DatabaseUnavailableError, ObjectStoreError
from resources.object_store import ObjectStore
from resources.setting_values import redact, without_secret
from resources.sql import Queries

TIMEOUT_SECONDS = 5
LOCAL_CLOCK: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)  # noqa: E731
_SQL = Queries.of("resources")


@dataclass(frozen=True)
class Clock:
    """A server's clock held against ours: `skew_seconds` ahead of us, known to `uncertainty_seconds`."""

    skew_seconds: float
    uncertainty_seconds: float

    @classmethod
    def compare(
        cls,
        before: datetime.datetime,
        theirs: datetime.datetime,
        after: datetime.datetime,
        resolution_seconds: float = 0.0,
    ) -> "Clock":
        """From the moments around a question and the answer; a coarse clock adds half its resolution."""
        middle = before + (after - before) / 2
        theirs += datetime.timedelta(seconds=resolution_seconds / 2)
        return cls(
            (theirs - middle).total_seconds(), (after - before).total_seconds() / 2 + resolution_seconds / 2
        )


@dataclass(frozen=True)
class LockHolder:
    """A session that does nothing and holds an advisory lock, or keeps a transaction open."""

    pid: int
    application_name: str
    state: str
    idle_seconds: float
    has_migration_lock: bool
    has_advisory_lock: bool


@dataclass(frozen=True)
class PostgresFacts:
    """One PostgreSQL database: its version as a number (180003), its clock, Longbox's roles that it lacks."""

    version: str
    version_number: int
    clock: Clock
    missing_roles: tuple[str, ...]
    idle_sessions: tuple[LockHolder, ...]


@dataclass(frozen=True)
class RedisFacts:
    """One Redis or Valkey: its name, version and clock."""

    name: str
    version: tuple[int, ...]
    clock: Clock


def probe_postgres(
    url: str, *, migration_lock_key: int, now: Callable[[], datetime.datetime] = LOCAL_CLOCK
) -> PostgresFacts:
    """Ask the database at `url`. Raises `DatabaseUnavailableError` with what it said and what to do."""
    try:
        with psycopg.connect(
            url, connect_timeout=TIMEOUT_SECONDS, application_name="longbox doctor"
        ) as connection:
            connection.autocommit = True
            before = now()
            moment = cast("tuple[datetime.datetime]", connection.execute(_SQL["server_clock"]).fetchone())[0]
            clock = Clock.compare(before, moment, now())
            version = cast("tuple[str]", connection.execute(_SQL["server_version"]).fetchone())[0]
            roles = [str(row[0]) for row in connection.execute(_SQL["missing_roles"]).fetchall()]
            sessions = connection.execute(_SQL["idle_sessions"], {"key": migration_lock_key}).fetchall()
            return PostgresFacts(
                version.split(" ")[0],
                connection.info.server_version,
                clock,
                tuple(roles),
                tuple(LockHolder(*cast("Any", row)) for row in sessions),
            )
    except psycopg.Error as error:
        said = " ".join(without_secret(str(error), url).split())
        raise DatabaseUnavailableError(f"{redact(url)} {_remedy(said)}; it said: {said}") from error


def probe_redis(url: str, *, now: Callable[[], datetime.datetime] = LOCAL_CLOCK) -> RedisFacts:
    """Ask the cache at `url`. Raises `CacheUnavailableError` with what it said and what to do."""
    client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
    try:
        before = now()
        seconds, micros = client.time()
        theirs = datetime.datetime.fromtimestamp(seconds, datetime.UTC) + datetime.timedelta(
            microseconds=micros
        )
        clock = Clock.compare(before, theirs, now())
        info = client.info("server")
    except (redis.RedisError, OSError, ValueError) as error:
        said = " ".join(without_secret(str(error), url).split())
        raise CacheUnavailableError(f"{redact(url)} {_remedy(said)}; it said: {said}") from error
    finally:
        client.close()
    name = "Valkey" if "valkey_version" in info else "Redis"
    text = str(info.get("valkey_version") or info.get("redis_version") or "0")
    return RedisFacts(name, tuple(int(part) for part in text.split(".")[:3] if part.isdecimal()), clock)


def probe_store(url: str) -> None:
    """Write an object, read it back, delete it. Raises `ObjectStoreError` or `ObjectStoreUnavailableError`."""
    store = ObjectStore.from_url(url, retries=0)
    # there is none; but some servers make the bucket of a misspelt URL when something is put
    store.list_folders(".longbox")
    path = f"longbox-doctor-{uuid.uuid4()}"  # beside the folders: a local store would keep an emptied one
    content = path.encode()
    store.put(path, content)
    read = b"".join(store.read(path))
    store.delete(path)
    if read != content:
        raise ObjectStoreError(
            f"the object store {redact(url)} gave back other bytes than were written to {path!r}"
        )


def store_clock(url: str, *, now: Callable[[], datetime.datetime] = LOCAL_CLOCK) -> Clock | None:
    """The clock of an S3 server by the Date of its answer (whole seconds); None for other stores."""
    parts = urlsplit(url)
    if parts.scheme != "s3":
        return None
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    limits = Config(
        connect_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 1}
    )
    client = boto3.session.Session().client("s3", config=limits)
    before = now()
    try:
        response = cast("dict[str, Any]", client.head_bucket(Bucket=parts.netloc))
    except ClientError as error:  # refused, but answered: the Date is all we want
        response = cast("dict[str, Any]", error.response)
    except BotoCoreError:
        return None  # unreachable is another check's finding
    after = now()
    date = response["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return Clock.compare(before, email.utils.parsedate_to_datetime(date), after, 1.0) if date else None


def _remedy(said: str) -> str:
    lowered = said.lower()
    for remedy, signs in _REMEDIES.items():
        if any(sign in lowered for sign in signs):
            return remedy
    return "does not work as it should; see its log"


_REMEDIES = {
    "refuses the user or the password; correct them in the URL": (
        "password authentication failed", "no password supplied", "wrongpass", "invalid username-password", "noauth",
        "invalid password", "authentication required"),
    "lacks that database or role; create it, or correct the URL": ("does not exist",),
    "does not admit this machine; see its pg_hba.conf": ("pg_hba.conf",),
    "cannot be reached; check host and port, and that it runs": (
        "refused", "timeout", "timed out", "could not translate", "resolve", "unreachable", "name or service",
        "no such file", "no route"),
    "has no connection free; raise max_connections, or end some": ("too many clients", "connection slots"),
}  # fmt: skip

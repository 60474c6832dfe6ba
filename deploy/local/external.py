"""Servers that a setting names: nothing is started for them, but each is asked whether it works, in its phase.

Every message names the variable and what to do, and never the password. Add a check here for a new kind of server.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import redis

from deploy.local.errors import ExternalServerError
from deploy.local.valkey import server_version
from resources.errors import LongboxError
from resources.setting_values import redact, without_secret

CONNECT_SECONDS = 10


def check_postgres(url: str, variable: str) -> str:
    """Version of the PostgreSQL at `url`. Raises `ExternalServerError` if it is away, refuses us, or is too old."""
    try:
        with psycopg.connect(
            url, connect_timeout=CONNECT_SECONDS, application_name="longbox up"
        ) as connection:
            row = connection.execute("SHOW server_version").fetchone()
            number = connection.info.server_version
    except psycopg.Error as error:
        said = " ".join(without_secret(str(error), url).split())
        where = f"PostgreSQL of {variable} ({redact(url)})"
        raise ExternalServerError(f"{where} {_remedy(said)}; it said: {said}") from error
    if number < 170000:
        raise ExternalServerError(
            f"PostgreSQL of {variable} ({redact(url)}) is version {row[0] if row else '?'}; "
            "Longbox needs 17 or newer, upgrade it or name another"
        )
    return str(row[0]).split(" ")[0] if row else "?"


def check_redis(url: str, variable: str) -> str:
    """Name and version of the Redis or Valkey at `url`. Raises `ExternalServerError`."""
    client = redis.Redis.from_url(url, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS)
    try:
        info: dict[str, object] = client.info("server")
        return server_version(info)
    except (redis.RedisError, OSError, ValueError) as error:
        said = " ".join(without_secret(str(error), url).split())
        where = f"Redis of {variable} ({redact(url)})"
        raise ExternalServerError(f"{where} {_remedy(said)}; it said: {said}") from error
    finally:
        client.close()


def check_object_store(url: str) -> None:
    """Make the folder of a local store, or ask a remote one for a folder. Raises `ExternalServerError`."""
    if url.startswith("file://"):
        folder = Path(unquote(urlsplit(url).path))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExternalServerError(
                f"the object store {url} cannot be made ({error.strerror}); name a folder that you may write "
                "with LONGBOX_OBJECT_STORE"
            ) from error
        return
    from resources.object_store import ObjectStore  # obstore is loaded only where a store is remote

    try:
        ObjectStore.from_url(url).list_folders(".longbox")
    except LongboxError as error:
        raise ExternalServerError(
            f"the object store of LONGBOX_OBJECT_STORE ({redact(url)}) does not answer: {error}; check bucket, region, "
            "credentials, and AWS_ENDPOINT_URL if it is not Amazon's"
        ) from error


def _remedy(said: str) -> str:
    known = {
        ("password authentication failed", "no password supplied", "WRONGPASS", "invalid username-password", "NOAUTH",
         "invalid password", "Authentication required"): "refuses the user or password, check them in the URL",
        ("does not exist",): "lacks that database or role, create it or correct the URL",
        ("refused", "timeout", "timed out", "could not translate", "resolve", "unreachable", "Name or service"):
            "cannot be reached, check host and port, and that it runs",
        ("pg_hba.conf",): "does not admit this machine, see its pg_hba.conf",
    }  # fmt: skip
    lowered = said.lower()
    for signs, remedy in known.items():
        if any(sign.lower() in lowered for sign in signs):
            return remedy
    return "does not work as it should"

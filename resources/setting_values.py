"""The value of a setting: text as a user writes it, checked and typed. Each parser raises ValueError with the reason.

The reason continues the variable's name ("LONGBOX_UI_PORT is 'x', which is no port..."), see `settings`, which names
the variables. What has to look at other settings belongs there; nothing here reads the environment.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

LEAST_HISTORY_DAYS = 7
_HIDDEN = "***"
_POSTGRES_SCHEMES = ("postgresql", "postgres")
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_STORE_SCHEMES = ("file", "s3", "gs", "az")


def redact(url: str) -> str:
    """`url` without its password and without secrets in its query, fit for messages and logs."""
    text = re.sub(r"(?<=://)([^/?#]*):[^/?#]*@", rf"\1:{_HIDDEN}@", url)
    return re.sub(r"(?i)\b(password|passwd|pwd|secret|token|key|sig)=[^&\s]+", rf"\1={_HIDDEN}", text)


def without_secret(message: str, url: str) -> str:
    """`message` with every appearance of the password of `url` hidden: drivers quote it now and then."""
    password = _split(url).password
    for secret in {password, unquote(password)} if password else ():
        message = message.replace(secret, _HIDDEN)
    return message


def postgres_url(text: str) -> str:
    """`text` as a libpq URL: `postgresql://`, with the driver suffix of SQLAlchemy removed. Raises ValueError."""
    if "://" not in text:
        raise ValueError("is not a URL (keywords such as host=... are not read)")
    scheme, rest = text.split("://", 1)
    if scheme.split("+")[0] not in _POSTGRES_SCHEMES:
        raise ValueError(f"has the scheme {scheme!r} where postgresql is wanted")
    url = f"postgresql://{rest}"
    if not _split(url).path.strip("/"):
        raise ValueError("names no database")
    return url


def redis_url(text: str) -> str:
    return _with_scheme(text, _REDIS_SCHEMES)


def store_url(text: str) -> str:
    if text.startswith(("/", ".", "~")):
        raise ValueError(f"is a path where a URL is wanted (file://{Path(text).expanduser().absolute()})")
    url = _with_scheme(text, _STORE_SCHEMES)
    parts = _split(url)
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/") or parts.path == "/":
            raise ValueError(
                "must name a folder by its absolute path, with three slashes: file:///srv/objects"
            )
    elif not parts.netloc:
        raise ValueError("names no bucket")
    return urlunsplit(parts).rstrip("/")


def _with_scheme(text: str, schemes: tuple[str, ...]) -> str:
    scheme = _split(text).scheme
    if "://" not in text or scheme not in schemes:
        raise ValueError(f"must start with {' or '.join(f'{known}://' for known in schemes)}")
    return text


def any_url(text: str) -> str:
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", text):
        raise ValueError("holds an entry that is no URL")
    return text


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        # the original message may quote a part of the password that was taken for the port
        raise ValueError(
            "is not a well-formed URL (a password's @ : / ? # must be percent-encoded)"
        ) from error
    return parts


def folder(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ValueError(f"is {path}, which is not a folder")
    return path


def path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def existing_folder(text: str) -> Path:
    path = folder(text)
    if not path.is_dir():
        raise ValueError(f"names {path}, which does not exist")
    return path


def existing_file(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"names {path}, which is no file")
    return path


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"is {text!r}, which is no port from 1 to 65535")
    return int(text)


def history_days(text: str) -> int:
    if not text.isdecimal() or not LEAST_HISTORY_DAYS <= int(text) <= 36_500:
        raise ValueError(f"is {text!r}, which is no number of days from {LEAST_HISTORY_DAYS}")
    return int(text)


def ship_seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 60:
        raise ValueError(f"is {text!r}, which is no number of seconds from 1 to 60")
    return int(text)


def size_bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+) *(MB|GB|TB)?", text, re.IGNORECASE)
    factor = {"": 1, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    size = int(match[1]) * factor[(match[2] or "").upper()] if match else 0
    if size < 64 * 10**6:
        raise ValueError(f"is {text!r}, which is no size of 64MB or more")
    return size


def switch(text: str) -> bool:
    if text.lower() not in ("0", "1", "true", "false", "yes", "no", "on", "off"):
        raise ValueError(f"is {text!r} where 1 or 0 is wanted")
    return text.lower() in ("1", "true", "yes", "on")


def one_of(*known: str) -> Callable[[str], str]:
    """A parser that takes nothing but these words."""

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"is {text!r} where {', '.join(known[:-1])} or {known[-1]} is wanted")
        return text

    return parse


def name(text: str) -> str:
    """A plain name, as of a stanza."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise ValueError(f"is {text!r}, which is no plain name")
    return text


def command(text: str) -> tuple[str, ...]:
    """A command's words, split as a shell does; no shell runs it."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"is no command ({error})") from error

"""The landing zone: `landing/<system>/<feed>/<YYYY-MM-DD>/<file>` in the object store.

Where files are put, and which are there. Nothing here reads a file's content.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipelines.catalog.model import Feed
from resources.errors import LongboxError, RetryableError, UserError
from resources.local_files import is_carried
from resources.object_store import ObjectInfo, ObjectStore


def landing_days(store: ObjectStore, feed: Feed) -> list[dt.date]:
    """The landing days that have a folder, in order. Folders that are no date are left out."""
    days = (_day_of(name) for name in store.list_folders(feed.prefix))
    return sorted(day for day in days if day is not None)


def files_of_day(store: ObjectStore, feed: Feed, landing_day: dt.date) -> Iterator[ObjectInfo]:
    """The landed files of a day, by name."""
    return store.list(f"{feed.prefix}{landing_day.isoformat()}/")


def names_out_of_reach(store: ObjectStore, feed: Feed, landing_day: dt.date) -> list[str]:
    """What landed and the store cannot hand out, because of its name or because it is no file, in words."""
    folder = f"{feed.prefix}{landing_day.isoformat()}/"
    return [
        f"{name!r} was not read: {why} and run the day again"
        for name, why in store.unreachable_names(folder).items()
    ]


def land_file(
    store: ObjectStore,
    feed: Feed,
    path: Path,
    landing_day: dt.date,
    *,
    replace: bool = False,
) -> str:
    """Put a local file into the landing zone and return its path there. The same content again changes nothing.

    Raises `UserError` when the file cannot be read, when the day is before the feed begins, or when another file of
    that name landed on that day and `replace` is not set.
    """
    if len(path.name.encode(errors="replace")) > store.longest_name_bytes:
        raise UserError(
            f"{path.name[:60]!r}... has a name of {len(path.name)} characters, {store.url} keeps "
            f"{store.longest_name_bytes} bytes; give the file a shorter one"
        )
    if not path.is_file():
        what = "is no file" if path.exists() else "there is no such file"
        raise UserError(f"{path}: {what}; give the path of a file to land")
    if landing_day < feed.starts_on:
        raise UserError(
            f"{landing_day} is before feed {feed.key_name} starts ({feed.starts_on}); "
            "choose a later --date, or move `starts_on` in its system.yaml"
        )
    if not is_carried(path.name):
        raise UserError(
            f"{path.name!r} cannot be landed under that name; rename it: no control characters, valid UTF-8, "
            "and no # with digits at the end"
        )
    folder = f"{feed.prefix}{landing_day.isoformat()}/"
    target = f"{folder}{path.name}"
    if not replace and store.put_new(target, path):
        return target
    present = store.head(target)
    if present is not None and _is_same(store, present, path):
        return target
    if not replace:
        raise _taken(target, present)
    with store.one_writer(folder):  # or one that finds none there, and writes, would replace this one
        store.put(target, path)
    return target


def _taken(target: str, present: ObjectInfo | None) -> LongboxError:
    if present is None:  # S3 refuses one of two that go up at once before either is there
        return RetryableError(
            f"{target} was just being landed, or removed, by another one too; land it again"
        )
    return UserError(
        f"{target} has landed already with other content; give the file another name, "
        "or --replace to overwrite what landed"
    )


def _is_same(store: ObjectStore, present: ObjectInfo, path: Path) -> bool:
    return present.size_bytes == path.stat().st_size and (
        _sha256(store.read(present.path)) == _sha256(_chunks(path))
    )


def _day_of(name: str) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(name)
    except ValueError:
        return None
    return day if day.isoformat() == name else None


def _sha256(chunks: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk

"""What landed and was not read yet: the landing zone against `longbox.loads`, with bounded work.

Folders are listed in one call; the files of a folder only for the newest days and, in rotation, for some of the older
ones, so that a tick costs the same after ten years as on the first day. Launching runs is the sensor's business.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.catalog.model import Feed
from resources.database import Database
from resources.object_store import ObjectInfo, ObjectStore
from resources.sql import Queries

RECENT_DAYS = 3
ROTATED_DAYS = 20
_SQL = Queries.of("pipelines.monitoring")


@dataclass(frozen=True)
class Unread:
    """A landing day with files that no run has read. `mark` changes when a file is added or replaced."""

    landing_day: dt.date
    file_names: tuple[str, ...]
    mark: str


@dataclass(frozen=True)
class Look:
    """One look at a feed's landing zone. `position` is where the rotation goes on (an ISO date, or empty)."""

    days_looked_at: tuple[dt.date, ...]
    unread: tuple[Unread, ...]
    strange_folders: tuple[str, ...]
    position: str


def look_for_files(
    database: Database, store: ObjectStore, feed: Feed, *, today: dt.date, position: str = "",
    rotated_days: int = ROTATED_DAYS,
) -> Look:  # fmt: skip
    """Compare the newest days and the next `rotated_days` older ones with the loads. Reads only.

    Days after `today` and before the feed starts are left alone: nothing can run them.
    """
    folders = store.list_folders(feed.prefix)
    known = {name: day for name in folders if (day := _day_of(name)) is not None}
    days = sorted(day for day in known.values() if feed.starts_on <= day <= today)
    recent = [day for day in days if day > today - dt.timedelta(days=RECENT_DAYS)]
    older = [day for day in days if day not in recent]
    start = next((number for number, day in enumerate(older) if day.isoformat() > position), 0)
    turn = older[start : start + rotated_days]
    next_position = turn[-1].isoformat() if turn and turn[-1] != older[-1] else ""
    looked_at = (*turn, *recent)
    return Look(
        days_looked_at=looked_at,
        unread=tuple(_unread(database, store, feed, looked_at)),
        strange_folders=tuple(name for name in folders if name not in known),
        position=next_position,
    )


def _unread(database: Database, store: ObjectStore, feed: Feed, days: Sequence[dt.date]) -> list[Unread]:
    with database.connection() as connection:
        rows = connection.execute(
            _SQL["read_files"], {"system": feed.system, "feed": feed.name, "days": list(days)}
        ).fetchall()
    read = {tuple(row) for row in rows}
    found = []
    for day in days:
        prefix = f"{feed.prefix}{day.isoformat()}/"
        new = [
            (info.path.removeprefix(prefix), info)
            for info in store.list(prefix)
            if (day, info.path.removeprefix(prefix), info.e_tag, info.size_bytes) not in read
        ]
        if new:
            found.append(Unread(day, tuple(name for name, _ in new), _mark(info for _, info in new)))
    return found


def _mark(files: Iterable[ObjectInfo]) -> str:
    digest = hashlib.sha256()
    for info in files:
        digest.update(f"{info.path}\0{info.e_tag}\0{info.size_bytes}\n".encode())
    return digest.hexdigest()[:16]


def _day_of(name: str) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(name)
    except ValueError:
        return None
    return day if day.isoformat() == name else None

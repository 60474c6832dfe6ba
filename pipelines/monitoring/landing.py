"""What landed and was not read yet, or never will be: the landing zone against the catalogue and `longbox.loads`.

With bounded work: the folders are listed (a call for a thousand of them); the files of a folder only for the newest
days and, in rotation, for some of the older ones, so that a look costs the same after ten years as on the first day and
no file is missed. Launching runs is the sensor's business.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pipelines.catalog.model import LANDING, Catalog, Feed, System
from resources.database import Database
from resources.object_store import ObjectInfo, ObjectStore
from resources.sql import Queries

RECENT_DAYS = 2
"""Today and yesterday, whose last files may come after midnight."""
ROTATED_DAYS = 20
ROTATED_OBJECTS = 5_000
SHOWN = 5
_SQL = Queries.of("pipelines.monitoring")


@dataclass(frozen=True)
class FeedFolder:
    """What lies directly in a feed's folder: days, other folders, files. One listing, of nothing that is in those.

    Folders that have no file in them, as a local store lists them, are not told of.
    """

    store: ObjectStore
    feed: Feed
    days: tuple[dt.date, ...]
    strange: tuple[str, ...]
    files: tuple[str, ...]

    @classmethod
    def look(cls, store: ObjectStore, feed: Feed) -> "FeedFolder":
        """As it is now."""
        files, folders = store.list_level(feed.prefix)
        days = {name: day for name in folders if (day := _day_of(name)) is not None}
        strange = tuple(name for name in folders if name not in days)
        return cls(store, feed, tuple(sorted(days.values())), strange, tuple(files))

    def never_read(self) -> list[str]:
        """What no run will ever read, in words."""
        prefix, starts_on = self.feed.prefix, self.feed.starts_on
        early = {str(day): f"the feed starts on {starts_on}" for day in self.days if day < starts_on}
        folders = early | dict.fromkeys(self.strange, "no landing day (YYYY-MM-DD)")
        return [
            f"{prefix}{name}/ is never read: {why}"
            for name, why in folders.items()
            if self.store.has_objects(f"{prefix}{name}")
        ] + [
            f"{prefix}{name} is never read: it lies in no landing day; `longbox land` puts it into one"
            for name in self.files
        ]

    def of_the_future(self, today: dt.date) -> list[str]:
        """The days that no run can read yet, in words."""
        return [
            f"{self.feed.prefix}{day}/ is not read before that day, it is {today} in UTC: a wrong date?"
            for day in self.days
            if day > today and self.store.has_objects(f"{self.feed.prefix}{day}")
        ]


def unread_for_good(
    store: ObjectStore, catalog: Catalog, systems: Iterable[System], *, today: dt.date
) -> list[str]:
    """What lies in the landing zone and no run reads, in words: beside the feeds of `systems`, or beside their days.

    Beside all systems, too. A listing for each system and each feed.
    """
    told = _undeclared(store, LANDING, "system", list(catalog.systems))
    for system in systems:
        told += _undeclared(store, f"{LANDING}{system.name}/", "feed", list(system.feeds))
        for feed in system.feeds.values():
            folder = FeedFolder.look(store, feed)
            told += folder.never_read() + folder.of_the_future(today)
    return told


def _undeclared(store: ObjectStore, prefix: str, kind: str, declared: list[str]) -> list[str]:
    files, folders = store.list_level(prefix)
    told = [f"{prefix}{name} is never read: it lies in the folder of no feed" for name in files]
    for name in folders:
        if name not in declared and store.has_objects(f"{prefix}{name}"):
            near = get_close_matches(name, declared, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            told.append(f"{prefix}{name}/ is never read: no {kind} of that name is declared{hint}")
    return told


def first_of(told: Sequence[str], limit: int = SHOWN) -> list[str]:
    """The first lines, and how many more there are."""
    return [*told[:limit], *([f"and {len(told) - limit:,} more"] if len(told) > limit else [])]


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
    objects_looked_at: int = 0


def look_for_files(
    database: Database, store: ObjectStore, feed: Feed, *, today: dt.date, position: str = "",
    rotated_days: int = ROTATED_DAYS, rotated_objects: int = ROTATED_OBJECTS,
) -> Look:  # fmt: skip
    """Compare the newest days and some older ones, from `position` on, with the loads. Reads only.

    Older days are looked at until `rotated_days` of them or `rotated_objects` objects were; at least one is, so that
    every day has its turn. One day's objects are in memory at a time. Days after `today` and before the feed starts are
    left alone: nothing can run them.
    """
    folder = FeedFolder.look(store, feed)
    days = [day for day in folder.days if feed.starts_on <= day <= today]
    recent = [day for day in days if day > today - dt.timedelta(days=RECENT_DAYS)]
    older = days[: len(days) - len(recent)]
    start = next((number for number, day in enumerate(older) if day.isoformat() > position), 0)
    looked_at: list[dt.date] = []
    unread: list[Unread] = []
    objects = 0
    for day in older[start : start + rotated_days]:
        objects += _look_at(database, store, feed, day, unread)
        looked_at.append(day)
        if objects >= rotated_objects:
            break
    next_position = looked_at[-1].isoformat() if looked_at and looked_at[-1] != older[-1] else ""
    for day in recent:
        objects += _look_at(database, store, feed, day, unread)
    return Look(
        days_looked_at=(*looked_at, *recent),
        unread=tuple(unread),
        strange_folders=folder.strange,
        position=next_position,
        objects_looked_at=objects,
    )


def _look_at(database: Database, store: ObjectStore, feed: Feed, day: dt.date, unread: list[Unread]) -> int:
    """Add the day to `unread` if it has files that no load accounts for. Returns how many objects it has."""
    with database.connection() as connection:
        rows = connection.execute(
            _SQL["read_files"], {"system": feed.system, "feed": feed.name, "days": [day]}
        ).fetchall()
    read = {tuple(row[1:]) for row in rows}
    prefix = f"{feed.prefix}{day.isoformat()}/"
    objects = 0
    new: list[tuple[str, ObjectInfo]] = []
    for info in store.list(prefix):
        objects += 1
        name = info.path.removeprefix(prefix)
        if (name, info.e_tag, info.size_bytes) not in read:
            new.append((name, info))
    if new:
        unread.append(Unread(day, tuple(name for name, _ in new), _mark(info for _, info in new)))
    return objects


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

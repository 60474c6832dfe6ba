"""The comics, series and publishers that titles name: made when first seen, one row each however they are spelled.

What a row shows (name, title, year) is the best of all spellings seen so far by a rule that does not ask which came
first, so that landing the same records in any order makes the same rows.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, Self, TypeVar, cast

from assets.comics.rules import keys
from assets.comics.rules.title import Title, comic_key, display_title
from resources.database import Connection
from resources.sql import Queries

QUERIES = Queries.of("assets.comics")


class _Row(Protocol):
    def merged(self, other: Self) -> Self: ...


Found = TypeVar("Found", bound=_Row)


class Publisher(NamedTuple):
    """A row of `publishers`."""

    publisher_id: uuid.UUID
    publisher_key: str
    name: str

    def merged(self, other: "Publisher") -> "Publisher":
        return self._replace(name=keys.better_name(self.name, other.name))


class Series(NamedTuple):
    """A row of `series`. Of several publishers the first by key is kept: titles name them, and now and then wrongly."""

    series_id: uuid.UUID
    series_key: str
    name: str
    publisher_key: str | None

    def merged(self, other: "Series") -> "Series":
        return self._replace(
            name=keys.better_name(self.name, other.name),
            publisher_key=_least(self.publisher_key, other.publisher_key),
        )


class Comic(NamedTuple):
    """A row of `comics`. Of several years the first is kept: a reprint's title often names its own."""

    comic_id: uuid.UUID
    comic_key: str
    series_id: uuid.UUID
    issue_number: str
    issue_sort: Decimal | None
    variant: str
    title: str
    year: int | None

    def merged(self, other: "Comic") -> "Comic":
        first = min(self, other, key=lambda comic: (comic.issue_number, comic.variant))
        return self._replace(
            issue_number=first.issue_number,
            issue_sort=first.issue_sort,
            title=keys.better_name(self.title, other.title),
            year=_least(self.year, other.year),
        )


@dataclass
class Matches:
    """What a set of titles names, each thing once."""

    publishers: dict[uuid.UUID, Publisher]
    series: dict[uuid.UUID, Series]
    comics: dict[uuid.UUID, Comic]

    @classmethod
    def of(cls, titles: Iterable[Title]) -> "Matches":
        """The publishers, series and comics of `titles`; lots and titles without a comic name none."""
        found = cls({}, {}, {})
        for title in set(titles):
            key = comic_key(title)
            if key is None:
                continue
            publisher_key = keys.series_key(title.publisher) if title.publisher else None
            if publisher_key and title.publisher:
                publisher = Publisher(keys.publisher_id(publisher_key), publisher_key, title.publisher)
                _merge(found.publishers, publisher.publisher_id, publisher)
            series_id = keys.series_id(title.series_key)
            _merge(
                found.series, series_id, Series(series_id, title.series_key, title.series_name, publisher_key)
            )
            comic = Comic(
                keys.comic_id(key), key, series_id, title.issue_number or "", title.issue_sort, title.variant,
                display_title(title), title.year,
            )  # fmt: skip
            _merge(found.comics, comic.comic_id, comic)
        return found

    def is_news(self, connection: Connection) -> bool:
        """Whether `write` would write: rows only ever get better, so that a no stays a no without any lock."""
        return any(self._unwritten(connection))

    def _unwritten(self, connection: Connection) -> tuple[list[Publisher], list[Series], list[Comic]]:
        return (
            _improved(
                self.publishers, _known(connection, "known_publishers", Publisher._make, self.publishers)
            ),
            _improved(self.series, _known(connection, "known_series", Series._make, self.series)),
            _improved(self.comics, _known(connection, "known_comics", Comic._make, self.comics)),
        )

    def write(self, connection: Connection) -> tuple[int, int, int]:
        """Add what is new and improve what is there, in a fixed order; returns publishers, series, comics written.

        The caller holds the lock of `comics.comics` and commits. Rows that stay the same are not written.
        """
        publishers, series, comics = self._unwritten(connection)
        with connection.cursor() as cursor:
            cursor.executemany(QUERIES["write_publisher"], publishers)
            cursor.executemany(QUERIES["write_series"], [(*row, _publisher_id(row)) for row in series])
            cursor.executemany(QUERIES["write_comic"], comics)
        return len(publishers), len(series), len(comics)


def _merge(into: dict[uuid.UUID, Found], key: uuid.UUID, found: Found) -> None:
    known = into.get(key)
    into[key] = found if known is None or known == found else known.merged(found)


def _improved(fresh: Mapping[uuid.UUID, Found], known: Mapping[uuid.UUID, Found]) -> list[Found]:
    """Rows to write, ordered by id: two writers meet in the same order."""
    improved: dict[uuid.UUID, Found] = {}
    for key, row in fresh.items():
        stands = known.get(key)
        merged = row if stands is None or stands == row else stands.merged(row)
        if merged != stands:
            improved[key] = merged
    return [improved[key] for key in sorted(improved)]


def _known(
    connection: Connection,
    query: str,
    make: Callable[[Iterable[Any]], Found],
    wanted: Mapping[uuid.UUID, Found],
) -> dict[uuid.UUID, Found]:
    rows = connection.execute(QUERIES[query], {"ids": list(wanted)}).fetchall()
    return {cast(uuid.UUID, row[0]): make(row) for row in rows}


def _publisher_id(series: Series) -> uuid.UUID | None:
    return keys.publisher_id(series.publisher_key) if series.publisher_key else None


Value = TypeVar("Value", str, int)


def _least(one: Value | None, other: Value | None) -> Value | None:
    return min((value for value in (one, other) if value is not None), default=None)

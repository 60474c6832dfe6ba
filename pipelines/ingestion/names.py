"""Which names of a landed file mean which column of the table.

A column may have several landed names, as after its sender renamed it: a file has one of them. Where it has none, the
column's own name means it too, so that a landed name that is added later takes nothing from files that came before.
Formats without a header of their own (JSON Lines) speak of a column by its first landed name.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipelines.catalog.model import Feed
from pipelines.catalog.shape import TableShape
from pipelines.ingestion.errors import plain_name


class OtherNames(NamedTuple):
    """Names that mean the same as the first landed name of a column, which is what each leads to.

    `landed` are its further ones, of which a record has one; `own` is the column's, where a record has none of those.
    """

    landed: Mapping[str, str]
    own: Mapping[str, str]


NO_OTHER_NAMES = OtherNames({}, {})


def known_names(feed: Feed, shape: TableShape) -> list[str]:
    """Every column name that a file of the feed may use, landed names first."""
    mapped = set(feed.columns.values())
    mark = [feed.deletions.column] if feed.deletions and feed.deletions.column not in feed.columns else []
    own = [c.name for c in shape.columns if not (c.is_generated or c.is_identity) and c.name not in mapped]
    return [*feed.columns, *own, *(name for name in mark if name not in own)]


def strange_names(feed: Feed, shape: TableShape, header: Sequence[str]) -> list[str]:
    """Names of a header that the feed does not know: the only line of a file that has some may be a record."""
    known = {name.casefold() for name in (*known_names(feed, shape), *other_names(feed).own)}
    return [name for name in header if name.casefold() not in known and plain_name(name) not in known]


def other_names(feed: Feed) -> OtherNames:
    """The names of the feed's columns beside their first landed ones."""
    landed = {other: first for first, *others in feed.landed_names.values() for other in others}
    own = {column: names[0] for column, names in feed.landed_names.items() if column not in feed.columns}
    return OtherNames(landed, own)


def same_name(landed: str, own: Mapping[str, object]) -> str | None:
    """The table's column of that name."""
    name = plain_name(landed)
    return name if name in own else None

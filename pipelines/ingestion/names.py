"""Which names of a landed file mean which column of the table.

A column may have several landed names, as after its sender renamed it: a file has one of them. Formats without a header
of their own (JSON Lines) speak of it by the first.
"""

from collections.abc import Mapping, Sequence

from pipelines.catalog.model import Feed
from pipelines.catalog.shape import TableShape
from pipelines.ingestion.errors import plain_name


def known_names(feed: Feed, shape: TableShape) -> list[str]:
    """Every column name that a file of the feed may use, landed names first."""
    mapped = set(feed.columns.values())
    mark = [feed.deletions.column] if feed.deletions and feed.deletions.column not in feed.columns else []
    own = [c.name for c in shape.columns if not (c.is_generated or c.is_identity) and c.name not in mapped]
    return [*feed.columns, *own, *(name for name in mark if name not in own)]


def strange_names(feed: Feed, shape: TableShape, header: Sequence[str]) -> list[str]:
    """Names of a header that the feed does not know: the only line of a file that has some may be a record."""
    known = {name.casefold() for name in known_names(feed, shape)}
    return [name for name in header if name.casefold() not in known and plain_name(name) not in known]


def other_names(feed: Feed) -> dict[str, str]:
    """Each further landed name of a column, with the first."""
    return {other: first for first, *others in feed.landed_names.values() for other in others}


def same_name(landed: str, own: Mapping[str, object], mapped: Mapping[str, str]) -> str | None:
    """The table's column of that name, unless the feed fills it under another."""
    name = plain_name(landed)
    return name if name in own and name not in mapped.values() else None

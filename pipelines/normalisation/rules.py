"""What a system's rules give to the engine: which columns they read and write, and a function from rows to rows.

Rules know nothing of landing days, versions or transactions. A system implements `Rules` in its own folder; the
engine calls it with batches of winning versions and does the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import sql

from resources.database import Connection

RawRow = tuple[Any, ...]
TargetRow = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a version cannot be normalised. `reason` is one word for counting, `detail` says it of this record."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Outdated:
    """Which records to normalise again: a query that gives (key_hash, null), with its parameters."""

    query: sql.Composed | sql.SQL
    parameters: Mapping[str, object]


class Rules(Protocol):
    """One system's rules for one target table."""

    target: str
    """The table that is written: partitioned like the raw one, by the UTC date of the event; key (key_hash, time)."""
    reads: tuple[str, ...]
    """Columns of the raw table, in the order in which `normalise_batch` gets them."""
    writes: tuple[str, ...]
    """Columns of the target that `normalise_batch` gives, in order, its time column among them."""
    later_stages: tuple[str, ...]
    """Columns of the target that a later stage sets: a row that changes has them at their default again."""
    groups: tuple[str, ...]
    """Columns that make a group of the next stage; a row with a null in one is in no group."""
    rule_version: int
    """Stands on every row and rejection; raise it when a rule changes."""

    def normalise_batch(
        self, connection: Connection, rows: Sequence[RawRow]
    ) -> Sequence[TargetRow | Rejected]:
        """One outcome a row, in order. May read and write what rows refer to; the caller commits."""
        ...

    def facts(self, connection: Connection) -> dict[str, int]:
        """Numbers that change whenever the outside facts that the rules use (exchange rates) change."""
        ...

    def outdated(self, connection: Connection, seen: Mapping[str, int]) -> Outdated:
        """The records that facts newer than those `seen` (empty: none yet) may change."""
        ...

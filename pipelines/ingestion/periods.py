"""The partitions that the rows of one file need: those there are, those made beforehand, those the file itself fills.

A large file fills the partitions that only it needs as tables of its own, without indexes, and attaches them in the
transaction that loads it (`pipelines.catalog.bulk_partitions`): a first load of years of history is such a file.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from psycopg import sql

from pipelines.catalog.bulk_partitions import FreshPartition, FreshPartitions, bulk_table
from pipelines.catalog.model import PartitionUnit
from pipelines.catalog.partitions import list_partitions, missing_spans, span_of
from pipelines.catalog.shape import TableShape
from resources.database import Connection

BULK_BYTES = (
    8 << 20
)  # of a file, decompressed: fewer rows than these have cost less than building indexes saves


@dataclass(frozen=True)
class Target:
    """The table that a feed loads, as the database has it. `owner_role` may make its partitions."""

    feed_id: int
    schema: str
    table: str
    shape: TableShape
    ensure_partitions: Callable[[set[dt.date]], None]
    unit: PartitionUnit | None = None
    owner_role: str | None = None

    @property
    def identifier(self) -> sql.Identifier:
        """The table's qualified, quoted name."""
        return sql.Identifier(self.schema, self.table)

    def period_of(self, day: dt.date) -> dt.date:
        """The first day of the partition of `day`; one day for all where the table has none."""
        return dt.date.min if self.unit is None else span_of(day, self.unit).lower


class Periods:
    """The partitions for one file, within its transaction. `fills_new`: whether it may fill new ones by itself."""

    def __init__(self, connection: Connection, target: Target, *, load_id: int, fills_new: bool) -> None:
        self._connection = connection
        self._target = target
        self._seen: set[dt.date] = set()
        bulk = (
            bulk_table(connection, target.schema, target.table, target.owner_role)
            if fills_new and target.unit is not None and target.owner_role is not None
            else None
        )
        self._fresh = FreshPartitions(connection, bulk, f"longbox_loading_{load_id}") if bulk else None

    @property
    def fresh(self) -> dict[dt.date, FreshPartition]:
        """The partitions that the file fills, by their first days."""
        return self._fresh.made if self._fresh else {}

    @property
    def intake(self) -> sql.Identifier:
        """The table that takes the rows of `fresh`, if there are any."""
        return self._fresh.intake if self._fresh else self._target.identifier

    def told(self, message: str) -> str:
        """A message of PostgreSQL about a row, with the names of tables that there will be."""
        return self._fresh.told(message) if self._fresh else message

    def ensure(self, days: set[dt.date]) -> None:
        """See to it that every one of `days` has a partition that takes rows. Once a partition and file."""
        target = self._target
        starts = {target.period_of(day) for day in days} - self._seen
        if not starts or target.unit is None:
            return
        others = starts
        if self._fresh is not None:
            there = list_partitions(self._connection, target.schema, target.table)
            missing = missing_spans(there, sorted(starts), target.unit)
            others = {span.lower for span in missing if not self._fresh.make(span, there)}
        if others:
            target.ensure_partitions(others)
        self._seen |= starts

    def close(self) -> None:
        """Attach the fresh partitions. The last work on the table in the transaction of the file."""
        if self._fresh is not None:
            self._fresh.attach()

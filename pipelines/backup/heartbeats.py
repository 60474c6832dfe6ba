"""Heartbeats: a chained row each minute in the database, and its running hash in the store, outside of the cluster.

A restored database must have every heartbeat that was there at its moment, with the hash that the store knows: so a
lost minute shows, whatever else the database holds. In the store an object an hour and a timeline only ever grows;
which of them belong together after a point-in-time recovery, the hashes themselves say.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pipelines.backup import layout
from pipelines.backup.beats import Beat, lineage, read_hour, to_json
from pipelines.backup.drill import Connect, Findings, Moment
from pipelines.backup.errors import BackupError, DamagedError
from pipelines.backup.repository import Repository
from resources.database import Connection, Database
from resources.sql import Queries

KEPT = dt.timedelta(days=20)
"""How long the table keeps each heartbeat at least (migration 0005)."""
_SQL = Queries.of("pipelines.backup")
_SHOWN = 5


class HeartbeatsDivergeError(BackupError):
    """The database's heartbeats do not go on where the store's end: it lost some, or they were changed."""


class Heart:
    """Beats in `database` and keeps the hashes in `repository`. For one thread."""

    def __init__(self, database: Database, repository: Repository) -> None:
        self._database, self._repository = database, repository
        self._last: dict[int, Beat | None] = {}  # newest of each timeline in the store

    def beat(self) -> Beat | None:
        """One heartbeat, and whatever the store does not have yet. Returns the newest, None where the table is missing.

        Raises what a server or a store that is away raises; the next call brings what is missing to the store.
        Raises `HeartbeatsDivergeError` when the table does not continue what the store has; nothing is stored then.
        """
        with self._database.connection() as connection:
            if not _one(connection, "has_heartbeats")[0]:
                return None
            connection.execute(_SQL["beat"])
        with self._database.connection() as connection:
            seen_at, timeline = cast("tuple[dt.datetime, int]", _one(connection, "timeline_now"))
            last = self._resume(connection, timeline)
            rows = connection.execute(_SQL["heartbeats_since"], {"beat": last.beat if last else 0}).fetchall()
        fresh = [
            Beat(beat, at, prev, own, seen_at, timeline)
            for beat, at, prev, own in cast("list[tuple[int, dt.datetime, str, str]]", rows)
        ]
        if last and (not fresh or (fresh[0].beat, fresh[0].prev_hash) != (last.beat + 1, last.hash)):
            raise HeartbeatsDivergeError(
                f"heartbeat {last.beat} is in the store and the database does not go on from it: it lost some, "
                "or they were changed. Compare the table with the objects under heartbeats/; see docs/runbooks/"
            )
        for hour in sorted({layout.heartbeats(timeline, one.at) for one in fresh}):
            self._add(hour, [one for one in fresh if layout.heartbeats(timeline, one.at) == hour])
        self._last[timeline] = fresh[-1] if fresh else last
        return self._last[timeline]

    def trim(self) -> int:
        """Remove heartbeats that are too old from the table. Returns how many."""
        with self._database.connection() as connection:
            return int(cast(int, _one(connection, "trim_heartbeats")[0]))

    def _add(self, name: str, beats: Sequence[Beat]) -> None:
        # listed, because a copy store that is away is left out of that: it must not hold heartbeats up
        is_there = name in self._repository.all_names(name.rpartition("/")[0])
        before = read_hour(self._repository, name) if is_there else []
        known = {one.beat for one in before}
        merged = [*before, *(one for one in beats if one.beat not in known)]
        self._repository.put(name, to_json(merged))

    def _resume(self, connection: Connection, timeline: int) -> Beat | None:
        """The newest heartbeat of the store that the database continues; of an older timeline if need be."""
        if timeline in self._last:
            return self._last[timeline]
        names = self._repository.all_names(layout.HEARTBEATS)
        own = [name for name in names if name.startswith(layout.heartbeats_of(timeline))]
        if own:
            return max(read_hour(self._repository, own[-1]), key=lambda one: one.beat)
        # a new timeline: it goes on from some heartbeat of another one, the newest that both know
        for name in sorted(names, key=lambda name: name.rsplit("/", 1)[-1], reverse=True):
            stored = {one.beat: one for one in read_hour(self._repository, name)}
            rows = connection.execute(_SQL["heartbeat_hashes"], {"beats": list(stored)}).fetchall()
            both = [
                stored[beat] for beat, own in cast("list[tuple[int, str]]", rows) if stored[beat].hash == own
            ]
            if both:
                return max(both, key=lambda one: one.beat)
        return None


@dataclass(frozen=True)
class HeartbeatJudge:
    """Compares the heartbeats of a restored `database` with the store's. A `drill.Judge`."""

    repository: Repository
    database: str
    name: str = "heartbeats"

    def judge(self, connect: Connect, moment: Moment) -> Findings:
        """Every heartbeat that was committed before the moment is there, none is changed, none is from later."""
        try:
            stored, faults = lineage(self.repository)
        except DamagedError as error:
            return Findings(0, (str(error),))
        if not stored:
            return Findings(0)
        with connect(self.database) as restored:
            if not _one(restored, "has_heartbeats")[0]:
                due = [one for one in stored if one.seen_at <= moment.lower]
                return Findings(len(due), ("the table longbox.heartbeats is missing",) if due else ())
            rows = restored.execute(_SQL["heartbeats_of_table"]).fetchall()
            broken = restored.execute(_SQL["heartbeat_faults"]).fetchall()
        found = {
            beat: (at, own) for beat, at, _, own in cast("list[tuple[int, dt.datetime, str, str]]", rows)
        }
        faults += [f"heartbeat {beat}: {fault}" for beat, fault in broken]
        due = [one for one in stored if moment.lower - KEPT <= one.seen_at <= moment.lower]
        faults += [
            f"heartbeat {one.beat} of {_time(one.at)} is missing" for one in due if one.beat not in found
        ]
        faults += [
            f"heartbeat {one.beat} of {_time(one.at)} is not the one that the store has"
            for one in stored
            if one.beat in found and found[one.beat][1] != one.hash
        ]
        faults += [
            f"heartbeat {beat} is of {_time(at)}, after the moment"
            for beat, (at, _) in found.items()
            if at > moment.upper
        ]
        return Findings(len(due), _shown(faults))


def expire_heartbeats(one: Repository, before: dt.datetime) -> list[str]:
    """Delete hours of before a moment that can no longer be restored, and of before what tables still hold."""
    limit = layout.heartbeats(0, before - KEPT).rsplit("/", 1)[-1]
    old = [info.path for info in one.names(layout.HEARTBEATS) if info.path.rsplit("/", 1)[-1] < limit]
    for name in old:
        one.delete(name)
    return old


def _shown(faults: Sequence[str]) -> tuple[str, ...]:
    more = len(faults) - _SHOWN
    return (*faults[:_SHOWN], *([f"and {more} more"] if more > 0 else []))


def _one(connection: Connection, block: str) -> tuple[object, ...]:
    return connection.execute(_SQL[block]).fetchone() or ()


def _time(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"

"""Heartbeats as the store has them: an object an hour and a timeline, each heartbeat with the hash of the one before.

What beats and who compares is `heartbeats`'; reading back (`verify`) looks here whether any is missing.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.backup import layout
from pipelines.backup.errors import DamagedError
from pipelines.backup.model import checked_json, read_checked_json
from pipelines.backup.repository import Repository


@dataclass(frozen=True)
class Beat:
    """One heartbeat; it was committed between `at` and `seen_at` (the server's clock)."""

    beat: int
    at: dt.datetime
    prev_hash: str
    hash: str
    seen_at: dt.datetime
    timeline: int


def lineage(repository: Repository) -> tuple[list[Beat], list[str]]:
    """The store's heartbeats that lead to its newest one, oldest first, and what is missing in between.

    Heartbeats of timelines that a recovery left behind are not on that way. Raises `DamagedError`.
    """
    beats = [one for name in repository.all_names(layout.HEARTBEATS) for one in read_hour(repository, name)]
    if not beats:
        return [], []
    by_hash = {one.hash: one for one in beats}
    oldest = min(one.beat for one in beats)
    found, faults = [max(beats, key=lambda one: (one.timeline, one.beat))], []
    while found[-1].beat > oldest:
        before = by_hash.get(found[-1].prev_hash)
        if before is None:
            faults.append(f"heartbeat {found[-1].beat - 1} is missing in the store")
            older = [one for one in beats if one.beat < found[-1].beat - 1]
            if not older:
                break
            before = max(older, key=lambda one: (one.beat, one.timeline))
        found.append(before)
    return found[::-1], faults


def read_hour(repository: Repository, name: str) -> list[Beat]:
    """Heartbeats of one object of the store. Raises `DamagedError`."""
    content = read_checked_json(name, repository.read(name, lambda data: read_checked_json(name, data)))
    try:
        moment = dt.datetime.fromisoformat
        return [
            Beat(beat, moment(at), prev, own, moment(seen), timeline)
            for beat, at, prev, own, seen, timeline in content["beats"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{name} holds no heartbeats ({error})", [name]) from error


def to_json(beats: Iterable[Beat]) -> bytes:
    """The object of some heartbeats."""
    rows = [
        [one.beat, one.at.isoformat(), one.prev_hash, one.hash, one.seen_at.isoformat(), one.timeline]
        for one in beats
    ]
    return checked_json({"beats": rows})

"""Parts of the comics that are aggregated at the same time, each on a thread and connections of its own.

A part is a fixed range of comic ids. These are hashes, so that every part holds about as many, and fixed, so that two
runs that meet take turns part by part (`pipelines.normalisation.locks`).
"""

import uuid
from dataclasses import dataclass

from pipelines.normalisation.locks import PARTS, lock_part, lock_relation, share_relation
from resources.database import Connection

_IDS = 1 << 128


@dataclass(frozen=True)
class Part:
    """The comics from `first` to `last`; `number` is None for all of them."""

    number: int | None
    first: uuid.UUID
    last: uuid.UUID

    def lock(self, connection: Connection, source: str, target: str) -> None:
        """Wait to be the only one to compute these comics' rows of `target`, and for `source` to stand still.

        Until the transaction ends. Always in the same order, so that nobody waits in a circle.
        """
        if self.number is None:
            lock_relation(connection, source)
            lock_relation(connection, target)
        else:
            share_relation(connection, source)
            lock_part(connection, target, self.number)


def all_parts() -> list[Part]:
    """Every comic, in parts."""
    bounds = [_IDS * number // PARTS for number in range(PARTS + 1)]
    return [
        Part(number, uuid.UUID(int=bounds[number]), uuid.UUID(int=bounds[number + 1] - 1))
        for number in range(PARTS)
    ]


def one_part() -> Part:
    """Every comic at once: for what is too little to be worth more."""
    return Part(None, uuid.UUID(int=0), uuid.UUID(int=_IDS - 1))

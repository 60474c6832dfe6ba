"""How far each copy store leads by itself: what could be restored were the first store, and all else, gone."""

import datetime as dt
from dataclasses import dataclass

from pipelines.backup.planning import window
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener
from resources.errors import LongboxError


@dataclass(frozen=True)
class CopyReach:
    """The newest moment that one copy store restores alone; None with the reason in `fault`."""

    store: str
    until: dt.datetime | None
    fault: str = ""

    def age_seconds(self, now: dt.datetime) -> float | None:
        """The RPO of the copy: what the loss of everything else would cost."""
        return None if self.until is None else max(0.0, (now - self.until).total_seconds())


def copy_reaches(repository: Repository, opener: Opener) -> tuple[CopyReach, ...]:
    """Look at every copy store; writes nothing. A store that is away is told, not raised."""
    found = []
    for store in repository.copies:
        try:
            reach = window(repository.only(store), opener)
        except LongboxError as error:
            found.append(CopyReach(store.url, None, str(error)))
            continue
        fault = "" if reach else "it holds no backup; `longbox backup copy` brings them"
        found.append(CopyReach(store.url, reach.until if reach else None, fault))
    return tuple(found)

"""What was applied to a database, and whether the files still tell the same story.

Four stories are refused: an applied file was edited, an applied file is gone, a new file was numbered below
an applied one, Alembic's heads and our records differ. A whole system whose folder is not at hand is no
fault: its revisions stay in the map, so that other branches move on around them.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from alembic.script.revision import RevisionMap
from psycopg import Connection

from pipelines.migration.errors import EditedRevisionError, MissingRevisionError, RevisionFileError
from pipelines.migration.revisions import PLATFORM, RevisionFile, SqlRevision, revision_id
from resources.errors import LongboxError
from resources.sql import Queries

_SQL = Queries.of("pipelines.migration")


@dataclass(frozen=True)
class AppliedRevision:
    """One row of `longbox.migrations`."""

    revision: str
    system: str
    number: int
    title: str
    file_name: str
    sha256: str
    depends: tuple[str, ...]
    applied_at: datetime.datetime


class HistoryError(LongboxError):
    """The two records of what was applied contradict each other."""


def read_applied(connection: Connection[tuple[object, ...]]) -> dict[str, AppliedRevision]:
    """Applied revisions by id; empty where Longbox never migrated."""
    exists = connection.execute(_SQL["history_exists"]).fetchone()
    if not exists or not exists[0]:
        return {}
    rows = cast(
        "list[tuple[str, str, int, str, str, str, list[str], datetime.datetime]]",
        connection.execute(_SQL["applied"]).fetchall(),
    )
    applied = (AppliedRevision(*row[:6], tuple(row[6]), row[7]) for row in rows)
    return {revision.revision: revision for revision in applied}


def verify_files(
    applied: Mapping[str, AppliedRevision], files: Sequence[RevisionFile], systems: Mapping[str, Path]
) -> None:
    """Raise unless every applied revision of the systems at hand has its file, unchanged, and no new one comes late."""
    known = {file.revision: file for file in files}
    for revision in applied.values():
        if revision.system != PLATFORM and revision.system not in systems:
            continue
        file = known.get(revision.revision)
        if file is None:
            raise MissingRevisionError(
                f"revision {revision.revision} ({revision.title}) is applied to this database, but its file "
                f"{revision.file_name} is gone; restore the file from version control, or move back to the code that "
                f"has it and run `longbox migrate --down {revision.system}@{revision.number - 1:04d}`"
            )
        if file.sha256 != revision.sha256:
            raise EditedRevisionError(
                f"{file.path} was edited after it was applied as revision {revision.revision} on "
                f"{revision.applied_at:%Y-%m-%d %H:%M} UTC (sha256 then {revision.sha256[:12]}, now "
                f"{file.sha256[:12]}); restore the file as it was, and write the change as a new revision"
            )
    _refuse_late_numbers(applied, files)


def _refuse_late_numbers(applied: Mapping[str, AppliedRevision], files: Sequence[RevisionFile]) -> None:
    newest: dict[str, int] = {}
    for revision in applied.values():
        newest[revision.system] = max(newest.get(revision.system, -1), revision.number)
    for file in files:
        last = newest.get(file.system, -1)
        if file.revision not in applied and file.number < last:
            raise RevisionFileError(
                f"{file.path} is new, but {revision_id(file.system, last)} is applied already and would have come "
                f"after it; give it a number above {last:04d}"
            )


def absent_revisions(
    applied: Mapping[str, AppliedRevision], systems: Mapping[str, Path]
) -> list[SqlRevision]:
    """Map entries for applied revisions of systems whose folder is not at hand."""
    found: list[SqlRevision] = []
    last: dict[str, str] = {}
    for revision in sorted(applied.values(), key=lambda r: (r.system, r.number)):
        if revision.system != PLATFORM and revision.system not in systems:
            depends = [needed for needed in revision.depends if needed in applied]
            found.append(
                SqlRevision(revision.revision, last.get(revision.system), depends, revision.system, None)
            )
            last[revision.system] = revision.revision
    return found


def verify_heads(
    applied: Mapping[str, AppliedRevision], heads: Sequence[str], revision_map: RevisionMap
) -> None:
    """Raise unless Alembic's heads imply exactly the recorded revisions."""
    reached: set[str] = set()
    waiting = list(heads)
    while waiting:
        name = waiting.pop()
        revision = revision_map.get_revision(name) if name in applied else None
        if revision is None:
            raise HistoryError(
                f"longbox.alembic_version names {name}, which longbox.migrations does not; one of the two was changed "
                "by hand: restore the database, or correct the table that is wrong"
            )
        if name not in reached:
            reached.add(name)
            waiting.extend(revision._all_down_revisions)
    if lost := sorted(set(applied) - reached):
        raise HistoryError(
            f"longbox.migrations names {', '.join(lost)}, which longbox.alembic_version does not imply; one of the two "
            "was changed by hand: restore the database, or correct the table that is wrong"
        )

"""Schema changes as numbered SQL files, applied once, in order, under a lock, with Alembic as the engine.

`engine` is the entry (`migrate`, `status`, `plan`, `migrate_down`); `revisions` reads the files, `history`
remembers and verifies what was applied, `bootstrap` keeps roles, extensions and schemas. The platform's own
tables are in `platform/`; a system's are in its folder's `migrations/`. Changing rows of users belongs to no
migration. https://alembic.sqlalchemy.org/en/latest/branches.html
"""

from pipelines.migration.engine import (
    DownResult,
    MigrationResult,
    RevisionStatus,
    migrate,
    migrate_down,
    plan,
    status,
)

__all__ = ["DownResult", "MigrationResult", "RevisionStatus", "migrate", "migrate_down", "plan", "status"]

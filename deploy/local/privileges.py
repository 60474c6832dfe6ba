"""Where the data of the local PostgreSQL live when Longbox runs as root: PostgreSQL refuses root, so it gets a user.

That user may be unable to reach a home below a 0700 folder; then its data live under `RELOCATED`, and `longbox
status` says so. The user and the programs are `resources.postgres_programs`'s, which restores need too.
"""

import hashlib
from pathlib import Path

from resources.postgres_programs import RELOCATED, can_reach, reachable_programs, server_user

__all__ = ["RELOCATED", "can_reach", "reachable_programs", "relocated_folder", "server_user"]


def relocated_folder(home: Path) -> Path:
    """Where the PostgreSQL of `home` lives when its user cannot reach the home."""
    return RELOCATED / hashlib.sha256(str(home).encode()).hexdigest()[:16]

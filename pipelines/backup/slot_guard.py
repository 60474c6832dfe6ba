"""The bound of the WAL slot while no receiver runs that would keep to it: noticed by a sensor, carried out by a backup.

A server whose slot nobody reads keeps WAL until its disk is full, or max_slot_wal_keep_size is reached. The backup
that gives the slot up is a full one: it brings its own WAL and bridges the gap.
"""

import os
from collections.abc import Callable

from pipelines.backup import setup
from pipelines.backup.errors import ReceiverRunningError
from pipelines.backup.slot import SLOT, SlotSession, SlotState
from resources.settings import Settings


def slot_to_give_up(settings: Settings) -> str:
    """Why the slot has to go, empty if it has not; changes nothing. Raises what a server that is away raises."""
    with setup.backup_database(settings) as database, SlotSession(database) as session:
        return _reason(session.look()[1], settings.wal_slot_max_bytes)


def give_slot_up(settings: Settings, tell: Callable[[str, SlotState], None]) -> str:
    """Drop the slot if it has to go; returns why, empty if it was left alone. Idempotent.

    `tell` is called before, and may raise to prevent it. A receiver at work is left to keep to the bound itself.
    """
    with setup.backup_database(settings) as database, SlotSession(database) as session:
        if not _reason(session.look()[1], settings.wal_slot_max_bytes):
            return ""
        try:
            session.lock(f"longbox wal guard {os.getpid()}")
        except ReceiverRunningError:
            return ""
        state = session.look()[1]  # again, now that nobody can begin to receive
        reason = _reason(state, settings.wal_slot_max_bytes)
        if reason:
            tell(reason, state)
            session.drop()
        return reason


def _reason(state: SlotState, bound_bytes: int) -> str:
    if not state.exists or state.holder_pid is not None:
        return ""
    if state.is_lost:
        return f"the server gave up the WAL of slot {SLOT} (max_slot_wal_keep_size) while no receiver ran"
    if state.retained_bytes > bound_bytes:
        return (
            f"no receiver runs and the server keeps {state.retained_bytes:,} bytes of WAL for slot {SLOT}, more than "
            f"the bound of {bound_bytes:,} (LONGBOX_WAL_SLOT_MAX_BYTES)"
        )
    return ""

"""A WAL receiver as a process of its own, to be killed: says on stdout when it reached a step.

    python -m tests.faults.wal_process HOME URL STORE KEYS STEP
STEP: `covered` (goes on receiving), `before` or `after` (the put of a whole segment; its file is still in the spool),
`replace` (a longer partial is there, the shorter one not yet gone).
"""

import sys
import threading
import time
from pathlib import Path

from pipelines.backup import layout, setup
from pipelines.backup.repository import Repository
from pipelines.backup.resident import Resident
from resources.notifier import Notifier
from resources.settings import Settings
from tests.faults.backup_process import wait_to_be_killed
from tests.faults.wal_support import PACE


class StoppingRepository(Repository):
    """Waits at `step`, on the thread that ships: pg_receivewal goes on."""

    step = ""

    def put(self, name: str, data: bytes | bytearray) -> None:
        wal = layout.parse_wal(name)
        is_whole = wal is not None and wal.segment != "" and wal.valid_bytes is None
        if is_whole and self.step == "before":
            wait_to_be_killed()
        super().put(name, data)
        if (is_whole and self.step == "after") or (name == layout.COVERED and self.step == "covered"):
            print("READY", flush=True)
            time.sleep(600 if is_whole else 0)

    def delete(self, name: str) -> None:
        wal = layout.parse_wal(name)
        if self.step == "replace" and wal is not None and wal.valid_bytes is not None:
            wait_to_be_killed()
        super().delete(name)


def main(home: str, url: str, store: str, keys: str, step: str) -> None:
    """Receive until killed."""
    settings = Settings.load(
        {
            "LONGBOX_HOME": home,
            "LONGBOX_POSTGRES_URL": url,
            "LONGBOX_OBJECT_STORE": store,
            "LONGBOX_BACKUP_KEYS": str(Path(keys) / "server.json"),
        }
    )

    def open_repository(system: str) -> Repository:
        repository = StoppingRepository(setup.open_stores(settings)[0], system)
        repository.step = step
        return repository

    Resident(settings, lambda text: None, Notifier(), PACE, open_repository).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:])

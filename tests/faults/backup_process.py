"""A backup, a restore or a drill as a process of its own, to be killed: says on stdout when it reached a step.

    python -m tests.faults.backup_process back_up STORE URL SYSTEM KEYS KIND STEP
    python -m tests.faults.backup_process restore STORE SYSTEM KEYS INTO STEP
    python -m tests.faults.backup_process drill STORE SYSTEM KEYS URL SCRATCH SEED STEP
At STEP (a number of parts put, `record`, `files`, `recovered`, or `end`) it prints READY and waits to be killed.
"""

import sys
import time
from pathlib import Path

from pipelines.backup import restore as stage
from pipelines.backup.drill import Connect, Drill, Findings, Moment
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import RestoreRequest
from pipelines.backup.postgres import PostgresEngine
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener
from resources.database import Database
from resources.keys import RecoveryKeys, ServerKeys
from resources.object_store import ObjectStore


def wait_to_be_killed() -> None:
    """Tell the parent and stay."""
    print("READY", flush=True)
    time.sleep(600)


def peak_kib() -> str:
    """The most memory that this program held; `ru_maxrss` would count the parent's too, which it inherits."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))


class StoppingRepository(Repository):
    """Waits after `step` objects of data, or before the record."""

    step = ""
    seen = 0

    def put(self, name: str, data: bytes | bytearray) -> None:
        if self.step == "record" and name.startswith("catalogue/"):
            wait_to_be_killed()
        super().put(name, data)
        if name.startswith("data/"):
            self.seen += 1
            if str(self.seen) == self.step:
                wait_to_be_killed()


def back_up(
    store: str, url: str, system: str, keys: str, kind: str, step: str, part_bytes: str = str(1 << 18)
) -> None:
    """One backup."""
    repository = StoppingRepository(ObjectStore.from_url(store), system)
    repository.step = step
    server_keys = ServerKeys.load(Path(keys) / "server.json")
    engine = PostgresEngine(
        Database(url, role=None), url, repository, server_keys, part_bytes=int(part_bytes)
    )
    record = engine.back_up(kind)  # type: ignore[arg-type]
    print(record.backup_id, peak_kib())


def stop_after_files() -> None:
    """Wait once the files of a restore are laid out."""
    plain = stage.lay_out

    def lay_out(*arguments: object) -> None:
        plain(*arguments)  # type: ignore[arg-type]
        wait_to_be_killed()

    stage.lay_out = lay_out


def restore(store: str, system: str, keys: str, into: str, step: str) -> None:
    """One restore to the newest moment."""
    opener = Opener(RecoveryKeys.load(Path(keys) / "recovery.json"))
    if step == "files":
        stop_after_files()
    repository = Repository(ObjectStore.from_url(store), system)
    check = (lambda url: wait_to_be_killed()) if step == "recovered" else None
    stage.restore(repository, RestoreRequest(Path(into), is_durable=False), opener, check=check)
    print("restored", peak_kib())


def drill(store: str, system: str, keys: str, url: str, scratch: str, seed: str, step: str) -> None:
    """One drill in the database of the ledger."""
    opener = Opener(
        RecoveryKeys.load(Path(keys) / "recovery.json"), ServerKeys.load(Path(keys) / "server.json")
    )
    repository = Repository(ObjectStore.from_url(store), system)
    if step == "files":
        stop_after_files()
    with Database(url) as database:
        ledger = Ledger(database, system, "storm")
        judges = (Waiting(),) if step == "recovered" else ()
        Drill(database, repository, opener, Path(scratch), ledger, judges).run(int(seed))


class Waiting:
    """A judge who waits to be killed, while the restored server runs."""

    name = "waiting"

    def judge(self, connect: Connect, moment: Moment) -> Findings:
        wait_to_be_killed()
        return Findings(0)


if __name__ == "__main__":
    {"back_up": back_up, "restore": restore, "drill": drill}[sys.argv[1]](*sys.argv[2:])

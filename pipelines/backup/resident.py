"""The resident process of `longbox wal receive`: receiving, shipping, heartbeats and bridging, each on its own thread.

So a store that hangs does not stop receiving, a copy store (each has a thread) does not stop shipping, and neither does
a server that is away. Each thread keeps to one rule: a passing fault is said once, waited out with growing pauses, and
forgotten when the work goes on.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg

from pipelines.backup import routine, setup, spool
from pipelines.backup.bridge import Bridge, Due
from pipelines.backup.errors import TimelineTakenError
from pipelines.backup.heartbeats import Heart, HeartbeatsDivergeError
from pipelines.backup.ledger import Ledger
from pipelines.backup.mirror import WalMirror
from pipelines.backup.outbox import Outbox
from pipelines.backup.receiver import Bounds, Events, Receiver
from pipelines.backup.repository import Repository
from pipelines.backup.shipper import Samples, Shipper
from pipelines.backup.slot import SlotState
from pipelines.backup.spool import Spool
from pipelines.backup.wal import SEGMENT_BYTES, Gap, WalArchive, segment_number
from resources.errors import LongboxError
from resources.keys import ServerKeys
from resources.notifier import Alert, Notifier
from resources.postgres_tools import end_left_over_receivers
from resources.settings import Settings

Say = Callable[[str], None]
Open = Callable[[str], Repository]
_NO_HEART_SECONDS = 1.0
_LAST_COPIES_SECONDS = 10.0  # a copy store that hangs does not hold up a planned stop for longer
_TRIM_BEATS = 1440  # once a day
_SMALLEST_SEGMENT = 1 << 20  # that initdb makes


@dataclass(frozen=True)
class Pace:
    """How often what happens, in seconds."""

    tick: float = 0.5
    ship: float = 30.0
    beat: float = 60.0
    longest_wait: float = 30.0
    bridge: float = 5.0
    bounds: Bounds = field(default_factory=Bounds)

    @classmethod
    def of(cls, settings: Settings) -> "Pace":
        """As the settings say."""
        bounds = Bounds(settings.wal_spool_max_bytes, settings.wal_slot_max_bytes)
        return cls(ship=float(settings.wal_ship_seconds), bounds=bounds)


class Resident:
    """One receiver. `run` returns when `stop` is set, or raises what waiting does not mend."""

    def __init__(
        self,
        settings: Settings,
        say: Say,
        notifier: Notifier,
        pace: Pace | None = None,
        open_repository: Open | None = None,
    ) -> None:
        self._settings, self._say, self._notifier = settings, say, notifier
        self._pace = pace or Pace.of(settings)
        self._open = open_repository or (lambda system: setup.open_repository(settings, system))
        self._samples = Samples()
        self._shippers: dict[tuple[str, bool], Shipper] = {}
        self._mirrors: dict[tuple[str, int], WalMirror] = {}  # by cluster and number of the copy store
        self._outboxes: dict[str, Outbox] = {}
        self._fatal: Exception | None = None
        self._receiver: Receiver | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`. Raises `ReceiverRunningError`, `TimelineTakenError`, other `UserError`s."""
        setup.default_keys(self._settings, self._say)
        ServerKeys.load(self._settings.backup_keys)
        with spool.own(self._settings.wal_spool) as name:
            ended = end_left_over_receivers(self._settings.wal_spool)
            if ended:
                self._say(f"ended {ended} pg_receivewal that a killed receiver left")
            events = Events(self._say, self._slot_dropped, self._slot_was_lost, self._paused)
            self._receiver = Receiver(
                self._settings.backup_postgres_url,
                name,
                self._settings.wal_spool,
                self._samples,
                events,
                self._pace.bounds,
            )
            threads = [
                threading.Thread(target=self._guard, args=(work, stop), name=f"longbox-wal-{label}")
                for label, work in (("ship", self._ship), ("beat", self._beat), ("bridge", self._bridge))
            ]
            is_over = threading.Event()  # nothing more comes into the first store
            copying = [
                threading.Thread(
                    target=self._guard,
                    args=(functools.partial(self._copy, number), is_over),
                    name=f"longbox-wal-copy-{number + 1}",
                    daemon=True,
                )
                for number in range(len(self._settings.backup_copy_stores))
            ]
            try:
                self._receiver.step()  # the first one says what is wrong for good
                for thread in (*threads, *copying):
                    thread.start()
                while not stop.wait(self._pace.tick) and self._fatal is None:
                    self._receiver.step()
            finally:
                stop.set()
                for thread in threads:
                    if thread.is_alive():
                        thread.join()
                self._receiver.close()
                self._finish()
                is_over.set()
                for thread in copying:
                    if thread.is_alive():
                        thread.join(_LAST_COPIES_SECONDS)
        if self._fatal is not None:
            raise self._fatal

    def _guard(self, work: Callable[[threading.Event], None], stop: threading.Event) -> None:
        """No thread dies alone: what is not foreseen ends the process, which its keeper starts anew."""
        try:
            work(stop)
        except Exception as error:
            self._fatal = error

    def _ship(self, stop: threading.Event) -> None:
        note = functools.partial(spool.note_store_fault, self._settings.wal_spool)
        note("")  # what a receiver before this one met
        failing = _Failing("the store takes no WAL", self._say, self._notifier, note)
        due_at, not_before, has_begun = 0.0, 0.0, False
        while not stop.wait(self._pace.tick):
            if time.monotonic() < not_before:
                continue
            # the first reading that counts is told at once: from then on moments can be restored
            is_first = not has_begun and self._samples.newest() is not None
            is_due = is_first or time.monotonic() >= due_at
            try:
                self._ship_all(is_due=is_due)
                if is_due:
                    due_at = time.monotonic() + self._pace.ship
                    has_begun = has_begun or is_first
                failing.is_well()
            except TimelineTakenError as error:
                self._fatal = error
                return
            except LongboxError as error:
                self._stage_all()
                size = sum(Spool(self._settings.wal_spool, s).size_bytes() for s in self._systems())
                wait = failing.wait_seconds(self._pace.longest_wait)
                failing.tell(f"{error}; {size:,} bytes wait in the spool")
                not_before = time.monotonic() + wait

    def _ship_all(self, *, is_due: bool) -> None:
        receiver = self._receiver
        assert receiver is not None
        for system in self._systems():
            self._shipper(system).ship(is_due=is_due, live_run=lambda: receiver.run)

    def _stage_all(self) -> None:
        """What the first store does not take goes to the copies; a fault here adds nothing to the one that is told."""
        receiver = self._receiver
        assert receiver is not None
        with contextlib.suppress(LongboxError):
            for system in self._systems():
                self._shipper(system).stage(lambda: receiver.run)

    def _outbox(self, system: str) -> Outbox | None:
        if system not in self._outboxes and self._settings.backup_copy_stores:
            own = Spool(self._settings.wal_spool, system)
            self._outboxes[system] = Outbox(own, self._open(system).store)
        return self._outboxes.get(system)

    def _systems(self) -> list[str]:
        return spool.systems(self._settings.wal_spool)

    def _shipper(self, system: str) -> Shipper:
        assert self._receiver is not None
        source = self._receiver.source
        # what a start finds in the spool is shipped also while the server is away; whose it is is known when it is back
        is_live = source is not None and source.system_identifier == system
        if (system, is_live) not in self._shippers:
            own = Spool(self._settings.wal_spool, system)
            size = source.segment_bytes if source and is_live else _segment_bytes(own)
            self._shippers[system, is_live] = Shipper(
                own,
                WalArchive(self._open(system), size),
                lambda: ServerKeys.load(self._settings.backup_keys),
                self._samples if is_live else Samples(),
                lambda gap: self._gap(system, size, gap),
                lambda name: self._tell_mirrors(system, name),
                self._outbox(system),
            )
        return self._shippers[system, is_live]

    def _tell_mirrors(self, system: str, name: str) -> None:
        for (of, _), mirror in list(self._mirrors.items()):
            if of == system:
                mirror.tell(name)

    def _copy(self, number: int, is_over: threading.Event) -> None:
        """Bring WAL to one copy store as it comes; at the end once more."""
        url = self._settings.backup_copy_stores[number]
        failing = _Failing(f"the copy store {url} takes no WAL", self._say, self._notifier)
        not_before = 0.0
        while True:
            is_last = is_over.wait(self._pace.tick)
            if is_last or time.monotonic() >= not_before:
                try:
                    for system in self._systems():
                        mirror = self._mirror(system, number)
                        if mirror.is_due:
                            mirror.bring()
                    failing.is_well()
                except LongboxError as error:
                    not_before = time.monotonic() + failing.wait_seconds(self._pace.longest_wait)
                    failing.tell(str(error))
            if is_last:
                return

    def _mirror(self, system: str, number: int) -> WalMirror:
        if (system, number) not in self._mirrors:
            whole = self._open(system)
            source, target = whole.only(whole.store), whole.only(whole.copies[number])
            self._mirrors[system, number] = WalMirror(source, target, self._outbox(system))
        return self._mirrors[system, number]

    def _finish(self) -> None:
        """A last pass, so that a planned stop leaves nothing behind; what cannot be shipped now waits in the spool."""
        try:
            for system in self._systems():
                self._shipper(system).ship(is_due=True)
        except LongboxError:
            self._stage_all()

    def _beat(self, stop: threading.Event) -> None:
        failing = _Failing("heartbeats", self._say, self._notifier)
        wait, beats = 0.0, 0
        with contextlib.ExitStack() as close:
            heart: Heart | None = None
            while not stop.wait(wait):
                try:
                    heart = heart or self._heart(close)
                    wait = self._pace.beat if heart else min(self._pace.beat, _NO_HEART_SECONDS)
                    if heart is None:
                        continue
                    heart.beat()
                    if beats % _TRIM_BEATS == 0 and (gone := heart.trim()):
                        self._write_ledger(
                            "trim heartbeats", "heartbeats are kept for 21 days", {"rows": gone}
                        )
                    beats += 1
                    failing.is_well()
                except HeartbeatsDivergeError as error:
                    wait = self._pace.beat
                    failing.tell(str(error), is_urgent=True)
                except (LongboxError, psycopg.Error) as error:
                    wait = min(self._pace.beat, failing.wait_seconds(self._pace.longest_wait))
                    failing.tell(str(error))

    def _heart(self, close: contextlib.ExitStack) -> Heart | None:
        """Over the platform's database; None while the server was not reached, or is not migrated."""
        if self._receiver is None or self._receiver.source is None:
            return None
        with contextlib.ExitStack() as trying:
            database = trying.enter_context(routine.platform_database(self._settings))
            if database is None:
                return None
            close.push(trying.pop_all())
            return Heart(database, self._open(self._receiver.source.system_identifier))

    def _bridge(self, stop: threading.Event) -> None:
        failing = _Failing("a full backup is due", self._say, self._notifier)
        wait = self._pace.bridge
        while not stop.wait(wait):
            wait = self._pace.bridge
            receiver = self._receiver
            if receiver is None or receiver.spool is None:
                continue
            bridge = Bridge(receiver.spool.folder)
            if bridge.due() is None:
                continue
            try:
                repository = self._open(receiver.spool.system_identifier)
                if bridge.answer(self._settings, repository, self._say):
                    failing.is_well()
                else:
                    wait = max(wait, failing.wait_seconds(self._pace.longest_wait))
            except (LongboxError, psycopg.Error) as error:
                wait = max(wait, failing.wait_seconds(self._pace.longest_wait))
                failing.tell(str(error))

    def _slot_dropped(self, reason: str, state: SlotState) -> None:
        """The receiver is about to drop the slot: told, ledgered, and a full backup is asked for."""
        receiver = self._receiver
        assert receiver is not None and receiver.spool is not None and receiver.last is not None
        sample = receiver.last[0]
        self._alert("slot", "the WAL slot is dropped", f"{reason}; it is dropped, and a full backup begins")
        proof = {
            "retained_bytes": state.retained_bytes,
            "restart_lsn": state.restart_lsn,
            "lsn": sample.lsn,
        }
        self._write_ledger("drop wal slot", "LONGBOX_WAL_SLOT_MAX_BYTES", proof)
        Bridge(receiver.spool.folder).request(Due(sample.timeline, sample.lsn, "the WAL slot was dropped"))

    def _slot_was_lost(self, reason: str) -> None:
        self._alert(
            "slot", "the WAL slot is lost", f"{reason}; what is missing is named when WAL comes again"
        )

    def _paused(self, reason: str) -> None:
        self._alert("spool", "the WAL spool is full", reason)

    def _gap(self, system: str, segment_bytes: int, gap: Gap) -> None:
        """WAL that nobody has: told, ledgered, and a full backup is asked for."""
        self._alert(
            "gap", "WAL has a gap", f"{gap}; moments in it cannot be restored, and a full backup begins"
        )
        end = (segment_number(gap.last, segment_bytes) + 1) * segment_bytes
        folder = Spool(self._settings.wal_spool, system).folder
        Bridge(folder).request(Due(gap.timeline, end, str(gap)))
        self._write_ledger("wal gap", "WAL is contiguous", {"first": gap.first, "last": gap.last})

    def _write_ledger(self, act: str, policy: str, proof: Mapping[str, object]) -> None:
        receiver = self._receiver
        assert receiver is not None and receiver.spool is not None
        with routine.platform_database(self._settings) as database:
            if database is not None:
                Ledger(database, receiver.spool.system_identifier).write(act, policy, proof)

    def _alert(self, cause: str, title: str, text: str) -> None:
        self._say(text)
        self._notifier.send(Alert(f"wal:{cause}", title, text))


class _Failing:
    """A fault of one thread: how long to wait, said once, alerted, and said again when it is over."""

    def __init__(
        self, title: str, say: Say, notifier: Notifier, note: Callable[[str], None] = lambda text: None
    ) -> None:
        """`note` gets the fault each time it is met, and an empty text when it is over."""
        self._title, self._say, self._notifier, self._note = title, say, notifier, note
        self._failures, self._told = 0, ""

    def wait_seconds(self, longest: float) -> float:
        """Longer each time."""
        self._failures = min(self._failures + 1, 12)
        return float(min(longest, 0.25 * 2**self._failures))

    def tell(self, text: str, *, is_urgent: bool = False) -> None:
        """Say it once; alert at the third time, when it is no blip any more, or at once."""
        first = text.split(";")[0]
        if first != self._told:
            self._say(f"{self._title}: {text}; trying again")
        self._told = first
        self._note(text)
        if self._failures >= 3 or is_urgent:
            self._notifier.send(Alert(f"wal:{self._title}", self._title, text))

    def is_well(self) -> None:
        """The work went on."""
        if self._told:
            self._say(f"{self._title}: that is over")
            self._note("")
        self._failures, self._told = 0, ""


def _segment_bytes(own: Spool) -> int:
    """Of what a server that is away left: the largest file, as one that was just being made is shorter."""
    sizes = []
    for file in [file for run in own.runs() for file in own.files(run) if file.segment]:
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.path.stat().st_size)
    largest = max(sizes, default=0)
    return largest if largest >= _SMALLEST_SEGMENT and largest.bit_count() == 1 else SEGMENT_BYTES

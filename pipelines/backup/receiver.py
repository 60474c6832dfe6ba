"""Keeps pg_receivewal running into the spool: lock, slot, restarts, the bounds of the spool and of the slot.

One `step` at a time, on one thread; nothing here waits for the object store. What is decided here: when to receive
(there is room, the server is there, we are the only one), from where (the slot), and when to give the slot up.
https://www.postgresql.org/docs/18/app-pgreceivewal.html
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pipelines.backup.errors import BackupRefusedError
from pipelines.backup.shipper import Samples
from pipelines.backup.slot import SLOT, Sample, SlotSession, SlotState, Source
from pipelines.backup.spool import Spool
from resources.database import Database
from resources.errors import RetryableError
from resources.postgres_tools import PostgresTools, WalReceiving

# a peer that went silent is noticed within half a minute
_KEEPALIVE = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "connect_timeout": "10",
}


@dataclass(frozen=True)
class Bounds:
    """`spool_bytes`: receiving pauses above. `slot_bytes`: the slot is dropped above. `silent_seconds`: WAL that the
    server has and pg_receivewal does not bring for so long means a dead connection."""

    spool_bytes: int = 2 << 30
    slot_bytes: int = 8 << 30
    silent_seconds: float = 60.0
    longest_wait_seconds: float = 30.0


@dataclass(frozen=True)
class Events:
    """Who is told. `slot_dropped` is called before the slot goes, with the reason; it may raise to prevent that."""

    say: Callable[[str], None]
    slot_dropped: Callable[[str, SlotState], None]
    slot_was_lost: Callable[[str], None]
    paused: Callable[[str], None]


class Receiver:
    """The receiving half of the resident process. `step` often; `close` at the end."""

    def __init__(
        self,
        url: str,
        name: str,
        folder: Path,
        samples: Samples,
        events: Events,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._name, self._folder = with_keepalive(url), name, folder
        self._samples, self._events, self._bounds, self._clock = samples, events, bounds, clock
        self._close = contextlib.ExitStack()
        self._session: SlotSession | None = None
        self._child: WalReceiving | None = None
        self._failures, self._not_before, self._told = 0, 0.0, ""
        self._had_slot = self._is_paused = False
        self._waiting_since: tuple[Sample, float] | None = None
        self.source: Source | None = None
        self.spool: Spool | None = None
        self.run = ""
        self.last: tuple[Sample, SlotState] | None = None

    @property
    def child_pid(self) -> int | None:
        """The process of pg_receivewal, None while there is none."""
        return self._child.pid if self._child and self._child.is_running() else None

    def step(self) -> None:
        """Look once and do what is needed. Raises `ReceiverRunningError` and what else waiting does not mend."""
        if self._clock() < self._not_before:
            return
        try:
            session = self._connected()
            sample, state = session.look()
            self.last = sample, state
            self._note(sample, state)
            if self._is_lost_or_beyond_bound(session, state):
                return
            self._keep_receiving(session, state)
        except BackupRefusedError as error:
            if self.source is None:
                raise
            self._failed(str(error))  # a server that was good before: a fail-over is under way
        except RetryableError as error:
            # pg_receivewal has a connection of its own, which may well go on
            self._failed(str(error), keeps_child=True)

    def close(self) -> None:
        """Stop receiving; what came is synced and confirmed."""
        self._stop_child()
        self._close.close()
        self._session = None

    def _connected(self) -> SlotSession:
        if self._session is not None:
            return self._session
        self._close.close()
        database = Database(self._url, role=None, application_name=f"longbox wal {self._name}")
        session = self._close.enter_context(SlotSession(database))
        source = session.source()
        session.lock(f"longbox wal {self._name}")
        if self.source is None or source.system_identifier != self.source.system_identifier:
            self._stop_child()
            self.spool = Spool(self._folder, source.system_identifier)
            if source.keeps_megabytes < 0:
                self._events.say(
                    "the server lets a slot keep any amount of WAL (max_slot_wal_keep_size = -1): while no receiver "
                    "runs, nothing but its disk is the bound; set it"
                )
        self.source, self._session = source, session
        return session

    def _note(self, sample: Sample, state: SlotState) -> None:
        if self.child_pid is None:
            return
        self._samples.add(sample, state.confirmed_lsn)
        waiting = self._samples.oldest_waiting()
        if waiting is None:
            self._waiting_since, self._failures = None, 0
            if self._told:
                self._events.say("receiving WAL again")
                self._told = ""
        elif self._waiting_since is None or self._waiting_since[0] != waiting:
            self._waiting_since = waiting, self._clock()
        elif self._clock() - self._waiting_since[1] > self._bounds.silent_seconds:
            self._failed(
                f"pg_receivewal brought nothing for {self._bounds.silent_seconds:g} s; it is started anew"
            )

    def _is_lost_or_beyond_bound(self, session: SlotSession, state: SlotState) -> bool:
        """Whether the slot had to go; then the next step makes a new one."""
        if state.exists and state.is_lost:
            self._stop_child()
            self._events.slot_was_lost(
                f"the server gave up the WAL of slot {SLOT} (max_slot_wal_keep_size): WAL has a gap"
            )
            session.drop()
            return True
        if self._had_slot and not state.exists:
            self._stop_child()
            self._events.slot_was_lost(f"somebody dropped the slot {SLOT}: WAL may have a gap")
            self._had_slot = False
            return True
        if state.exists and state.retained_bytes > self._bounds.slot_bytes:
            reason = (
                f"the server keeps {state.retained_bytes:,} bytes of WAL for slot {SLOT}, more than the bound of "
                f"{self._bounds.slot_bytes:,} (LONGBOX_WAL_SLOT_MAX_BYTES)"
            )
            self._stop_child()
            self._events.slot_dropped(reason, state)
            session.drop()
            self._had_slot = False
            return True
        return False

    def _keep_receiving(self, session: SlotSession, state: SlotState) -> None:
        assert self.spool is not None
        size = self.spool.size_bytes()
        if size >= self._bounds.spool_bytes:
            self._stop_child()
            if not self._is_paused:
                self._events.paused(
                    f"the spool holds {size:,} bytes, the bound is {self._bounds.spool_bytes:,} "
                    "(LONGBOX_WAL_SPOOL_MAX_BYTES): receiving pauses until the store takes some; the server keeps WAL "
                    "meanwhile"
                )
            self._is_paused = True
            return
        self._is_paused = False
        if self._child is not None and self._child.is_running():
            return
        if self._child is not None:
            said = self._child.said()
            self._stop_child()
            self._failed(f"pg_receivewal ended: {said or 'it said nothing'}")
            return
        if not state.exists:
            session.create()
            self._events.say(f"made the slot {SLOT}: the server keeps WAL for us from now on")
        self._had_slot = True
        session.free()
        self._start()

    def _start(self) -> None:
        assert self.spool is not None
        self._samples.restart()
        self._waiting_since = None
        # before the folder is there: the shipper removes what is empty and nobody's
        self.run = self.spool.new_run_name()
        run = self.spool.make_run(self.run)
        self._child = PostgresTools.find().receive_wal(self._url, SLOT, run)
        if not self._told:
            self._events.say(f"receiving WAL of cluster {self.spool.system_identifier} into {run}")

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
            self._samples.restart()

    def _failed(self, reason: str, *, keeps_child: bool = False) -> None:
        """Say it once, and wait longer each time."""
        if not keeps_child:
            self._stop_child()
        self._close.close()
        self._session = None
        wait = min(self._bounds.longest_wait_seconds, 0.5 * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._not_before = self._clock() + wait
        self._tell(f"{reason}; trying again")

    def _tell(self, text: str) -> None:
        if self._told != text:
            self._events.say(text)
        self._told = text


def with_keepalive(url: str) -> str:
    """`url` with what notices a dead peer, unless it says so itself."""
    parts = urlsplit(url)
    query = _KEEPALIVE | dict(parse_qsl(parts.query))
    return urlunsplit(parts._replace(query=urlencode(query)))

"""Backups and restores of one cluster at growing sizes, against a bare pipeline of the same programs.

python -m benchmarks.backup     GB=0.3 REPEAT=3 STEPS=2 ONLY="full,s3,incremental,restore" S3_SERVER=seaweedfs

The cluster grows to GB in STEPS; full backups and restores are measured at each size, the rest at the last one.
Temporary files take about six times GB below TMPDIR.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg

from benchmarks import backup_bare, backup_data, backup_s3, harness
from deploy.local.processes import wait_until
from pipelines.backup import setup
from pipelines.backup.wal import WalArchive
from resources.settings import PROJECT_ROOT, Settings

SPEED_GOAL = 0.8
INCREMENTAL_BYTES_GOAL = 0.05
INCREMENTAL_TIME_GOAL = 0.15
RTO_GOAL = 1.5
RTO_SECONDS_GOAL = 120
RSS_GOAL_MIB = 256
HEADER = ("case", "size, GB", "seconds", "processor seconds", "stored, GB", "peak MiB", "ratio", "goal")


@dataclass
class Place:
    """Where the backups of one run go, and the server they are of."""

    bench: harness.Bench
    database: str
    folder: Path

    @property
    def superuser(self) -> str:
        """Of the server."""
        return urlsplit(self.bench.url).username or "postgres"

    def environ(self, store: str) -> dict[str, str]:
        """What our processes are told."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {
            "LONGBOX_HOME": str(home),
            "LONGBOX_POSTGRES_URL": self.database,
            "LONGBOX_OBJECT_STORE": store,
            "LONGBOX_WAL_SHIP_SECONDS": "1",
        }

    def once(self, act: str, store: str, **more: Any) -> dict[str, Any]:
        """One backup or restore of ours, in a process of its own."""
        arguments = {"act": act, "environ": self.environ(store), "server_pid": self.bench.server_pid}
        return harness.in_a_process("benchmarks.backup_once", **arguments, **more)

    def new_store(self) -> str:
        """An empty local store; what was in it before goes."""
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        return (self.folder / "store").as_uri()

    def bare(self) -> dict[str, Any]:
        """The bare pipeline into a file."""
        file = self.folder / "bare"
        file.unlink(missing_ok=True)
        return backup_bare.back_up(self.database, file, self.bench.server_pid)

    def bare_restore(self) -> dict[str, Any]:
        """The bare pipeline backwards."""
        into = self.folder / "restored-bare"
        return backup_bare.restore(self.folder / "bare", into, self.superuser, self.bench.server_pid)

    def restore(self, store: str) -> dict[str, Any]:
        """Ours to the newest moment; removed again."""
        into = self.folder / "restored"
        try:
            return self.once("restore", store, into=str(into))
        finally:
            shutil.rmtree(into, ignore_errors=True)


def sizes(gigabytes: float, steps: int) -> list[float]:
    """`steps` sizes up to `gigabytes`."""
    return [gigabytes * step / steps for step in range(1, steps + 1)]


def full_and_restore(place: Place, size: float, repeats: int) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """Full backups and restores of the cluster as it is, ours and the bare ones in turns. Leaves the last of each."""
    place.bare()  # the first to read would read from disk, the second from memory
    made = harness.in_turns(
        repeats,
        {
            "full, local store": lambda: place.once("full", place.new_store()),
            "full, bare pipeline": place.bare,
        },
    )
    store = (place.folder / "store").as_uri()
    back = harness.in_turns(
        repeats, {"restore, newest": lambda: place.restore(store), "restore, bare": place.bare_restore}
    )
    full, bare = _median(made["full, local store"]), _median(made["full, bare pipeline"])
    ours, bare_back = _median(back["restore, newest"]), _median(back["restore, bare"])
    speed = _ratio(made["full, bare pipeline"], made["full, local store"])
    rto = _ratio(back["restore, newest"], back["restore, bare"])
    return [
        _row("full, bare pipeline", size, bare),
        _row("full, local store", size, full, f"{speed:.2f} of the speed", f">= {SPEED_GOAL}"),
        _row("restore, bare", size, bare_back),
        _row("restore, newest", size, ours, f"{rto:.2f} x", f"<= {RTO_GOAL} x, {RTO_SECONDS_GOAL} s"),
    ], full


def to_s3(place: Place, size: float, repeats: int) -> list[tuple[str, ...]]:
    """Full backups to an S3 API, in turns with the bare pipeline. Tells what the server itself took."""
    with backup_s3.s3_server(place.folder) as server:
        if server is None:
            return []
        place.bare()  # the cluster is in memory from here on, for both
        used = server.cpu_seconds()
        made = harness.in_turns(
            repeats, {"full, S3": lambda: place.once("full", server.url), "full, bare pipeline": place.bare}
        )
        after = server.cpu_seconds()
    ratio = _ratio(made["full, bare pipeline"], made["full, S3"])
    rows = [_row(f"full, {server.name}", size, _median(made["full, S3"]), f"{ratio:.2f} of the speed",
                 f">= {SPEED_GOAL}"),
            _row("full, bare pipeline beside it", size, _median(made["full, bare pipeline"]))]  # fmt: skip
    if used is not None and after is not None:
        rows.append(
            (f"of it {server.name} itself", "", "", f"{(after - used) / repeats:.2f}", "", "", "", "")
        )
    return rows


def changed(place: Place, size: float, repeats: int) -> list[tuple[str, ...]]:
    """Incrementals after 1 % of a table changed, on a full backup and while WAL is received; then a restore of all."""
    store = place.new_store()
    with receiving(place, store) as receiver:
        full = place.once("full", store)
        increments = []
        for turn in range(repeats):
            rows = backup_data.change(place.database, turn)
            increments.append(place.once("incremental", store))
            harness.note(f"turn {turn + 1}: incremental of {rows:,} rows: {increments[-1]['seconds']:.2f} s")
        backup_data.change(place.database, repeats)
        wait_covered(place, store)
        peak = receiver_peak_mib(receiver)
    found = _median(increments)
    share, took = found["stored_bytes"] / full["stored_bytes"], found["seconds"] / full["seconds"]
    back = harness.in_turns(
        repeats, {"restore, chain": lambda: place.restore(store), "restore, bare": place.bare_restore}
    )
    chain = _median(back["restore, chain"])
    rto = _ratio(back["restore, chain"], back["restore, bare"])
    goal = f"<= {INCREMENTAL_BYTES_GOAL:.0%} of bytes, {INCREMENTAL_TIME_GOAL:.0%} of time"
    return [
        _row("incremental of 1 %", size, found, f"{share:.1%} of bytes, {took:.1%} of time", goal),
        _row(
            f"restore, full + {repeats} incrementals + WAL",
            size,
            chain,
            f"{rto:.2f} x",
            f"<= {RTO_GOAL} x, {RTO_SECONDS_GOAL} s",
        ),
        ("WAL receiver", "", "", "", "", f"{peak:.0f}", "", f"<= {RSS_GOAL_MIB} MiB"),
    ]


@contextlib.contextmanager
def receiving(place: Place, store: str) -> Iterator[psutil.Process]:
    """`longbox wal receive` as a process of its own."""
    command = [sys.executable, "-P", "-m", "cli.main", "wal", "receive"]
    with (place.folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=os.environ | place.environ(store), stdout=log, stderr=log
        )
        try:
            wait_covered(place, store)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    with psycopg.connect(place.database, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def wait_covered(place: Place, store: str) -> None:
    """Until the store holds every commit of before this call. Raises `RuntimeError` after five minutes."""
    settings = Settings.load(os.environ | place.environ(store))
    with psycopg.connect(place.database) as connection:
        row = connection.execute(
            "SELECT clock_timestamp(), system_identifier::text FROM pg_control_system()"
        ).fetchone()
    assert row is not None
    at, archive = row[0], WalArchive(setup.open_repository(settings, row[1]))

    def is_covered() -> bool | None:
        found = archive.covered()
        return True if found is not None and found.at >= at else None

    if wait_until(is_covered, seconds=300, poll_seconds=0.2) is None:
        said = (place.folder / "receiver.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the WAL receiver covered nothing: {said[-1000:]}")


def receiver_peak_mib(process: psutil.Process) -> float:
    """Peak memory of a running process, where the kernel tells it; else what it takes now."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return process.memory_info().rss / 2**20


def _median(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The turn in the middle by time, with the highest memory of all."""
    middle = sorted(turns, key=lambda turn: turn["seconds"])[(len(turns) - 1) // 2]
    peaks = [turn["rss_mib"] for turn in turns if "rss_mib" in turn]
    return middle | ({"rss_mib": max(peaks)} if peaks else {})


def _ratio(above: list[dict[str, Any]], below: list[dict[str, Any]]) -> float:
    """The median of the ratios of turns that followed each other."""
    pairs = zip(above, below, strict=True)
    return harness.median([one["seconds"] / other["seconds"] for one, other in pairs])


def _row(name: str, size: float, found: dict[str, Any], ratio: str = "", goal: str = "") -> tuple[str, ...]:
    stored = f"{found['stored_bytes'] / 1e9:.3f}" if "stored_bytes" in found else ""
    peak = f"{found['rss_mib']:.0f}" if "rss_mib" in found else ""
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in found.get("steps", {}).items())
    seconds = f"{found['seconds']:.2f}{f' ({steps})' if steps else ''}"
    return (name, f"{size / 1e9:.2f}", seconds, f"{found['cpu']:.2f}", stored, peak, ratio, goal)


def measure(bench: harness.Bench, gigabytes: float, repeats: int, steps: int, cases: set[str]) -> None:
    """Grow, measure, print."""
    rows: list[tuple[str, ...]] = []
    folder = bench.folder / "backup"
    folder.mkdir()
    folder.chmod(0o755)
    with bench.database() as url:
        place = Place(bench, url, folder)
        for wanted in sizes(gigabytes, steps):
            harness.note(f"growing the cluster to {wanted:.2f} GB")
            size = backup_data.grow(url, int(wanted * 1e9))
            os.sync()  # or the first turn waits until the disk has what growing wrote
            found, _ = full_and_restore(place, size, repeats)
            rows += found
        if "s3" in cases:
            rows += to_s3(place, size, repeats)
        if "incremental" in cases:
            rows += changed(place, size, repeats)
    harness.print_table(HEADER, rows)
    harness.conditions(
        f"medians of {repeats} turns; goal for memory <= {RSS_GOAL_MIB} MiB; {backup_bare.versions()}"
    )


def main() -> None:
    """Read the sizes, measure."""
    absent = backup_bare.missing()
    if absent:
        sys.exit(f"the bare pipeline needs {', '.join(absent)}; install them")
    number = {name: float(os.environ.get(name, default)) for name, default in (("GB", "0.3"), ("STEPS", "2"))}
    cases = set(harness.chosen({"full": None, "s3": None, "incremental": None}))
    with harness.server() as bench:
        measure(bench, number["GB"], int(os.environ.get("REPEAT", "3")), int(number["STEPS"]), cases)


if __name__ == "__main__":
    main()

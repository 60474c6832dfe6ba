"""Loading files, measured beside a bare COPY of the same rows into the same table with its indexes, in the same run.

python -m benchmarks.ingestion                                       ROWS=200000 REPEAT=3
ONLY=memory ROWS=27000000 REPEAT=1 python -m benchmarks.ingestion    the peak memory of a file of 5 GB alone
"""

import datetime as dt
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import harness, sales
from pipelines.catalog.partitions import ensure_periods, span_of
from resources.database import OWNER_ROLE, Database

TABLE = "comics.pricing_data_raw"
COLUMNS = (
    "sold_at, listing_updated_at, load_id, line, sale_date, landing_day, quantity, key_hash, content_hash, price, "
    "source_marketplace, source_record_id, title, condition, currency, seller_name, listing_url, sale_format, "
    "attributes"
)
_FILES: dict[str, dict[str, Any]] = {
    "clean": {},
    "dirty": {"bad": 0.05, "repeated": 0.10},
    "history": {"days": 720},
    "large": {"days": 720},
}


class Cases:
    """The cases over one set of files. Each runs on a fresh database and returns its seconds."""

    def __init__(self, bench: harness.Bench, rows: int) -> None:
        self._bench = bench
        self._rows = rows
        self._files = bench.folder / "files"
        self._files.mkdir()

    def ours(self, file: str, *, days: int = 28, prepared: bool = True) -> dict[str, Any]:
        """Load one file. `prepared`: the partitions of its months are there before."""
        with self._bench.database() as url, self._store(file) as store:
            if prepared:
                make_partitions(url, days)
            return self._load(url, store)

    def copy(self, file: str, *, days: int = 28) -> dict[str, Any]:
        """A bare COPY of the rows that loading `file` leaves in the table, as text, into the same table."""
        text = self.as_copy_text(file, days)
        with self._bench.database() as url:
            make_partitions(url, days)
            with psycopg.connect(url) as connection, text.open("rb") as source:
                processor = harness.Cpu(self._bench.server_pid)
                own, server, started = time.process_time(), processor.server_seconds(), time.perf_counter()
                with connection.cursor().copy(f"COPY {TABLE} ({COLUMNS}) FROM STDIN") as copy:
                    while block := source.read(1 << 20):
                        copy.write(block)
                connection.commit()
                return {
                    "seconds": time.perf_counter() - started,
                    "client_seconds": time.process_time() - own,
                    "server_seconds": processor.server_seconds() - server,
                }

    def replay(self, file: str, *, same_content: bool) -> dict[str, Any]:
        """Load `file`, then all of its rows again: the same content under another name, or reordered in another."""
        with self._bench.database() as url, self._store(file) as store:
            make_partitions(url, 28)
            self._load(url, store)
            landed = next(store.rglob("*.csv"))
            again = landed.with_name("again.csv")
            if same_content:
                shutil.copyfile(landed, again)
            else:
                _last_row_first(landed, again)
            return self._load(url, store)

    def small_files(self, number: int) -> dict[str, Any]:
        """Load `number` files of ten rows each, landed on one day."""
        with self._bench.database() as url, tempfile.TemporaryDirectory(dir=self._bench.folder) as name:
            make_partitions(url, 28)
            folder = _landing(Path(name))
            for seed in range(number):
                sales.write_sales(folder / f"{seed:05d}.csv", 10, seed=seed + 1)
            return self._load(url, Path(name))

    def as_copy_text(self, file: str, days: int) -> Path:
        """The rows that loading `file` leaves in the table, as COPY's text; made once."""
        path = self._files / f"{file}.copy"
        if path.exists():
            return path
        with self._bench.database() as url, self._store(file) as store:
            make_partitions(url, days)
            self._load(url, store)
            query = f"COPY (SELECT {COLUMNS} FROM {TABLE} ORDER BY raw_id) TO STDOUT"  # noqa: S608
            with psycopg.connect(url) as connection, path.open("wb") as target:
                with connection.cursor().copy(query) as copy:
                    for block in copy:
                        target.write(block)
        return path

    def _load(self, url: str, store: Path) -> dict[str, Any]:
        return harness.in_a_process(
            "benchmarks.ingest_once", database=url, store=store.as_uri(), server_pid=self._bench.server_pid
        )

    def _store(self, file: str) -> "_Store":
        """A store in which `file` has landed; it is written when it is first asked for."""
        path = self._files / f"{file}.csv"
        if not path.exists():
            write = sales.write_large if file == "large" else sales.write_sales
            write(path, self._rows, **_FILES[file])  # type: ignore[arg-type]
        return _Store(self._bench.folder, path)


class _Store:
    """An object store in which one file landed; removed at the end."""

    def __init__(self, folder: Path, file: Path) -> None:
        self._path = Path(tempfile.mkdtemp(dir=folder))
        os.link(file, _landing(self._path) / file.name)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)


def _landing(store: Path) -> Path:
    folder = store / "landing" / "comics" / "marketplace_sales" / sales.LANDING_DAY.isoformat()
    folder.mkdir(parents=True)
    return folder


def _last_row_first(source: Path, target: Path) -> None:
    header, *rows = source.read_bytes().splitlines(keepends=True)
    target.write_bytes(b"".join([header, *reversed(rows)]))


def make_partitions(url: str, days: int) -> None:
    """Make the partitions of the last `days` days before the landing day."""
    every = (sales.LANDING_DAY - dt.timedelta(days=n) for n in range(days + 1))
    starts = {span_of(day, "month").lower for day in every}
    with Database(url, role=OWNER_ROLE) as owner:
        ensure_periods(owner, "comics", "pricing_data_raw", starts, "month")


def measure(rows: int, repeats: int) -> None:
    """Run all cases in turns and print their medians beside the bare COPY's."""
    with harness.server() as bench:
        cases = Cases(bench, rows)
        plan: dict[str, Callable[[], dict[str, Any]]] = {
            "bare COPY": lambda: cases.copy("clean"),
            "ours, clean": lambda: cases.ours("clean"),
            "ours, 5 % bad, 10 % repeated": lambda: cases.ours("dirty"),
            "ours, replay of the same file": lambda: cases.replay("clean", same_content=True),
            "ours, replay of all rows in another file": lambda: cases.replay("clean", same_content=False),
            "bare COPY, 24 months": lambda: cases.copy("history", days=720),
            "ours, first load of 24 months": lambda: cases.ours("history", prepared=False),
            "ours, 200 files of 10 rows": lambda: cases.small_files(200),
        }
        if (only := os.environ.get("ONLY")) and "memory" in only:
            plan["ours, memory of a large file"] = lambda: cases.ours("large", prepared=False)
        if only:
            plan = {
                name: case for name, case in plan.items() if any(part in name for part in only.split(","))
            }
        results = harness.in_turns(repeats, plan)
    _report(results, rows)


def _report(results: dict[str, list[dict[str, Any]]], rows: int) -> None:
    table = []
    bases = {name: _median(runs) for name, runs in results.items() if name.startswith("bare COPY")}
    for name, runs in results.items():
        handled = 2000 if "files" in name else rows
        base = bases.get("bare COPY, 24 months" if "24 months" in name else "bare COPY")
        seconds = _median(runs)
        ratio = f"{base / seconds:.2f}" if base and "files" not in name else ""
        memory = f"{max(run['rss_mib'] for run in runs):.0f}" if "rss_mib" in runs[0] else ""
        work = [
            f"{harness.median([run[f'{side}_seconds'] for run in runs]) / handled * 1e6:.1f}"
            for side in ("client", "server")
        ]
        table.append((name, f"{seconds:.2f}", f"{handled / seconds:,.0f}", ratio, *work, memory))
    header = ("case", "seconds", "rows/s", "speed to COPY", "client us/row", "server us/row", "peak MiB")
    harness.print_table(header, table)
    print(f"{rows:,} rows, medians of {len(next(iter(results.values())))} turns. {harness.machine()}")


def _median(runs: Iterable[dict[str, Any]]) -> float:
    return harness.median([run["seconds"] for run in runs])


if __name__ == "__main__":
    measure(int(os.environ.get("ROWS", "200000")), int(os.environ.get("REPEAT", "3")))

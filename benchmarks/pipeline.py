"""A landing day through the whole comics pipeline on a long history, and a year of landing days in one run.

python -m benchmarks.pipeline       ROWS=200000 (of history) DAY_ROWS=20000 DAYS=365 ONLY="landing day,normalising,year"
"""

import datetime as dt
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import harness, history, sales
from resources.settings import PROJECT_ROOT

LANDING_DAY_GOAL = 5.0
PARTITION_GOAL = 0.5
YEAR_ROWS = 200  # a day: what a partition costs, not what its rows do
FEED = Path("landing/comics/marketplace_sales")


def landing_day(bench: harness.Bench, rows: int, day_rows: int, repeats: int) -> None:
    """Print what each stage of a landing day of `day_rows` sales costs on a history of `rows`, and their rates."""
    turns = []
    with bench.database() as url:
        harness.note(f"writing {rows:,} rows of history")
        history.write_history(url, rows)
        for turn in range(
            repeats + 1
        ):  # the first warms up: rates that have just come are looked at for all days
            day = sales.LANDING_DAY + dt.timedelta(days=turn)
            with _landed(bench, day, day_rows, seed=turn + 2) as store:
                turns.append(
                    harness.in_a_process(
                        "benchmarks.day_once",
                        database=url,
                        store=store.as_uri(),
                        redis=bench.redis_url,
                        server_pid=bench.server_pid,
                        day=day.isoformat(),
                    )
                )
            harness.note(f"turn {turn}: {turns[-1]['seconds']:.2f} s")
    _report_day(turns[1:], rows, day_rows)


def _report_day(turns: list[dict[str, Any]], rows: int, day_rows: int) -> None:
    table = []
    for name in turns[0]["stages"]:
        seconds = harness.median([turn["stages"][name] for turn in turns])
        work = harness.median([turn["work"][name] for turn in turns])
        table.append((name, f"{seconds:.2f}", f"{work:.2f}", f"{day_rows / seconds:,.0f}", ""))
    total = harness.median([turn["seconds"] for turn in turns])
    work = harness.median([turn["cpu"] for turn in turns])
    goal = f"<= {LANDING_DAY_GOAL:.0f} s of work"
    table.append(("all", f"{total:.2f}", f"{work:.2f}", f"{day_rows / total:,.0f}", goal))
    header = ("stage of a landing day", "seconds", "processor seconds", "rows/s", "goal on 10,000,000")
    harness.print_table(header, table)
    peak = max(turn["rss_mib"] for turn in turns)
    harness.conditions(
        f"{day_rows:,} rows on a history of {rows:,}, medians of {len(turns)} days, peak {peak:.0f} MiB"
    )


def year(bench: harness.Bench, days: int) -> None:
    """Print what a landing day costs in a backfill of `days` days in one run of `daily_pipeline`."""
    first = sales.LANDING_DAY - dt.timedelta(days=days - 1)
    with bench.database() as url, bench.database(empty=True) as dagster_url:
        store = bench.folder / "year"
        for number in range(days):
            day = first + dt.timedelta(days=number)
            folder = store / FEED / day.isoformat()
            folder.mkdir(parents=True)
            sales.write_sales(folder / "sales.csv", YEAR_ROWS, seed=number + 1, until=day)
        home = bench.folder / "year-home"
        (home / "dagster").mkdir(parents=True)
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster" / "dagster.yaml")
        environ = {
            "LONGBOX_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), "LONGBOX_POSTGRES_URL": url,
            "LONGBOX_DAGSTER_POSTGRES_URL": dagster_url, "LONGBOX_REDIS_URL": bench.redis_url,
            "LONGBOX_OBJECT_STORE": store.as_uri(),
        }  # fmt: skip
        harness.note(f"a run over {days} landing days")
        done = harness.in_a_process(
            "benchmarks.range_once", environ=environ, first=first.isoformat(),
            last=sales.LANDING_DAY.isoformat(), server_pid=bench.server_pid, profile=bool(os.environ.get("PROFILE")),
        )  # fmt: skip
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM comics.pricing_data_normalized").fetchone()
    _report_year(done, days, row[0] if row else 0)


def _report_year(done: dict[str, Any], days: int, normalised: int) -> None:
    slowest = sorted(done["steps"].items(), key=lambda step: -step[1])[:10]
    table = [(name, f"{seconds:.1f}", "", f"{seconds / days:.3f}", "") for name, seconds in slowest]
    seconds = done["seconds"]
    goal = f"<= {PARTITION_GOAL} s a partition"
    table.append(("the whole run", f"{seconds:.1f}", f"{done['cpu']:.1f}", f"{seconds / days:.3f}", goal))
    header = ("step of a year in one run", "seconds", "processor seconds", "seconds/partition", "goal")
    harness.print_table(header, table)
    harness.conditions(
        f"{days} landing days of every system in one run, {YEAR_ROWS} sales a day, {normalised:,} of them priced, "
        f"peak {done['rss_mib']:.0f} MiB"
    )


@contextmanager
def _landed(bench: harness.Bench, day: dt.date, rows: int, *, seed: int) -> Iterator[Path]:
    store = bench.folder / f"store-{seed}"
    folder = store / FEED / day.isoformat()
    folder.mkdir(parents=True)
    try:
        sales.write_sales(folder / "sales.csv", rows, seed=seed, until=day)
        yield store
    finally:
        shutil.rmtree(store)


def main() -> None:
    """Read the sizes, measure, print."""
    rows = int(os.environ.get("ROWS", "200000"))
    repeats = int(os.environ.get("REPEAT", "3"))
    cases: dict[str, Callable[[harness.Bench], None]] = {
        "landing day": lambda bench: landing_day(
            bench, rows, int(os.environ.get("DAY_ROWS", "20000")), repeats
        ),
        "year in one run": lambda bench: year(bench, int(os.environ.get("DAYS", "365"))),
    }
    chosen = harness.chosen(cases)
    if chosen:
        with harness.server() as bench:
            for case in chosen.values():
                case(bench)


if __name__ == "__main__":
    main()

"""The same rows into the same partitioned, indexed table by others' ways: ADBC, dlt and pandas, in turns with ours.

python -m benchmarks.peers          ROWS=200000 REPEAT=3          `make bench PEERS=1` installs them into .venv-bench

A peer gets the rows that our loading leaves, as a CSV file with a header. It does not check a row, know a record again,
keep what does not load, or account for a file. A peer that is not installed is left out, and said so.
"""

import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import harness, ingestion

SCHEMA, TABLE = "comics", "pricing_data_raw"
COLUMNS = tuple(name.strip() for name in ingestion.COLUMNS.split(","))
MOST_PARAMETERS = 65_535  # of a statement of PostgreSQL's protocol
MOST_PANDAS_ROWS = 200_000  # 3,000,000 had not ended after 20 minutes and took 6 GB


def load_by_adbc(url: str, rows: str) -> None:
    """Arrow by ADBC's COPY into a temporary table of texts, then INSERT ... SELECT, in one transaction."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("staging", _texts(rows), mode="create", temporary=True)
        cursor.execute(_insert_from(url, sql.Identifier("staging")))
        connection.commit()


def load_by_dlt(url: str, rows: str) -> None:
    """dlt from Arrow into a table that it makes, then INSERT ... SELECT."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
    import dlt

    with tempfile.TemporaryDirectory() as folder:
        postgres = dlt.destinations.postgres(url)
        pipeline = dlt.pipeline("bench", pipelines_dir=folder, dataset_name="bench_dlt", destination=postgres)
        pipeline.run(_texts(rows), table_name="staging")
    with psycopg.connect(url) as connection:
        connection.execute(_insert_from(url, sql.Identifier("bench_dlt", "staging")).encode())


def load_by_pandas(url: str, rows: str) -> None:
    """`DataFrame.to_sql(method="multi")` straight into the table, as many rows a statement as it can hold.

    No more than the first `MOST_PANDAS_ROWS`.
    """
    import pandas as pd
    import sqlalchemy

    frame = pd.read_csv(rows, dtype=str, nrows=MOST_PANDAS_ROWS)
    # psycopg2 sends texts as literals without a type, which PostgreSQL reads as the column's.
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg2://", 1))
    with engine.begin() as connection:
        frame.to_sql(
            TABLE, connection, schema=SCHEMA, if_exists="append", index=False, method="multi",
            chunksize=MOST_PARAMETERS // len(COLUMNS),
        )  # fmt: skip
    engine.dispose()


PEERS: dict[str, tuple[str, Callable[[str, str], None]]] = {
    "ADBC and INSERT ... SELECT": ("adbc_driver_postgresql", load_by_adbc),
    "dlt and INSERT ... SELECT": ("dlt", load_by_dlt),
    "pandas to_sql, multi": ("sqlalchemy", load_by_pandas),
}


def _texts(rows: str) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=False,
        null_values=[""],
    )  # fmt: skip
    return csv.read_csv(rows, convert_options=texts)


def _insert_from(url: str, staging: sql.Identifier) -> str:
    """INSERT ... SELECT that gives each text of `staging` the type of its column."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass",
            [f"{SCHEMA}.{TABLE}"],
        ).fetchall()
        types = dict(found)
        values = [sql.SQL("{}::{}").format(sql.Identifier(name), sql.SQL(types[name])) for name in COLUMNS]
        return (
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}")
            .format(
                sql.Identifier(SCHEMA, TABLE), sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
                sql.SQL(", ").join(values), staging,
            )
            .as_string(connection)
        )  # fmt: skip


def run_peer(peer: str, database: str, rows: str) -> dict[str, Any]:
    """Load once, in this process: its seconds without imports, the rows in the table, and its peak memory."""
    for module in (PEERS[peer][0], "pandas", "pyarrow.csv"):
        importlib.import_module(module)
    started = time.perf_counter()
    PEERS[peer][1](database, rows)
    seconds = time.perf_counter() - started
    with psycopg.connect(database) as connection:
        row = connection.execute(f"SELECT count(*) FROM {SCHEMA}.{TABLE}").fetchone()  # noqa: S608
    return {"seconds": seconds, "rows": row[0] if row else 0, "rss_mib": harness.peak_mib()}


def _peer(bench: harness.Bench, cases: ingestion.Cases, name: str) -> dict[str, Any]:
    rows = _as_csv(bench, cases)
    with bench.database() as url:
        ingestion.make_partitions(url, 28)
        return harness.in_a_process("benchmarks.peers", peer=name, database=url, rows=str(rows))


def _as_csv(bench: harness.Bench, cases: ingestion.Cases) -> Path:
    """The rows that loading leaves, from the text that the bare COPY takes."""
    path = bench.folder / "rows.csv"
    if not path.exists():
        text = cases.as_copy_text("clean", 28)
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        with bench.database() as url, psycopg.connect(url) as connection, connection.cursor() as cursor:
            connection.execute(sql.SQL("CREATE TEMP TABLE texts AS SELECT {} FROM {} LIMIT 0").format(
                columns, sql.Identifier(SCHEMA, TABLE)))  # fmt: skip
            with cursor.copy("COPY texts FROM STDIN") as copy:
                copy.write(text.read_bytes())
            with cursor.copy("COPY texts TO STDOUT (FORMAT csv, HEADER)") as copy, path.open("wb") as file:
                for block in copy:
                    file.write(block)
    return path


def measure(rows: int, repeats: int) -> None:
    """Run the bare COPY, ours and the peers that are installed in turns; print their medians."""
    installed = {name: module for name, (module, _) in PEERS.items() if importlib.util.find_spec(module)}
    for name in PEERS.keys() - installed.keys():
        print(f"{name}: not installed, left out; `make bench PEERS=1` installs it", flush=True)
    with harness.server() as bench:
        cases = ingestion.Cases(bench, rows)
        plan: dict[str, Callable[[], dict[str, Any]]] = {
            "bare COPY": lambda: cases.copy("clean"),
            "ours": lambda: cases.ours("clean"),
        }
        plan |= {name: partial(_peer, bench, cases, name) for name in installed}
        results = harness.in_turns(repeats, plan)
    base = rows / harness.median([run["seconds"] for run in results["bare COPY"]])
    table = []
    for name, runs in results.items():
        seconds = harness.median([run["seconds"] for run in runs])
        peak = f"{max(run['rss_mib'] for run in runs):.0f}" if "rss_mib" in runs[0] else ""
        loaded = int(runs[0].get("rows", rows))
        speed = loaded / seconds
        table.append((name, f"{loaded:,}", f"{seconds:.2f}", f"{speed:,.0f}", f"{speed / base:.2f}", peak))
    harness.print_table(("way", "rows", "seconds", "rows/s", "speed to COPY", "peak MiB"), table)
    harness.conditions(
        f"{rows:,} rows, medians of {repeats} turns, each into an empty table with its indexes"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(run_peer(**json.loads(sys.argv[1]))))
    else:
        measure(int(os.environ.get("ROWS", "200000")), int(os.environ.get("REPEAT", "3")))

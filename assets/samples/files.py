"""Landed files of a sample: CSV, JSON Lines and Parquet, compressed as their names say."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Record = Mapping[str, object]


def write_file(path: Path, columns: Sequence[str], records: Sequence[Record]) -> None:
    """Write `records` (values by landed column; None is left empty) to `path`, whose ending says how."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        _write_parquet(path, columns, records)
        return
    text = _csv_text(columns, records) if name.endswith(".csv") else _jsonl_text(columns, records)
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


def _csv_text(columns: Sequence[str], records: Sequence[Record]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(record.get(column)) for column in columns] for record in records)
    return text.getvalue()


def _text(value: object) -> object:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return "" if value is None else value


def _jsonl_text(columns: Sequence[str], records: Sequence[Record]) -> str:
    lines = (
        json.dumps(
            {name: record[name] for name in columns if record.get(name) is not None},
            ensure_ascii=False,
            default=str,
        )
        for record in records
    )
    return "".join(f"{line}\n" for line in lines)


def _write_parquet(path: Path, columns: Sequence[str], records: Sequence[Record]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Texts throughout: a spoilt value has to fit too, and a feed converts by the types of its table.
    arrays = [
        pa.array([_parquet_text(record.get(column)) for record in records], pa.string()) for column in columns
    ]
    pq.write_table(pa.table(arrays, names=list(columns)), path, compression="zstd")


def _parquet_text(value: object) -> str | None:
    return None if value is None or value == "" else str(_text(value))

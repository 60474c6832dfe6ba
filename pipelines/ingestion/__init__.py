"""Ingestion: files of a landing day become rows of the feed's table, each row accounted for (promise 2).

Read in order: `landing` (where files are), `decode` (bytes), `formats` with `lines`, `csv_records` and
`parquet_records` (records), `names` (which column a landed name means), `values`, `bulk` and `binding` (rows, kept in
`columns`), `stream` and `chunk` (rows on their way), `direct` with `binary` and `writer` (PostgreSQL, the registry of
record keys), `load` and `days` with `progress` (files, days), `quarantine` (what did not load).
"""

from pipelines.ingestion.days import load_days
from pipelines.ingestion.landing import land_file, landing_days
from pipelines.ingestion.load import Loader
from pipelines.ingestion.reconcile import Reconciliation, reconcile, reconcile_days
from pipelines.ingestion.results import DayFailure, DayLoad, FileLoad
from pipelines.ingestion.schema_changes import schema_changes

__all__ = [
    "DayFailure", "DayLoad", "FileLoad", "Loader", "Reconciliation", "land_file", "landing_days", "load_days",
    "reconcile", "reconcile_days", "schema_changes",
]  # fmt: skip

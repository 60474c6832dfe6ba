"""The registry of record keys as a load uses it: a chunk's keys looked up, its new ones added, its known ones noted.

Everything goes in PostgreSQL's binary format and in the order of the registry's primary key: measured, that takes half
of the server's time. https://www.postgresql.org/docs/18/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

import contextlib
import datetime as dt
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import psycopg
import pyarrow
import pyarrow.compute as pc
from psycopg.abc import Buffer

from pipelines.ingestion.columns import NULL, Column, flat, joined, text_of
from resources.database import Connection
from resources.sql import Queries

QUERIES = Queries.of("pipelines.ingestion")
_UUID_OID, _BIGINT_OID = 2950, 20
_EPOCH_DAYS = (dt.date(2000, 1, 1) - dt.date(1970, 1, 1)).days  # PostgreSQL counts days from 2000
_SIGNATURE, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_FIELDS = {
    "feed_id": ">i4", "key_hash": "V16", "content_hash": "V16", "event_on": ">i4", "revision": ">i8",
    "landed_on": ">i4", "load_id": ">i8", "ordinal": ">i8",
}  # fmt: skip


class Known(NamedTuple):
    """Which rows of a chunk the registry knows: those with a known key, and those that are its only known version."""

    by_key: Column
    as_they_are: Column


class Entries(NamedTuple):
    """Rows of a chunk as registry entries: for each part, positions in the chunk and binary COPY's records."""

    parts: list[tuple[Any, Any]]

    def text(self) -> bytes:
        """What COPY takes."""
        return b"".join([_SIGNATURE, *(entries.tobytes() for _, entries in self.parts), _END])


class Registry:
    """The registry for one file. Works inside the file's transaction, under the feed's lock."""

    def __init__(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """`parameters`: feed_id, load_id, landing_day and file_name."""
        self._connection = connection
        self._parameters = parameters
        self._cursor = connection.cursor(binary=True)
        self._cursor.adapters.register_dumper(_Array, _ArrayDumper)

    def find(self, rows: Any) -> Known:
        """Look the keys of a chunk's rows up."""
        keys = flat(rows["key_hash"])
        query = {**self._parameters, "keys": _uuids(keys.take(pc.sort_indices(keys)))}
        with self._by_index():
            row = self._cursor.execute(QUERIES["known_versions"], query).fetchone()
        found = cast("bytes | None", row[0] if row else None)
        if not found:
            nobody = pyarrow.repeat(pyarrow.scalar(False), rows.num_rows)
            return Known(nobody, nobody)
        versions = _hex_of(found, 64)
        counts = pc.value_counts(pc.utf8_slice_codeunits(versions, 0, 32))
        single = counts.field("values").filter(pc.equal(counts.field("counts"), 1))
        pairs = joined([keys, flat(rows["content_hash"])], "")
        return Known(
            pc.is_in(keys, value_set=counts.field("values")),
            pc.and_(pc.is_in(pairs, value_set=versions), pc.is_in(keys, value_set=single)),
        )

    def entries(self, rows: Any) -> Entries:
        """The entries of new rows. Raises `pyarrow.ArrowInvalid` where a revision is no 64-bit number."""
        order = pc.sort_indices(flat(rows["key_hash"]))
        places = order.to_numpy()
        rows = rows.select(["key_hash", "content_hash", "event_on", "revision", "last_ordinal"]).take(order)
        is_null = pc.equal(rows["revision"], NULL)
        if not pc.any(is_null).as_py() or pc.all(is_null).as_py():
            return Entries([(places, self._records(rows))])
        lacking = is_null.to_numpy()
        return Entries(
            [
                (places[~lacking], self._records(rows.filter(pc.invert(is_null)))),
                (places[lacking], self._records(rows.filter(is_null))),
            ]
        )

    def add(self, entries: bytes) -> None:
        """Enter new rows."""
        with self._connection.cursor().copy(QUERIES["copy_new_keys"]) as copy:
            copy.write(entries)

    def land_again(self, rows: Any) -> None:
        """Note that rows landed again, each the only version of its record: the last landing counts."""
        rows = rows.take(pc.sort_indices(flat(rows["key_hash"])))
        ordinals = flat(rows["last_ordinal"]).to_numpy()
        arrays = {
            "keys": _uuids(rows["key_hash"]),
            "contents": _uuids(rows["content_hash"]),
            "ordinals": _Array.of(_BIGINT_OID, ordinals.astype(">i8")),
        }
        with self._by_index():
            self._cursor.execute(QUERIES["land_known_again"], {**self._parameters, **arrays})

    def _records(self, rows: Any) -> Any:
        revisions = flat(rows["revision"])
        lacks_revision = bool(len(revisions)) and revisions[0].as_py() == NULL
        records = np.zeros(rows.num_rows, _record_type(lacks_revision))
        records["fields"] = len(_FIELDS)
        for name, kind in _FIELDS.items():
            records[f"{name}_bytes"] = int(kind[-1]) if kind != "V16" else 16
        days = flat(rows["event_on"]).cast(pyarrow.date32()).cast(pyarrow.int32()).to_numpy()
        records["feed_id"], records["load_id"] = self._parameters["feed_id"], self._parameters["load_id"]
        records["key_hash"], records["content_hash"] = _raw(rows["key_hash"]), _raw(rows["content_hash"])
        records["event_on"] = days - _EPOCH_DAYS
        records["landed_on"] = (self._parameters["landing_day"] - dt.date(2000, 1, 1)).days
        records["ordinal"] = flat(rows["last_ordinal"]).to_numpy()
        if lacks_revision:
            records["revision_bytes"] = -1
        else:
            records["revision"] = revisions.cast(pyarrow.int64()).to_numpy()
        return records

    @contextlib.contextmanager
    def _by_index(self) -> Iterator[None]:
        before = self._settings_before  # read first
        self._connection.execute(QUERIES["probe_by_index"])
        yield
        self._connection.execute(QUERIES["plan_as_before"], {"settings": before})

    @functools.cached_property
    def _settings_before(self) -> object:
        row = self._connection.execute(QUERIES["plan_now"]).fetchone()
        return cast("tuple[object]", row)[0]


@functools.cache
def _record_type(lacks_revision: bool) -> Any:
    parts: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in _FIELDS.items():
        parts.append((f"{name}_bytes", ">i4"))
        if not (lacks_revision and name == "revision"):
            parts.append((name, kind))
    return np.dtype(parts)


class _Array(NamedTuple):
    """A one-dimensional array in PostgreSQL's binary format."""

    data: bytes

    @classmethod
    def of(cls, oid: int, values: Any) -> "_Array":
        """The array of `values`, whose bytes are what PostgreSQL's type `oid` sends."""
        items = np.zeros(len(values), [("bytes", ">i4"), ("value", values.dtype)])
        items["bytes"], items["value"] = values.dtype.itemsize, values
        return cls(np.array([1, 0, oid, len(values), 1], ">i4").tobytes() + items.tobytes())


class _ArrayDumper(psycopg.adapt.Dumper):
    """Sends an `_Array` as it is; the statement's cast tells its type."""

    format = psycopg.pq.Format.BINARY

    def dump(self, obj: _Array) -> Buffer:
        """The array's bytes."""
        return obj.data


def _uuids(column: Column) -> _Array:
    return _Array.of(_UUID_OID, _raw(column))


def _raw(column: Column) -> Any:
    """The 16 bytes of each of a column's hexadecimal hashes."""
    return np.frombuffer(bytes.fromhex(str(text_of(column), "ascii")), "V16")


def _hex_of(data: bytes, width: int) -> Column:
    """Bytes as a column of hexadecimal texts, each `width` digits long."""
    text = data.hex().encode()
    places = np.arange(0, len(text) + 1, width, dtype=np.int64)
    return pyarrow.LargeStringArray.from_buffers(
        len(text) // width, pyarrow.py_buffer(places), pyarrow.py_buffer(text)
    )

"""The registry of record keys as a load uses it: a chunk's keys looked up, its new ones added, its known ones noted.

A feed's first large file meets an empty registry: there only its own keys can be known, and a filter in memory tells
nearly all new ones from them. The feed's lock, which the file holds, keeps others from adding any.

Everything goes in PostgreSQL's binary format and in the order of the registry's primary key: measured, that takes half
of the server's time. https://www.postgresql.org/docs/18/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import psycopg
import pyarrow
import pyarrow.compute as pc
from psycopg.abc import Buffer

from pipelines.ingestion import binary
from pipelines.ingestion.columns import NULL, Column, flat, joined, where
from pipelines.ingestion.key_filter import KeyFilter
from resources.database import Connection
from resources.sql import Queries

QUERIES = Queries.of("pipelines.ingestion")
_UUID_OID, _BIGINT_OID = 2950, 20


class Known(NamedTuple):
    """Which rows of a chunk the registry knows: those with a known key, and those that are its only known version."""

    by_key: Column
    as_they_are: Column


class Entries(NamedTuple):
    """Rows of a chunk as records of COPY into the registry, in its order, with their places in the chunk."""

    places: Any
    records: Column

    def only(self, wanted: Any) -> "Entries":
        """The entries of the rows whose places are true in `wanted`."""
        is_wanted = wanted[self.places]
        return Entries(self.places[is_wanted], self.records.filter(pyarrow.array(is_wanted)))


class Registry:
    """The registry for one file. Works inside the file's transaction, under the feed's lock."""

    def __init__(self, connection: Connection, parameters: Mapping[str, Any], bulk_bytes: int | None) -> None:
        """`parameters`: feed_id, load_id, landing_day and file_name; `bulk_bytes`: the size of a large file."""
        self._connection = connection
        self._parameters = parameters
        self._cursor = connection.cursor(binary=True)
        self._cursor.adapters.register_dumper(_Array, _ArrayDumper)
        # Where nothing is known of a feed, its large file only meets keys of its own: few of them are looked up then.
        is_first = bulk_bytes is not None and self._is_empty()
        self._own_keys = KeyFilter(bulk_bytes or 0) if is_first else None

    def candidates(self, rows: Any) -> Column:
        """The keys of a chunk's rows that the registry may have, sorted. To be asked of every chunk, in their order.

        Asks PostgreSQL for nothing.
        """
        keys = flat(rows["key_hash"])
        if self._own_keys is not None:
            hashes = binary.hashes(keys)
            may_be_known = self._own_keys.may_hold(hashes)
            self._own_keys.add(hashes)
            keys = keys.filter(pyarrow.array(may_be_known))
        return keys.take(pc.sort_indices(keys))

    def find(self, rows: Any, candidates: Column) -> Known:
        """Look the keys of a chunk's rows up, of which only `candidates` may be there."""
        found = self._versions(candidates) if len(candidates) else None
        if not found:
            nobody = pyarrow.repeat(pyarrow.scalar(False), rows.num_rows)
            return Known(nobody, nobody)
        keys = flat(rows["key_hash"])
        versions = _hex_of(found, 64)
        counts = pc.value_counts(pc.utf8_slice_codeunits(versions, 0, 32))
        single = counts.field("values").filter(pc.equal(counts.field("counts"), 1))
        pairs = joined([keys, flat(rows["content_hash"])], "")
        return Known(
            pc.is_in(keys, value_set=counts.field("values")),
            pc.and_(pc.is_in(pairs, value_set=versions), pc.is_in(keys, value_set=single)),
        )

    def _versions(self, keys: Column) -> bytes | None:
        """Key and content of the versions that are there, None if there are none."""
        with self._by_index():
            query = {**self._parameters, "keys": _uuids(keys)}
            row = self._cursor.execute(QUERIES["known_versions"], query).fetchone()
        return cast("bytes | None", row[0] if row else None)

    def _is_empty(self) -> bool:
        with self._by_index():
            row = self._connection.execute(QUERIES["has_entries"], self._parameters).fetchone()
        return not cast("tuple[bool]", row)[0]

    def entries(self, rows: Any) -> Entries:
        """The entries of new rows. Raises `pyarrow.ArrowInvalid` where a revision is no 64-bit number."""
        order = pc.sort_indices(flat(rows["key_hash"]))
        names = ("key_hash", "content_hash", "event_on", "revision", "last_ordinal")
        keys, contents, days, revisions, ordinals = (flat(rows[name].take(order)) for name in names)
        has_revision = pc.not_equal(revisions, NULL)
        columns = [
            np.array(self._parameters["feed_id"], ">i4"),
            binary.hashes(keys), binary.hashes(contents), binary.days(days),
            binary.integers(">i8", where(has_revision, revisions)),
            binary.day(self._parameters["landing_day"]), np.array(self._parameters["load_id"], ">i8"),
            binary.integers(">i8", ordinals),
        ]  # fmt: skip
        return Entries(order.to_numpy(), binary.records(columns, rows.num_rows))

    def add(self, entries: Entries) -> None:
        """Enter new rows."""
        with self._connection.cursor().copy(QUERIES["copy_new_keys"]) as copy:
            copy.write(binary.message(entries.records))

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
    return _Array.of(_UUID_OID, binary.hashes(column))


def _hex_of(data: bytes, width: int) -> Column:
    """Bytes as a column of hexadecimal texts, each `width` digits long."""
    text = data.hex().encode()
    places = np.arange(0, len(text) + 1, width, dtype=np.int64)
    return pyarrow.LargeStringArray.from_buffers(
        len(text) // width, pyarrow.py_buffer(places), pyarrow.py_buffer(text)
    )

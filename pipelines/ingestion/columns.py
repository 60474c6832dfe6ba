"""Columns of texts at work: joined, hashed, made into COPY's text, without a step of Python for a value.

All columns are Arrow large strings (64-bit offsets: a chunk may hold more than 2 GiB); null is SQL's NULL. Arrow lets
go of the GIL, so that parsing goes on while PostgreSQL works. https://arrow.apache.org/docs/python/compute.html
"""

import array
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, overload

import pyarrow
import pyarrow.compute as pc

TEXT = pyarrow.large_string()
NULL = "\\N"
Column = Any  # pyarrow.Array, which has no types for mypy
_HASH_BYTES = 16
_EMPTY_HASH = blake2b(digest_size=_HASH_BYTES)


class Row(NamedTuple):
    """One record ready for COPY: its identity, its event day, its place among versions, its escaped fields by column.

    A tombstone says that the record is deleted; it is a version without a row in the table.
    """

    key_hash: str
    content_hash: str
    event_on: str
    revision: str
    fields: Mapping[str, str | None]
    is_tombstone: bool = False


class Rows(Sequence[Row]):
    """Rows as columns: `table` has one column for each field of `Row`."""

    def __init__(self, table: Any) -> None:
        self.table = table

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """Rows (at least one) that were made one by one."""
        *identity, fields, marks = map(list, zip(*rows, strict=True))
        kind = pyarrow.struct([(name, TEXT) for name in fields[0]])
        made = [*map(texts, identity), pyarrow.array(fields, kind), pyarrow.array(marks, pyarrow.bool_())]
        return cls(pyarrow.table(made, names=Row._fields))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows": ...
    def __getitem__(self, index: int | slice) -> "Row | Rows":
        if isinstance(index, slice):
            return Rows(self.table.take(pyarrow.array(range(*index.indices(len(self))), pyarrow.int64())))
        return Row(*(column[index].as_py() for column in self.table.columns))

    def __iter__(self) -> Iterator[Row]:
        return map(Row._make, zip(*(column.to_pylist() for column in self.table.columns), strict=True))


def texts(values: Iterable[str | None]) -> Column:
    """A column of texts."""
    return pyarrow.array(values, TEXT)


def repeated(value: str, size: int) -> Column:
    """A column that has one text in every row."""
    return pyarrow.repeat(pyarrow.scalar(value, TEXT), size)


def where(holds: Column, column: Column) -> Column:
    """The column's values where `holds`, NULL elsewhere."""
    if holds.null_count == 0 and pc.all(holds).as_py():
        return column
    return pc.if_else(holds, column, pyarrow.scalar(None, TEXT))


def joined(columns: Sequence[Column | str], separator: str) -> Column:
    """The columns' texts of each row with `separator` between them; NULL is written as COPY writes it."""
    parts = [pyarrow.scalar(part, TEXT) if isinstance(part, str) else part for part in (*columns, separator)]
    return pc.binary_join_element_wise(*parts, null_handling="replace", null_replacement=NULL)


def labelled(names: Sequence[str], columns: Sequence[Column], size: int) -> Column:
    """`name=text` and a tab for each column that has a text, in the order given."""
    parts: list[Any] = []
    for name, column in zip(names, columns, strict=True):
        if column.null_count == len(column):
            continue
        label, end = pyarrow.scalar(f"{name}=", TEXT), pyarrow.scalar("\t", TEXT)
        nothing = pyarrow.scalar("", TEXT)
        if column.null_count:
            parts.append(pc.fill_null(pc.binary_join_element_wise(label, column, end, nothing), ""))
        else:
            parts += [label, column, end]
    if not parts:
        return repeated("", size)
    return pc.binary_join_element_wise(*parts, pyarrow.scalar("", TEXT))


def hashed(column: Column) -> Column:
    """128 bits of BLAKE2b (RFC 7693) of each text as 32 hexadecimal digits, which PostgreSQL reads as a UUID."""
    column = flat(column)
    if column.offset or column.null_count:
        raise ValueError("a column that is hashed begins at its first value and has no NULL")
    size = len(column)
    if not size:
        return column
    _, offsets, data = column.buffers()
    ends = memoryview(offsets).cast("q")[: size + 1].tolist()
    text = memoryview(data or b"")
    digests = []
    for start, end in itertools.pairwise(ends):
        state = _EMPTY_HASH.copy()  # two thirds of the time that making one takes
        state.update(text[start:end])
        digests.append(state.digest())
    width = 2 * _HASH_BYTES
    places = array.array("q", range(0, width * size + 1, width))
    return pyarrow.LargeStringArray.from_buffers(
        size, pyarrow.py_buffer(places), pyarrow.py_buffer(b"".join(digests).hex().encode())
    )


def copy_text(columns: Sequence[Column | str]) -> bytes:
    """Rows in COPY's text format. The texts are escaped already (`values.escape`)."""
    return bytes(text_of(copy_lines(columns)))


def copy_lines(columns: Sequence[Column | str]) -> Column:
    """The rows' lines in COPY's text format, from which some can be taken before they become one text."""
    return flat(joined([joined([_as_text(column) for column in columns], "\t"), ""], "\n"))


def text_of(column: Column) -> memoryview:
    """The texts of a column without NULL, one after the other, as they lie in its buffer."""
    column = flat(column)
    data = column.buffers()[2]
    if data is None:
        return memoryview(b"")
    ends = memoryview(column.buffers()[1]).cast("q")
    return memoryview(data)[ends[column.offset] : ends[column.offset + len(column)]]


def flat(column: Column) -> Column:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column


def _as_text(column: Column | str) -> Column | str:
    if isinstance(column, str):
        return column
    column = flat(column)
    return column if column.type == TEXT else column.cast(TEXT)

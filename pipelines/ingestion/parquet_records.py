"""Rows of Parquet files as Python values that say what the file says: every digit, no nanoseconds, no noise.

What Python has no value for costs its row, not the file. https://parquet.apache.org/docs/file-format/types/
"""

import functools
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from pipelines.ingestion.csv_records import Record
from pipelines.ingestion.errors import UnreadableFileError
from pipelines.ingestion.lines import RAW_TEXT_LIMIT
from pipelines.ingestion.numbers import FEWEST_NOISY_DIGITS, ExactDecimal, not_finite

_WHOLE_SINGLES = 2.0**24  # from here on numbers of single precision have no decimals


class ParquetRecords:
    """Rows of a Parquet file, batch by batch. `line` is the row's number, from 1."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._spool = tempfile.TemporaryFile(prefix="longbox-")  # noqa: SIM115 - lives as long as the reader
        for chunk in chunks:
            self._spool.write(chunk)
        try:
            self._file = pq.ParquetFile(self._spool)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableFileError(
                "unreadable",
                f"it is not a readable Parquet file ({error})",
                "land it again",
            ) from None
        schema = self._file.schema_arrow
        self.header = list(schema.names)
        self.types = {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
        self.decimals = [name for name, kind in self.types.items() if "decimal" in kind]
        self.line = 0
        self._row: Record = ()

    def raw_text(self) -> str:
        return self.text_of(self._row)

    def raw_lines(self) -> Any:
        return self._row

    def text_of(self, raw_lines: Any) -> str:
        return _json_text(dict(zip(self.header, raw_lines, strict=True)))[:RAW_TEXT_LIMIT]

    def pieces(self) -> Iterator[Record]:
        return iter(self)

    def __iter__(self) -> Iterator[Record]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(batch_size=8192):
                columns = [_plain_values(batch.column(index)) for index in range(batch.num_columns)]
                for row in zip(*columns, strict=True):
                    self.line += 1
                    self._row = row
                    yield row
        except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
            raise UnreadableFileError(
                "unreadable", f"its data is damaged ({error})", "land it again"
            ) from None


def _plain_values(column: Any) -> list[Any]:
    """A column's values as Python values; nanoseconds, which Python lacks, are cut to microseconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    coarse = _in_microseconds(column.type)
    if coarse != column.type:
        column = pc.cast(column, coarse, safe=False)
    if pa.types.is_float32(column.type):
        column = _single_precision(column)
    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    except (ValueError, KeyError, OverflowError):  # a year past 9999, a map with a key twice: one row's fault
        values = [_plain_value(scalar) for scalar in column]
    mend = _mender(column.type)
    return values if mend is None else [_mended(mend, value) for value in values]


def _in_microseconds(kind: Any) -> Any:
    """An Arrow type with microseconds for nanoseconds, also in what is nested."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us") if kind.unit == "ns" else kind
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_in_microseconds(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_in_microseconds(kind.key_type), _in_microseconds(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_in_microseconds(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_in_microseconds(kind.value_type)))
    return kind


def _single_precision(column: Any) -> Any:
    """Numbers of single precision as texts: 1.1 so, which is 1.100000023841858 as a double; large ones exactly."""
    import pyarrow as pa
    import pyarrow.compute as pc

    doubles = pc.cast(column, pa.float64())
    size = pc.abs(doubles)
    is_large = pc.and_(
        pc.greater_equal(size, _WHOLE_SINGLES), pc.less(size, 2.0**63)
    )  # 123456792, not the shorter 123456790
    whole = pc.cast(pc.if_else(is_large, doubles, 0.0), pa.int64())
    shortest = pc.cast(column, pa.string())
    for number, name in ((math.inf, "Infinity"), (-math.inf, "-Infinity")):
        shortest = pc.if_else(pc.equal(column, pa.scalar(number, pa.float32())), name, shortest)
    shortest = pc.if_else(pc.is_nan(column), "NaN", shortest)
    return pc.if_else(is_large, pc.cast(whole, pa.string()), shortest)


def _mender(kind: Any) -> Callable[[Any], Any] | None:
    """What makes of Python's value of an Arrow type the one that was meant; None where it is that already."""
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return ExactDecimal if kind.scale and kind.precision >= FEWEST_NOISY_DIGITS else None
    if pa.types.is_float32(kind):  # of what is nested; whole columns of them are texts already
        return _single
    if pa.types.is_struct(kind):
        menders = {field.name: mend for field in kind if (mend := _mender(field.type)) is not None}
        return functools.partial(_mended_fields, menders) if menders else None
    if pa.types.is_map(kind):
        mend = _mender(kind.item_type)
        return None if mend is None else functools.partial(_mended_entries, mend)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        mend = _mender(kind.value_type)
        return None if mend is None else functools.partial(_mended_items, mend)
    return None


def _mended(mend: Callable[[Any], Any], value: Any) -> Any:
    return value if value is None or isinstance(value, OddValue) else mend(value)


def _mended_fields(menders: Mapping[str, Callable[[Any], Any]], fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {name: _mended(mend, fields[name]) for name, mend in menders.items()}


def _mended_entries(mend: Callable[[Any], Any], entries: dict[Any, Any]) -> dict[Any, Any]:
    return {key: _mended(mend, value) for key, value in entries.items()}


def _mended_items(mend: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [_mended(mend, item) for item in items]


def _single(number: float) -> float | Decimal:
    """A number of single precision with the digits that `_single_precision` gives it."""
    import numpy as np

    if not math.isfinite(number):
        return number
    return (
        Decimal(int(number)) if _WHOLE_SINGLES <= abs(number) < 2.0**63 else Decimal(str(np.float32(number)))
    )


def _plain_value(scalar: Any) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except (ValueError, KeyError, OverflowError) as error:
        return OddValue(f"{scalar.type}: {' '.join(map(str, error.args))}")


class OddValue:
    """A value that Python has nothing for. No column takes it, but the rest of its row, and its file, can be read."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __repr__(self) -> str:
        return self._what


def _json_text(value: Any) -> str:
    """A row as JSON from which it can be read again: numbers keep their digits, bytes are hexadecimal."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{_json_text(str(key))}: {_json_text(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_json_text, value)) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(value, float) and not math.isfinite(value):
        value = not_finite(value)  # JSON has no word for it
    if isinstance(value, bytes):
        value = f"\\x{value.hex()}"
    return json.dumps(value, default=str, ensure_ascii=False)

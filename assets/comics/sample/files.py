"""The formats in which the invented marketplaces send their sales: one writer each, streaming, reproducible.

A writer takes a row of texts (or a broken line) and writes compressed bytes; the same rows give the same bytes, so
no file carries a time or a name of its own. Add a format as one more writer in `open_writer`.
"""

import bz2
import csv
import datetime as dt
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Protocol, Self, cast

COLUMNS = (
    "listing_id", "marketplace", "title", "condition", "price", "currency", "sold_at", "updated_at", "seller", "url",
    "format", "attributes",
)  # fmt: skip
ROWS_PER_GROUP = 5_000


@dataclass(frozen=True)
class Layout:
    """How a marketplace writes its files."""

    suffix: str  # csv, tsv, jsonl, parquet
    compression: str = ""  # gz, zst, bz2
    delimiter: str = ","
    quote_all: bool = False
    line_end: str = "\n"
    time_separator: str = "T"
    time_suffix: str = "Z"
    utc_offset_hours: int = 0

    @property
    def extension(self) -> str:
        """The end of a file's name."""
        return f"{self.suffix}.{self.compression}" if self.compression else self.suffix

    @property
    def is_text(self) -> bool:
        """Whether any text can stand where a number or a time belongs."""
        return self.suffix != "parquet"

    @property
    def is_csv(self) -> bool:
        """Whether a row can have too many fields."""
        return self.suffix in ("csv", "tsv")

    def time_text(self, moment: dt.datetime) -> str:
        """`moment` (UTC) as the marketplace writes it."""
        if self.utc_offset_hours:
            moment += dt.timedelta(hours=self.utc_offset_hours)
        return moment.isoformat(self.time_separator) + self.time_suffix


class Writer(Protocol):
    """Takes the rows of one file; closing it completes the file."""

    def row(
        self, values: Mapping[str, Any], *, extra_field: bool = False, broken_byte: bool = False
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_writer(path: Path, layout: Layout) -> Writer:
    """The writer of a new file at `path`."""
    return ParquetWriter(path) if layout.suffix == "parquet" else TextWriter(path, layout)


class TextWriter:
    """CSV or JSON Lines, compressed as the layout says."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._layout = layout
        self._raw = path.open("wb")
        self._file = _compressor(self._raw, layout.compression)
        self._line = io.StringIO(newline="")
        quoting: Literal[0, 1] = csv.QUOTE_ALL if layout.quote_all else csv.QUOTE_MINIMAL
        self._csv = csv.writer(
            self._line, delimiter=layout.delimiter, quoting=quoting, lineterminator=layout.line_end
        )
        if layout.is_csv:
            self._csv.writerow(COLUMNS)
            self._flush(broken_byte=False)

    def row(self, values: Mapping[str, Any], *, extra_field: bool = False, broken_byte: bool = False) -> None:
        """Write one record; `extra_field` gives it one field too many, `broken_byte` a byte that is no UTF-8."""
        if self._layout.is_csv:
            fields = [values[name] for name in COLUMNS]
            self._csv.writerow([*fields, "?"] if extra_field else fields)
        else:
            record = {name: value for name in COLUMNS if (value := values[name]) != ""}
            record["attributes"] = json.loads(values["attributes"])
            record["price"] = _json_number(values["price"])
            self._line.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._flush(broken_byte)

    def _flush(self, broken_byte: bool) -> None:
        data = self._line.getvalue().encode()
        self._line.seek(0)
        self._line.truncate()
        if broken_byte:
            # In the middle of the title, whose first word is plain ASCII in every record.
            place = data.index(b"#") if b"#" in data else len(data) // 2
            data = data[:place] + b"\xff" + data[place:]
        self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not self._raw:
            self._file.close()
        self._raw.close()


class ParquetWriter:
    """Typed columns, in row groups of `ROWS_PER_GROUP`."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        moment = pa.timestamp("us", "UTC")
        types = {"price": pa.decimal128(12, 2), "sold_at": moment, "updated_at": moment}
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._start_group()

    def row(self, values: Mapping[str, Any], *, extra_field: bool = False, broken_byte: bool = False) -> None:
        """Write one record. A typed file cannot have a field too many or a broken byte."""
        if extra_field or broken_byte:
            raise ValueError("Parquet has neither extra fields nor broken bytes")
        self._csv.writerow([values[name] for name in COLUMNS])
        self._rows += 1
        if self._rows >= ROWS_PER_GROUP:
            self._flush()

    def _start_group(self) -> None:
        # Arrow types the texts of a CSV by itself; building a table from Python objects would import pandas (1 s).
        self._text, self._rows = io.StringIO(newline=""), 0
        self._csv = csv.writer(self._text, lineterminator="\n")

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.csv as arrow_csv

        if self._rows:
            table = arrow_csv.read_csv(
                pa.BufferReader(self._text.getvalue().encode()),
                arrow_csv.ReadOptions(column_names=list(COLUMNS), block_size=64 << 20, use_threads=False),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=self._schema, null_values=[""], strings_can_be_null=True
                ),
            )
            self._writer.write_table(table)
            self._start_group()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def _compressor(raw: IO[bytes], compression: str) -> IO[bytes]:
    if compression == "gz":
        return cast(IO[bytes], gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0))
    if compression == "bz2":
        return cast(IO[bytes], bz2.BZ2File(raw, "wb"))
    if compression == "zst":
        try:
            from compression import zstd  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            from backports import zstd
        return cast(IO[bytes], zstd.ZstdFile(raw, "wb"))
    return raw


def _json_number(text: str) -> float | int | str:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text

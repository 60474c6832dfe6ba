"""The record formats of landed files: CSV of any sane dialect, JSON Lines, Parquet. Streaming, bounded memory.

Each reader yields records, one by one or a regular block of them at once (`pieces`), and remembers where the last one
stood (`line`, `raw_text`), so that a bad row can be quarantined with its text. A reader yields `BadRecord` in place of
a record that it cannot take apart. Add a format as one more reader in `open_records`; decompression happens before, in
`decode`.
"""

import codecs
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Protocol

from pipelines.ingestion.canonical_json import read_json
from pipelines.ingestion.csv_records import Block, CsvRecords, Record
from pipelines.ingestion.errors import BadRecord, UnreadableFileError
from pipelines.ingestion.lines import RAW_TEXT_LIMIT, Lines, fault_of_text

_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{")  # how an object begins, or a list of some


class Records(Protocol):
    """Records of one file. `header` are its column names; `line` and `raw_text()` tell of the last record.

    `raw_lines()` is a cheap token of the last record's text, from which `text_of` makes the text when it is needed.
    """

    header: list[str]
    line: int

    def __iter__(self) -> Iterator[Record | BadRecord]: ...
    def pieces(self) -> Iterator[Record | BadRecord | Block]: ...
    def raw_text(self) -> str: ...
    def raw_lines(self) -> Any: ...
    def text_of(self, raw_lines: Any) -> str: ...


def open_records(
    chunks: Iterator[bytes],
    head: bytes,
    file_name: str,
    *,
    encoding: str,
    delimiter: str | None,
    wanted: Sequence[str],
) -> Records:
    """The reader that fits the content (`head` are its first bytes) and, failing that, the file's name.

    `wanted` are the column names that the feed knows; JSON Lines has no header of its own, and a CSV's delimiter
    is the one under which most of them are found. Raises `UnreadableFileError`.
    """
    if head.startswith(b"PAR1"):
        return ParquetRecords(chunks)
    suffixes = {suffix.lower() for suffix in PurePosixPath(file_name).suffixes}
    if ".parquet" in suffixes:
        raise UnreadableFileError(
            "unreadable",
            "it is named .parquet but is not a Parquet file",
            "land a Parquet file",
        )
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and encoding == "utf-8":
        encoding = "utf-16"
    lines = Lines(chunks, encoding)
    if _JSON.match(head) or suffixes & {
        ".jsonl",
        ".ndjson",
        ".json",
    }:
        return JsonRecords(lines, wanted)
    return CsvRecords(lines, delimiter, wanted)


class JsonRecords:
    """One JSON object a line. Numbers keep their decimal text; the columns are those the feed knows."""

    def __init__(self, lines: Lines, wanted: Sequence[str]) -> None:
        self._lines = lines
        self._wanted = list(wanted)
        self.header = list(wanted)
        self.unknown: set[str] = set()
        self.seen: set[str] = set()  # those of the wanted names that a record had
        self.line = 0
        self._text = ""

    def raw_text(self) -> str:
        return self.text_of(self._text)

    def raw_lines(self) -> Any:
        return self._text

    def text_of(self, raw_lines: Any) -> str:
        return str(raw_lines)[:RAW_TEXT_LIMIT]

    def pieces(self) -> Iterator[Record | BadRecord | Block]:
        return iter(self)

    def __iter__(self) -> Iterator[Record | BadRecord]:
        wanted, known = self._wanted, set(self._wanted)
        last: Any = None
        for text in self._lines:
            self._text, self.line = text, self._lines.number
            if not text.strip():
                continue
            if fault := self._lines.faults.pop(self.line, None):
                yield fault
                continue
            try:
                item = read_json(text)
            except (ValueError, RecursionError) as error:
                if last is None and text.lstrip().startswith("["):
                    raise _one_list() from None
                yield BadRecord(
                    "malformed",
                    f"the line is not valid JSON ({error})",
                    "write one JSON object a line",
                )
                continue
            if not isinstance(item, dict):
                if last is None and isinstance(item, list) and all(isinstance(one, dict) for one in item):
                    raise _one_list()
                yield BadRecord(
                    "malformed",
                    "the line is not a JSON object",
                    "write one JSON object a line",
                )
                continue
            if item.keys() != last:  # nearly all records of a file have the same names
                last = item.keys()
                self.seen.update(last & known)
                if len(self.unknown) < 1000:
                    self.unknown.update(last - known)
            yield [item.get(name) for name in wanted]


def _one_list() -> UnreadableFileError:
    return UnreadableFileError(
        "unreadable", "it is one JSON list", "land one JSON object a line, as `jq -c '.[]'` writes them"
    )


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
        self.line = 0
        self._row: Record = ()

    def raw_text(self) -> str:
        return self.text_of(self._row)

    def raw_lines(self) -> Any:
        return self._row

    def text_of(self, raw_lines: Any) -> str:
        values = dict(zip(self.header, raw_lines, strict=True))
        return json.dumps(values, default=str, ensure_ascii=False).replace("\\u0000", "\ufffd")[
            :RAW_TEXT_LIMIT
        ]

    def pieces(self) -> Iterator[Record | BadRecord | Block]:
        return iter(self)

    def __iter__(self) -> Iterator[Record | BadRecord]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(batch_size=8192):
                columns = [_plain_values(batch.column(index)) for index in range(batch.num_columns)]
                for row in zip(*columns, strict=True):
                    self.line += 1
                    self._row = row
                    fault = next(
                        (fault_of_text(v) for v in row if isinstance(v, str) and fault_of_text(v)),
                        None,
                    )
                    yield fault if fault is not None else row
        except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
            raise UnreadableFileError(
                "unreadable", f"its data is damaged ({error})", "land it again"
            ) from None


def _plain_values(column: Any) -> list[Any]:
    """A column's values as Python values; nanosecond times, which Python lacks, are cut to microseconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.cast(column, pa.timestamp("us", column.type.tz), safe=False)
    if pa.types.is_float32(column.type):
        column = pc.cast(column, pa.string())  # 1.1, which as a double would be 1.100000023841858
    values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    return values

"""The record formats of landed files: CSV of any sane dialect, JSON Lines, Parquet. Streaming, bounded memory.

Each reader yields records one by one and remembers where the last one stood (`line`, `raw_text`), so that a bad
row can be quarantined with its text. A reader yields `BadRecord` in place of a record that it cannot take apart.
Add a format as one more reader in `open_records`; decompression happens before, in `decode`.
"""

import codecs
import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Protocol

from pipelines.ingestion.canonical_json import read_json
from pipelines.ingestion.errors import BadRecord, UnreadableFileError

MAX_LINE_BYTES = 16 << 20
MAX_RECORD_LINES = 10_000
RAW_TEXT_LIMIT = 64 << 10  # of a quarantined row; the whole of it stays in the landed file
CANDIDATE_DELIMITERS = ",;\t|"
csv.field_size_limit(MAX_LINE_BYTES)

Record = Sequence[Any]


class Records(Protocol):
    """Records of one file. `header` are its column names; `line` and `raw_text()` tell of the last record.

    `raw_lines()` is a cheap token of the last record's text, from which `text_of` makes the text when it is needed.
    """

    header: list[str]
    line: int

    def __iter__(self) -> Iterator[Record | BadRecord]: ...
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
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") or suffixes & {
        ".jsonl",
        ".ndjson",
        ".json",
    }:
        return JsonRecords(lines, wanted)
    return CsvRecords(lines, delimiter, wanted)


class Lines:
    """The lines of a text, with their ends, from chunks of bytes. A fault of a line is kept in `faults` by number."""

    def __init__(self, chunks: Iterator[bytes], encoding: str) -> None:
        self._chunks = chunks
        self._encoding = encoding
        self.faults: dict[int, BadRecord] = {}
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        decode = self._decoder()
        rest, first = "", True
        for chunk in self._chunks:
            text = decode(chunk, False)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            suspect = "\0" in text or "\0" in rest or _surrogates(text) or _surrogates(rest)
            pieces = text.split("\n")
            # A line past the limit stops growing: it will be quarantined, and memory stays bounded.
            pieces[0] = rest + pieces[0] if len(rest) <= MAX_LINE_BYTES else rest
            rest = pieces.pop()
            yield from self._number(pieces, suspect, "\n")
        rest += decode(b"", True)
        if rest:
            yield from self._number([rest], True, "")

    def _decoder(self) -> Callable[[bytes, bool], str]:
        decoder = codecs.getincrementaldecoder(self._encoding)(errors="surrogateescape")

        def decode(data: bytes, final: bool) -> str:
            try:
                return decoder.decode(data, final)
            except (
                UnicodeError
            ) as error:  # an encoding in which a bad byte leaves no way to tell where text goes on
                raise UnreadableFileError(
                    "unreadable",
                    f"after line {self.number} it is not {self._encoding} text ({error})",
                    "write UTF-8, or declare `encoding` in the feed",
                ) from None

        return decode

    def _number(self, lines: list[str], suspect: bool, end: str) -> Iterator[str]:
        for line in lines:
            self.number += 1
            if len(line) > MAX_LINE_BYTES:
                self.faults[self.number] = BadRecord(
                    "too_long",
                    f"the line is longer than {MAX_LINE_BYTES} characters",
                    "split it into records",
                )
                line = line[:RAW_TEXT_LIMIT].replace('"', "'")  # a quote must not open a record here
            elif suspect and (fault := _fault_of_text(line)) is not None:
                self.faults[self.number] = fault
            yield line + end


def _surrogates(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _fault_of_text(line: str) -> BadRecord | None:
    if "\0" in line:
        return BadRecord(
            "nul_byte",
            f"a NUL byte at character {line.index(chr(0)) + 1}",
            "remove it in the feed",
        )
    if _surrogates(line):
        return BadRecord(
            "invalid_text",
            "bytes that are not valid in the feed's encoding",
            "write UTF-8, or declare `encoding`",
        )
    return None


class CsvRecords:
    """Records of a CSV text. Quoted fields may hold delimiters and newlines; an unclosed quote costs one line only."""

    def __init__(self, lines: Lines, delimiter: str | None, wanted: Sequence[str]) -> None:
        self._lines = lines
        self._source = iter(lines)
        self._pending: list[str] = []
        self.line = 0
        first = next((line for line in self._source if line.strip()), "")
        self.delimiter = delimiter or _delimiter_of(first, wanted)
        self.line = lines.number
        if lines.faults:
            raise UnreadableFileError(
                "unreadable",
                "its header line is not valid text",
                "land a text file with a header",
            )
        try:
            self.header = [name.strip() for name in next(csv.reader([first], delimiter=self.delimiter), [])]
        except csv.Error as error:
            raise UnreadableFileError(
                "unreadable", f"its header cannot be parsed ({error})", "write a header"
            ) from None

    def raw_text(self) -> str:
        return self.text_of(self._pending)

    def raw_lines(self) -> Any:
        pending = self._pending
        return pending[0] if len(pending) == 1 else tuple(pending)

    def text_of(self, raw_lines: Any) -> str:
        return "".join(raw_lines)[:RAW_TEXT_LIMIT]

    def __iter__(self) -> Iterator[Record | BadRecord]:
        again: list[str] = []  # lines to read once more after an unclosed quote
        while True:
            replay, again = again, []
            yield from self._parse(iter(replay), again, self._lines.number - len(replay))
            if not again:
                return

    def _parse(self, replay: Iterator[str], again: list[str], before: int) -> Iterator[Record | BadRecord]:
        """Parse the lines of `replay` and then of the file; on a runaway quote leave the lines after it in `again`."""
        pending, faults, width = self._pending, self._lines.faults, len(self.header)
        reader = csv.reader(self._feed(replay), delimiter=self.delimiter, strict=True)
        consumed = 0
        while True:
            pending.clear()
            self.line = before + consumed + 1
            problem: BadRecord | None = None
            row: list[str] = []
            try:
                row = next(reader)
            except StopIteration:
                return
            except (csv.Error, _RunawayError) as error:
                if len(pending) > 1 or isinstance(error, _RunawayError):
                    again.extend(pending[1:])
                    again.extend(replay)
                    del pending[1:]
                    yield BadRecord(
                        "malformed",
                        "a quote is opened and never closed",
                        'close it, or double it: ""',
                    )
                    return
                problem = BadRecord(
                    "malformed",
                    f"the line is not valid CSV ({error})",
                    "quote the field",
                )
            consumed = reader.line_num
            if faults and (
                found := [faults.pop(n) for n in range(self.line, before + consumed + 1) if n in faults]
            ):
                problem = found[0]
            if problem is not None:
                yield problem
            elif len(row) == width:
                yield row
            elif row and (len(row) > 1 or row[0].strip()):
                yield BadRecord(
                    "column_count",
                    f"{len(row)} fields, the header has {width}",
                    "quote fields that hold the delimiter",
                )

    def _feed(self, replay: Iterator[str]) -> Iterator[str]:
        pending, size = self._pending, 0
        for source in (replay, self._source):
            for line in source:
                pending.append(line)
                if len(pending) == 1:
                    size = 0
                size += len(line)
                if len(pending) > MAX_RECORD_LINES or size > MAX_LINE_BYTES + 1:
                    raise _RunawayError
                yield line


class _RunawayError(Exception):
    """A record swallows line after line: its quote is never closed."""


def _delimiter_of(header: str, wanted: Sequence[str]) -> str:
    known = {name.casefold() for name in wanted}

    def score(delimiter: str) -> tuple[int, int]:
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            return (0, 0)
        return (
            sum(name.strip().casefold() in known for name in names),
            header.count(delimiter),
        )

    return max(CANDIDATE_DELIMITERS, key=score)


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
                yield BadRecord(
                    "malformed",
                    f"the line is not valid JSON ({error})",
                    "write one JSON object a line",
                )
                continue
            if not isinstance(item, dict):
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

    def __iter__(self) -> Iterator[Record | BadRecord]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(batch_size=8192):
                columns = [_plain_values(batch.column(index)) for index in range(batch.num_columns)]
                for row in zip(*columns, strict=True):
                    self.line += 1
                    self._row = row
                    fault = next(
                        (_fault_of_text(v) for v in row if isinstance(v, str) and _fault_of_text(v)),
                        None,
                    )
                    yield fault if fault is not None else row
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
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
    values: list[Any] = column.to_pylist()
    return values

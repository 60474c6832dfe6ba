"""CSV of any sane dialect: regular blocks are taken apart at once, all others record by record.

Both ways give the same records with the same lines; what is bad is told by the second alone.
"""

import csv
import functools
import io
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
import pyarrow.compute as pc
import pyarrow.csv

from pipelines.ingestion.columns import TEXT, Column, flat, texts
from pipelines.ingestion.errors import BadRecord, UnreadableFileError
from pipelines.ingestion.lines import MAX_LINE_BYTES, RAW_TEXT_LIMIT, Lines

# Of a record's lines while they are read, as they lie in memory: short ones take several times their text. A million of
# them, or 16 Mi characters of any width, are below it; the lines after a quote that is never closed are read twice.
MAX_RECORD_BYTES = 64 << 20
CANDIDATE_DELIMITERS = ",;\t|"
csv.field_size_limit(MAX_LINE_BYTES)

Record = Sequence[Any]
REPEATED_HEADER = BadRecord(
    "repeated_header",
    "the line is the header again",
    "write the header once, at the top; no record is missing: `longbox quarantine dismiss` writes the line off",
)


@dataclass(frozen=True)
class Block:
    """Regular records, one a line, as columns of texts. `text` are their lines, from line `first_line` on."""

    columns: Sequence[Column]
    first_line: int
    text: str

    def __len__(self) -> int:
        return len(self.columns[0])

    def text_of(self, position: int) -> str:
        """The text of one of the records, as much of it as quarantine keeps."""
        end = "\n" if position + 1 < len(self._lines) else ""
        return (self._lines[position] + end)[:RAW_TEXT_LIMIT]

    @functools.cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")


class CsvRecords:
    """Records of a CSV text. Quoted fields may hold delimiters and newlines; an unclosed quote costs one line only.

    `names` are those of the columns of a text without a header line; one whose first line is names for the most
    part has one after all.
    """

    def __init__(
        self, lines: Lines, delimiter: str | None, wanted: Sequence[str], names: Sequence[str] = ()
    ) -> None:
        self._lines = lines
        self._source = iter(lines)
        self._pending: list[str] = []
        self.line = 0
        if names:
            first = lines.peek()
            self.delimiter = delimiter or _delimiter_of_fields(first, len(names))
            cells = _cells(first, self.delimiter, is_header=False)
            known = {name.casefold() for name in (*names, *wanted)}
            if 2 * len({cell.strip().casefold() for cell in cells} & known) <= len(names):
                self.header = list(names)
                self._repeated_header = RepeatedHeader(names)
                return
            next(line for line in self._source if line.strip())
        else:
            first = next((line for line in self._source if line.strip()), "")
            self.delimiter = delimiter or _delimiter_of(first, wanted)
            if lines.faults:
                detail = "; ".join(fault.detail for fault in lines.faults.values())
                raise UnreadableFileError(
                    "unreadable",
                    f"its header line is not valid text ({detail})",
                    "land a text file with a header, in UTF-8, or declare its `encoding` in the feed, such as latin-1 "
                    "(utf-16-le where NUL bytes stand between the letters)",
                )
            cells = _cells(first, self.delimiter, is_header=True)
        self.header = [name.strip() for name in cells]
        self._repeated_header = RepeatedHeader(cells)
        self.line = lines.number

    def raw_text(self) -> str:
        return self.text_of(self._pending)

    def raw_lines(self) -> Any:
        pending = self._pending
        return pending[0] if len(pending) == 1 else tuple(pending)

    def text_of(self, raw_lines: Any) -> str:
        return "".join(raw_lines)[:RAW_TEXT_LIMIT]

    def __iter__(self) -> Iterator[Record | BadRecord]:
        while self._lines.begin():
            yield from self._records_of_block()

    def pieces(self) -> Iterator[Record | BadRecord | Block]:
        """The same records, but a block of regular ones is taken apart at once."""
        while self._lines.begin():
            text = self._lines.rest()
            columns = None if text is None else split_block(text, self.delimiter, len(self.header))
            if text is None or columns is None or self._repeated_header.is_among(columns):
                yield from self._records_of_block()
                continue
            self.line = self._lines.number + 1
            self._lines.take(len(columns[0]))
            yield Block(columns, self.line, text)

    def _records_of_block(self) -> Iterator[Record | BadRecord]:
        """Records one by one up to the first that ends where the block ends, or a later one does."""
        again: list[str] = []  # lines to read once more after an unclosed quote
        while True:
            replay, again = deque(again), []
            yield from self._parse(replay, again, self._lines.number - len(replay))
            if not again:
                return

    def _parse(self, replay: deque[str], again: list[str], before: int) -> Iterator[Record | BadRecord]:
        """Parse the lines of `replay`, then of the file; on a runaway quote leave the lines after it in `again`."""
        pending, faults, width = self._pending, self._lines.faults, len(self.header)
        reader = csv.reader(self._feed(replay), delimiter=self.delimiter, strict=True)
        consumed = 0
        while replay or not self._lines.is_at_end:
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
                    yield _unclosed(error)
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
                yield REPEATED_HEADER if self._repeated_header.is_row(row) else row
            elif row and (len(row) > 1 or row[0].strip()):
                yield BadRecord(
                    "column_count",
                    f"{len(row)} fields, the header has {width}",
                    "quote fields that hold the delimiter",
                )

    def _feed(self, replay: deque[str]) -> Iterator[str]:
        pending, size_bytes = self._pending, 0
        while replay or self._lines.begin():
            line = replay.popleft() if replay else next(self._source)
            pending.append(line)
            size_bytes = 0 if len(pending) == 1 else size_bytes + sys.getsizeof(line)
            if size_bytes > MAX_RECORD_BYTES:
                raise _RunawayError
            yield line


class RepeatedHeader:
    """Knows the header where it stands again among the records, as in files that were joined end to end.

    Each cell is as the header has it or without the spaces around it; the first may follow a byte order mark.
    """

    def __init__(self, cells: Sequence[str]) -> None:
        forms = [{cell, cell.strip()} for cell in cells]
        if forms:
            forms[0] |= {f"\ufeff{cell}" for cell in forms[0]}
        self._forms = forms

    def is_row(self, row: Sequence[str]) -> bool:
        """Whether a record, which has as many fields, is the header. The first field tells nearly all apart."""
        return row[0] in self._forms[0] and all(map(set.__contains__, self._forms, row))

    def is_among(self, columns: Sequence[Column]) -> bool:
        """Whether one of the records that `columns` hold is the header."""
        places: Column | None = None
        for column, values in zip(columns, self._values, strict=True):
            some = column if places is None else column.take(places)
            found = pc.indices_nonzero(pc.is_in(some, value_set=values))
            if not len(found):
                return False
            places = found if places is None else places.take(found)
        return True

    @functools.cached_property
    def _values(self) -> list[Column]:
        return [texts(sorted(form)) for form in self._forms]


def _unclosed(error: Exception) -> BadRecord:
    is_long = isinstance(error, _RunawayError) or "field limit" in str(error)
    return BadRecord(
        "malformed",
        f"a quote is opened and not closed within {MAX_LINE_BYTES} characters, which a field may have"
        if is_long
        else "a quote is opened and never closed",
        'close it, or double it: ""',
    )


class _RunawayError(Exception):
    """A record swallows line after line: its quote is never closed."""


def split_block(text: str, delimiter: str, width: int) -> list[Column] | None:
    """The columns of whole lines of CSV; None where not every line is a record of `width` fields.

    Quoted text goes through the same strict parser as single records, any other through Arrow's, which agrees with it
    where there is no quote and no carriage return; a test holds the two against each other.
    """
    lines = text.count("\n") + (not text.endswith("\n"))
    if text.count("\r"):
        text = text.replace("\r\n", "\n")
    if "\r" in text or not width:
        return None
    if '"' in text or not delimiter.isascii():
        try:
            records = list(csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True))
        except csv.Error:
            return None
        if len(records) != lines or set(map(len, records)) != {width}:
            return None
        return [texts(column) for column in zip(*records, strict=True)]
    names = [str(index) for index in range(width)]
    data = text.encode()
    try:
        table = pyarrow.csv.read_csv(
            pyarrow.py_buffer(data),
            pyarrow.csv.ReadOptions(column_names=names, block_size=len(data) + 1, use_threads=False),
            pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, TEXT), check_utf8=False),
        )
    except pyarrow.ArrowInvalid:
        return None
    return [flat(column) for column in table.columns] if table.num_rows == lines else None


def _cells(line: str, delimiter: str, *, is_header: bool) -> list[str]:
    """The fields of a file's first line. One that cannot be parsed costs the file only if it is its header."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        if "\r" in line.rstrip("\r\n") and (is_header or not line.endswith("\n")):
            raise UnreadableFileError(
                "unreadable",
                "its lines end in a lone carriage return",
                "end them in a line feed, as `tr '\\r' '\\n'` does",
            ) from None
        if not is_header:
            return []
        raise UnreadableFileError(
            "unreadable", f"its header cannot be parsed ({error})", "write a header"
        ) from None


def _delimiter_of_fields(line: str, width: int) -> str:
    """The delimiter that takes a line apart into `width` fields, or nearly so many."""

    return min(CANDIDATE_DELIMITERS, key=lambda delimiter: abs(width - len(_fields(line, delimiter))))


def _delimiter_of(header: str, wanted: Sequence[str]) -> str:
    known = {name.casefold() for name in wanted}

    def score(delimiter: str) -> tuple[int, int]:
        names = _fields(header, delimiter)
        return (
            sum(name.strip().casefold() in known for name in names),
            header.count(delimiter) if names else 0,
        )

    return max(CANDIDATE_DELIMITERS, key=score)


def _fields(line: str, delimiter: str) -> list[str]:
    """The fields of a line, none if it is not one of CSV."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []

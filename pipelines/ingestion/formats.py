"""The record formats of landed files: CSV (`csv_records`), JSON Lines, Parquet (`parquet_records`). Bounded memory.

Each reader yields records, one by one or a regular block of them at once (`pieces`), and remembers where the last one
stood (`line`, `raw_text`), so that a bad row can be quarantined with its text. A reader yields `BadRecord` in place of
a record that it cannot take apart. Add a format as one more reader in `open_records`; decompression happens before, in
`decode`.
"""

import codecs
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol

from pipelines.ingestion.canonical_json import read_json
from pipelines.ingestion.csv_records import Block, CsvRecords, Record
from pipelines.ingestion.errors import BadRecord, UnreadableFileError, plain_name
from pipelines.ingestion.lines import RAW_TEXT_LIMIT, Lines
from pipelines.ingestion.names import NO_OTHER_NAMES, OtherNames
from pipelines.ingestion.parquet_records import ParquetRecords

_JSON = re.compile("\ufeff?\\s*(?:\\[\\s*)?\\{")  # how an object begins, or a list of some


MAX_KNOWN = 1000  # sets of names, and unknown names, that are remembered


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
    others: OtherNames = NO_OTHER_NAMES,
    names: Sequence[str] = (),
) -> Records:
    """The reader that fits the content (`head` are its first bytes) and, failing that, the file's name.

    `wanted` are the column names that the feed knows; JSON Lines has no header of its own, and a CSV's delimiter
    is the one under which most of them are found. `others` are those that mean the same as another of them. `names` are
    those of the columns of CSV without a header line.
    Raises `UnreadableFileError`.
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
    encoding = _marked_encoding(head) or encoding
    lines = Lines(chunks, encoding)
    if _JSON.match(head.decode(encoding, errors="ignore")) or suffixes & {
        ".jsonl",
        ".ndjson",
        ".json",
    }:
        return JsonRecords(lines, wanted, others)
    return CsvRecords(lines, delimiter, wanted, names)


def _marked_encoding(head: bytes) -> str | None:
    """The encoding that a text's byte order mark tells: it knows better than the feed."""
    marks = {
        codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
        codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
    }  # fmt: skip
    return next((encoding for mark, encoding in marks.items() if head.startswith(mark)), None)


class JsonRecords:
    """One JSON object a line. Numbers keep their decimal text; the columns are those the feed knows."""

    def __init__(self, lines: Lines, wanted: Sequence[str], others: OtherNames) -> None:
        self._lines = lines
        self._names = JsonNames(wanted, others)
        self.header = list(self._names.wanted)
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
        last: Any = None
        found = FoundNames([], set(), set(), None)
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
                if last is None and (whole := _no_json_lines(text)):
                    raise whole from None
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
                found = self._names.find(last)
                self.seen.update(found.seen)
                if len(self.unknown) < MAX_KNOWN:
                    self.unknown.update(found.unknown)
            yield [item.get(key) for key in found.keys] if found.fault is None else found.fault


class FoundNames(NamedTuple):
    """The key that an object has for each wanted name; which of these it has, what else it has, what is wrong."""

    keys: list[str]
    seen: set[str]
    unknown: set[str]
    fault: BadRecord | None


class JsonNames:
    """Finds the wanted names among the keys of JSON objects, whatever their case, as in the header of a CSV.

    `wanted` are those to be found, each once: of names that mean the same (`others`) only the first.
    """

    def __init__(self, wanted: Sequence[str], others: OtherNames) -> None:
        self.wanted = [name for name in wanted if name not in others.landed]
        self._others = {
            other.casefold(): name for other, name in others.landed.items() if name in self.wanted
        }
        self._own = {own.casefold(): name for own, name in others.own.items() if name in self.wanted}
        self._by_form = {name.casefold(): name for name in reversed(self.wanted)} | self._others
        self._known: dict[tuple[str, ...], FoundNames] = {}  # records of a feed have few sets of names

    def find(self, keys: Collection[str]) -> FoundNames:
        """Where the wanted names stand in an object. A key spelled exactly so comes before one of another case."""
        names = tuple(keys)
        found = self._known.get(names)
        if found is None:
            found = self._find(names)
            if len(self._known) < MAX_KNOWN:
                self._known[names] = found
        return found

    def _find(self, keys: tuple[str, ...]) -> FoundNames:
        found = {name: name for name in self.wanted if name in keys}
        unknown: set[str] = set()
        fault: BadRecord | None = None
        for key in keys:
            if key in found:
                continue
            name = self._by_form.get(key.casefold()) or self._by_form.get(plain_name(key))
            if name is None or (name in keys and key.casefold() not in self._others):
                unknown.add(key)
            elif name in found:
                fault = BadRecord(
                    "malformed", f"the names {found[name]!r} and {key!r} both mean {name}", "keep one of them"
                )
            else:
                found[name] = key
        for key in sorted(unknown):
            name = self._own.get(key.casefold()) or self._own.get(plain_name(key))
            if name is not None and name not in found:
                found[name] = key
                unknown.remove(key)
        if keys and not found:
            listed = ", ".join(sorted(keys)[:10])
            fault = BadRecord(
                "malformed", f"it has no column of the feed; its names are {listed}",
                "map its names under `columns` in the feed",
            )  # fmt: skip
        return FoundNames([found.get(name, name) for name in self.wanted], set(found), unknown, fault)


def _one_list() -> UnreadableFileError:
    return UnreadableFileError(
        "unreadable", "it is one JSON list", "land one JSON object a line, as `jq -c '.[]'` writes them"
    )


def _no_json_lines(first: str) -> UnreadableFileError | None:
    """What a whole file is that begins with this line and has no object on it, None if only the line is broken."""
    if first.lstrip().startswith("["):
        return _one_list()
    if first.strip() == "{":
        return UnreadableFileError(
            "unreadable",
            "its JSON objects are written over several lines",
            "land one JSON object a line, as `jq -c .` writes them",
        )
    return None

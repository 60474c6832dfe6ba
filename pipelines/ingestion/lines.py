"""Text lines of landed files, streamed with bounded memory, with what is wrong with them as text."""

import codecs
import io
from collections.abc import Callable, Iterator

from pipelines.ingestion.errors import BadRecord, UnreadableFileError

MAX_LINE_BYTES = 16 << 20
RAW_TEXT_LIMIT = 64 << 10  # of a quarantined row; the whole of it stays in the landed file


class Lines:
    """The lines of a text, with their ends, from chunks of bytes, block by block.

    A block is what is whole lines at once. The next lines can be taken one by one, or with `rest()` all those that the
    block still has; `number` is that of the last line taken. A fault of a line taken by itself is kept in `faults`.
    """

    def __init__(self, chunks: Iterator[bytes], encoding: str) -> None:
        self._chunks = chunks
        self._encoding = encoding
        self._blocks = self._read()
        self._block, self._at = "", 0
        self._is_suspect = False
        self.faults: dict[int, BadRecord] = {}
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while self.begin():
            yield self._next_line()

    def begin(self) -> bool:
        """Whether there is a line yet to be taken; begins the next block where the last is used up."""
        while self.is_at_end:
            block = next(self._blocks, None)
            if block is None:
                return False
            self._block, self._at = block, 0
            self._is_suspect = len(block) > MAX_LINE_BYTES or "\0" in block or _surrogates(block)
        return True

    def peek(self) -> str:
        """The next line that is not blank, without taking it; empty where there is none. Blank blocks are taken."""
        while self.begin():
            lines = io.StringIO(self._block[self._at :], newline="\n").readlines()
            for line in lines:
                if line.strip():
                    return line
            self.take(len(lines))
        return ""

    @property
    def is_at_end(self) -> bool:
        """Whether every line of the block is taken."""
        return self._at == len(self._block)

    def rest(self) -> str | None:
        """The lines that the block still has, not taken yet; None where one of them may be at fault."""
        return None if self._is_suspect else self._block[self._at :]

    def take(self, lines: int) -> None:
        """Take the rest of the block, which has so many lines."""
        self._at, self.number = len(self._block), self.number + lines

    def _next_line(self) -> str:
        end = self._block.find("\n", self._at) + 1 or len(self._block)
        line, self._at = self._block[self._at : end], end
        self.number += 1
        size = len(line) - line.endswith("\n")
        if size > MAX_LINE_BYTES:
            self.faults[self.number] = BadRecord(
                "too_long",
                f"the line is longer than {MAX_LINE_BYTES} characters",
                "split it into records",
            )
            line = (
                line[:RAW_TEXT_LIMIT].replace('"', "'") + line[size:]
            )  # a quote must not open a record here
        elif self._is_suspect and (fault := fault_of_text(line)) is not None:
            self.faults[self.number] = fault
        return line

    def _read(self) -> Iterator[str]:
        decode = self._decoder()
        rest, first = "", True
        for chunk in self._chunks:
            text = decode(chunk, False)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            end = text.find("\n")
            # A line past the limit stops growing: it will be quarantined, and memory stays bounded.
            if len(rest) > MAX_LINE_BYTES:
                text = text[end:] if end >= 0 else ""
            if end < 0:
                rest += text
                continue
            last = text.rfind("\n") + 1
            yield rest + text[:last]
            rest = text[last:]
        rest += decode(b"", True)
        if rest:
            yield rest

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


def _surrogates(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def fault_of_text(line: str) -> BadRecord | None:
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

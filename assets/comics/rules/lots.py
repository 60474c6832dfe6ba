"""Telling a lot (several comics sold at one price) from a single comic, and counting its books.

A lot's price says nothing about one comic, so a missed lot spoils a price band: ranges, lists and words count.
A hyphen is a range only between two whole numbers that rise: not in X-23, 1963-1998 or 9.4-9.6.
"""

import itertools
import re
from dataclasses import dataclass

from assets.comics.rules.text import may_hold

MAX_LOT_SIZE = 10_000
_YEARS = range(1900, 2101)

_NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], start=2
    )
}
_COUNT = rf"(?P<count>\d{{1,4}}|{'|'.join(_NUMBER_WORDS)})"
_FEW = rf"(?<![#\w.,:/'-])(?P<count>\d{{1,3}}|{'|'.join(_NUMBER_WORDS)})"
# The size stands in the words. No publisher between number and "comics": "Spider-Man 300 Marvel Comics" is one book.
_COUNTED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:lot|set|run|bundle|collection|group|pack|box)\s(?:of\s|\()(?:approx\.?\s|about\s|over\s)?{_COUNT}\b",
        rf"\b(?:lot|bundle)\s?x\s?{_COUNT}\b",
        rf"{_FEW}[\s-]?(?:comics?|books?|comic\s?books?|issues?|pcs?|pieces?)[\s-](?:lot|set|run|bundle)\b",
        rf"{_FEW}\s(?:(?:different|assorted|mixed|total|vintage)\s)*(?:comic\s?books|comics|books|issues|copies)\b",
    )
)
_TIMES = re.compile(
    r"(?<=\s)x(?P<after>\d{1,3})\b(?![-.:/'])|(?<![\w:.#-])(?P<before>\d{1,3})x\b(?!\s?\d)", re.IGNORECASE
)
_WORDS = re.compile(
    r"(?<!\ba )\b(?:lot|job\s?lot|joblot|bundle|wholesale)\b(?!\s?#)"
    r"|\b(?:complete|full|entire|whole|partial)\s(?:[\w-]+\s){0,2}(?:set|run|series)\b"
    r"|\b(?:set|run)\s(?=#?\d+\s?(?:-|to|thru|through)\s?#?\d)|\bset\sof\b",
    re.IGNORECASE,
)
# What no pattern of _COUNTED and _WORDS can match without.
_STEMS = (
    "lot", "set", "run", "bundle", "series", "collection", "group", "pack", "box", "comics", "books", "issues",
    "copies", "wholesale",
)  # fmt: skip
# An auction's own number of what it sells: "Lot #93012: Amazing Spider-Man".
AUCTION_NUMBER = re.compile(r"^\s*lot\s?(?:#|no\.?|number)?\s?\d+\s?[:.|)-]\s?(?=\D)", re.IGNORECASE)

_NOT_A_NUMBER_AFTER = (
    r"(?![\w%:']|[.,/-]\d|\s?(?:cents?\b|c\b|st\b|nd\b|rd\b|th\b|pages?\b|pgs?\b|¢|app\b|print))"
)
_RANGE = re.compile(
    rf"(?<![\w.,:/$'-])(?P<hash>#)?\s?(?P<first>\d{{1,4}})\s?(?:-+|\bto\b|\bthru\b|\bthrough\b)\s?(?P<hash2>#)?"
    rf"(?P<last>\d{{1,4}}){_NOT_A_NUMBER_AFTER}",
    re.IGNORECASE,
)
_RANGE_STEMS = ("-", "to", "thr")
_LIST = re.compile(
    rf"#\s?(?P<list>\d{{1,4}}(?:\s?(?:,|&|\+|/|\band\b|\bor\b)\s?(?:and\s|&\s)?#?\s?\d{{1,4}}){{1,60}}|\d{{1,4}}(?:\s#?\d{{1,4}}){{2,60}}"
    rf"|\d{{1,4}}(?:\s?#\s?\d{{1,4}}){{1,60}}){_NOT_A_NUMBER_AFTER}",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"\d{1,3}(?:,000)+")


@dataclass(frozen=True)
class Lot:
    """Several comics at one price: how many, if that is stated, and the title without the words that say so."""

    size: int | None
    rest: str


def find_lot(title: str) -> Lot | None:
    """The lot that a cleaned title offers, None when it offers one comic."""
    numbered = _numbered(title)
    has_words = may_hold(title, _STEMS)
    counted = [match for pattern in _COUNTED for match in pattern.finditer(title)] if has_words else []
    words = list(_WORDS.finditer(title)) if has_words else []
    times = [match for match in _TIMES.finditer(title) if int(match["after"] or match["before"]) > 1]
    spans = [match.span() for match in counted + words + times] + [span for span, _ in numbered]
    if not spans:
        return None
    if counted:
        size = _count_of(counted[0]["count"])
    elif numbered:
        size = sum(count for _, count in numbered)
    else:
        size = int(times[0]["after"] or times[0]["before"]) if times else 0
    rest = title
    for start, end in spans:
        rest = rest[:start] + "\x00" * (end - start) + rest[end:]
    return Lot(size if 0 < size <= MAX_LOT_SIZE else None, re.sub(r"[\x00\s]*\x00[\x00\s]*", " | ", rest))


def _numbered(title: str) -> list[tuple[tuple[int, int], int]]:
    """Issue ranges, else a list of issues: each with its span and its number of issues."""
    if may_hold(title, _RANGE_STEMS):
        found = [
            (match.span(), count) for match in _RANGE.finditer(title) if (count := _range_size(match, title))
        ]
        if found:
            return found
    match = _LIST.search(title) if "#" in title else None
    if match is None or _THOUSANDS.match(match["list"]):
        return []
    numbers = [int(number) for number in re.findall(r"\d+", match["list"])]
    if "/" in match["list"] and numbers == [1, 2]:  # #1/2 is one half
        return []
    is_rising = all(left < right for left, right in itertools.pairwise(numbers))
    has_year = any(number in _YEARS for number in numbers)
    return [(match.span(), len(numbers))] if is_rising and not has_year else []


def _range_size(match: re.Match[str], title: str) -> int:
    """How many issues a range holds; 0 when the hyphen is none."""
    first, last = int(match["first"]), int(match["last"])
    if last <= first or last - first > MAX_LOT_SIZE:
        return 0
    has_mark = bool(match["hash"] or match["hash2"])
    if last in _YEARS and not match["hash2"] and (first in _YEARS or match["hash"]):
        return 0  # (1963-1998), #300 - 1988
    if not has_mark and re.search(r"#\s?\d", title[match.end() :]):
        return 0  # 9-11 #1: a series of that name
    # "Fantastic Four 1 - 2" needs a mark or a word; "Batman 404-407", "Saga 1 thru 10" do not.
    is_tight = " " not in match[0].strip() or "-" not in match[0]
    return last - first + 1 if is_tight or has_mark or _WORDS.search(title) else 0


def _count_of(text: str) -> int:
    return int(text) if text.isdecimal() else _NUMBER_WORDS[text.casefold()]

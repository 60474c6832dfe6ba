"""The 10-point scale of comic grades and the ways in which sellers write a point on it.

The points and the words are the Overstreet guide's, which the grading companies (CGC, CBCS, PGX, ...) share.
`condition` decides what a text as a whole says; here a piece of text becomes a point, a split or a range.
https://www.cgccomics.com/grading/grading-scale/
"""

import functools
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

SCALE = tuple(
    Decimal(tenths) / 10
    for tenths in (
        3,
        5,
        10,
        15,
        18,
        20,
        25,
        30,
        35,
        40,
        45,
        50,
        55,
        60,
        65,
        70,
        75,
        80,
        85,
        90,
        92,
        94,
        96,
        98,
        99,
        100,
    )
)
_ON_SCALE = frozenset(SCALE)

# word class: (minus, plain, plus); None: the scale has no such point
_POINTS: dict[str, tuple[str | None, str, str | None]] = {
    "PR": (None, "0.5", None),
    "FR": (None, "1.0", None),
    "GD": ("1.8", "2.0", "2.5"),
    "VG": ("3.5", "4.0", "4.5"),
    "FN": ("5.5", "6.0", "6.5"),
    "VF": ("7.5", "8.0", "8.5"),
    "NM": ("9.2", "9.4", "9.6"),
    "MT": (None, "9.9", None),
    "GM": (None, "10.0", None),
}
_SPLITS = {
    frozenset(("FR", "GD")): Decimal("1.5"),
    frozenset(("GD", "VG")): Decimal("3.0"),
    frozenset(("VG", "FN")): Decimal("5.0"),
    frozenset(("FN", "VF")): Decimal("7.0"),
    frozenset(("VF", "NM")): Decimal("9.0"),
    frozenset(("NM", "MT")): Decimal("9.8"),
}
_WORDS = {
    "GM": r"gem[\s-]*mint",
    "NM": r"near[\s-]*mint|n\.?m\.?",
    "VF": r"very[\s-]*fine|v\.?f\.?",
    "VG": r"very[\s-]*good|v\.?g\.?",
    "FN": r"fine|fn|f",
    "GD": r"good|gd|g",
    "FR": r"fair|fr",
    "PR": r"poor|pr|p",
    "MT": r"mint|mt|m",
}
# Also words of everyday speech, of titles and of other trades: a grade only where nothing else can be meant.
_EVERYDAY = re.compile(r"(?:very[\s-]*good|fine|f|good|g|fair|fr|poor|pr|p|mint|mt|m)", re.IGNORECASE)
_ATOM = re.compile(
    r"(?<![\w'#$£€&@.])(?:"
    + "|".join(f"(?P<{name}>{pattern})" for name, pattern in _WORDS.items())
    + r")(?![\w'&@])(?P<sign>\s?\+(?![\w])|-(?![\w-])|\s(?:plus|minus)\b)?"
    r"|(?<![\w#$£€.,:@'])(?P<number>\d{1,2}[.,]\d{1,2}|\d{1,2})(?P<more>\+)?(?P<of_ten>\s?/\s?10(?![.,\d]))?"
    r"(?![\w%$£€\"'@]|[.,]\d|\s?(?:in|inch|inches|cm|mm|oz|lb|lbs|x|of|copies|pages?|pgs?|cents?|c)\b)",
    re.IGNORECASE,
)
_BETWEEN_SPLIT = re.compile(r"\s?/\s?")
_BETWEEN_RANGE = re.compile(r"\s?(?:-+|~|\bto|\bthrough|\bthru)\s?", re.IGNORECASE)


class Found(NamedTuple):
    """One grade expression in a text: its span, a point (low = high) or a range, and how sure its words are."""

    start: int
    end: int
    low: Decimal | None  # None: written like a grade, but no point of the scale
    high: Decimal | None
    is_number: bool = False
    is_whole_number: bool = False  # 9 may be a grade or a number of anything
    is_everyday: bool = False  # "good": a grade or plain English
    is_or_better: bool = False  # 8.0+
    is_of_ten: bool = False  # 8/10: somebody's own score
    word: str | None = None
    is_signed: bool = False

    @property
    def is_range(self) -> bool:
        return self.low != self.high


@functools.lru_cache(maxsize=4096)
def point_of(number: str) -> Decimal | None:
    """The point of the scale that a number (with point or comma) writes, None if there is no such point."""
    if not _has_tenths_only(number):
        return None
    value = Decimal(number.replace(",", ".")).quantize(Decimal("0.1"))
    return value if value in _ON_SCALE else None


def find_grades(text: str) -> list[Found]:
    """Every grade expression of `text` from left to right; `VF/NM` and `6.0-7.0` are one each."""
    found: list[Found] = []
    for atom in _atoms(text):
        joined = _join(found[-1], atom, text) if found else None
        if joined is None:
            found.append(atom)
        else:
            found[-1] = joined
    return found


def _has_tenths_only(number: str) -> bool:
    return len(number.replace(",", ".").partition(".")[2].rstrip("0")) <= 1


def _atoms(text: str) -> Iterator[Found]:
    for match in _ATOM.finditer(text):
        number = match["number"]
        if number is not None:
            point = point_of(number)
            yield Found(
                match.start(), match.end(), point, point,
                is_number=True, is_whole_number=number.isdecimal(),
                is_or_better=match["more"] is not None, is_of_ten=match["of_ten"] is not None,
            )  # fmt: skip
            continue
        word = match.lastgroup or ""
        if word == "sign":
            word = next(name for name in _WORDS if match[name] is not None)
        sign = (match["sign"] or "").strip().casefold()
        minus, plain, plus = _POINTS[word]
        written = plus if sign in ("+", "plus") else minus if sign else plain
        point = Decimal(written) if written else None
        is_everyday = not sign and _EVERYDAY.fullmatch(match[word]) is not None
        is_letter = len(match[word]) == 1
        yield Found(
            match.start(), match.end(), point, point,
            is_everyday=is_everyday or is_letter, word=word, is_signed=bool(sign),
        )  # fmt: skip


def _join(left: Found, right: Found, text: str) -> Found | None:
    """`left` and `right` as one expression when a slash or a range sign stands between them."""
    between = text[left.end : right.start]
    is_split = _BETWEEN_SPLIT.fullmatch(between) is not None
    if not is_split and not _BETWEEN_RANGE.fullmatch(between):
        return None
    if left.is_number != right.is_number or left.is_of_ten or right.is_of_ten:
        return None
    if left.is_whole_number != right.is_whole_number or left.is_range:
        return None
    low, high = _bounds(left, right)
    if is_split and not (left.is_signed or right.is_signed):
        split = _SPLITS.get(frozenset((left.word or "", right.word or "")))
        low, high = (split, split) if split is not None else (low, high)
    return Found(
        left.start, right.end, low, high,
        is_number=left.is_number, is_whole_number=left.is_whole_number, is_or_better=right.is_or_better,
        is_everyday=_is_letters_apart(left, right, is_split),
    )  # fmt: skip


def _bounds(left: Found, right: Found) -> tuple[Decimal | None, Decimal | None]:
    points = [point for point in (left.low, right.low) if point is not None]
    return (min(points), max(points)) if len(points) == 2 else (None, None)


def _is_letters_apart(left: Found, right: Found, is_split: bool) -> bool:
    # "G/VG" and "good to very good" are grades, "P-M" is anything.
    return left.is_everyday and right.is_everyday and not is_split and left.end - left.start == 1

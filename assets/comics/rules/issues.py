"""Where in a title the issue number stands, and its canonical form.

A marked number (`#300`, `No. 300`, `Annual 3`) wins over a bare one; a bare one needs a series before it and is no
year. Canonical: no leading zeros, no thousands commas, `1/2` for one half, suffixes in capitals (`1.MU`).
"""

import functools
import re
from dataclasses import dataclass
from decimal import Decimal

YEAR = re.compile(r"(?<![\w#$.,/-])(?P<year>19[3-9]\d|20[0-4]\d)(?![\w%]|[.,-]\d)")
_NOT_A_SUFFIX = r"(?!(?:nm|vf|fn|vg|gd|fr|pr|mt|cgc|cbcs|pgx|com|net)\b)"
_NUMBER = (
    r"(?P<number>-?\d{1,3}(?:,000)+(?![\d,])|(?<!\d)[13]/[248](?![\d/])|-?\d{1,7}\.\d{1,2}(?![\d.])"
    rf"|-?\d{{1,7}}\.{_NOT_A_SUFFIX}[a-z]{{2,6}}\b|-?\d{{1,7}}(?!\d))(?P<letter>[a-z](?![\w.'-]))?(?!\w)"
)
_HASH = re.compile(rf"#\s?(?:{_NUMBER}|(?P<unnumbered>nn)\b)", re.IGNORECASE)
_WORD = re.compile(rf"\b(?:no|nr|num|number|issue|iss|prog)\b[.:]?\s?#?\s?{_NUMBER}", re.IGNORECASE)
_BARE = re.compile(
    r"(?<![\w'$£€:.,/#&+-])(?P<number>\d{1,3}(?:,000)+(?![\d,])|[13]/[248](?![\d/])"
    rf"|\d{{1,7}}\.{_NOT_A_SUFFIX}[a-z]{{2,6}}\b|\d{{1,7}})(?P<letter>(?-i:[A-Z])(?![\w.'-]))?(?![\w%'\"¢]|[.,:/-]\d)",
    re.IGNORECASE,
)
_ANNUAL = re.compile(
    r"\b(?P<kind>king[\s-]?size\s(?:annual|special)|annual)\b\s?(?:(?:#|\bno\b\.?|\bnr\b\.?|\bvol\b\.?)?\s?"
    r"(?:(?P<number>\d{1,4})(?![\w%]|[.,/:]\d)|'(?P<short>\d\d)\b))?",
    re.IGNORECASE,
)
_YEARS = range(1930, 2100)


@dataclass(frozen=True)
class Issue:
    """An issue number in its canonical form, with its span in the title and the letter of its cover (1B)."""

    number: str
    start: int
    end: int
    letter: str = ""


def find_issue(title: str) -> Issue | None:
    """The issue that a cleaned title names, None if it names none."""
    annual = _find_annual(title)
    if annual is not None:
        return annual
    match = _HASH.search(title)
    if match is not None and match.groupdict().get("unnumbered"):
        return Issue("nn", match.start(), match.end())
    match = match or next((found for found in _WORD.finditer(title) if title[: found.start()].strip()), None)
    return _issue_of(match) if match is not None else _find_bare(title)


@functools.lru_cache(maxsize=16_384)
def issue_sort(number: str | None) -> Decimal | None:
    """Where an issue stands in its series: its number; a half is 0.5; None without a number."""
    match = re.search(r"(?P<whole>-?\d+(?:\.\d+)?)(?:/(?P<parts>[248]))?", number or "")
    if match is None:
        return None
    return Decimal(match["whole"]) / Decimal(match["parts"] or 1)


def _find_annual(title: str) -> Issue | None:
    for match in _ANNUAL.finditer(title):
        before = title[: match.start()]
        if not any(character.isalpha() for character in before):
            continue
        kind = "Annual" if "annual" in match["kind"].casefold() else "King-Size Special"
        number, end = match["number"] or _full_year(match["short"]), match.end()
        marked = _HASH.search(title)
        is_numbered = bool(number) and int(number) not in _YEARS
        if marked is not None and not is_numbered and not match.start() <= marked.start() < match.end():
            # "Annual 1966 #3", "Spider-Man #3 Annual": the marked number is the annual's.
            number, end = _canonical(marked["number"] or ""), max(end, marked.end())
            return Issue(f"{kind} {number}".strip(), min(match.start(), marked.start()), end)
        return Issue(f"{kind} {_canonical(number)}".strip() if number else kind, match.start(), end)
    return None


def _find_bare(title: str) -> Issue | None:
    """The first unmarked number behind a series name that is no year and no part of that name."""
    for match in _BARE.finditer(title):
        is_year = match["number"].isdecimal() and int(match["number"]) in _YEARS
        if is_year or not any(character.isalnum() for character in title[: match.start()]):
            continue
        # Two in a row, and nothing after them that the second counts: "X 23 1", "Batman 66 1", not "Hulk 181 25 cents".
        following = _BARE.match(title, match.end() + 1)
        if following and following["number"].isdecimal() and int(following["number"]) not in _YEARS:
            rest = title[following.end() :].strip(" -|,")
            return _issue_of(match if rest and not YEAR.match(rest) else following)
        return _issue_of(match)
    return None


def _issue_of(match: re.Match[str]) -> Issue:
    return Issue(_canonical(match["number"]), match.start(), match.end(), (match["letter"] or "").upper())


@functools.lru_cache(maxsize=16_384)
def _canonical(number: str) -> str:
    if "/" in number or not number:
        return number.replace("2/4", "1/2")
    number = number.replace(",", "").upper()
    sign, number = ("-", number[1:]) if number.startswith("-") else ("", number)
    whole, point, rest = number.partition(".")
    whole = whole.lstrip("0") or "0"
    return f"{sign if whole != '0' or point else ''}{whole}{point}{rest}"


def _full_year(short: str | None) -> str:
    return "" if short is None else f"{'19' if int(short) >= 30 else '20'}{short}"

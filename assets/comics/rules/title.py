"""From the title of a listing to series, issue, variant, year and publisher, or to a lot.

Sellers write one comic in a hundred ways; the key that comes out is the same whatever the case, spaces, punctuation
and noise. What stands behind the issue number describes the copy and never becomes part of the series.
Limits: a bare year in front of `#` stays in the series ("Wonder Woman 1984 #1"); volume 1 is the series itself.
"""

import functools
import re
from decimal import Decimal
from typing import NamedTuple

from assets.comics.rules.condition import strip_grades
from assets.comics.rules.issues import YEAR, Issue, find_issue, issue_sort
from assets.comics.rules.keys import make_comic_key, series_key
from assets.comics.rules.lots import AUCTION_NUMBER, Lot, find_lot
from assets.comics.rules.text import clean, may_hold
from assets.comics.rules.variants import name_variant, strip_variants

EMPTY = "empty"
NO_SERIES = "no_series"  # "#300 CGC 9.8"
NO_ISSUE = "no_issue"  # a one-shot, a collected edition, or a title that does not say

_PUBLISHERS = {
    "Marvel": r"marvel(?:\scomics)?(?:\sgroup)?",
    "DC": r"d\.?c\.?(?:\scomics)?",
    "Image": r"image(?:\scomics)?",
    "Dark Horse": r"dark\shorse(?:\scomics)?",
    "IDW": r"idw(?:\spublishing)?",
    "Valiant": r"valiant(?:\scomics)?",
    "Boom! Studios": r"boom!?(?:\sstudios)?",
    "Dynamite": r"dynamite(?:\sentertainment)?",
    "Archie": r"archie(?:\scomics)?",
    "Charlton": r"charlton(?:\scomics)?",
    "Dell": r"dell(?:\scomics)?",
    "EC": r"e\.?c\.?(?:\scomics)?",
    "Fawcett": r"fawcett(?:\scomics)?",
    "Gold Key": r"gold\skey(?:\scomics)?",
    "Mirage": r"mirage(?:\sstudios)?",
    "Rebellion": r"rebellion|fleetway",
    "Vertigo": r"vertigo",
    "Wildstorm": r"wildstorm",
}
_PUBLISHER = re.compile(
    "|".join(rf"(?P<p{index}>\b(?:{pattern})(?!\w))" for index, pattern in enumerate(_PUBLISHERS.values())),
    re.IGNORECASE,
)
# "MARVEL COMICS Amazing Spider-Man", but not the series "Marvel Comics Presents" or "DC Comics Presents".
_PUBLISHER_FIRST = re.compile(
    r"^(?P<name>marvel|dc|image|idw|dark[\s-]horse|archie)[\s:|-]+comics[\s:|-]+"
    r"(?!(?:presents|super|digest|double|library)\b|#|\d)(?=\w)",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"[(\[{](?P<inside>[^()\[\]{}]*)[)\]}]")
_VOLUME_WORDS = {
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "i": 1,
    "ii": 2,
    "iii": 3,
    "iv": 4,
    "v": 5,
}
_VOLUME = re.compile(
    rf"(?<![\w'])(?:vol(?:ume)?\.?\s?(?P<long>\d{{1,4}}|{'|'.join(_VOLUME_WORDS)})|v\.?(?P<short>\d{{1,2}}))(?![\w.'])",
    re.IGNORECASE,
)
_NOISE = re.compile(
    r"\bl@@k\b|\bw@w\b|\b(?:key|hot|rare|look|wow|nice|sale|grail)\s?!+|\b(?:major|mega|huge|minor)\skey\b"
    r"|\bkey\sissue\b|\bmcu\b|\bhtf\b|\bfree\sship(?:ping)?\b|\bno\sreserve\b|\bmust\ssee\b|!{2,}|\*+|~+",
    re.IGNORECASE,
)
# What _NOISE cannot match without.
_NOISE_STEMS = ("!", "*", "~", "key", "mcu", "htf", "@", "ship", "reserve", "must")
_FIRST_APPEARANCE = re.compile(
    r"\b(?:1st|first|2nd|second)\s(?:\w+\s)?app(?:earances?)?\b[^#]*(?=#)", re.IGNORECASE
)
_EDGE = " -:;,.|/\\*_~^+=<>\"'!"
_FORMAT_WORDS = re.compile(r"\s(?:comic(?:\sbooks?)?|single\sissue|issue|no|nr)$", re.IGNORECASE)
_ARTICLE_LAST = re.compile(r",\s?the$", re.IGNORECASE)


class Title(NamedTuple):
    """What a title says. `reason` tells why no comic can be named; it is None for a comic and for a lot."""

    series_name: str = ""
    series_key: str = ""
    issue_number: str | None = None
    issue_sort: Decimal | None = None
    variant: str = ""
    year: int | None = None
    publisher: str | None = None
    is_lot: bool = False
    lot_size: int | None = None
    reason: str | None = None


def parse_title(text: str | None) -> Title:
    """What a listing's title says. Pure and total: any text gives a Title, whose `reason` tells what is missing."""
    title = clean(text or "")
    if not title:
        return Title(reason=EMPTY)
    title = AUCTION_NUMBER.sub("", title)
    if may_hold(title, _NOISE_STEMS):
        title = _NOISE.sub(" ", title)
    if may_hold(title, ("app",)):
        title = _FIRST_APPEARANCE.sub(" ", title)
    return _read(" ".join(strip_grades(" ".join(title.split())).split()))


@functools.lru_cache(maxsize=65_536)
def _read(title: str) -> Title:
    """What a title without its grades says: the copies of a comic differ in these, the rest of their titles repeats."""
    lot = find_lot(title)
    if lot is not None:
        return _lot_title(lot)
    main, aside = _split_brackets(title)
    main, publisher = _publisher_first(main)
    volume, main, aside = _take_volume(main, aside)
    stripped = " ".join(strip_variants(main).split())
    issue = find_issue(stripped)
    behind = f"{stripped[issue.end :] if issue else ''} | {aside}"
    name = _series_name(stripped[: issue.start] if issue else YEAR.sub(" ", stripped), volume)
    variant = _variant(f"{main} | {aside}", behind, issue)
    key = series_key(name)
    return Title(
        series_name=name,
        series_key=key,
        issue_number=issue.number if issue else None,
        issue_sort=issue_sort(issue.number) if issue else None,
        variant=variant,
        year=_year(behind, stripped if issue is None else ""),
        publisher=publisher or _publisher_in(behind),
        reason=NO_SERIES if not key else NO_ISSUE if issue is None else None,
    )


def comic_key(title: Title) -> str | None:
    """The natural key of the comic that a title names; None for a lot and for a title that names none."""
    if title.is_lot or title.reason is not None:
        return None
    return make_comic_key(title.series_key, title.issue_number, title.variant)


def display_title(title: Title) -> str:
    """How the comic is shown: `Amazing Spider-Man #300 (Newsstand)`. Parsing it gives the same key again."""
    issue = title.issue_number or ""
    mark = "#" if issue[:1].isdigit() or issue[:1] == "-" else ""
    name = f"{title.series_name} {mark}{issue}".strip()
    return f"{name} ({title.variant})" if title.variant else name


def _lot_title(lot: Lot) -> Title:
    main, aside = _split_brackets(lot.rest)
    main, publisher = _publisher_first(main.strip(" |"))
    volume, main, aside = _take_volume(main, aside)
    part = next((part for part in main.split("|") if series_key(part)), "")
    issue = find_issue(part)
    name = _series_name(part[: issue.start] if issue else YEAR.sub(" ", part), volume)
    return Title(
        series_name=name,
        series_key=series_key(name),
        year=_year(aside, main),
        publisher=publisher or _publisher_in(aside),
        is_lot=True,
        lot_size=lot.size,
    )


def _split_brackets(title: str) -> tuple[str, str]:
    """A title without what stands in brackets, and that. A bracket with an issue number stays."""
    if not ("(" in title or "[" in title or "{" in title):
        return " ".join(title.split()), ""
    insides: list[str] = []

    def take(match: re.Match[str]) -> str:
        if re.search(r"#\s?\d", match["inside"]):
            return f" {match['inside']} "
        insides.append(match["inside"])
        return " "

    main = _BRACKETS.sub(take, title)
    return " ".join(main.split()), " | ".join(insides)


def _take_volume(main: str, aside: str) -> tuple[int | None, str, str]:
    if not may_hold(main, ("v",)) and not may_hold(aside, ("v",)):
        return None, main, aside
    match = _VOLUME.search(main) or _VOLUME.search(aside)
    if match is None:
        return None, main, aside
    text = (match["long"] or match["short"]).casefold()
    volume = _VOLUME_WORDS.get(text) or int(text)
    return volume, " ".join(_VOLUME.sub(" ", main).split()), _VOLUME.sub(" ", aside)


@functools.lru_cache(maxsize=16_384)
def _series_name(text: str, volume: int | None) -> str:
    name = _ARTICLE_LAST.sub("", _FORMAT_WORDS.sub("", text.strip(_EDGE)).strip(_EDGE)).strip(_EDGE)
    name = " ".join(name.split())
    is_acronym = "-" not in name and all(len(word) <= 3 for word in name.split())  # 2000 AD, JLA
    if (name.isupper() and not is_acronym) or name.islower():
        name = re.sub(r"[^\W\d_]+(?:'[^\W\d_]+)?", lambda word: word[0].capitalize(), name)
    # Amazing Spider-Man Vol. 3 #1 is another comic than the #1 of 1963; volume 1 is what everybody leaves out.
    return f"{name} Vol. {volume}" if name and volume is not None and 2 <= volume <= 50 else name


def _variant(title: str, behind: str, issue: Issue | None) -> str:
    letter = issue.letter if issue else ""
    return name_variant(f"{title} | Cover {letter}" if letter else title, behind)


def _year(behind: str, rest: str) -> int | None:
    match = YEAR.search(behind) or YEAR.search(rest)
    return int(match["year"]) if match else None


def _publisher_first(title: str) -> tuple[str, str | None]:
    match = _PUBLISHER_FIRST.match(title)
    if match is None:
        return title, None
    return title[match.end() :], _publisher_in(match["name"].replace("-", " "))


@functools.lru_cache(maxsize=4096)
def _publisher_in(text: str) -> str | None:
    match = _PUBLISHER.search(text) if any(map(str.isalpha, text)) else None
    if match is None:
        return None
    return list(_PUBLISHERS)[next(index for index in range(len(_PUBLISHERS)) if match[f"p{index}"])]

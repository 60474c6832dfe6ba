"""Which edition of an issue a title names: ratio, cover letter, printing, newsstand, finish.

The regular edition (first print, direct edition, cover A) is the empty text. A generic "variant" counts only when
nothing more precise is said. Artists' names are not read: two "variants" by different artists share a key.
"""

import re

from assets.comics.rules.text import may_hold

_ORDINALS = {"second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6}
_PRINT = r"(?:print(?:ing)?|ptg|prt)\b"
_RATIO = re.compile(
    r"(?<![\w.:])1\s?(?::|in)\s?(?P<ratio>\d{1,4})\b(?![.,:]\d)(?:\s?(?:ratio|incentive|retailer))*",
    re.IGNORECASE,
)
_PRINTING = re.compile(
    rf"\b(?:(?P<number>\d{{1,2}})(?:st|nd|rd|th)|(?P<word>first|{'|'.join(_ORDINALS)}))\s?{_PRINT}",
    re.IGNORECASE,
)
_COVER = re.compile(
    r"\b(?:cover|cvr|cov)\.?\s?(?P<after>[a-z])\b(?![.'])|\b(?P<before>[b-h])\s(?:cover|cvr)\b", re.IGNORECASE
)
_REGULAR = re.compile(
    r"\b(?:direct(?:\s(?:market\s)?edition)?|regular\s(?:cover|edition)|main\scover)\b", re.IGNORECASE
)
# Words that no series name has beside its number: taken wherever they stand.
_ANYWHERE: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("Newsstand", r"\bnews\s?stand(?:\s(?:edition|variant|copy))*\b"),
        ("Facsimile", r"\bfacsimile(?:\sedition)?\b"),
        ("Mark Jewelers", r"\bmark\sjewell?ers?(?:\s(?:insert|variant))*\b"),
        (
            "Price Variant",
            r"\b\d\d\s?(?:cents?|¢|p|pence)\s(?:price\s)?variant\b|\b(?:canadian\s)?price\svariant\b|\bcpv\b",
        ),
        ("Whitman", r"\bwhitman(?:\svariant)\b"),
        ("Reprint", r"\breprint\b"),
    )
)
# Words that a series may carry ("Silver Surfer", "Gold Digger"): taken only behind the issue number.
_BEHIND: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(rf"\b{pattern}\b", re.IGNORECASE))
    for name, pattern in (
        ("Virgin", "virgin"),
        ("Sketch", "sketch"),
        ("Foil", "foil"),
        ("Hologram", r"holo(?:gram|graphic|foil)?"),
        ("Gold", r"gold(?!\skey|en)(?:\sedition)?"),
        ("Silver", r"silver(?:\sedition)(?!\sage)"),
        ("Platinum", r"platinum(?:\sedition)?"),
        ("Blank", r"blank(?:\scover)?"),
        ("Die-Cut", r"die[\s-]?cut"),
        ("Glow", r"glow[\s-]?in[\s-]?the[\s-]?dark"),
        ("Gatefold", "gatefold"),
        ("Lenticular", "lenticular"),
        ("Acetate", "acetate"),
        ("Connecting", "connecting"),
        ("Exclusive", "exclusive"),
        ("Incentive", "incentive"),
        ("Whitman", "whitman"),
        ("Error", r"error(?:\s(?:edition|copy))?"),
    )
)
_GENERIC = re.compile(r"\bvar(?:iant)?\b(?:\s(?:cover|cvr|edition))?", re.IGNORECASE)
# One look that spares nine titles in ten the thirty patterns above; each of them needs one of these stems.
_HINT = re.compile(
    r"1\s?(?::|in\b)\s?\d|print|ptg|prt|cov|cvr|direct|regular|stand|facsimile|jewel|vari|\bvar\b|cpv|whitman|virgin|sketch"
    r"|foil|holo|gold|silver|platinum|blank|die.?cut|glow|gatefold|lenticular|acetate|connecting|exclusive|incentive|error",
    re.IGNORECASE,
)
# What _HINT cannot match without.
_STEMS = (
    ":", "1in", "1 in", "print", "ptg", "prt", "cov", "cvr", "direct", "regular", "stand", "facsimile", "jewel", "var",
    "cpv", "whitman", "virgin", "sketch", "foil", "holo", "gold", "silver", "platinum", "blank", "die", "glow",
    "gatefold", "lenticular", "acetate", "connecting", "exclusive", "incentive", "error",
)  # fmt: skip


def _is_hinted(text: str) -> bool:
    return may_hold(text, _STEMS) and _HINT.search(text) is not None


def name_variant(title: str, behind: str) -> str:
    """The variant that a cleaned `title` names, its parts in a fixed order; empty for the regular edition.

    `behind` is the part of the title after the issue number, in which words that may name a series count too.
    """
    if not _is_hinted(title) and not _is_hinted(behind):
        return ""
    names = {f"1:{int(match['ratio'])}" for match in _RATIO.finditer(title)}
    for match in _PRINTING.finditer(title):
        number = int(match["number"] or _ORDINALS.get((match["word"] or "").casefold(), 1))
        if number > 1:
            names.add(f"{_ordinal(number)} Print")
    letters = {(match["after"] or match["before"]).upper() for match in _COVER.finditer(title)}
    names |= {f"Cover {letter}" for letter in letters - {"A"}}
    names |= {name for name, pattern in _ANYWHERE if pattern.search(title)}
    names |= {name for name, pattern in _BEHIND if pattern.search(behind)}
    if not names and _GENERIC.search(title):
        names.add("Variant")
    return " + ".join(sorted(names))


def strip_variants(title: str) -> str:
    """A title without the words of a variant, so that its numbers and letters are not read as anything else."""
    if not _is_hinted(title):
        return title
    for pattern in (_RATIO, _PRINTING, _COVER, _REGULAR, *(pattern for _, pattern in _ANYWHERE), _GENERIC):
        title = pattern.sub(" ", title)
    return title


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"

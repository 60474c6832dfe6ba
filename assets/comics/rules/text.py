"""Cleaning of the texts that sellers write, before any rule reads them.

One way for both rules, so that a fullwidth digit, an HTML entity or an emoji never decides a price.
Add a character class here; what a word means belongs to `condition`, `title`, `lots` and `variants`.
"""

import functools
import html
import re
import unicodedata

MAX_CHARACTERS = (
    1000  # a longer text is read to here: no marketplace has such titles, and no rule may take long
)

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63\uff0d"), "-")
_QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u02bc\u0060\u00b4"), "'") | dict.fromkeys(
    map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"), '"'
)
_MARKS = dict.fromkeys(
    map(ord, "\u2122\u00ae\u00a9\u2120\ufe0e\ufe0f\u200d\u00ad"), None
)  # TM, (R), (C), joiners
_NUMERO = {ord("\u2116"): "No. ", ord("\u2044"): "/", ord("\u2215"): "/"}
_TABLE = _DASHES | _QUOTES | _MARKS | _NUMERO
# NFKC gives 1, fraction slash, 2: apart from a digit before it (9 and a half is not 91/2).
_FRACTION = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_SPACES = re.compile(r"\s+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})


def may_hold(text: str, stems: tuple[str, ...]) -> bool:
    """Whether `text` holds one of `stems`, in any case. True for a text that is not ASCII: case is not simple there.

    A look that spares a pattern none of whose matches is without a stem. Many times quicker than the pattern.
    """
    if not text.isascii():
        return True
    small = text.lower()
    for stem in stems:  # noqa: SIM110  # a generator costs more than it looks at
        if stem in small:
            return True
    return False


def clean(text: str) -> str:
    """`text` with entities resolved, one kind of digits, dashes, quotes and spaces, and without symbols or emoji.

    Case and other punctuation stay. Idempotent but for texts that hide an entity in an entity.
    """
    if text.isascii() and "&" not in text and text.isprintable():
        return " ".join(text[:MAX_CHARACTERS].split())
    text = html.unescape(text[: 2 * MAX_CHARACTERS])
    text = _FRACTION.sub(" ", text[:MAX_CHARACTERS]).translate(_TABLE)
    text = unicodedata.normalize("NFKC", text).translate(_TABLE)
    return _SPACES.sub(" ", "".join(map(_plain_character, text))).strip()


def words_of(text: str) -> list[str]:
    """The words of `text` for comparison: casefolded, unaccented, letters and digits only."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    for _ in range(3):  # casefolding and decomposition can each make work for the other
        text = unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isalnum() else " " for c in map(_plain_character, text)).split()


@functools.lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    # Symbols (emoji, arrows), control and format characters, half of a surrogate pair: a gap, never a letter.
    return " " if category in ("So", "Sk", "Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs") else character

"""Natural keys of series, comics and publishers, and the ids that follow from them.

An id is the first 16 bytes of sha256 over `longbox/comics/<kind>/<key>` in UTF-8, as a UUID: the same on every
machine and in any order of arrival. In SQL: `substring(sha256(convert_to(text, 'UTF8')) FOR 16)`, as hex, `::uuid`.
Changing a key changes every id made of it: that is a migration, not an edit.
"""

import functools
import hashlib
import uuid

from assets.comics.rules.text import words_of

_JOINERS = frozenset({"and"})  # "Batman & Robin", "Batman and Robin", "Batman Robin": one series


@functools.lru_cache(maxsize=16_384)
def series_key(name: str) -> str:
    """The key of a series: casefolded, unaccented, letters and digits only, without "and" and a "The" at either end.

    Empty for a name without any letter or digit. Idempotent.
    """
    words = words_of(name.replace("&", " and "))
    kept = [word for word in words if word not in _JOINERS] or words
    while len(kept) > 1 and kept[0] == "the":
        kept = kept[1:]
    if len(kept) > 1 and kept[-1] == "the" and "," in name:  # "Amazing Spider-Man, The"
        kept = kept[:-1]
    return "".join(kept)


@functools.lru_cache(maxsize=16_384)
def issue_key(issue_number: str) -> str:
    """The key of an issue number. Its punctuation stays: 1.5, 15 and -15 are three comics."""
    return "".join(issue_number.casefold().split())


@functools.lru_cache(maxsize=4096)
def variant_key(variant: str) -> str:
    """The key of a variant's name; empty for the regular edition. The colon of a ratio stays."""
    return "".join(character for character in variant.casefold() if character.isalnum() or character in ":+")


def make_comic_key(series: str, issue_number: str | None, variant: str) -> str:
    """`series_key|issue|variant`: one comic, however a seller writes it."""
    return f"{series}|{issue_key(issue_number or '')}|{variant_key(variant)}"


@functools.lru_cache(maxsize=65_536)
def comic_id(comic_key: str) -> uuid.UUID:
    """The id of the comic with this key."""
    return _id_of("comic", comic_key)


@functools.lru_cache(maxsize=16_384)
def series_id(key: str) -> uuid.UUID:
    """The id of the series with this key."""
    return _id_of("series", key)


def publisher_id(key: str) -> uuid.UUID:
    """The id of the publisher with this key (`series_key` of its name)."""
    return _id_of("publisher", key)


def _id_of(kind: str, key: str) -> uuid.UUID:
    return uuid.UUID(
        bytes=hashlib.sha256(f"longbox/comics/{kind}/{key}".encode("utf-8", "replace")).digest()[:16]
    )


def better_name(one: str, other: str) -> str:
    """Of two spellings with one key, the one to show. Commutative and associative: no matter which came first.

    Mixed case before all capitals or all small letters, more punctuation before less, then the alphabet.
    """
    return min(one, other, key=_name_rank)


def _name_rank(name: str) -> tuple[bool, int, int, str]:
    punctuation = sum(not (character.isalnum() or character.isspace()) for character in name)
    return name.isupper() or name.islower(), -punctuation, len(name), name

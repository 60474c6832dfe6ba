"""Whole columns of texts at once: what is canonical already, as nearly all of a feed is, passes with one look.

Each function takes a column of texts and returns one of their canonical texts, with NULL where a value needs the
converter of `values`, which stays the only judge of odd values. A test holds the two against each other.
"""

import datetime as dt
import functools
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as pc

from pipelines.catalog.model import Rule
from pipelines.ingestion.columns import TEXT, Column, text_of, texts, where
from pipelines.ingestion.numbers import POINT
from pipelines.ingestion.times import ColumnFormat

Bulk = Callable[[Column], Column]

_NUMERIC = re.compile(r"numeric\(([0-9]+),([0-9]+)\)")
_MOMENT = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:Z|\+00:00)\z"
_MOMENT_BYTES = len("2026-10-31T23:59:59Z")
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]  # where a moment has them
_DATE_DIGITS = _DIGITS[:8]
_POWERS = 10 ** np.arange(7, -1, -1, dtype=np.int32)
_MARKS, _MARK_LETTERS = [4, 7, 13, 16, 19], np.frombuffer(b"--::Z", np.uint8)
_ODD = (b"\\", b"\t", b"\n", b"\r", b"\0")  # to be escaped, and what no text may hold
_BOUNDS: dict[str, Any] = {
    "greater_than": pc.greater, "at_least": pc.greater, "less_than": pc.less, "at_most": pc.less,
}  # fmt: skip


def bulk_converter(type_name: str, column: ColumnFormat) -> Bulk | None:
    """The bulk form of the converter of `type_name`, None where there is none (each different value goes by itself)."""
    if type_name == "text":
        return _plain
    if (match := _NUMERIC.fullmatch(type_name)) and column.notation == POINT:
        return _numbers(int(match[1]), int(match[2]))
    if type_name == "timestamp with time zone" and column.format is None:
        return _moments
    return None


def _plain(column: Column) -> Column:
    data = bytes(text_of(column))
    if not any(character in data for character in _ODD):
        return column
    return where(pc.invert(pc.match_substring_regex(column, r"[\\\t\n\r\x00]")), column)


def _numbers(precision: int, scale: int) -> Bulk:
    decimals = rf"\.[0-9]{{{scale}}}" if scale else ""
    pattern = rf"\A(?:0|[1-9][0-9]{{0,{max(precision - scale - 1, 0)}}}){decimals}\z"
    return lambda column: where(pc.match_substring_regex(column, pattern), column)


def _moments(column: Column) -> Column:
    """ISO times that say they are UTC, to the second."""
    has_width = pc.fill_null(pc.equal(pc.binary_length(column), _MOMENT_BYTES), False)
    if not pc.any(has_width).as_py():
        return _moments_of_any_width(column)
    if pc.all(has_width).as_py():
        return _moments_with_z(column)
    odd = pc.invert(has_width)
    found = pc.replace_with_mask(column, has_width, _moments_with_z(column.filter(has_width)))
    return pc.replace_with_mask(found, odd, _moments_of_any_width(column.filter(odd)))


def _moments_with_z(column: Column) -> Column:
    """As `_moments`, of texts of 20 bytes each: looked at as a table of characters, which takes a tenth of the time."""
    letters = np.frombuffer(text_of(column), np.uint8).reshape(-1, _MOMENT_BYTES)
    digits = letters - np.uint8(ord("0"))  # what is no digit is above 9
    fit = (digits[:, _DIGITS] <= 9).all(axis=1) & (letters[:, _MARKS] == _MARK_LETTERS).all(axis=1)
    fit &= (letters[:, 10] == ord("T")) | (letters[:, 10] == ord(" "))
    fit &= (digits[:, 11] * 10 + digits[:, 12] < 24) & (digits[:, 14] <= 5) & (digits[:, 17] <= 5)
    dates = digits[:, _DATE_DIGITS].astype(np.int32) @ _POWERS
    days, place = np.unique(dates, return_inverse=True)
    fit &= np.fromiter(map(_is_day_number, days.tolist()), np.bool_, len(days))[place]
    canonical = np.empty((len(letters), _MOMENT_BYTES + 5), np.uint8)
    canonical[:, :19] = np.where(
        fit[:, None], letters[:, :19], np.uint8(ord("-"))
    )  # nothing that is no UTF-8
    canonical[:, 10] = ord("T")
    canonical[:, 19:] = np.frombuffer(b"+00:00", np.uint8)
    width = canonical.shape[1]
    places = np.arange(0, canonical.size + 1, width, dtype=np.int64)
    made = pyarrow.LargeStringArray.from_buffers(
        len(letters), pyarrow.py_buffer(places), pyarrow.py_buffer(canonical)
    )
    return where(pyarrow.array(fit), made)


def _moments_of_any_width(column: Column) -> Column:
    fit = pc.match_substring_regex(column, _MOMENT)
    days = pc.utf8_slice_codeunits(column, 0, 10).dictionary_encode()
    are_days = pyarrow.array([_is_day(day) for day in days.dictionary.to_pylist()], pyarrow.bool_())
    fit = pc.and_(fit, are_days.take(days.indices))
    letter, zone, nothing = (pyarrow.scalar(text, TEXT) for text in ("T", "+00:00", ""))
    times = pc.utf8_slice_codeunits(column, 11, 19)
    return where(fit, pc.binary_join_element_wise(days.dictionary_decode(), letter, times, zone, nothing))


@functools.lru_cache(maxsize=40_000)  # a century; a feed has the same ones in block after block
def _is_day_number(number: int) -> bool:
    """Whether the digits of `number`, YYYYMMDD, are those of a day."""
    return _is_day(f"{number // 10000:04d}-{number // 100 % 100:02d}-{number % 100:02d}")


def _is_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def ruled(rule: Rule, values: Column, canonical: Column) -> Column:
    """`canonical` where a value surely satisfies `rule`; NULL may also mean that it takes a closer look."""
    if rule.matches is not None or not all(isinstance(bound, Decimal) for bound in rule.bounds.values()):
        return pyarrow.nulls(len(values), TEXT)
    if rule.one_of:
        canonical = where(pc.is_in(values, value_set=texts(str(word) for word in rule.one_of)), canonical)
    if rule.max_length is not None:
        canonical = where(pc.less_equal(pc.utf8_length(values), rule.max_length), canonical)
    for name, bound in rule.bounds.items():
        # A number that equals the bound as a float may differ from it as a decimal: left to the exact check.
        canonical = where(_BOUNDS[name](canonical.cast(pyarrow.float64()), float(str(bound))), canonical)
    return canonical

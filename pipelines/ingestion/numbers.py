"""Landed numbers as PostgreSQL's canonical text of them, exactly; stricter than PostgreSQL (`values`)."""

import decimal
import math
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipelines.ingestion.errors import BadValue, shown

# A double's shortest text has up to 17 digits, and the last of them are noise where 16 or more are written: then, and
# only then, 19.990000000000002 is 19.99. The first 13 digits are never noise, nor is what fewer digits say.
_NOISY_DIGITS = (16, 17)
FEWEST_NOISY_DIGITS = min(_NOISY_DIGITS)
_SURE = decimal.Context(prec=13, rounding=decimal.ROUND_HALF_EVEN)
_NEARLY_NOTHING = Decimal("1e-12")  # what is left of 0.1 + 0.2 - 0.3 has no sure digit
# A numeric has up to 1,000 digits, and this is asked of numbers ten times larger than the column takes.
_EXACT = decimal.Context(prec=2100, traps=[decimal.InvalidOperation])
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?")
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")
_INTEGER_DIGITS = 25  # more than any integer type has; a number of more is not even made
_MAX_EXPONENT = 130  # of a numeric without bounds: written out, a number beyond is nothing but zeros
_LARGEST_SINGLE = (2 - 2**-23) * 2.0**127
_ALIKE = {" ": " \u00a0\u202f", "'": "'’", "’": "'’"}  # characters that are used for one another
# as other programs write it
_NO_VALUE = {"na", "n/a", "n.a.", "null", "none", "nil", "nan", "-", "--", "\\n", "#n/a", "?"}
_INTEGERS = {16: "smallint", 32: "integer", 64: "bigint"}


@dataclass(frozen=True)
class Notation:
    """How a feed writes numbers as texts: what parts off the decimals and what, if anything, the thousands."""

    decimal: str = "."
    thousands: str | None = None

    def read_by(self, convert: Callable[[Any], str]) -> Callable[[Any], str]:
        """`convert`, which takes digits and a point, for texts in this notation; all other values stay as they are."""
        if self == POINT:
            return convert
        parted = re.escape(self.decimal)
        between = (
            "" if self.thousands is None else f"[{_ALIKE.get(self.thousands, re.escape(self.thousands))}]"
        )
        grouped = rf"[0-9]{{1,3}}(?:{between}[0-9]{{3}})+|" if between else ""
        number = re.compile(
            rf"([+-]?)((?:{grouped}[0-9]+)?)(?:{parted}([0-9]*))?((?:[eE][+-]?[0-9]{{1,5}})?)"
        )
        separators = re.compile(between or "(?!)")
        example = f"1{self.thousands or ''}234{self.decimal}50"

        def convert_text(value: Any) -> str:
            if not isinstance(value, str):
                return convert(value)
            match = number.fullmatch(value.strip())
            if match is None or not (match[2] or match[3]):
                raise BadValue(
                    "not_a_number",
                    f"{shown(value)} is not a number as the feed writes them",
                    f"write digits as in {example}, or change `decimal` or `thousands` of the feed",
                )
            sign, whole, decimals, exponent = match.groups()
            plain = sign + (separators.sub("", whole) or "0")
            return convert(plain + (f".{decimals}" if decimals else "") + exponent)

        return convert_text


POINT = Notation()


class ExactDecimal(Decimal):
    """A number of a format that keeps decimals as such: none of its digits is noise."""


def not_finite(number: float) -> str:
    """What is no number, as PostgreSQL writes it."""
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def exact(value: Any) -> Any:
    """A value with its decimals, also nested ones, as `ExactDecimal`."""
    if isinstance(value, Decimal):
        return ExactDecimal(value)
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, list) else value


def numeric_converter(precision: int | None, scale: int) -> Callable[[Any], str]:
    """The converter of numeric(precision, scale); of numeric without bounds if `precision` is None."""
    if precision is None:
        return _unbounded_numeric
    whole = precision - scale
    limit = Decimal(10) ** whole
    quantum = Decimal(1).scaleb(-scale)
    largest = _EXACT.subtract(limit, quantum)
    decimals = rf"(?:\.[0-9]{{{scale}}})" if scale else ""
    canonical = re.compile(rf"(?:0|[1-9][0-9]{{0,{max(whole - 1, 0)}}}){decimals}")

    def convert(value: Any) -> str:
        if type(value) is str and canonical.fullmatch(value):
            return value
        number = decimal_of(value)
        rounded = number.quantize(quantum, context=_EXACT) if abs(number) < limit * 10 else number
        if abs(rounded) >= limit:
            raise BadValue(
                "out_of_range",
                f"{shown(value)} does not fit numeric({precision},{scale})",
                f"write a number from -{largest:f} to {largest:f}, or give the column a wider type",
            )
        if rounded != number and (isinstance(value, ExactDecimal) or not _is_noise(number, rounded)):
            raise BadValue(
                "too_many_decimals",
                f"{shown(value)} has more than {scale} decimals",
                f"round it to {scale} decimals in the feed, or give the column a wider type",
            )
        return f"{rounded:f}" if rounded else f"{quantum * 0:f}"

    return convert


def _is_noise(number: Decimal, rounded: Decimal) -> bool:
    """Whether binary floating point alone parts `number` from `rounded`."""
    if len(number.normalize(_EXACT).as_tuple().digits) not in _NOISY_DIGITS:
        return False
    return abs(number) < _NEARLY_NOTHING if not rounded else _SURE.plus(number) == rounded


def decimal_of(value: Any) -> Decimal:
    """A landed value as an exact, finite number."""
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        number = Decimal(value.strip())
    else:
        raise BadValue(
            "not_a_number",
            f"{shown(value)} is not a plain number",
            _remedy("write digits and a point only, as in 1234.50", value),
        )
    if not number.is_finite():
        raise BadValue(
            "not_a_number",
            f"{shown(value)} is not a finite number",
            "leave the field empty if unknown",
        )
    return number


def _remedy(usual: str, value: Any) -> str:
    """What to do about a text that is no number: write it so, or tell the feed how it writes them."""
    if isinstance(value, str) and value.strip().casefold() in _NO_VALUE:
        return f"leave the field empty, or list {shown(value.strip())} under `null_values` of the feed"
    if isinstance(value, str) and "," in value:
        return f"{usual}, or declare `decimal` and `thousands` of the feed"
    return usual


def _unbounded_numeric(value: Any) -> str:
    number = decimal_of(value)
    if number and abs(number.adjusted()) > _MAX_EXPONENT:
        raise BadValue(
            "out_of_range",
            f"{shown(value)} is beyond what Longbox takes for a numeric column, from 1e-{_MAX_EXPONENT} to "
            f"1e{_MAX_EXPONENT}",
            "check the exponent",
        )
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def integer(bits: int, value: Any) -> str:
    """A landed value as a whole number of `bits` bits with its sign."""
    if isinstance(value, str) and (match := _INTEGER.fullmatch(value.strip())):
        if len(match[2]) > _INTEGER_DIGITS:
            raise _beyond_integer(bits, value)
        number = int(match[1] + match[2])
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float | Decimal) and value == (whole := _whole(bits, value)):
        number = whole
    else:
        raise BadValue(
            "not_a_number",
            f"{shown(value)} is not a whole number",
            _remedy("write digits only, as in 42", value),
        )
    limit = 1 << (bits - 1)
    if not -limit <= number < limit:
        raise _beyond_integer(bits, value)
    return str(number)


def _beyond_integer(bits: int, value: Any) -> BadValue:
    limit = 1 << (bits - 1)
    return BadValue(
        "out_of_range",
        f"{shown(value)} does not fit {_INTEGERS[bits]}",
        f"write a whole number from {-limit} to {limit - 1}, or give the column a wider type",
    )


def _whole(bits: int, value: float | Decimal) -> int:
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() > _INTEGER_DIGITS:
        raise _beyond_integer(bits, value)  # int() would write it out
    try:
        return int(value)
    except (OverflowError, ValueError):
        raise BadValue("not_a_number", f"{value} is not finite", "leave the field empty if unknown") from None


def double(value: Any) -> str:
    """A landed value as a double precision number."""
    return _binary("double precision", sys.float_info.max, float, value)


def single(value: Any) -> str:
    """A landed value for a column of single precision, with a double's digits: PostgreSQL cuts them."""
    return _binary("real", _LARGEST_SINGLE, _as_single, value)


def _binary(type_name: str, largest: float, as_kept: Callable[[float], float], value: Any) -> str:
    exact = decimal_of(value)
    number = float(exact)
    kept = as_kept(number)
    if math.isinf(kept) or (exact and not kept):
        raise BadValue(
            "out_of_range",
            f"{shown(value)} is too {'large' if math.isinf(kept) else 'near to 0'} for {type_name}",
            f"write a number from -{largest:.6g} to {largest:.6g} that is not nearly 0, or give the column a wider "
            "type",
        )
    return repr(number or 0.0)


def _as_single(number: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.inf

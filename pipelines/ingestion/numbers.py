"""Landed numbers as PostgreSQL's canonical text of them, exactly; stricter than PostgreSQL (`values`)."""

import decimal
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pipelines.ingestion.errors import BadValue, shown

# A double's shortest text has up to 17 digits, and the last of them are noise where 16 or more are written: then, and
# only then, 19.990000000000002 is 19.99. The first 13 digits are never noise, nor is what fewer digits say.
_NOISY_DIGITS = (16, 17)
_SURE = decimal.Context(prec=13, rounding=decimal.ROUND_HALF_EVEN)
_NEARLY_NOTHING = Decimal("1e-12")  # what is left of 0.1 + 0.2 - 0.3 has no sure digit
_EXACT = decimal.Context(prec=200, traps=[decimal.InvalidOperation])
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,25}(?:\.0*)?")


def numeric_converter(precision: int | None, scale: int) -> Callable[[Any], str]:
    """The converter of numeric(precision, scale); of numeric without bounds if `precision` is None."""
    if precision is None:
        return _unbounded_numeric
    whole = precision - scale
    limit = Decimal(10) ** whole
    quantum = Decimal(1).scaleb(-scale)
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
                f"write a number below {limit:f}",
            )
        if rounded != number and not _is_noise(number, rounded):
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
            "write digits and a point only, as in 1234.50",
        )
    if not number.is_finite():
        raise BadValue(
            "not_a_number",
            f"{shown(value)} is not a finite number",
            "leave the field empty if unknown",
        )
    if number and abs(number.adjusted()) > 130:
        raise BadValue(
            "out_of_range",
            f"{shown(value)} is beyond any measure",
            "check the exponent",
        )
    return number


def _unbounded_numeric(value: Any) -> str:
    text = f"{decimal_of(value):f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def integer(limit: int, value: Any) -> str:
    """A landed value as a whole number from -limit on and below `limit`."""
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        number = int(value.strip().split(".", 1)[0])
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float | Decimal) and value == (whole := _whole(value)):
        number = whole
    else:
        raise BadValue(
            "not_a_number",
            f"{shown(value)} is not a whole number",
            "write digits only, as in 42",
        )
    if not -limit <= number < limit:
        raise BadValue(
            "out_of_range",
            f"{number} does not fit the column",
            f"write a number below {limit}",
        )
    return str(number)


def _whole(value: float | Decimal) -> int:
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() > 25:  # int() would write it out
        raise BadValue("out_of_range", f"{value} does not fit the column", "check the exponent")
    try:
        return int(value)
    except (OverflowError, ValueError):
        raise BadValue("not_a_number", f"{value} is not finite", "leave the field empty if unknown") from None


def double(value: Any) -> str:
    """A landed value as a double precision number."""
    number = float(decimal_of(value))
    if math.isinf(number):
        raise BadValue(
            "out_of_range",
            f"{shown(value)} does not fit a double",
            "check the exponent",
        )
    return repr(number or 0.0)

"""From a landed value to PostgreSQL's canonical text of it, or to a `BadValue` that says what is wrong.

One converter a column type. A converter is strict where PostgreSQL is not: `NaN`, `Infinity`, `1e400`, `1_000`,
`tomorrow` load in PostgreSQL and are refused here. Equal values get equal text (12.5 and 12.50 in numeric(12,2)),
so that a record's content hash does not depend on the file format it came in.
Add a type to `_CONVERTERS`; rules of a feed (greater_than, ...) live in `rules`.
"""

import datetime as dt
import decimal
import functools
import json
import math
import re
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipelines.ingestion.canonical_json import read_json, write_json
from pipelines.ingestion.errors import BadValue

Value = Any  # what a file format yields: str, bool, int, Decimal, date, datetime, list, dict, bytes
Converter = Callable[[Value], str]

# Noise of binary floating point in a text: 19.990000000000002 is 19.99 (relative bound, far above 2**-53).
FLOAT_NOISE = Decimal("1e-9")
_EXACT = decimal.Context(prec=200, traps=[decimal.InvalidOperation])
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,25}(?:\.0*)?")
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]00:00(?::00(?:\.0*)?)?)?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].+)?")
_TYPE = re.compile(r"([a-z][a-z ]*?)\s*(?:\(([0-9]+)(?:,([0-9]+))?\))?(\[\])?")
_TRUE, _FALSE = (
    {"true", "t", "yes", "y", "1", "on"},
    {"false", "f", "no", "n", "0", "off"},
)
_INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_UNESCAPED = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


@dataclass(frozen=True)
class ColumnFormat:
    """How a feed writes a column: its strptime format (or epoch_seconds, epoch_milliseconds) and its time zone."""

    format: str | None = None
    time_zone: str = "UTC"


def converter(
    type_name: str, column: ColumnFormat, labels: tuple[str, ...] | None = None
) -> Converter | None:
    """The converter of a column of PostgreSQL type `type_name` (as format_type writes it), None if unsupported.

    A converter takes a non-null value and returns text escaped for COPY; it raises `BadValue`.
    """
    if labels:
        return functools.partial(_label, labels)
    match = _TYPE.fullmatch(type_name)
    if match is None:
        return None
    base, first, second, array = match.groups()
    if array:
        return _text_array if base in ("text", "character varying") else None
    if base == "numeric":
        return _numeric_converter(int(first) if first else None, int(second or 0))
    if base in _INTEGER_BITS:
        return functools.partial(_integer, 1 << (_INTEGER_BITS[base] - 1))
    if base in ("character varying", "character"):
        return functools.partial(_bounded_text, int(first or 1) if first or base == "character" else None)
    if base in ("date", "timestamp with time zone", "timestamp without time zone"):
        return _temporal_converter(base, column)
    return _CONVERTERS.get(base)


def escape(text: str) -> str:
    """Text as a field of COPY's text format."""
    if _UNESCAPED.search(text) is None:
        return text
    return _UNESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


def shown(value: Value) -> str:
    """A value as a message shows it: short, on one line."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _numeric_converter(precision: int | None, scale: int) -> Converter:
    if precision is None:
        return _unbounded_numeric
    whole = precision - scale
    limit = Decimal(10) ** whole
    quantum = Decimal(1).scaleb(-scale)
    decimals = rf"(?:\.[0-9]{{{scale}}})" if scale else ""
    canonical = re.compile(rf"(?:0|[1-9][0-9]{{0,{max(whole - 1, 0)}}}){decimals}")

    def convert(value: Value) -> str:
        if type(value) is str and canonical.fullmatch(value):
            return value
        number = _decimal(value)
        rounded = number.quantize(quantum, context=_EXACT) if abs(number) < limit * 10 else number
        if abs(rounded) >= limit:
            raise BadValue(
                "out_of_range",
                f"{shown(value)} does not fit numeric({precision},{scale})",
                f"write a number below {limit:f}",
            )
        if rounded != number and abs(rounded - number) > FLOAT_NOISE * max(Decimal(1), abs(number)):
            raise BadValue(
                "too_many_decimals",
                f"{shown(value)} has more than {scale} decimals",
                f"round it to {scale} decimals in the feed, or give the column a wider type",
            )
        return f"{rounded:f}" if rounded else f"{quantum * 0:f}"

    return convert


def _decimal(value: Value) -> Decimal:
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


def _unbounded_numeric(value: Value) -> str:
    text = f"{_decimal(value):f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _integer(limit: int, value: Value) -> str:
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


def _float(value: Value) -> str:
    number = float(_decimal(value))
    if math.isinf(number):
        raise BadValue(
            "out_of_range",
            f"{shown(value)} does not fit a double",
            "check the exponent",
        )
    return repr(number or 0.0)


def _boolean(value: Value) -> str:
    word = str(value).strip().casefold()
    if word in _TRUE:
        return "t"
    if word in _FALSE:
        return "f"
    raise BadValue("wrong_type", f"{shown(value)} is neither true nor false", "write true or false")


def _text(value: Value) -> str:
    if type(value) is str:
        if _has_surrogate(value):  # half of a character, which JSON can spell and UTF-8 cannot
            raise BadValue(
                "invalid_text", f"{shown(value)} holds half a character", "write whole characters in the feed"
            )
        return escape(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal | dt.date | uuid.UUID):
        return escape(str(value))
    if isinstance(value, float):
        return repr(value)
    raise BadValue(
        "wrong_type",
        f"{shown(value)} is not a text",
        "write a plain text here, not a nested value",
    )


def _bounded_text(limit: int | None, value: Value) -> str:
    text = _text(value)
    if limit is not None and len(text) > limit and len(str(value)) > limit:
        raise BadValue(
            "too_long",
            f"the text has {len(str(value))} characters, the column keeps {limit}",
            "shorten it in the feed",
        )
    return text


def _label(labels: tuple[str, ...], value: Value) -> str:
    if isinstance(value, str) and value in labels:
        return escape(value)
    raise BadValue(
        "not_in_list",
        f"{shown(value)} is not a label of the column",
        f"write one of {', '.join(labels)}",
    )


def _uuid(value: Value) -> str:
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(str(value).strip()))
    except ValueError:
        raise BadValue("wrong_type", f"{shown(value)} is not a UUID", "write 32 hexadecimal digits") from None


def _jsonb(value: Value) -> str:
    try:
        text = write_json(read_json(value) if isinstance(value, str) else value)
    except (ValueError, RecursionError) as error:
        raise BadValue("wrong_type", f"{shown(value)} is not JSON ({error})", "write valid JSON") from None
    if "\\u0000" in text or _has_surrogate(text):
        raise BadValue(
            "nul_byte",
            "the JSON holds a character PostgreSQL cannot store",
            "remove it in the feed",
        )
    return escape(text)


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _text_array(value: Value) -> str:
    items = value
    if isinstance(value, str):
        try:
            items = json.loads(value)
        except ValueError:
            items = None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise BadValue(
            "wrong_type",
            f"{shown(value)} is not a list of texts",
            'write a JSON list, as in ["a", "b"]',
        )
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    return escape("{" + ",".join(quoted) + "}")


def _temporal_converter(base: str, column: ColumnFormat) -> Converter:
    zone = dt.UTC if column.time_zone == "UTC" else zoneinfo.ZoneInfo(column.time_zone)
    parse: Callable[[Value], dt.datetime]
    if column.format in ("epoch_seconds", "epoch_milliseconds"):
        parse = functools.partial(_from_epoch, 1000 if column.format == "epoch_milliseconds" else 1)
    elif column.format is not None:
        parse = functools.partial(
            _from_format,
            column.format,
            "not_a_date" if base == "date" else "not_a_time",
        )
    elif base == "date":
        return _date
    else:
        parse = _from_iso
    if base == "date":
        return lambda value: parse(value).date().isoformat()
    if base == "timestamp without time zone":
        return lambda value: _naive(parse(value)).isoformat()
    return lambda value: _in_utc(parse(value), zone).isoformat()


@functools.lru_cache(maxsize=65536)
def _date_of_text(text: str) -> str:
    match = _DATE.fullmatch(text.strip())
    try:
        if match is not None:
            return dt.date.fromisoformat(match[1]).isoformat()
        reason = "write YYYY-MM-DD, or declare the feed's format under `formats`"
    except ValueError as error:
        reason = str(error)
    raise BadValue("not_a_date", f"{shown(text)} is not a date", reason)


def _date(value: Value) -> str:
    if isinstance(value, str):
        return _date_of_text(value)
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date().isoformat()
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    raise BadValue("not_a_date", f"{shown(value)} is not a date", "write YYYY-MM-DD")


def _from_iso(value: Value) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    text = value.strip() if isinstance(value, str) else ""
    try:
        if _TIME.fullmatch(text):
            return dt.datetime.fromisoformat(text)
        reason = "write YYYY-MM-DDTHH:MM:SS with Z or an offset, or declare the feed's format under `formats`"
    except ValueError as error:
        reason = str(error)
    raise BadValue("not_a_time", f"{shown(value)} is not a time", reason)


def _from_format(form: str, fault: str, value: Value) -> dt.datetime:
    if isinstance(value, dt.date):
        return _from_iso(value)
    try:
        return dt.datetime.strptime(str(value).strip(), form)
    except ValueError as error:
        raise BadValue(fault, f"{shown(value)} does not match {form!r}", str(error)) from None


def _from_epoch(per_second: int, value: Value) -> dt.datetime:
    try:
        microseconds = int(_decimal(value) * 1_000_000 / per_second)
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)
    except OverflowError:
        raise BadValue(
            "out_of_range",
            f"{shown(value)} is no time of this calendar",
            "check the unit",
        ) from None


def _in_utc(moment: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """`moment` in UTC. A naive one is in `zone`; an ambiguous one (clocks set back) is the earlier of the two."""
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(dt.UTC)
        if zone is dt.UTC:
            return moment.replace(tzinfo=dt.UTC)
        in_utc = moment.replace(tzinfo=zone).astimezone(dt.UTC)
        if in_utc.astimezone(zone).replace(tzinfo=None) == moment:
            return in_utc
    except OverflowError:
        raise BadValue("out_of_range", f"{moment} is no time of this calendar", "check the year") from None
    raise BadValue(
        "not_a_time",
        f"{moment} does not exist in {zone}: clocks were set forward",
        "write an offset",
    )


def _naive(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo is None else _in_utc(moment, dt.UTC).replace(tzinfo=None)


_CONVERTERS: dict[str, Converter] = {
    "text": _text,
    "citext": _text,
    "boolean": _boolean,
    "uuid": _uuid,
    "jsonb": _jsonb,
    "json": _jsonb,
    "double precision": _float,
    "real": _float,
}

SUPPORTED_TYPES: tuple[str, ...] = (
    "numeric", "smallint", "integer", "bigint", "double precision", "real", "boolean", "text", "character varying",
    "character", "date", "timestamp with time zone", "timestamp without time zone", "uuid", "jsonb", "json",
    "text[]", "enum types",
)  # fmt: skip

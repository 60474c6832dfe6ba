"""From a landed value to PostgreSQL's canonical text of it, or to a `BadValue` that says what is wrong.

One converter a column type. A converter is strict where PostgreSQL is not: `NaN`, `Infinity`, `1e400`, `1_000`,
`tomorrow` load in PostgreSQL and are refused here. Equal values get equal text (12.5 and 12.50 in numeric(12,2)),
so that a record's content hash does not depend on the file format it came in.
Numbers are in `numbers`, days and moments in `times`. Add a type to `_CONVERTERS`; rules of a feed (greater_than, ...)
live in `binding`.
"""

import datetime as dt
import functools
import ipaddress
import math
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pipelines.ingestion.canonical_json import read_json, write_json
from pipelines.ingestion.errors import BadValue, shown
from pipelines.ingestion.numbers import double, integer, not_finite, numeric_converter, single
from pipelines.ingestion.times import ColumnFormat, temporal_converter

Value = Any  # what a file format yields: str, bool, int, Decimal, date, datetime, list, dict, bytes
Converter = Callable[[Value], str]

_TYPE = re.compile(r"([a-z][a-z ]*?)\s*(?:\(([0-9]+)(?:,([0-9]+))?\))?(\[\])?")
_TRUE, _FALSE = (
    {"true", "t", "yes", "y", "1", "on"},
    {"false", "f", "no", "n", "0", "off"},
)
_TEXTS = ("text", "character varying", "character", "citext")
_BINARY: dict[str, Converter] = {"double precision": double, "real": single}
_INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_UNESCAPED, _ESCAPED = re.compile(r"[\\\t\n\r]"), re.compile(r"\\(.)")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_MEANT = {escaped[1]: character for character, escaped in _ESCAPES.items()}
_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # not a backslash and the text u0000
_HEX = re.compile(r"(?:\\x|0x)((?:[0-9A-Fa-f]{2})*)")


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
        item = converter(type_name.removesuffix("[]"), column)
        return None if item is None else functools.partial(_array, base, item)
    if base == "numeric":
        return column.notation.read_by(numeric_converter(int(first) if first else None, int(second or 0)))
    if base in _INTEGER_BITS:
        return column.notation.read_by(functools.partial(integer, _INTEGER_BITS[base]))
    if base in _BINARY:
        return column.notation.read_by(_BINARY[base])
    if base in ("character varying", "character"):
        return functools.partial(_bounded_text, int(first or 1) if first or base == "character" else None)
    if base in ("date", "time without time zone", "timestamp with time zone", "timestamp without time zone"):
        return temporal_converter(base, column)
    return _CONVERTERS.get(base)


def escape(text: str) -> str:
    """Text as a field of COPY's text format."""
    if _UNESCAPED.search(text) is None:
        return text
    return _UNESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


def unescape(field: str) -> str:
    """The text that `escape` made a field of."""
    return _ESCAPED.sub(lambda found: _MEANT[found[1]], field)


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
            raise _half_a_character(value)
        if "\0" in value:  # which JSON can spell
            raise BadValue(
                "nul_byte",
                f"{shown(value)} has a NUL byte as character {value.index(chr(0)) + 1}",
                "remove it in the feed",
            )
        return escape(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal | dt.date | dt.time | uuid.UUID):
        return escape(str(value))
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else not_finite(value)
    remedy = "write a plain text here, not a nested value"
    if isinstance(value, bytes):
        remedy = "write it as a string in UTF-8, or give the column the type bytea"
    elif not isinstance(value, dict | list):
        remedy = "write it as a text"
    raise BadValue("wrong_type", f"{shown(value)} is not a text", remedy)


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
    if _has_surrogate(text):
        raise _half_a_character(value)
    if "\\u0000" in text and _NUL_IN_JSON.search(text):
        raise BadValue("nul_byte", f"{shown(value)} has a NUL byte, written \\u0000", "remove it in the feed")
    return escape(text)


def _half_a_character(value: Value) -> BadValue:
    return BadValue(
        "invalid_text", f"{shown(value)} holds half a character", "write whole characters in the feed"
    )


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _inet(value: Value) -> str:
    try:
        text = str(value).strip()
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise BadValue(
            "wrong_type",
            f"{shown(value)} is not an address",
            "write it as 192.0.2.1, 192.0.2.1/24 or 2001:db8::1",
        ) from None
    if "%" in text:
        raise BadValue("wrong_type", f"{shown(value)} names an interface", "leave out what follows the %")
    return str(found.ip if found.network.prefixlen == found.max_prefixlen else found)


def _bytea(value: Value) -> str:
    if isinstance(value, str) and (match := _HEX.fullmatch(value.strip())):
        value = bytes.fromhex(match[1])
    if not isinstance(value, bytes):
        raise BadValue(
            "wrong_type",
            f"{shown(value)} is not hexadecimal",
            "write \\x and then two digits a byte, as in \\x1f8b",
        )
    return escape(f"\\x{value.hex()}")


def _array(base: str, item: Converter, value: Value) -> str:
    items = value
    if isinstance(value, str):
        try:
            items = read_json(value)
        except (ValueError, RecursionError):
            items = None
    if not isinstance(items, list):
        raise BadValue(
            "wrong_type",
            f"{shown(value)} is not a list",
            'write a JSON list, as in ["a", "b"]' if base in _TEXTS else "write a JSON list, as in [1, 2]",
        )
    return escape("{" + ",".join("NULL" if one is None else _quoted(item(one)) for one in items) + "}")


def _quoted(escaped: str) -> str:
    text = unescape(escaped)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_CONVERTERS: dict[str, Converter] = {
    "text": _text,
    "citext": _text,
    "boolean": _boolean,
    "uuid": _uuid,
    "jsonb": _jsonb,
    "json": _jsonb,
    "inet": _inet,
    "bytea": _bytea,
}

"""JSON as canonical text: keys in order, no spaces, every number with the digits it was written with.

Python's own encoder sends decimals through binary floats, which changes long numbers; hence this small one.
"""

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

_STRANGE = {bytes: "bytes", dt.timedelta: "durations"}
MAX_EXPONENT = 130  # beyond any measure; written out, such a number is nothing but zeros


def read_json(text: str) -> Any:
    """Parse JSON with exact decimals.

    Raises ValueError, also for NaN and Infinity, which are not JSON, and for a name that an object has twice: of its
    two values one would be lost.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None


def write_json(value: Any) -> str:
    """The canonical text of a parsed value. Raises ValueError for what JSON cannot say."""
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        items = sorted((str(key), item) for key, item in value.items())
        return "{" + ",".join(f"{write_json(key)}:{write_json(item)}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(write_json, value)) + "]"
    if isinstance(value, float):
        return json.dumps(value, allow_nan=False)
    if isinstance(value, Decimal):
        if not value.is_finite() or (value and abs(value.adjusted()) > MAX_EXPONENT):
            raise ValueError(f"{str(value)[:40]} is beyond any measure")
        return f"{value:f}"
    if isinstance(value, dt.date | dt.time | uuid.UUID):
        return json.dumps(str(value))
    raise ValueError(f"JSON has no {_STRANGE.get(type(value), type(value).__name__)}")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f"the name {twice[:40]!r} stands twice in one object")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object)

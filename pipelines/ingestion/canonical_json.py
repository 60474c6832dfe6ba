"""JSON as canonical text: keys in order, no spaces, every number with the digits it was written with.

Python's own encoder sends decimals through binary floats, which changes long numbers; hence this small one.
"""

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

MAX_EXPONENT = 130  # beyond any measure; written out, such a number is nothing but zeros


def read_json(text: str) -> Any:
    """Parse JSON with exact decimals. Raises ValueError, also for NaN and Infinity, which are not JSON."""
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


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
    raise ValueError(f"a {type(value).__name__} is not JSON")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")

"""The PostgreSQL types a system.yaml may give a column, and what each of them can do.

Names are canonical as `format_type` prints them, so that a declared type and a real one compare as text.
To support another type add it to `_TYPES`; https://www.postgresql.org/docs/18/datatype.html.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What values of a type are, as far as rules and measures care."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    OTHER = "other"


_TYPES: dict[str, Kind] = {
    "text": Kind.TEXT,
    "character varying": Kind.TEXT,
    "smallint": Kind.INTEGER,
    "integer": Kind.INTEGER,
    "bigint": Kind.INTEGER,
    "numeric": Kind.NUMBER,
    "real": Kind.NUMBER,
    "double precision": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
    "date": Kind.DATE,
    "timestamp with time zone": Kind.TIMESTAMP,
    "timestamp without time zone": Kind.TIMESTAMP,
    "time without time zone": Kind.OTHER,
    "uuid": Kind.OTHER,
    "jsonb": Kind.OTHER,
    "bytea": Kind.OTHER,
    "inet": Kind.OTHER,
}
_ALIASES = {
    "varchar": "character varying",
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "decimal": "numeric",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
}
_MEANT = {
    "string": "text",
    "str": "text",
    "char": "text",
    "float": "double precision",
    "double": "double precision",
    "number": "numeric",
    "money": "numeric(14,2)",
    "datetime": "timestamptz",
    "json": "jsonb",
    "serial": "bigint",
    "bigserial": "bigint",
    "blob": "bytea",
    "guid": "uuid",
    "hstore": "jsonb",
}
_SPELLING = re.compile(r"^\s*([a-z][a-z0-9_ ]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*(\[\])?\s*$")

SUPPORTED_TYPES = (
    "text", "varchar(n)", "smallint", "integer", "bigint", "numeric(p,s)", "real", "double precision", "boolean",
    "date", "timestamptz", "timestamp", "time", "uuid", "jsonb", "bytea", "inet",
)  # fmt: skip


@dataclass(frozen=True)
class ColumnType:
    """A type by its canonical name (`numeric(12,2)`), its base (`numeric`) and its kind."""

    name: str
    base: str
    kind: Kind
    is_array: bool = False

    @property
    def is_number(self) -> bool:
        """Whether sums and percentiles make sense."""
        return self.kind in (Kind.INTEGER, Kind.NUMBER)

    @property
    def is_time(self) -> bool:
        """Whether a table can be partitioned and expired by it."""
        return self.kind in (Kind.DATE, Kind.TIMESTAMP)

    @property
    def is_ordered(self) -> bool:
        """Whether least and greatest make sense to a reader."""
        return self.is_number or self.is_time or self.kind is Kind.TEXT


def parse_type(text: str) -> ColumnType:
    """Read a type as PostgreSQL or `format_type` spells it. Raises ValueError listing the supported ones."""
    match = _SPELLING.match(text.lower())
    base = match[1] if match else ""
    base = _ALIASES.get(base, base)
    if match is None or base not in _TYPES:
        meant = _MEANT.get(base)
        hint = f'did you mean "{meant}"? ' if meant else ""
        raise ValueError(
            f"{text!r} is no supported type; {hint}the types are {', '.join(SUPPORTED_TYPES)}, each also as type[]"
        )
    first, second, array = match[2], match[3], match[4] is not None
    modifier = _modifier(
        text, base, None if first is None else int(first), None if second is None else int(second)
    )
    kind = Kind.OTHER if array else _TYPES[base]
    suffix = "[]" if array else ""
    return ColumnType(name=f"{base}{modifier}{suffix}", base=base, kind=kind, is_array=array)


def known_type(text: str) -> ColumnType | None:
    """`parse_type`, or None for a type of PostgreSQL's that a system.yaml cannot declare (an enum, a range)."""
    try:
        return parse_type(text)
    except ValueError:
        return None


def _modifier(text: str, base: str, first: int | None, second: int | None) -> str:
    if first is None:
        return ""
    if base == "numeric" and 1 <= first <= 1000 and (second or 0) <= first:
        return f"({first},{second or 0})"
    if base == "character varying" and second is None and 1 <= first <= 10_485_760:
        return f"({first})"
    raise ValueError(
        f'{text!r} has a wrong size; only "numeric(p,s)" with s <= p <= 1000 and "varchar(n)" take one'
    )

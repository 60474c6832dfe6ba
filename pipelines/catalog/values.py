"""The kinds of value a system.yaml is made of: names, types, periods, calls, each with its check and its JSON Schema.

A check raises ValueError with a text of the form "what is wrong; what would be right". Nothing here knows of
systems or of other keys; see https://docs.pydantic.dev/latest/concepts/types/#custom-types for the mechanism.
"""

import codecs
import datetime
import math
import re
import zoneinfo
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from pipelines.catalog.errors import suggest
from pipelines.catalog.periods import DURATION_PATTERN, PERIOD_PATTERN, Period, parse_duration
from pipelines.catalog.types import SUPPORTED_TYPES, parse_type

RESERVED_SYSTEMS = frozenset({"longbox", "public", "information_schema", "platform", "dagster"})
BUCKETS = ("minute", "hour", "day", "week", "month", "quarter", "year")
CLOCK_BUCKETS = ("minute", "hour")
DERIVATIONS = ("utc_date",)
MEASURES = (
    "sum", "mean", "median", "min", "max", "stddev", "p25", "p75", "p95", "p99", "count_distinct", "first", "last",
)  # fmt: skip
WEIGHTED = ("sum", "mean")

EPOCHS = {
    "epoch_seconds": 1, "epoch_milliseconds": 10**3, "epoch_microseconds": 10**6, "epoch_nanoseconds": 10**9,
}  # fmt: skip
"""Formats of times as a number since 1970: how many of their unit are a second."""
THOUSANDS = (".", ",", "'", "’", " ", "_")

_SAMPLE = "a,b\n"
_FIRST_DAY = datetime.date(1970, 1, 1)
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_CALL = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_]*)\s*\(\s*([^()]+?)\s*\)\s*$")
_BINS = re.compile(r"^\s*(\d{1,4})\s+(minute|hour)s\s*\(\s*([^()]+?)\s*\)\s*$")
_WEIGHT = re.compile(r"^(.+?)\s*,\s*weight\s*=\s*(.+)$")
_MINUTES = {"minute": 1, "hour": 60}
_MINUTES_OF_DAY = 1440
_MAX_TABLE_NAME = 48  # of PostgreSQL's 63 bytes: a partition's name adds its period
_NAME = r"[a-z][a-z0-9_]{0,62}"
_TABLE_NAME = rf"[A-Za-z_][A-Za-z0-9_]{{0,{_MAX_TABLE_NAME - 1}}}"


def _plain_name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueError(f"{text!r} is no name; use up to 63 small letters, digits and _, a letter first")
    return text


def _system_name(text: str) -> str:
    _plain_name(text)
    if text in RESERVED_SYSTEMS or text.startswith("pg_"):
        raise ValueError(
            f"{text!r} is reserved, as it would clash with a schema of PostgreSQL or Longbox; choose another"
        )
    return text


def _table_name(text: str) -> str:
    if not re.fullmatch(_TABLE_NAME, text):
        raise ValueError(
            f"{text!r} is no table name; use up to {_MAX_TABLE_NAME} letters, digits and _, not a digit first "
            "(partitions add their period to it)"
        )
    return text


def _column_name(text: str) -> str:
    if not text.strip() or "\0" in text or len(text.encode()) > 63:
        raise ValueError(f"{text!r} is no column name; a name has 1 to 63 bytes")
    return text


def _new_column_name(text: str) -> str:
    _plain_name(text)
    if text in _SYSTEM_COLUMNS:
        raise ValueError(f"{text!r} is a system column of every PostgreSQL table; choose another name")
    return text


def _landed_name(text: str) -> str:
    if not text.strip():
        raise ValueError("a landed column name is empty; write the name that stands in the files' header")
    return text


def _without_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(map(repr, repeated))} stands more than once; keep one of them")
    return names


def _bound(value: object) -> Decimal | datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Decimal(str(value))
    raise ValueError(
        f"{value!r} is no limit; write a number such as 0 or 99.5, or a date such as 2024-01-01, unquoted"
    )


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{value!r} is no list of values; write it as [a, b, c]")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int | float | Decimal | datetime.date):
            raise ValueError(
                f"{item!r} is no word (YAML makes booleans of no, yes, on, off); put each of the values in quotes"
            )
    return _without_repeats(tuple(str(item) for item in value))


def _null_values(words: tuple[str, ...]) -> tuple[str, ...]:
    if "\x85" in words:
        raise ValueError("YAML reads \"\\N\" as another character; put it in single quotes: '\\N'")
    return words


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(
            f"{text!r} is no regular expression ({error}); see Python's re, and quote it in YAML"
        ) from None
    return text


def _time_zone(text: str) -> str:
    known = zoneinfo.available_timezones()
    if text in known:
        return text
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in known if "/" in zone}
    city = cities.get(text.casefold().replace(" ", "_"))
    is_short = "/" not in text and text.casefold() not in {zone.casefold() for zone in known}
    if city:
        remedy = f"did you mean {city!r}?"
    elif is_short:  # the nearest to CEST is EST, another one
        remedy = "write a region and a city, such as Europe/Berlin: what is called CEST is one zone half of the year"
    else:
        remedy = suggest(text, known, noun="zone")
    raise ValueError(f"there is no time zone {text!r}; {remedy}")


def _day(value: object) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        day = value
    else:
        try:
            day = datetime.date.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            raise ValueError(f"{str(value)!r} is no day; write it as 2024-01-31") from None
    if day < _FIRST_DAY:
        raise ValueError(f"{day} is before {_FIRST_DAY}, when nothing landed yet; correct the year")
    return day


def _call(text: str, functions: Iterable[str], *, example: str) -> tuple[str, str]:
    match = _CALL.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no function of a column; write it as {example}")
    if match[1] not in functions:
        raise ValueError(
            f"there is no function {match[1]!r} here; {suggest(match[1], functions, noun='function')}"
        )
    return match[1], match[2]


def _derivation(text: str) -> str:
    function, column = _call(text, DERIVATIONS, example="utc_date(sold_at)")
    return f"{function}({column})"


def _measure(text: str) -> str:
    if text.strip() == "count":
        return "count"
    function, column = _call(text, (*MEASURES, "count"), example="count or median(price)")
    if function == "count":
        raise ValueError(f"{text!r} takes no column; write count, or count_distinct({column})")
    weighted = _WEIGHT.match(column)
    if weighted is None:
        return f"{function}({column})"
    if function not in WEIGHTED:
        raise ValueError(f"{function} takes no weight; those that do are {', '.join(WEIGHTED)}")
    return f"{function}({weighted[1]}, weight={weighted[2]})"


def bin_minutes(bucket: str | None) -> int | None:
    """The length in minutes of a bucket that lies on the clock (`minute`, `5 minutes`, `hour`); None for others."""
    if bucket in CLOCK_BUCKETS:
        return _MINUTES[bucket]
    number, _, unit = (bucket or "").partition(" ")
    return int(number) * _MINUTES[unit.removesuffix("s")] if unit else None


def _bucket(text: str) -> str:
    """`hour(created_at)` or `5 minutes(created_at)`, checked, as one spelling."""
    match = _BINS.match(text)
    if match is None:
        bucket, column = _call(text, BUCKETS, example="hour(created_at) or 5 minutes(created_at)")
        return f"{bucket}({column})"
    number, unit = int(match[1]), match[2]
    if number < 2 or _MINUTES_OF_DAY % (number * _MINUTES[unit]):
        raise ValueError(
            f"{text!r} does not divide a day evenly; choose 5, 15 or 30 minutes, 4 or 12 hours, or just {unit}"
        )
    return f"{number} {unit}s({match[3]})"


def _groups(value: object) -> tuple[str | dict[str, str], ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{value!r} is no list of columns; write it as [brand, {{day: day(sold_at)}}]")
    groups: list[str | dict[str, str]] = []
    names: list[str] = []
    for item in value:
        if isinstance(item, str):
            groups.append(_column_name(item))
            names.append(item)
        elif (
            isinstance(item, dict)
            and len(item) == 1
            and all(isinstance(part, str) for pair in item.items() for part in pair)
        ):
            ((name, text),) = item.items()
            groups.append({_new_column_name(name): _bucket(text)})
            names.append(name)
        else:
            raise ValueError(f"{item!r} is no column; write a column name, or {{hour: hour(created_at)}}")
    _without_repeats(tuple(names))
    return tuple(groups)


def _step(value: object) -> str:
    if isinstance(value, str) and value.strip().removeprefix("1 ") in ("minute", "hour", "day"):
        return value.strip().removeprefix("1 ")
    try:
        return (
            _bucket(f"{value}(x)").removesuffix("(x)")
            if isinstance(value, str) and value[:1].isdigit()
            else ""
        )
    except ValueError:
        return ""


def _every(value: object) -> str:
    step = _step(value)
    if not step:
        raise ValueError(
            f"{value!r} is no step of a series; write 1 minute, 5 minutes, 1 hour or 1 day: what divides a day evenly"
        )
    return step


def _time_format(text: str) -> str:
    sample = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    if text in EPOCHS:
        return text
    try:
        if "%" not in text:
            raise ValueError("it has no % directive")
        datetime.datetime.strptime(sample.strftime(text), text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no strptime format ({error}); write it as %m/%d/%Y or %d.%m.%Y %H:%M, "
            f"or {' or '.join(EPOCHS)} for a number"
        ) from None
    return text


def _encoding(text: str) -> str:
    try:
        found = codecs.lookup(text)
        read = codecs.getincrementaldecoder(text)(errors="surrogateescape").decode(_SAMPLE.encode(text), True)
        if read != _SAMPLE:  # hex and the like turn bytes into bytes
            raise LookupError(text)
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError):
        raise ValueError(
            f"there is no encoding {text!r}; usual ones are utf-8, latin-1, cp1252, utf-16"
        ) from None
    return found.name


def _decimal(text: str) -> str:
    if text not in (".", ","):
        raise ValueError(f'{text!r} is no decimal separator; it is "." or ","')
    return text


def _thousands(text: str) -> str:
    if text not in THOUSANDS:
        raise ValueError(
            f"{text!r} is no separator of thousands; it is one of {' '.join(map(repr, THOUSANDS))}"
        )
    return text


def _delimiter(text: str) -> str:
    if len(text) != 1 or text in '"\r\n\\\0' or text.isalnum():
        raise ValueError(f'{text!r} is no delimiter; it is one character, such as "," ";" "|" or "\\t"')
    return text


def _type_name(text: str) -> str:
    return parse_type(text).name


def column_spec(value: object) -> object:
    """A bare type name is short for a mapping with only `type`."""
    return {"type": value} if isinstance(value, str) else value


def _default(value: object) -> str | bool | int | Decimal:
    if isinstance(value, str | bool | int | Decimal):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(str(value))
    if isinstance(value, datetime.date):
        return value.isoformat()
    if value in ({}, []):
        return "{}" if value == {} else "[]"
    raise ValueError(f"{value!r} is no default; write a text, a number, true, false, a date, {{}} or now()")


def _positive(value: datetime.timedelta) -> datetime.timedelta:
    if not value:
        raise ValueError("a time to live of 0 keeps nothing; write 15 minutes, or leave the entry out")
    return value


def _pattern(text: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{text}$"})


_CALL_SCHEMA = {"type": "string", "examples": ["utc_date(sold_at)"]}

Name = Annotated[str, AfterValidator(_plain_name), _pattern(_NAME)]
SystemName = Annotated[str, AfterValidator(_system_name), _pattern(_NAME)]
TableName = Annotated[str, AfterValidator(_table_name), _pattern(_TABLE_NAME)]
ColumnName = Annotated[str, AfterValidator(_column_name)]
NewColumnName = Annotated[str, AfterValidator(_new_column_name), _pattern(_NAME)]
LandedName = Annotated[str, AfterValidator(_landed_name)]
LandedNames = Annotated[tuple[LandedName, ...], AfterValidator(_without_repeats)]
ColumnNames = Annotated[tuple[ColumnName, ...], AfterValidator(_without_repeats)]
Bound = Annotated[
    Decimal | datetime.date,
    PlainValidator(_bound),
    PlainSerializer(str),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "format": "date"}]}),
]
Words = Annotated[
    tuple[str, ...],
    PlainValidator(_words),
    PlainSerializer(list, return_type=list),
    WithJsonSchema({"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1}),
]
NullValues = Annotated[Words, AfterValidator(_null_values)]
Regex = Annotated[str, AfterValidator(_regex), WithJsonSchema({"type": "string", "format": "regex"})]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Day = Annotated[
    datetime.date,
    PlainValidator(_day),
    PlainSerializer(datetime.date.isoformat),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2024-01-01"]}),
]
Derivation = Annotated[str, AfterValidator(_derivation), WithJsonSchema(_CALL_SCHEMA)]
TimeFormat = Annotated[str, AfterValidator(_time_format)]
Encoding = Annotated[str, AfterValidator(_encoding)]
Delimiter = Annotated[
    str, AfterValidator(_delimiter), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 1})
]
Decimals = Annotated[str, AfterValidator(_decimal), WithJsonSchema({"enum": [".", ","]})]
Thousands = Annotated[str, AfterValidator(_thousands), WithJsonSchema({"enum": [*THOUSANDS]})]
CalendarPeriod = Annotated[
    Period,
    PlainValidator(Period.parse),
    PlainSerializer(str),
    WithJsonSchema(
        {"type": "string", "pattern": PERIOD_PATTERN, "examples": ["24 months", "7 years", "90 days"]}
    ),
]
Duration = Annotated[
    datetime.timedelta,
    PlainValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["36 hours", "15 minutes"]}),
]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
TypeName = Annotated[
    str,
    AfterValidator(_type_name),
    WithJsonSchema({"type": "string", "examples": list(SUPPORTED_TYPES)}),
]
Default = Annotated[
    str | bool | int | Decimal,
    PlainValidator(_default),
    PlainSerializer(str),
    WithJsonSchema({"type": ["string", "number", "boolean", "object", "array"]}),
]
GroupColumns = Annotated[
    tuple[str | dict[str, str], ...],
    PlainValidator(_groups),
    PlainSerializer(list, return_type=list),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "minProperties": 1,
                        "maxProperties": 1,
                        "additionalProperties": {
                            "type": "string",
                            "pattern": rf"^\s*({'|'.join(BUCKETS)}|[0-9]+\s+(minute|hour)s)\s*\(.+\)\s*$",
                        },
                    },
                ]
            },
        }
    ),
]
Step = Annotated[
    str,
    PlainValidator(_every),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*[1-9][0-9]*\s+(minute|hour|day)s?\s*$",
            "examples": ["1 minute", "5 minutes", "1 hour", "1 day"],
        }
    ),
]
MeasureText = Annotated[
    str,
    AfterValidator(_measure),
    WithJsonSchema({"type": "string", "pattern": rf"^\s*(count|({'|'.join(MEASURES)})\s*\(.+\))\s*$"}),
]

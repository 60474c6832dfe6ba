"""Landed days and moments as PostgreSQL's canonical text, moments in UTC; stricter than PostgreSQL (`values`)."""

import datetime as dt
import functools
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.catalog.values import EPOCHS
from pipelines.ingestion.errors import BadValue, shown
from pipelines.ingestion.numbers import POINT, Notation, decimal_of

_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]00:00(?::00(?:\.0*)?)?)?")
_OF_DAY = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].+)?")


@dataclass(frozen=True)
class ColumnFormat:
    """How a feed writes a column: its strptime format (or one of `EPOCHS`), its time zone, its numbers."""

    format: str | None = None
    time_zone: str = "UTC"
    notation: Notation = POINT


def temporal_converter(base: str, column: ColumnFormat) -> Callable[[Any], str]:
    """The converter of `base`: date, time of day, or timestamp with or without time zone."""
    if base == "time without time zone":
        return _time_of_day if column.format is None else functools.partial(_time_in_format, column.format)
    zone = dt.UTC if column.time_zone == "UTC" else zoneinfo.ZoneInfo(column.time_zone)
    parse: Callable[[Any], dt.datetime]
    if column.format in EPOCHS:
        parse = functools.partial(_from_epoch, column.format)
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
    why = ""
    try:
        if match is not None:
            return dt.date.fromisoformat(match[1]).isoformat()
    except ValueError as error:
        why = f" ({error})"
    remedy = "write YYYY-MM-DD, or declare the feed's format under `formats`"
    raise BadValue("not_a_date", f"{shown(text)} is not a date{why}", remedy)


def _date(value: Any) -> str:
    if isinstance(value, str):
        return _date_of_text(value)
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date().isoformat()
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    raise BadValue("not_a_date", f"{shown(value)} is not a date", "write YYYY-MM-DD")


def _time_of_day(value: Any) -> str:
    if isinstance(value, dt.time) and value.tzinfo is None:
        return value.isoformat()
    text = str(value).strip()
    try:
        if _OF_DAY.fullmatch(text):
            return dt.time.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise BadValue(
        "not_a_time", f"{shown(value)} is not a time of day", "write HH:MM:SS, without a time zone"
    )


def _time_in_format(form: str, value: Any) -> str:
    if isinstance(value, dt.time):
        return _time_of_day(value)
    return _from_format(form, "not_a_time", value).time().isoformat()


def _from_iso(value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    text = value.strip() if isinstance(value, str) else ""
    why = ""
    try:
        if _TIME.fullmatch(text):
            return dt.datetime.fromisoformat(text)
    except ValueError as error:
        why = f" ({error})"
    remedy = "write YYYY-MM-DDTHH:MM:SS with Z or an offset, or declare the feed's format under `formats`"
    raise BadValue("not_a_time", f"{shown(value)} is not a time{why}", remedy)


def _from_format(form: str, fault: str, value: Any) -> dt.datetime:
    if isinstance(value, dt.date):
        return _from_iso(value)
    try:
        return dt.datetime.strptime(str(value).strip(), form)
    except ValueError as error:
        why = "" if "does not match format" in str(error) else f" ({error})"
        detail = f"{shown(value)} does not match {form!r}{why}"
        remedy = "write it as that says, or change the column's entry under `formats`, then `longbox quarantine replay`"
        raise BadValue(fault, detail, remedy) from None


def _from_epoch(form: str, value: Any) -> dt.datetime:
    try:
        number = decimal_of(value)
    except BadValue as fault:
        remedy = f"write the time as a number, as `{form}` says, or change the column's entry under `formats`"
        raise BadValue(fault.reason, fault.detail, remedy) from None
    try:
        microseconds = int(number * 1_000_000 / EPOCHS[form])
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

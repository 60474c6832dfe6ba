"""Lengths of time as a system.yaml writes them: calendar periods ("24 months") and durations ("36 hours").

A period is counted in calendar months and days, in UTC, because retention rules are; a duration is a fixed
number of seconds. Add a unit here, nowhere else.
"""

import calendar
import datetime
import re
from dataclasses import dataclass

_AMOUNT = re.compile(r"^\s*(\d+)\s+([A-Za-z]+)\s*$")
_PERIOD_UNITS = {"day": (0, 1), "week": (0, 7), "month": (1, 0), "quarter": (3, 0), "year": (12, 0)}
_DURATION_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_MEAN_DAYS_OF_MONTH = 30.436875  # Gregorian calendar: 146,097 days in 4,800 months

PERIOD_PATTERN = r"^\s*[1-9][0-9]*\s+(day|week|month|quarter|year)s?\s*$"
DURATION_PATTERN = r"^\s*[0-9]+\s+(second|minute|hour|day|week)s?\s*$"


@dataclass(frozen=True)
class Period:
    """A calendar length: months first, then days."""

    months: int
    days: int

    @classmethod
    def parse(cls, text: object) -> "Period":
        """Read "24 months", "7 years", "90 days", "2 weeks", "1 quarter". Raises ValueError saying what is right."""
        if isinstance(text, Period):
            return text
        count, unit = _split(text, _PERIOD_UNITS, example="24 months")
        if count == 0:
            raise ValueError(f"{text!r} is no time at all; a period is at least 1 day")
        months, days = _PERIOD_UNITS[unit]
        if count * months > 12_000 or count * days > 365_000:
            raise ValueError(f"{text!r} is longer than a thousand years; leave it out to keep rows for ever")
        return cls(months=count * months, days=count * days)

    def before(self, day: datetime.date) -> datetime.date:
        """The day this period before `day`: the last of a month where the day does not exist in it."""
        month_number = day.year * 12 + day.month - 1 - self.months
        year, month = divmod(month_number, 12)
        if year < 1:
            return datetime.date.min
        last_day = calendar.monthrange(year, month + 1)[1]
        shifted = datetime.date(year, month + 1, min(day.day, last_day))
        floor_days = (shifted - datetime.date.min).days
        return shifted - datetime.timedelta(days=min(self.days, floor_days))

    @property
    def mean_days(self) -> float:
        """Its length in days on average, to compare two periods."""
        return self.months * _MEAN_DAYS_OF_MONTH + self.days

    def __str__(self) -> str:
        if self.months and self.months % 12 == 0 and not self.days:
            return _counted(self.months // 12, "year")
        parts = [_counted(n, unit) for n, unit in ((self.months, "month"), (self.days, "day")) if n]
        return " ".join(parts)


def parse_duration(text: object) -> datetime.timedelta:
    """Read "36 hours", "15 minutes", "0 seconds". Raises ValueError saying what is right."""
    if isinstance(text, datetime.timedelta):
        return text
    count, unit = _split(text, _DURATION_UNITS, example="36 hours")
    if count * _DURATION_UNITS[unit] > 366 * 86400:
        raise ValueError(f"{text!r} is longer than a year; write at most 366 days")
    return datetime.timedelta(seconds=count * _DURATION_UNITS[unit])


def _split(
    text: object, units: dict[str, object] | dict[str, int] | dict[str, tuple[int, int]], *, example: str
) -> tuple[int, str]:
    match = _AMOUNT.match(text) if isinstance(text, str) else None
    unit = match[2].lower().removesuffix("s") if match else ""
    if match is None or unit not in units:
        raise ValueError(
            f'{text!r} is no length of time; write a whole number and a unit, as in "{example}" '
            f"(units: {', '.join(f'{name}s' for name in units)})"
        )
    return int(match[1]), unit


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"

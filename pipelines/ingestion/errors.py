"""The faults of landed data, each with a reason (a word), a detail (what was seen) and a remedy.

A `BadValue` or `BadRecord` costs one row, an `UnreadableFileError` the whole file; both end in
`longbox.quarantine`. Reasons are a closed list (`REASONS`): the docs and the tests read it.
"""

import datetime as dt
import json
import re
from decimal import Decimal

from resources.errors import LongboxError, RetryableError

REASONS: dict[str, str] = {
    "missing_value": "a required field is empty",
    "not_a_number": "the text is not a plain decimal number",
    "out_of_range": "the value does not fit the column's type or the platform's bounds",
    "too_many_decimals": "the number has more decimals than the column keeps",
    "not_a_date": "the text is not a date that exists",
    "not_a_time": "the text is not a time that exists",
    "future": "the event is later than the landing day plus one",
    "expired": "the event is older than what the table keeps",
    "breaks_rule": "the value breaks a rule of the feed",
    "wrong_type": "the value cannot be read as the column's type",
    "not_in_list": "the value is not one of the column's labels",
    "too_long": "the text is longer than the column or the record limit",
    "invalid_text": "the row holds bytes that are not valid in the feed's encoding",
    "nul_byte": "the row holds a NUL byte, which PostgreSQL cannot store",
    "column_count": "the row has more or fewer fields than the header",
    "malformed": "the row cannot be parsed",
    "repeated_header": "the line is the header again, as where files were joined",
    "refused_by_table": "a constraint of the table, or of a domain, refused the row",
    "truncated": "the file ends in the middle",
    "bomb": "the compressed file grows beyond any measure",
    "unreadable": "the file cannot be read in any known format",
    "missing_column": "the file lacks a column that the feed needs",
    "renamed_column": "a column that every file had is missing while an unknown one is new",
    "duplicate_column": "the file has two columns for one column of the table",
}


class BadValue(Exception):
    """A field that cannot be loaded. Caught by the loader, never shown as an error of its own."""

    def __init__(self, reason: str, detail: str, remedy: str) -> None:
        super().__init__(reason, detail, remedy)
        self.reason, self.detail, self.remedy = reason, detail, remedy


class BadRecord(BadValue):
    """A record that cannot be taken apart into fields."""


class UnreadableFileError(LongboxError):
    """A landed file that is quarantined whole; its other files load all the same."""

    def __init__(self, reason: str, detail: str, remedy: str) -> None:
        super().__init__(f"{reason}: {detail}; {remedy}")
        self.reason, self.detail, self.remedy = reason, detail, remedy


class FileChangedError(RetryableError):
    """A landed file was replaced or removed while it was read; nothing of it was kept."""


def plain_name(name: str) -> str:
    """A landed name in the form that columns have: `Sale ID` is sale_id."""
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line."""
    if isinstance(value, bytes):
        return f"the bytes \\x{value[:28].hex()}{'...' if len(value) > 28 else ''}"
    if isinstance(value, dt.timedelta):
        return f"the duration {value}"
    if isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, default=str)
        return _cut(text.encode("utf-8", "backslashreplace").decode())
    text = str(value) if isinstance(value, str | Decimal | dt.date | dt.time) else repr(value)
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."

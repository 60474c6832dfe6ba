"""Moments as people write them for `longbox restore --to`."""

import datetime as dt

import pytest

from cli.restore import _moment
from resources.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20 12:00:00Z", "2026-11-20T12:00:00z", " 2026-11-20 12:00 UTC ", "2026-11-20 13:00:00+01",
        "2026-11-20 12:00:00.000000 UTC",
    ],
)  # fmt: skip
def test_a_moment_is_read_in_every_form_in_which_messages_write_one(text: str) -> None:
    assert _moment(text) == dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yesterday", "is no moment"),
        ("", "is no moment"),
        ("9999-12-31 23:59:59-14:00", "is no moment"),
        ("2026-11-20", 'has no zone; write "2026-11-20 00:00:00Z"'),
        ("2026-11-20 12:00", 'has no zone; write "2026-11-20 12:00:00Z"'),
    ],
)
def test_what_is_no_moment_is_refused_with_one_that_is(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        _moment(text)

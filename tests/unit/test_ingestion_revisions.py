"""Revisions of a column: all at once and one by one are the same numbers, whatever is among them."""

import datetime as dt

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingestion.binding import revision_numbers
from pipelines.ingestion.columns import NULL
from pipelines.ingestion.columns import texts as column_of

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
moments = st.datetimes(min_value=dt.datetime(1, 1, 1), timezones=st.just(dt.UTC))
whole_moments = moments.map(lambda moment: moment.replace(microsecond=0))


def microseconds(moment: dt.datetime) -> str:
    return str((moment - EPOCH) // dt.timedelta(microseconds=1))


def numbers(values: list[str | None]) -> list[str]:
    return revision_numbers(column_of(values)).to_pylist()


@settings(deadline=None)  # no test asserts a wall time
@given(st.lists(whole_moments, min_size=1, max_size=20))
def test_a_column_of_whole_seconds_becomes_the_microseconds_of_each(values: list[dt.datetime]):
    assert numbers([value.isoformat() for value in values]) == list(map(microseconds, values))


@settings(deadline=None)  # no test asserts a wall time
@given(st.lists(moments | whole_moments | st.none() | st.integers(), max_size=20))
def test_numbers_fractions_and_gaps_among_times_change_nothing(values: list[dt.datetime | int | None]):
    texts = [NULL if v is None else v.isoformat() if isinstance(v, dt.datetime) else str(v) for v in values]
    wanted = [
        microseconds(v) if isinstance(v, dt.datetime) else text for v, text in zip(values, texts, strict=True)
    ]
    assert numbers([None if text == NULL else text for text in texts]) == wanted

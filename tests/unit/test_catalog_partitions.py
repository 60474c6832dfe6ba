"""Which partition a day belongs to: bounds, names, and that the spans of an interval leave no gap."""

import datetime
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.model import PartitionUnit
from pipelines.catalog.partitions import span_of, spans_around

INTERVALS: tuple[PartitionUnit, ...] = ("day", "week", "month", "quarter", "year")
DAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2200, 1, 1))


@pytest.mark.parametrize(
    ("interval", "lower", "upper", "suffix"),
    [
        ("day", "2026-11-21", "2026-11-22", "y2026m11d21"),
        ("week", "2026-11-16", "2026-11-23", "y2026w47"),
        ("month", "2026-11-01", "2026-12-01", "y2026m11"),
        ("quarter", "2026-10-01", "2027-01-01", "y2026q4"),
        ("year", "2026-01-01", "2027-01-01", "y2026"),
    ],
)
def test_a_day_lies_in_the_span_of_its_interval(
    interval: PartitionUnit, lower: str, upper: str, suffix: str
) -> None:
    span = span_of(datetime.date(2026, 11, 21), interval)
    assert (span.lower.isoformat(), span.upper.isoformat(), span.suffix) == (lower, upper, suffix)


def test_the_week_around_new_year_is_named_after_its_iso_year() -> None:
    assert span_of(datetime.date(2027, 1, 1), "week").suffix == "y2026w53"


@given(day=DAYS, interval=st.sampled_from(INTERVALS))
def test_spans_hold_their_day_and_follow_each_other_without_gap_or_overlap(
    day: datetime.date, interval: PartitionUnit
) -> None:
    span = span_of(day, interval)
    assert span.lower <= day < span.upper
    assert span_of(span.lower, interval) == span_of(span.upper - datetime.timedelta(days=1), interval) == span
    following = span_of(span.upper, interval)
    assert following.lower == span.upper
    assert following.suffix > span.suffix


@given(day=DAYS, interval=st.sampled_from(INTERVALS), behind=st.integers(0, 3), ahead=st.integers(0, 14))
def test_spans_around_a_day_are_as_many_as_asked_for_in_order(
    day: datetime.date, interval: PartitionUnit, behind: int, ahead: int
) -> None:
    spans = spans_around(day, interval, behind=behind, ahead=ahead)
    assert len(spans) == behind + 1 + ahead
    assert spans[behind] == span_of(day, interval)
    assert all(left.upper == right.lower for left, right in itertools.pairwise(spans))

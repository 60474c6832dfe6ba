"""From a landed sale to a normalised one, and what titles name: pure, no database."""

import datetime as dt
import itertools
from decimal import Decimal
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.comics.matching import Comic, Matches
from assets.comics.normalise import ComicsRules, grade_band, normalise_sale, usable_grade
from assets.comics.rules.condition import parse_condition
from assets.comics.rules.title import parse_title
from pipelines.normalisation.currency import UsdRate
from pipelines.normalisation.rules import Rejected

SOLD = dt.datetime(2026, 10, 5, 12, tzinfo=dt.UTC)
RATE = UsdRate(Decimal("1.1"), dt.date(2026, 10, 5), None)


def normalised(title, condition="", currency="EUR", rate=RATE):
    row = ("ebay", "1", title, condition, Decimal("10.00"), currency, SOLD, SOLD.date())
    found = normalise_sale(row, parse_title(title), rate)
    return found if isinstance(found, Rejected) else dict(zip(ComicsRules.writes, found, strict=True))


def test_a_sale_carries_its_price_in_dollars_and_the_rate_it_was_made_with():
    row = normalised("Hulk #181 CGC 9.8", currency="eur")
    assert (row["price"], row["currency"], row["price_usd"]) == (Decimal("10.00"), "EUR", Decimal("11.00"))
    assert (row["fx_rate"], row["fx_rate_on"]) == (Decimal("1.1"), dt.date(2026, 10, 5))
    assert (row["grade"], row["grade_band"], row["grader"], row["is_firm_grade"]) == (
        Decimal("9.8"), "9.8-10", "CGC", True
    )  # fmt: skip


def test_a_lot_has_no_comic_and_no_grade():
    row = normalised("Hulk 181-185 lot", "NM 9.4")
    assert (row["comic_id"], row["is_lot"], row["grade"], row["grade_band"]) == (None, True, None, "ungraded")
    assert row["lot_size"] == 5


@pytest.mark.parametrize(
    ("title", "rate", "reason"),
    [
        ("", RATE, "empty"),
        ("#300 CGC 9.8", RATE, "no_series"),
        ("Watchmen hardcover", RATE, "no_issue"),
        ("Hulk #181", UsdRate(None, None, "no_rate"), "no_rate"),
        ("Hulk #181", UsdRate(None, None, "currency_ended"), "currency_ended"),
    ],
)
def test_what_cannot_be_normalised_says_why(title, rate, reason):
    assert normalised(title, rate=rate).reason == reason


@pytest.mark.parametrize(
    ("condition", "grade"),
    [
        ("CGC 9.8", "9.8"),
        ("9.0-9.6", "9.0"),  # a range within one band
        ("6.0-9.0", None),
        ("NM or better", None),
        ("9.8 or better", "9.8"),  # nothing lies above that band
        ("CGC 9.4 restored", None),
        ("see pics", None),
    ],
)
def test_a_price_enters_a_band_only_when_the_whole_claim_lies_in_it(condition, grade):
    assert usable_grade(parse_condition(condition)) == (None if grade is None else Decimal(grade))


def test_every_grade_has_its_band():
    grades = ("10", "9.8", "9.6", "9.0", "8.5", "7.5", "4.0", "2", "1.8", "0.3")
    assert [grade_band(Decimal(text)) for text in grades] == [
        "9.8-10", "9.8-10", "9.0-9.6", "9.0-9.6", "8.0-8.5", "6.0-7.5", "4.0-5.5", "2.0-3.5", "0.5-1.8", "0.5-1.8",
    ]  # fmt: skip
    assert grade_band(None) == "ungraded"


SPELLINGS = [
    "HULK 181",
    "Hulk #181 (1974)",
    "The Hulk #181 Marvel",
    "hulk #181 (1975) (DC Comics)",
    "X-Men 1",
    "xmen #1",
]


def test_what_titles_name_does_not_depend_on_their_order():
    found = [Matches.of(map(parse_title, order)) for order in itertools.permutations(SPELLINGS)]
    assert all(each == found[0] for each in found)
    (hulk,) = (comic for comic in found[0].comics.values() if comic.comic_key.startswith("hulk"))
    assert (hulk.issue_number, hulk.year) == ("181", 1974)
    assert len(found[0].comics) == len(found[0].series) == 2


@given(st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=8), st.randoms())
def test_merging_comics_one_by_one_in_any_order_and_twice_is_the_same(titles, chance):
    def merged(texts) -> dict[object, Comic]:
        return reduce(
            lambda known, text: known | {
                key: known[key].merged(comic) if key in known else comic
                for key, comic in Matches.of([parse_title(text)]).comics.items()
            },
            texts,
            {},
        )  # fmt: skip

    shuffled = [*titles, *titles]
    chance.shuffle(shuffled)
    assert merged(titles) == merged(shuffled)

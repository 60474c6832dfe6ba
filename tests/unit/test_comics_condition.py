"""What a seller's words about a copy mean on the 10-point scale, case by case, and what holds for any text."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assets.comics.rules.condition import Condition, parse_condition
from assets.comics.rules.grades import SCALE

SLABS = {
    "CGC 9.8": ("9.8", "CGC"),
    "CBCS 9.6 SS": ("9.6", "CBCS"),
    "PGX 8.5": ("8.5", "PGX"),
    "9.8 CGC": ("9.8", "CGC"),
    "CGC Universal 9.4 White Pages": ("9.4", "CGC"),
    "Graded CGC 9,8": ("9.8", "CGC"),
    "CGC GRADED 0.5": ("0.5", "CGC"),
    "CGC9.8": ("9.8", "CGC"),
    "C.G.C. 9.8": ("9.8", "CGC"),
    "CGC 10": ("10.0", "CGC"),
    "CGC 9.8 NM/MT": ("9.8", "CGC"),
    "CGC ９．８": ("9.8", "CGC"),
    "cgc signature series 9.6 signed 8/5/2015": ("9.6", "CGC"),
    "PSA 10": ("10.0", "PSA"),
}

WORDS = {
    "10.0": "10.0",
    "9.9": "9.9",
    "0.3": "0.3",
    "1.8": "1.8",
    "9": "9.0",
    "Gem Mint": "10.0",
    "Mint": "9.9",
    "M": "9.9",
    "NM/M": "9.8",
    "NM/MT": "9.8",
    "Near Mint/Mint": "9.8",
    "NM+": "9.6",
    "NM": "9.4",
    "Near Mint": "9.4",
    "near-mint": "9.4",
    "NM-": "9.2",
    "VF/NM": "9.0",
    "NM/VF": "9.0",
    "VF+": "8.5",
    "very fine+": "8.5",
    "VF": "8.0",
    "VF-": "7.5",
    "F/VF": "7.0",
    "FN / VF": "7.0",
    "FN+": "6.5",
    "f+": "6.5",
    "FN": "6.0",
    "Fine": "6.0",
    "F": "6.0",
    "Fine minus": "5.5",
    "VG/FN": "5.0",
    "VG+": "4.5",
    "VG": "4.0",
    "Very Good": "4.0",
    "VG minus": "3.5",
    "g/vg": "3.0",
    "GD+": "2.5",
    "GD": "2.0",
    "Good": "2.0",
    "G": "2.0",
    "G-": "1.8",
    "FR/GD": "1.5",
    "FR": "1.0",
    "Fair": "1.0",
    "PR": "0.5",
    "Poor": "0.5",
    "Condition: Good": "2.0",
    "Good (2.0)": "2.0",
    "Very Good (VG)": "4.0",
    "NM 9.4 white pages": "9.4",
    "NM 9.2": "9.2",
    "VF+ / 8.5": "8.5",
    "VF, small spine tick": "8.0",
    "raw NM": "9.4",
    "not graded, VF": "8.0",
    "unrestored VF": "8.0",
    "2 staples, VF": "8.0",
    "1.5 inch tear, VG": "4.0",
    "NM - unread": "9.4",
    "１０.０": "10.0",
}

# text: (grade, low, high, reason); a bound that is not known is None
NOT_FIRM = {
    "VG-FN": ("4.0", "4.0", "6.0", "range"),
    "6.0-7.0": ("6.0", "6.0", "7.0", "range"),
    "NM to NM+": ("9.4", "9.4", "9.6", "range"),
    "9.0/9.2": ("9.0", "9.0", "9.2", "range"),
    "good to very good": ("2.0", "2.0", "4.0", "range"),
    "VF-/NM": ("7.5", "7.5", "9.4", "range"),
    "NM-M": ("9.4", "9.4", "9.9", "range"),
    "FN+/VF-": ("6.5", "6.5", "7.5", "range"),
    "NM or better": ("9.4", "9.4", None, "or_better"),
    "at least VF": ("8.0", "8.0", None, "or_better"),
    "8.0+": ("8.0", "8.0", None, "or_better"),
    "9.8 or higher": ("9.8", "9.8", None, "or_better"),
    "up to VF": (None, None, "8.0", "or_worse"),
    "VF or lower": (None, None, "8.0", "or_worse"),
    "about VF": ("8.0", "8.0", "8.0", "approximate"),
    "~8.0": ("8.0", "8.0", "8.0", "approximate"),
    "8.5/10": ("8.5", "8.5", "8.5", "approximate"),
    "CGC 9.0 Restored": ("9.0", "9.0", "9.0", "restored"),
    "CGC 9.8 Qualified": ("9.8", "9.8", "9.8", "qualified"),
    "CGC 9.4-9.6": ("9.4", "9.4", "9.6", "range"),
}

NO_GRADE = {
    "": "empty",
    "   ": "no_grade",
    "see pics": "no_grade",
    "like new": "no_grade",
    "Used": "no_grade",
    "high grade": "no_grade",
    "or better": "no_grade",
    "ungraded": "no_grade",
    "$9.80": "no_grade",
    "#9.8": "no_grade",
    "1988": "no_grade",
    "good condition": "unclear",
    "good condition for its age": "unclear",
    "mint in bag": "unclear",
    "very good reader copy": "unclear",
    "Good Girl art": "unclear",
    "Fine Arts": "unclear",
    "Very Good: A book that has been read": "unclear",
    "mint in my opinion": "opinion",
    "I'd call it VF": "opinion",
    "VF?": "speculative",
    "CGC 9.8 candidate": "speculative",
    "would grade 9.4": "speculative",
    "not NM": "negated",
    "not quite NM": "negated",
    "cover VG, pages NM": "several_grades",
    "FN 9.8": "conflicting",
    "CGC 9.7": "off_scale",
    "12.5": "off_scale",
    "CGC": "slab_without_grade",
    "CGC NG": "slab_without_grade",
}

TITLES = {
    "Amazing Spider-Man #300 (1988) CGC 9.8": ("9.8", "CGC"),
    "9.8 CGC Hulk 181": ("9.8", "CGC"),
    "THE INCREDIBLE HULK # 181 ~ CGC 9.0 ~ KEY": ("9.0", "CGC"),
    "Batman #1 NM": ("9.4", None),
    "X-Force #2 VF/NM": ("9.0", None),
    "New Mutants #98 NM 9.4": ("9.4", None),
    "Saga #1 F/VF 7.0": ("7.0", None),
    "Batman #423 near mint": ("9.4", None),
    "What If? #1 CGC 9.8": ("9.8", "CGC"),
    "Ready Player One #1 CGC 9.8": ("9.8", "CGC"),
    "Batman 500 not CGC VF": ("8.0", None),
}

SILENT_TITLES = (
    "X-Men #9.8",
    "Mint Condition #1",
    "Fine Arts Magazine #3",
    "Good Girl Art Quarterly #2",
    "NM 98 first Deadpool",
    "Hulk 181 CGC 9.8?",
    "Hulk 181 CGC 9.8 candidate",
    "Spawn #1 CGC ready",
    "Batman #1 1988 9.8",
    "G-8 Battle Aces #1",
    "CGC 1 of 500 Batman",
    "Poor Boy #3",
    "Fair Play #2 good story",
)


def decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@pytest.mark.parametrize(("text", "expected"), SLABS.items())
def test_a_slab_gives_a_firm_grade_and_its_grader(text: str, expected: tuple[str, str]) -> None:
    grade = Decimal(expected[0])
    assert parse_condition(text, None) == Condition(grade, expected[1], True, None, grade, grade)


@pytest.mark.parametrize(("text", "grade"), WORDS.items())
def test_a_word_of_the_scale_or_its_number_gives_a_firm_grade(text: str, grade: str) -> None:
    assert parse_condition(text, None) == Condition(
        Decimal(grade), None, True, None, Decimal(grade), Decimal(grade)
    )


@pytest.mark.parametrize(("text", "expected"), NOT_FIRM.items())
def test_a_range_a_boundary_or_a_special_label_is_not_firm(
    text: str, expected: tuple[str | None, str | None, str | None, str]
) -> None:
    found = parse_condition(text, None)
    grade, low, high, reason = expected
    assert (found.grade, found.low, found.high) == (decimal(grade), decimal(low), decimal(high))
    assert (found.is_firm, found.reason) == (False, reason)


@pytest.mark.parametrize(("text", "reason"), NO_GRADE.items())
def test_a_text_without_a_certain_grade_stays_null_with_its_reason(text: str, reason: str) -> None:
    found = parse_condition(text, None)
    assert (found.grade, found.is_firm, found.reason) == (None, False, reason)


@pytest.mark.parametrize(("title", "expected"), TITLES.items())
@pytest.mark.parametrize("condition", [None, "", "see pics", "Graded"])
def test_a_title_supplies_the_grade_when_the_condition_says_nothing(
    condition: str | None, title: str, expected: tuple[str, str | None]
) -> None:
    found = parse_condition(condition, title)
    assert (found.grade, found.grader, found.is_firm) == (Decimal(expected[0]), expected[1], True)
    assert found.reason == "from_title"


@pytest.mark.parametrize("title", SILENT_TITLES)
def test_a_title_that_only_looks_like_a_grade_supplies_none(title: str) -> None:
    assert parse_condition(None, title).grade is None


def test_a_stated_condition_wins_over_the_title() -> None:
    assert parse_condition("NM or better", "X-Men #1 CGC 9.8").reason == "or_better"
    assert parse_condition("CGC 9.6", "X-Men #1 CGC 9.8").grade == Decimal("9.6")


def test_a_raw_grade_that_contradicts_the_slab_in_the_title_is_no_grade() -> None:
    assert parse_condition("VF", "X-Men #1 CGC 9.8") == Condition(reason="conflicting")


def test_the_title_names_the_grader_of_a_condition_that_states_the_same_grade() -> None:
    found = parse_condition("9.8", "X-Men #1 CGC 9.8")
    assert (found.grade, found.grader, found.is_firm, found.reason) == (Decimal("9.8"), "CGC", True, None)


@pytest.mark.parametrize("point", SCALE)
def test_every_point_of_the_scale_is_read_as_itself(point: Decimal) -> None:
    assert parse_condition(f"{point:.1f}", None).grade == point
    assert parse_condition(f"CGC {point:.1f}", None).grade == point


FRAGMENTS = st.sampled_from(
    [
        *SLABS,
        *WORDS,
        *NOT_FIRM,
        *NO_GRADE,
        "#",
        " ",
        "-",
        "/",
        "300",
        "9.8",
        "or",
        "better",
        "?",
        "\u0000",
        "&amp;",
        "½",
    ]
)
TEXTS = st.one_of(st.none(), st.text(max_size=80), st.lists(FRAGMENTS, max_size=6).map(" ".join))


@given(text=TEXTS, title=TEXTS)
@example(text="\ud800", title="\ud800 CGC 9.8")
@example(text="9" * 5000, title="CGC " * 500)
def test_any_text_gives_a_point_of_the_scale_or_none_and_never_raises(
    text: str | None, title: str | None
) -> None:
    found = parse_condition(text, title)
    assert found.grade is None or found.grade in SCALE
    assert found.is_firm is (found.grade is not None and found.reason in (None, "from_title"))
    assert found.reason is not None or found.grade is not None
    assert found.low is None or found.high is None or found.low <= found.high


@given(
    text=st.sampled_from([*SLABS, *WORDS, *NOT_FIRM]),
    change=st.sampled_from([str.upper, str.lower, str.title]),
)
def test_case_and_outer_spaces_do_not_change_a_grade(text: str, change: Callable[[str], str]) -> None:
    assert parse_condition(f"  {change(text)} ", None) == parse_condition(text, None)

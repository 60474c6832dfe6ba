"""From what a seller writes about a copy's condition to a grade on the 10-point scale, or the reason for none.

A wrong grade moves a price band, a missing one does not: where a text can be plain English ("good condition for its
age"), a hope ("CGC 9.8?") or a boundary ("NM or better"), there is no firm grade. A title is asked only when the
condition says nothing, and only for slabs and unmistakable grades. Points and words of the scale are in `grades`.
"""

import functools
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from assets.comics.rules.grades import Found, find_grades, point_of
from assets.comics.rules.hedges import (
    APPROXIMATE,
    BOUNDARY,
    HEDGE_STEMS,
    HEDGES,
    LABEL_STEMS,
    LABELS,
    NOT_GRADED,
    NOT_GRADED_STEMS,
    NOT_RESTORED,
    OR_BETTER,
    OR_WORSE,
    UNCLEAR,
    UNSTATED,
)
from assets.comics.rules.text import clean, may_hold

# Further reasons of a missing grade, beside those of `hedges`:
EMPTY = "empty"
NO_GRADE = "no_grade"  # "see pics", "like new", "used"
OFF_SCALE = "off_scale"  # 9.7
SEVERAL_GRADES = "several_grades"  # cover VG, pages NM
CONFLICTING = "conflicting"  # FN 9.8; a slab in the title that the condition contradicts
SLAB_WITHOUT_GRADE = "slab_without_grade"
RANGE = "range"  # 6.0-7.0: grade and low are the lower end, not firm
FROM_TITLE = "from_title"  # a firm grade that the title states

_SHORT = 80  # characters; a number that is the whole statement does not stand in an essay
_HALF_A_CLASS = Decimal("0.5")  # "VF 8.5" is one statement: the number says where within the class


class Condition(NamedTuple):
    """A grade of the scale or None; firm only when the text states one point. `low`/`high` bound a stated range."""

    grade: Decimal | None = None
    grader: str | None = None
    is_firm: bool = False
    reason: str | None = None
    low: Decimal | None = None
    high: Decimal | None = None


_GRADER = r"(?<![a-z])(?P<grader>c\.?\s?g\.?\s?c|c\.?b\.?c\.?s|pgx|egs|hga|psa)(?![a-z])\.?"
_LABEL = (
    r"(?:universal|signature|series|ss|graded|grade|grading|qualified|restored|conserved|apparent|blue|yellow|gold|red"
    r"|purple|green|label|verified|authentic|slab|slabbed|certified|pedigree|at|a|an|is|of|near|very|mint|fine|good"
    r"|nm|mt|m|vf|fn|vg|gd|f|g|custom)"
)
_GAP = rf"(?:[\s:;,=()\[\]/+*-]|\b{_LABEL}\b)*?"
_POINT_END = r"(?![\w%]|[.,]\d)(?!\s?(?:of|copies|in|x)\b)"
_POINT = rf"(?<![\w#$£€.])(?P<point>\d{{1,2}}[.,]\d{{1,2}}|10|\d){_POINT_END}"
_SLAB = re.compile(rf"{_GRADER}{_GAP}{_POINT}", re.IGNORECASE)
_SLAB_ATTACHED = re.compile(
    r"(?<![a-z])(?P<grader>cgc|cbcs|pgx)(?P<point>\d{1,2}[.,]\d)(?!\d)", re.IGNORECASE
)
# Before the name only with a decimal point: in "Superman 13 CGC 9.8" and "Hulk 9 CGC" the first number is the issue.
_SLAB_REVERSED = re.compile(
    rf"(?<![\w#$£€.])(?P<point>\d{{1,2}}[.,]\d{{1,2}}){_POINT_END}{_GAP}{_GRADER}", re.IGNORECASE
)
_GRADER_ALONE = re.compile(_GRADER, re.IGNORECASE)

# Words beside which "Good" alone is still the grade, not plain English.
_NEUTRAL = re.compile(
    r"^(?:condition|grade|graded)\s*[:=-]|\b(?:comic|comics|book|raw|grade|graded|ungraded|overstreet|cover|pages?|white"
    r"|off|cream|ow|bagged|boarded|and|b&b|unread|complete|newsstand|direct|edition|overall)\b|[\W_]+",
    re.IGNORECASE,
)
# One look each that spares most texts the patterns above and the search for grades.
_GRADER_NEAR = re.compile(r"(?<![a-z])(?:c\.?\s?g|c\.?b\.?c|pgx|egs|hga|psa)", re.IGNORECASE)
_UNMISTAKABLE = re.compile(r"nm|n\.m|mint|vf|v\.f|fine|fn|vg|v\.g|good|gd|fr|pr|[fgp][+/-]", re.IGNORECASE)
_ISSUE = re.compile(
    r"#\s*-?[\d½]\S*|\b(?:no\.?|nr\.?|issue|annual)\s*#?\d+|(?<![\w'$#-])\d{1,4}(?![\w'%]|[.,:]\d)"
)


def parse_condition(text: str | None, title: str | None = None) -> Condition:
    """The grade that `text` (the feed's condition) states, or that `title` states where `text` says nothing.

    Pure and total: any text gives a Condition, whose grade is a point of the scale or None.
    """
    stated = _from_text(clean(text)) if text else Condition(reason=EMPTY)
    is_silent = stated.reason in (EMPTY, NO_GRADE, UNCLEAR, SLAB_WITHOUT_GRADE)
    is_raw = stated.is_firm and stated.grader is None
    title = clean(title) if title and (is_silent or is_raw) else None
    if not title or (is_raw and not _GRADER_NEAR.search(title)):
        return stated
    titled = _from_title(title)
    if is_silent:
        says_more = titled.grade is not None or (stated.reason == EMPTY and titled.reason != NO_GRADE)
        return titled if says_more else _with_grader(stated, titled)
    if titled.grader is None or not titled.is_firm:
        return stated
    is_same = titled.grade == stated.grade
    return stated._replace(grader=titled.grader) if is_same else Condition(reason=CONFLICTING)


def strip_grades(title: str) -> str:
    """A cleaned `title` without its slab and grade expressions, for the rules that read the rest."""
    spans = [(grade.start, grade.end) for grade in _explicit_in_title(title)]
    if _GRADER_NEAR.search(title):
        patterns = (_SLAB, _SLAB_ATTACHED, _SLAB_REVERSED, _GRADER_ALONE)
        spans += [match.span() for pattern in patterns for match in pattern.finditer(title)]
    for start, end in sorted(spans, reverse=True):
        title = title[:start] + " " * (end - start) + title[end:]
    return title


@functools.lru_cache(maxsize=65536)
def _from_text(text: str) -> Condition:
    text = _without_not_graded(text)
    if may_hold(text, ("restor",)):
        text = NOT_RESTORED.sub(" ", text)
    if not text.strip():
        return Condition(reason=NO_GRADE)
    slab = _slab(text)
    grader = slab.grader if slab else None
    grades = [grade for grade in find_grades(text) if _counts(grade, text)]
    if slab is None and not grades:
        return Condition(reason=_why_none(text))
    if slab is not None and slab.grade is None and not grades:
        return slab._replace(reason=slab.reason or SLAB_WITHOUT_GRADE)
    return _hedged(_combined(slab, grades), text, grader)


@functools.lru_cache(maxsize=65536)
def _from_title(title: str) -> Condition:
    """The grade that a title states beyond doubt: a slab anywhere, a raw grade only behind the issue number."""
    text = _without_not_graded(title)
    slab = _slab(text)
    grades = _explicit_in_title(text)
    if slab is None and not grades:
        return Condition(reason=NO_GRADE)
    if slab is not None and slab.grade is None:
        return slab
    found = _hedged(_combined(slab, grades), _beside_grade(text), slab.grader if slab else None)
    return found._replace(reason=FROM_TITLE) if found.is_firm else found


def _without_not_graded(text: str) -> str:
    return NOT_GRADED.sub(" ", text) if may_hold(text, NOT_GRADED_STEMS) else text


def _beside_grade(title: str) -> str:
    """The part of a title that speaks of the copy, not the series: "What If? #1 CGC 9.8" asks nothing."""
    issue = _ISSUE.search(title)
    behind = title[issue.end() :] if issue else title
    if _GRADER_ALONE.search(behind) or _explicit_in_title(title):
        return behind
    slab = _SLAB.search(title) or _SLAB_REVERSED.search(title)
    return re.match(r"\S*\s*\S*", title[slab.end() :])[0] if slab else title  # type: ignore[index]


def _with_grader(stated: Condition, titled: Condition) -> Condition:
    return stated._replace(grader=titled.grader) if stated.grader is None else stated


def _slab(text: str) -> Condition | None:
    """The grading company in `text` and the one grade beside its name; a decimal wins over a whole number."""
    if not _GRADER_NEAR.search(text):
        return None
    matches = [
        match for pattern in (_SLAB_ATTACHED, _SLAB, _SLAB_REVERSED) for match in pattern.finditer(text)
    ]
    decimals = [match for match in matches if not match["point"].isdecimal()]
    alone = _GRADER_ALONE.search(text)
    if not matches and alone is None:
        return None
    if not matches:
        return Condition(grader=_grader_name(alone["grader"] if alone else ""), reason=SLAB_WITHOUT_GRADE)
    chosen = decimals or matches[:1]
    grader = _grader_name(chosen[0]["grader"])
    points = {point_of(match["point"]) for match in chosen}
    if len(points) > 1:
        return Condition(grader=grader, reason=SEVERAL_GRADES)
    point = points.pop()
    return Condition(point, grader, point is not None, None if point is not None else OFF_SCALE, point, point)


@functools.lru_cache(maxsize=1024)
def _grader_name(text: str) -> str:
    return re.sub(r"[^A-Z]", "", text.upper())


def _counts(grade: Found, text: str) -> bool:
    """Whether an expression in a condition text is meant as a grade."""
    rest = text[: grade.start] + " " + text[grade.end :]
    if grade.is_whole_number:
        return grade.is_of_ten or (len(text) <= _SHORT and not _NEUTRAL.sub("", rest))
    if not grade.is_everyday:
        return True
    others = [other for other in find_grades(rest) if not other.is_everyday and not other.is_whole_number]
    if any(_agree(grade, other) for other in others):
        return True
    return not _NEUTRAL.sub("", BOUNDARY.sub(" ", rest))


def _why_none(text: str) -> str:
    """The reason of a text without a grade: words of the scale in plain English, or nothing of the kind."""
    if not any(grade.is_everyday and grade.end - grade.start > 2 for grade in find_grades(text)):
        return NO_GRADE
    return next((reason for reason, hedge in HEDGES if reason in UNSTATED and hedge.search(text)), UNCLEAR)


def _agree(word: Found, number: Found) -> bool:
    if word.low is None or number.low is None or word.high is None or number.high is None:
        return False
    return word.low - _HALF_A_CLASS <= number.low and number.high <= word.high + _HALF_A_CLASS


def _combined(slab: Condition | None, grades: Sequence[Found]) -> Condition:
    """One statement out of all expressions: numbers before words, equal ones once, contradictions to a reason."""
    numbers = [grade for grade in grades if grade.is_number]
    words = [grade for grade in grades if not grade.is_number]
    if slab is not None and slab.grade is not None:
        if any(number.is_range for number in numbers):
            numbers = [number for number in numbers if number.is_range]
        else:
            is_agreed = all(_agree(word, Found(0, 0, slab.grade, slab.grade)) for word in words)
            return slab if is_agreed else Condition(grader=slab.grader, reason=CONFLICTING)
    if slab is not None and slab.grade is None and slab.reason in (OFF_SCALE, SEVERAL_GRADES):
        return slab
    leading = numbers or words
    bounds = {(grade.low, grade.high) for grade in leading}
    if len(bounds) > 1:
        return Condition(reason=SEVERAL_GRADES)
    first = leading[0]
    if first.low is None:
        return Condition(reason=OFF_SCALE)
    if numbers and not all(_agree(word, first) for word in words):
        return Condition(reason=CONFLICTING)
    reason = OR_BETTER if any(grade.is_or_better for grade in leading) else None
    reason = APPROXIMATE if any(grade.is_of_ten for grade in leading) else reason
    if first.is_range:
        reason = RANGE
    return Condition(first.low, None, reason is None, reason, first.low, first.high)


def _hedged(found: Condition, text: str, grader: str | None) -> Condition:
    """`found` after what the rest of the text says about it."""
    if found.grade is None:
        return found._replace(grader=grader, is_firm=False)
    for reason, pattern in HEDGES if may_hold(text, HEDGE_STEMS) else ():
        if not pattern.search(text):
            continue
        if reason in UNSTATED:
            return Condition(reason=reason)
        if reason == OR_WORSE:
            return Condition(grader=grader, reason=reason, high=found.high)
        if found.is_firm:
            high = None if reason == OR_BETTER else found.high
            return found._replace(grader=grader, is_firm=False, reason=reason, high=high)
    if found.reason == OR_BETTER:
        return found._replace(grader=grader, high=None)
    for reason, pattern in LABELS if may_hold(text, LABEL_STEMS) else ():
        if found.is_firm and pattern.search(text):
            return found._replace(grader=grader, is_firm=False, reason=reason)
    return found._replace(grader=grader)


@functools.lru_cache(maxsize=65536)
def _explicit_in_title(title: str) -> tuple[Found, ...]:
    """Grades behind the issue number that no title word, number or year can be mistaken for."""
    issue = _ISSUE.search(title)
    if issue is None or not _UNMISTAKABLE.search(title, issue.end()):
        return ()
    grades = [grade for grade in find_grades(title) if grade.start >= issue.end()]
    words = [
        grade for grade in grades if not grade.is_number and not grade.is_everyday and grade.low is not None
    ]
    words = [word for word in words if not re.match(r"\s?#?\d{2,}(?![.,\d])", title[word.end :])]
    numbers = [
        grade
        for grade in grades
        if grade.is_number
        and not grade.is_whole_number
        and any(_agree(word, grade) and _is_beside(word, grade, title) for word in words)
    ]
    return tuple(sorted(words + numbers, key=lambda grade: grade.start))


def _is_beside(left: Found, right: Found, title: str) -> bool:
    first, second = sorted((left, right), key=lambda grade: grade.start)
    return re.fullmatch(r"[\s(\[:/-]*", title[first.end : second.start]) is not None

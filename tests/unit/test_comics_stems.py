"""The looks that spare texts the patterns: no pattern matches a text that lacks every stem, and no result moved."""

import datetime as dt
import hashlib
import random
import re

import pytest

from assets.comics.rules import hedges, lots, title, variants
from assets.comics.rules.condition import parse_condition
from assets.comics.rules.text import may_hold
from assets.comics.rules.title import parse_title
from assets.comics.sample.market import Market

# Recorded before the looks were introduced. Another rule gives another digest: record it anew with the rule.
SAMPLE_DIGEST = "893fd8dd679e43c04cc7fba6ac298500f56257780b9b8b27e5634db5032fa64e"

PHRASES = (
    "not quite NM", "isn't NM", "almost VF", "nearly mint", "never a VG", "CGC 9.8 candidate",
    "a 9.8 contender", "potentially 9.6", "worthy of 9.8", "press ready", "possibly NM", "could be",
    "would grade", "should be", "might be", "may be", "maybe", "hopeful", "probably", "likely", "resubmit",
    "9.8?", "imo", "imho", "in my opinion", "I'd say NM", "I would call it", "I think", "I believe", "i guess",
    "my estimate", "self-graded", "for its age", "given the age", "for a 50", "or lower", "or worse", "or less",
    "or below", "or under", "up to VF", "at best", "at most", "<VF", "or better", "or up", "or more", "or best",
    "and up", "and above", "at least", "min. VF", "minimum of 9.0", "better than", ">9.0", "about VF", "around",
    "approx", "roughly", "est. 9", "estimated", "circa", "close to", "appears to be", "looks", "seems",
    "easily", "~9.0", "not graded", "never slabbed", "un-certified", "no cgc", "non cbcs", "not restored",
    "unslabbed", "raw", "restored", "restoration", "conserved", "apparent", "colour touched", "trimmed",
    "purple label", "qualified", "green label", "l@@k", "w@w", "key!", "HOT !!", "sale!", "major key",
    "key issue", "mcu", "htf", "free shipping", "no reserve", "must see", "!!", "***", "~~", "lot of 5",
    "set (12", "bundle x 4", "5 comic lot", "3-book run", "12 different comics", "4 issues", "7 copies",
    "collection of 9", "box of 40", "group of 3", "pack of 2", "joblot", "job lot", "wholesale", "complete run",
    "full mini series", "set 1-4", "set of", "1:25 ratio", "1 in 50", "2nd print", "third printing", "4th ptg",
    "2nd prt", "cover B", "cvr C", "cov. D", "b cover", "direct edition", "regular cover", "main cover",
    "news stand", "newsstand", "facsimile", "mark jewelers", "75 cent variant", "cpv", "whitman variant",
    "reprint", "var", "variant cover",
)  # fmt: skip
SPARED = {
    "hedges": ([pattern for _, pattern in hedges.HEDGES], hedges.HEDGE_STEMS),
    "labels": ([pattern for _, pattern in hedges.LABELS], hedges.LABEL_STEMS),
    "not graded": ([hedges.NOT_GRADED], hedges.NOT_GRADED_STEMS),
    "not restored": ([hedges.NOT_RESTORED], ("restor",)),
    "noise": ([title._NOISE], title._NOISE_STEMS),
    "lots": ([*lots._COUNTED, lots._WORDS], lots._STEMS),
    "ranges": ([lots._RANGE], lots._RANGE_STEMS),
    "variants": ([variants._HINT], variants._STEMS),
}


def _sample() -> list[tuple[str, str]]:
    market = Market(random.Random(7))
    moment = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
    sales = [market.sale("gavelbay", number, moment, ("USD", "EUR")) for number in range(1_500)]
    return [(sale.title, sale.condition) for sale in sales]


@pytest.mark.parametrize("name", SPARED)
def test_every_match_of_a_spared_pattern_holds_one_of_its_stems(name: str) -> None:
    patterns, stems = SPARED[name]
    texts = [*PHRASES, *(text for pair in _sample() for text in pair), "#1-10", "#1 to 4", "#1 thru 9"]
    matched = [text for text in texts if any(pattern.search(text) for pattern in patterns)]
    assert matched, "the phrases hold some of these"
    assert [text for text in matched if not may_hold(text.upper(), stems)] == []


def test_every_phrase_is_one_that_a_pattern_matches() -> None:
    patterns: list[re.Pattern[str]] = [pattern for group, _ in SPARED.values() for pattern in group]
    assert [text for text in PHRASES if not any(pattern.search(text) for pattern in patterns)] == []


def test_a_text_that_is_not_ascii_is_never_spared() -> None:
    assert may_hold("ſlabbed", ("slabbed",))
    assert not may_hold("VF", ("slabbed",))


def test_titles_and_conditions_of_the_sample_read_as_recorded() -> None:
    digest = hashlib.sha256()
    for text, condition in _sample():
        read = parse_title(text)
        graded = parse_condition(condition, text)
        values = (
            read.series_name, read.series_key, read.issue_number, read.issue_sort, read.variant, read.year,
            read.publisher, read.is_lot, read.lot_size, read.reason, graded.grade, graded.grader, graded.is_firm,
            graded.reason, graded.low, graded.high,
        )  # fmt: skip
        digest.update("|".join(map(str, values)).encode())
    assert digest.hexdigest() == SAMPLE_DIGEST

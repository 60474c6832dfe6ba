"""What sellers say around a grade that takes its firmness: boundaries, hopes, opinions, negations, restoration.

Each reason with its pattern; the first that matches decides. `condition` applies them to the text around a grade.
Add a phrase to its reason; a wrong match only makes a grade less sure, a missed one makes a price band wrong.
"""

import re

# Why a grade is not firm, or is missing. These leave the grade null:
NEGATED = "negated"  # not quite NM
OPINION = "opinion"  # mint in my opinion
SPECULATIVE = "speculative"  # CGC 9.8 candidate
UNCLEAR = "unclear"  # a word of the scale in plain English: "good condition", "mint in bag"
OR_WORSE = "or_worse"  # VF at best: only the upper end is known
# These keep it, as a lower bound or under another label:
OR_BETTER = "or_better"
APPROXIMATE = "approximate"  # about VF, 8/10
RESTORED = "restored"
QUALIFIED = "qualified"  # the green label: a grade but for one stated defect

UNSTATED = (NEGATED, SPECULATIVE, OPINION, UNCLEAR)

_GRADE_AHEAD = r"(?=(?:near|very|mint|nm|vf|fn|vg|fine|good|\d))"
_OR_BETTER = (
    r"\bor (?:better|higher|above|nicer|greater|up|more|best)\b|\band (?:up|better|above|higher)\b|\bat least\b"
    rf"|\bmin(?:imum|\.)?\s(?:of |grade )*{_GRADE_AHEAD}|\bbetter than\b|>"
)
_SPECULATIVE = (
    r"\b(?:candidate|contender|potential(?:ly)?|worthy|ready|possibl[ey]|could|would|should|might|may\s?be"
    r"|hopeful|probably|likely|resubmit)\b|\?"
)
_OPINION = (
    r"\b(?:imh?o|opinion|i(?:'d| would|'ll)? ?(?:say|grade|call|think|believe|guess)|my (?:guess|grade|estimate)"
    r"|self[\s-]graded)\b"
)
_APPROXIMATE = (
    r"\b(?:about|around|approx(?:imate(?:ly)?)?|roughly|est(?:imated|\.)?|circa|close to|appears to be|looks|seems"
    rf"|easily)\b|[~±]{_GRADE_AHEAD}"
)

HEDGES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        (
            NEGATED,
            rf"\b(?:not|isn't|isnt|almost|nearly|never)\s+(?:quite\s+|really\s+|a\s+|in\s+)*{_GRADE_AHEAD}",
        ),
        (SPECULATIVE, _SPECULATIVE),
        (OPINION, _OPINION),
        (UNCLEAR, r"\b(?:for|considering|given) (?:its|it's|the|their|his) age\b|\bfor a \d+"),
        (OR_WORSE, r"\bor (?:lower|worse|less|below|under)\b|\bup to\b|\bat best\b|\bat most\b|<"),
        (OR_BETTER, _OR_BETTER),
        (APPROXIMATE, _APPROXIMATE),
    )
)
# What none of HEDGES can match without: a look at these spares most texts all of them.
HEDGE_STEMS = (
    "not", "isn", "almost", "nearly", "never",
    "candidate", "contender", "potential", "worthy", "ready", "possibl", "could", "would", "should", "might", "may",
    "hopeful", "probably", "likely", "resubmit", "?",
    "imo", "imho", "opinion", "say", "grade", "call", "think", "believe", "guess", "estimate",
    "age", "for a",
    "lower", "worse", "less", "below", "under", "up to", "best", "most", "<",
    "better", "higher", "above", "nicer", "greater", "or up", "or more", "and up", "least", "min", ">",
    "about", "around", "approx", "roughly", "est", "circa", "close to", "appears to", "looks", "seems", "easily", "~",
)  # fmt: skip
BOUNDARY = re.compile(_OR_BETTER, re.IGNORECASE)

# Statements that take nothing from a grade and are taken out first.
NOT_GRADED = re.compile(
    r"\b(?:not|never|no|un|non)[\s-]*(?:professionally\s+|yet\s+|been\s+)*(?:graded|slabbed|certified|cgc'?d?|cbcs)\b"
    r"|\bunslabbed\b|\braw\b",
    re.IGNORECASE,
)
NOT_GRADED_STEMS = ("graded", "slabbed", "certified", "cgc", "cbcs", "raw")  # one is in each of its matches
NOT_RESTORED = re.compile(
    r"\b(?:no|not|non|un|without|zero)[\s-]*(?:been\s+)?restor(?:ed|ation)\b", re.IGNORECASE
)

LABELS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        RESTORED,
        re.compile(
            r"\b(?:restor(?:ed|ation)|conserved|apparent|colou?r touch(?:ed)?|trimmed|purple label)\b",
            re.IGNORECASE,
        ),
    ),
    (QUALIFIED, re.compile(r"\b(?:qualified|green label)\b", re.IGNORECASE)),
)
LABEL_STEMS = (
    "restor",
    "conserved",
    "apparent",
    "touch",
    "trimmed",
    "purple",
    "qualified",
    "green",
)  # of any of them

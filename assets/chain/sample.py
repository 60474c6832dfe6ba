"""A SYNTHETIC sample of the chain system: opinions on insights and measurements. Nothing in it was said or measured."""

import datetime as dt
import random
import uuid
from pathlib import Path

from assets.samples import Manifest, Record, SampleFeed, moment_of, plant

METRICS = (
    ("api_latency", "ms", 80.0),
    ("queue_depth", "jobs", 40.0),
    ("blocks_behind", "blocks", 3.0),
    ("cpu", "ratio", 0.4),
)
HOSTS = ("node-1", "node-2", "node-3")
COMMENTS = ("", "", "", "useful", "too late", "saw it before everyone else", "the address is wrong")
INSIGHTS = 400
_SPACE = uuid.UUID("0e6f3a52-77a8-4f5e-9c0c-3a4f5d6e7b18")


def generate(
    out_dir: Path, rows: int, days: int, last_day: dt.date, seed: int, broken_files: int = 0
) -> Manifest:
    """Write the sample and its manifest; see `assets.samples.plant`."""
    return plant("chain", FEEDS, out_dir, rows, days, last_day, seed, broken_files)


def _id(kind: str, number: int) -> str:
    return str(uuid.uuid5(_SPACE, f"{kind} {number}"))


def _feedback(dice: random.Random, number: int, day: dt.date) -> Record:
    moment = moment_of(dice, day).isoformat()
    return {
        # The number makes each user and insight a pair of its own: an opinion is corrected, not repeated by chance.
        "user_id": _id("user", number), "insight_id": _id("insight", int(INSIGHTS * dice.random() ** 2)),
        "rating": dice.choice((1, 2, 3, 4, 4, 5, 5)), "is_flagged": dice.random() < 0.03,
        "comment": dice.choice(COMMENTS),
        "submitted_at": moment, "updated_at": moment,
    }  # fmt: skip


def _second_thoughts(dice: random.Random, record: Record, revised_at: dt.datetime) -> Record:
    """The user thinks otherwise now."""
    rating = 1 + (int(str(record["rating"])) + dice.randrange(1, 5)) % 5
    return {**record, "rating": rating, "comment": f"changed my mind {dice.randrange(10**6)}",
            "updated_at": revised_at.isoformat()}  # fmt: skip


def _metric(dice: random.Random, number: int, day: dt.date) -> Record:
    name, unit, usual = METRICS[number % len(METRICS)]
    return {
        "name": name, "host": dice.choice(HOSTS), "time": moment_of(dice, day).isoformat(), "unit": unit,
        "value": round(usual * dice.lognormvariate(0, 0.5), 4), "labels": {"sample": number},
    }  # fmt: skip


FEEDS = (
    SampleFeed(
        "feedback", 0.3, "csv.gz",
        ("user_id", "insight_id", "rating", "is_flagged", "comment", "submitted_at", "updated_at"),
        _feedback, correct=_second_thoughts, is_keyed=True,
        spoilt={
            "six_stars": lambda record: {**record, "rating": 6},
            "half_a_star": lambda record: {**record, "rating": "4.5"},
            "nobody": lambda record: {**record, "user_id": "anonymous"},
        },
    ),
    SampleFeed(
        "metrics", 0.7, "jsonl.gz", ("name", "host", "time", "value", "unit", "labels"), _metric, is_keyed=True,
        spoilt={
            "not_a_number": lambda record: {**record, "value": "NaN"},
            "no_value": lambda record: {**record, "value": None},
            "no_such_day": lambda record: {**record, "time": "2026-02-30T00:00:00Z"},
        },
    ),
)  # fmt: skip

"""A SYNTHETIC sample of the browser system: audit events and changes of synced documents. Nothing in it happened."""

import datetime as dt
import random
import uuid
from pathlib import Path

from assets.samples import Manifest, Record, SampleFeed, moment_of, plant

TYPES = ("bookmark", "tab", "history", "password", "setting", "reading_list")
ACTIONS = ("READ",) * 12 + ("UPDATE",) * 5 + ("CREATE",) * 3 + ("DELETE", "ACCESS_DENIED")
FIELDS = ("title", "url", "folder", "position")
USERS, RESOURCES = 120, 900
_SPACE = uuid.UUID("5b1f9c1e-3d0a-4b53-8f0e-0d3f7c5e9a11")


def generate(
    out_dir: Path, rows: int, days: int, last_day: dt.date, seed: int, broken_files: int = 0
) -> Manifest:
    """Write the sample and its manifest; see `assets.samples.plant`."""
    return plant("browser", FEEDS, out_dir, rows, days, last_day, seed, broken_files)


def _id(kind: str, number: int) -> str:
    return str(uuid.uuid5(_SPACE, f"{kind} {number}"))


def _activity(dice: random.Random, number: int, day: dt.date) -> Record:
    resource = dice.randrange(RESOURCES)
    user = int(USERS * dice.random() ** 2)  # some do much more than others
    return {
        "event_id": _id("event", number), "occurred_at": moment_of(dice, day).isoformat(),
        "user_id": _id("user", user), "session_id": _id("session", user * 100 + day.toordinal() % 7),
        "resource_id": _id("resource", resource), "resource_type": TYPES[resource % len(TYPES)],
        "action": dice.choice(ACTIONS), "duration_ms": int(dice.lognormvariate(3, 0.8)),
        "ip_address": f"198.51.100.{dice.randrange(1, 255)}", "details": {"device": dice.choice(("phone", "desk"))},
    }  # fmt: skip


def _change(dice: random.Random, number: int, day: dt.date) -> Record:
    resource = dice.randrange(RESOURCES)
    field = dice.choice(FIELDS)
    is_first = dice.random() < 0.2
    return {
        "document_id": _id("resource", resource), "field": field, "version": number,
        "changed_at": moment_of(dice, day).isoformat(), "user_id": _id("user", resource % USERS),
        "device_id": _id("device", resource % USERS * 3 + dice.randrange(3)),
        "resource_type": TYPES[resource % len(TYPES)],
        "operation": "insert" if is_first else dice.choice(("update",) * 6 + ("delete",)),
        "old_value": None if is_first else f'"{field} {number - 1}"', "new_value": f'"{field} {number}"',
    }  # fmt: skip


def _written_elsewhere(dice: random.Random, record: Record, revised_at: dt.datetime) -> Record:
    """The same version written by another device, later: that write wins."""
    return {
        **record, "changed_at": revised_at.isoformat(), "device_id": _id("device", dice.randrange(1000, 2000)),
        "new_value": f'"merged {dice.randrange(10**6)}"',
    }  # fmt: skip


FEEDS = (
    SampleFeed(
        "activity", 0.6, "jsonl.gz",
        ("event_id", "occurred_at", "user_id", "session_id", "resource_id", "resource_type", "action", "duration_ms",
         "ip_address", "details"),
        _activity, is_keyed=True,
        spoilt={
            "unknown_action": lambda record: {**record, "action": "LOOK"},
            "no_event": lambda record: {**record, "event_id": None},
            "not_a_moment": lambda record: {**record, "occurred_at": "yesterday"},
        },
    ),
    SampleFeed(
        "changes", 0.4, "csv.gz",
        ("document_id", "field", "version", "changed_at", "user_id", "device_id", "resource_type", "operation",
         "old_value", "new_value"),
        _change, correct=_written_elsewhere, is_keyed=True,
        spoilt={
            "unknown_type": lambda record: {**record, "resource_type": "cookie"},
            "no_version": lambda record: {**record, "version": 0},
            "broken_json": lambda record: {**record, "new_value": "{"},
        },
    ),
)  # fmt: skip

"""SYNTHETIC post analytics and audit events, with the faults of real feeds in known numbers.

Planted: duplicates, corrected counts, late hours, bad rows. `people` gives the users, campaigns and posts they are of.
"""

import datetime as dt
import random
import uuid
from pathlib import Path
from typing import Any

from assets.samples.laid_out import (
    DUPLICATE,
    LOADED,
    QUARANTINED,
    LaidOutFeed,
    days_until,
    iso,
    write_laid_out,
)
from assets.samples.manifest import Manifest

LAST_DAY = dt.date(2026, 10, 30)
CAMPAIGNS, POSTS_OF_EACH, USERS = 6, 6, 4
PLATFORMS = ("instagram", "facebook", "x", "linkedin")
_SPACE = uuid.UUID("6d1e0a52-6c38-4a83-9d55-1f2f4d1c7a10")
_HOUR = dt.timedelta(hours=1)
_BAD_COUNTS = (
    {"impressions": "-5"}, {"impressions": "many"}, {"clicks": ""}, {"platform": "myspace"}, {"post_id": "17"},
    {"spend": "Infinity"}, {"measured_at": "yesterday"},
)  # fmt: skip
_AUDIT_COLUMNS = ("event_id", "occurred_at", "actor_id", "action", "entity", "entity_id", "changes")
_BAD_EVENTS = ({"action": "hack"}, {"entity_id": None}, {"occurred_at": None})


def generate(
    out_dir: Path, rows: int, days: int, last_day: dt.date, seed: int, broken_files: int = 0
) -> Manifest:
    """Write about `rows` rows, nine of ten of them analytics, and manifest.json."""
    landing = days_until(last_day, days)
    chance = random.Random(seed)
    hours = max(1, min(24, round(0.9 * rows / (days * CAMPAIGNS * POSTS_OF_EACH))))
    manifest = Manifest("campaigns", seed, landing[0].isoformat(), last_day.isoformat(), rows)
    feeds = [_analytics(landing, hours, chance), _audit(landing, max(1, rows // (10 * days)), chance)]
    return write_laid_out(manifest, feeds, out_dir, broken_files)


def identifier(kind: str, number: int) -> uuid.UUID:
    """The id of a user, campaign or post of the sample, the same in every run."""
    return uuid.uuid5(_SPACE, f"{kind} {number}")


def people(last_day: dt.date = LAST_DAY) -> dict[str, list[dict[str, Any]]]:
    """The rows of users, campaigns and posts that the sample's feeds are about, as their tables have them."""
    published = dt.datetime.combine(last_day - dt.timedelta(days=5), dt.time(8), dt.UTC)
    users = [
        {"user_id": identifier("user", n), "email": f"user{n}@example.com", "user_name": f"user{n}",
         "full_name": f"User Number {n}", "role": "manager" if n == 0 else "editor"}
        for n in range(USERS)
    ]  # fmt: skip
    campaigns = [
        {"campaign_id": identifier("campaign", n), "owner_id": identifier("user", n % USERS), "name": f"Campaign {n}",
         "budget": 1000 + 500 * n, "status": "active", "starts_on": published.date(), "tags": ["autumn", f"c{n}"]}
        for n in range(CAMPAIGNS)
    ]  # fmt: skip
    posts = [
        {"post_id": identifier("post", n), "campaign_id": identifier("campaign", n // POSTS_OF_EACH),
         "author_id": identifier("user", n % USERS), "platform": PLATFORMS[n % len(PLATFORMS)], "status": "published",
         "published_at": published, "content": f"Post {n} of the autumn sale", "tags": ["sale"]}
        for n in range(CAMPAIGNS * POSTS_OF_EACH)
    ]  # fmt: skip
    return {"users": users, "campaigns": campaigns, "posts": posts}


def _analytics(days: list[dt.date], hours: int, chance: random.Random) -> LaidOutFeed:
    columns = ("platform", "post_id", "campaign_id", "measured_at", "updated_at", "impressions", "reach", "clicks",
               "likes", "comments", "shares", "followers", "spend")  # fmt: skip
    sample = LaidOutFeed("post_analytics", columns, ".csv.gz")
    for place, day in enumerate(days):
        start = dt.datetime.combine(day - dt.timedelta(days=1), dt.time(), dt.UTC)
        for number in range(CAMPAIGNS * POSTS_OF_EACH):
            for hour in range(hours):
                moment = start + hour * _HOUR
                row = _count(number, moment, chance)
                is_late = place < len(days) - 1 and chance.random() < 0.02
                lands = days[-1] if is_late else day
                sample.add(lands, row, planted="late" if is_late else None)
                _follow(sample, row, chance.choice([each for each in days if each >= lands]), moment, chance)
        for number, fault in enumerate(_BAD_COUNTS):
            sample.add(day, {**_count(number, start - 30 * 24 * _HOUR, chance), **fault}, QUARANTINED)
    return sample


def _follow(
    sample: LaidOutFeed, row: dict[str, Any], day: dt.date, moment: dt.datetime, chance: random.Random
) -> None:
    drawn = chance.random()
    if drawn < 0.03:
        sample.add(day, row, DUPLICATE)
    elif drawn < 0.06:
        corrected = {"impressions": row["impressions"] + 7, "updated_at": iso(moment + 30 * _HOUR)}
        sample.add(day, {**row, **corrected}, LOADED, planted="correction")


def _count(number: int, moment: dt.datetime, chance: random.Random) -> dict[str, Any]:
    impressions = chance.randint(0, 5000)
    clicks = chance.randint(0, impressions // 20)
    return {
        "platform": PLATFORMS[number % len(PLATFORMS)], "post_id": str(identifier("post", number)),
        "campaign_id": str(identifier("campaign", number // POSTS_OF_EACH)), "measured_at": iso(moment),
        "updated_at": iso(moment + _HOUR), "impressions": impressions, "reach": impressions * 3 // 4, "clicks": clicks,
        "likes": chance.randint(0, 200), "comments": chance.randint(0, 30), "shares": chance.randint(0, 20),
        "followers": 10_000 + chance.randint(0, 500), "spend": f"{clicks * 0.12:.4f}" if number % 3 == 0 else "",
    }  # fmt: skip


def _audit(days: list[dt.date], count: int, chance: random.Random) -> LaidOutFeed:
    sample = LaidOutFeed("audit_log", _AUDIT_COLUMNS, ".jsonl")
    number = 0
    for day in days:
        start = dt.datetime.combine(day - dt.timedelta(days=1), dt.time(), dt.UTC)
        for _ in range(count):
            number += 1
            row = _event(number, start + dt.timedelta(seconds=chance.randrange(86400)), chance)
            sample.add(day, row)
            if chance.random() < 0.04:
                sample.add(chance.choice([each for each in days if each >= day]), row, DUPLICATE)
        for fault in _BAD_EVENTS:
            number += 1
            sample.add(day, {**_event(number, start, chance), **fault}, QUARANTINED)
    return sample


def _event(number: int, moment: dt.datetime, chance: random.Random) -> dict[str, Any]:
    entity = chance.choice(("campaign", "post"))
    count = CAMPAIGNS if entity == "campaign" else CAMPAIGNS * POSTS_OF_EACH
    return {
        "event_id": str(identifier("event", number)), "occurred_at": iso(moment), "entity": entity,
        "actor_id": str(identifier("user", chance.randrange(USERS))),
        "action": chance.choice(("create", "update", "publish")),
        "entity_id": str(identifier(entity, chance.randrange(count))), "changes": {"status": ["draft", "active"]},
    }  # fmt: skip

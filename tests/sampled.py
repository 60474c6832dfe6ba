"""The sample of a bundled system, landed and run through the real daily job: what every system's tests begin with."""

import datetime as dt
from collections import Counter
from pathlib import Path

from assets.samples import Manifest, landing_files
from cli.sample import generator_of
from pipelines.ingestion import land_file
from pipelines.monitoring.days import day_totals
from tests.daily_runs import Daily

LAST_DAY = dt.date(2026, 10, 30)
COUNTS = ("landed", "loaded", "duplicate", "quarantined")


def land_sample(daily: Daily, system: str, folder: Path, rows: int = 900, days: int = 5) -> Manifest:
    """Generate the sample into `folder` and land it."""
    manifest = generator_of(system)(folder, rows, days, LAST_DAY, 3, 0)
    feeds = daily.catalog.systems[system].feeds
    for feed, day, path in landing_files(folder, manifest.files):
        land_file(daily.store, feeds[feed], path, day)
    return manifest


def assets_of(daily: Daily, system: str) -> list[str]:
    """Every asset of a system that a run can materialise."""
    found = daily.catalog.systems[system]
    tables = {feed.table for feed in found.feeds.values()}
    return [f"{system}/{name}" for name in (*sorted(tables), *found.aggregates)]


def accounts(daily: Daily, manifest: Manifest) -> dict[str, dict[str, int]]:
    """What the landing days' results say of each feed, in the words of the manifest."""
    first, last = dt.date.fromisoformat(manifest.first_day), dt.date.fromisoformat(manifest.last_day)
    days = [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
    found = {}
    for feed in manifest.feeds:
        totals = Counter(day_totals(daily.database, f"landing/{manifest.system}/{feed}", days))
        found[feed] = {word: totals[f"{word}_rows"] for word in COUNTS}
    return found


def expected_accounts(manifest: Manifest) -> dict[str, dict[str, int]]:
    """What the manifest says that they should be."""
    return {feed: {word: counts[word] for word in COUNTS} for feed, counts in manifest.feeds.items()}

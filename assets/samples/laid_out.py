"""Samples whose records depend on each other, such as candles of successive minutes: the system lays them out itself.

It adds each row to its landing day under what is to become of it; the files and the manifest are the same as `plant`'s.
"""

import datetime as dt
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.samples.files import Record, write_file
from assets.samples.manifest import FileEntry, Manifest

LOADED, DUPLICATE, QUARANTINED = "loaded", "duplicate", "quarantined"


@dataclass
class LaidOutFeed:
    """The rows of one feed by landing day, each with its fate: loaded, duplicate or quarantined."""

    name: str
    columns: tuple[str, ...]
    suffix: str
    rows: dict[dt.date, list[Record]] = field(default_factory=dict)
    fates: Counter[str] = field(default_factory=Counter)
    planted: Counter[str] = field(default_factory=Counter)

    def add(self, day: dt.date, row: Record, fate: str = LOADED, *, planted: str | None = None) -> None:
        """Land `row` on `day`; `planted` names what is odd about it, such as late or correction."""
        self.rows.setdefault(day, []).append(row)
        self.fates[fate] += 1
        if planted is not None:
            self.planted[planted] += 1

    def write(self, folder: Path, chance: random.Random) -> list[FileEntry]:
        """Write `folder/<feed>/<YYYY-MM-DD>/`, one file a day, its rows in an order drawn from `chance`."""
        entries = []
        for day, rows in sorted(self.rows.items()):
            chance.shuffle(rows)
            name = f"{self.name}/{day}/{self.name}-{day:%Y%m%d}{self.suffix}"
            write_file(folder / name, self.columns, rows)
            entries.append(FileEntry(name, day.isoformat(), self.name, len(rows)))
        return entries

    def expected(self, files: int) -> dict[str, int]:
        """What must come of it, in rows."""
        superseded = self.planted["correction"]
        return {
            "landed": self.fates.total(), **{fate: self.fates[fate] for fate in (LOADED, DUPLICATE, QUARANTINED)},
            "superseded": superseded, "records": self.fates[LOADED] - superseded, "files": files,
        }  # fmt: skip


def write_laid_out(
    manifest: Manifest, feeds: Sequence[LaidOutFeed], out_dir: Path, broken_files: int = 0
) -> Manifest:
    """Write the feeds and manifest.json; the first feed's last `broken_files` days get a truncated file each."""
    chance = random.Random(f"longbox/{manifest.system}/{manifest.seed}")
    out_dir.mkdir(parents=True, exist_ok=True)
    for feed in feeds:
        files = feed.write(out_dir, chance)
        if feed is feeds[0] and broken_files:
            files += [_broken(feed, out_dir, day) for day in sorted(feed.rows)[-broken_files:]]
        manifest.files += files
        manifest.feeds[feed.name] = feed.expected(len(files))
        manifest.faults |= {f"{feed.name}/{kind}": count for kind, count in sorted(feed.planted.items())}
    manifest.sum_up()
    manifest.write(out_dir)
    return manifest


def days_until(last_day: dt.date, days: int) -> list[dt.date]:
    """`days` landing days, the last of them `last_day`."""
    return [last_day - dt.timedelta(days=back) for back in reversed(range(days))]


def iso(moment: dt.datetime) -> str:
    """A time as these samples write it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _broken(feed: LaidOutFeed, out_dir: Path, day: dt.date) -> FileEntry:
    name = f"{feed.name}/{day}/{feed.name}-{day:%Y%m%d}-part.csv.gz"
    shown: list[Mapping[str, Any]] = [dict(row) for row in feed.rows[day][:50]]
    write_file(out_dir / name, feed.columns, shown)
    data = (out_dir / name).read_bytes()
    (out_dir / name).write_bytes(data[: len(data) * 2 // 3])
    return FileEntry(name, day.isoformat(), feed.name, 0, "broken")

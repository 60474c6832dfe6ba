"""What the samples of feeds share: landed files laid out by day, and a manifest of what a pipeline must make of them.

A system's `sample/` invents rows and adds them here under what is to become of each. Everything is SYNTHETIC; the same
seed gives the same bytes.
"""

import csv
import datetime as dt
import gzip
import io
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOADED, DUPLICATE, QUARANTINED = "loaded", "duplicate", "quarantined"
Row = Mapping[str, Any]


@dataclass
class FeedSample:
    """The rows of one feed by landing day, each with its fate: loaded, duplicate or quarantined."""

    feed: str
    columns: Sequence[str]
    suffix: str = ".csv.gz"
    rows: dict[dt.date, list[Row]] = field(default_factory=dict)
    fates: Counter[str] = field(default_factory=Counter)
    planted: Counter[str] = field(default_factory=Counter)

    def add(self, day: dt.date, row: Row, fate: str = LOADED, *, planted: str | None = None) -> None:
        """Land `row` on `day`; `planted` names what is odd about it, such as late or correction."""
        self.rows.setdefault(day, []).append(row)
        self.fates[fate] += 1
        if planted is not None:
            self.planted[planted] += 1

    def write(self, folder: Path, chance: random.Random) -> None:
        """Write `folder/<feed>/<YYYY-MM-DD>/`, one file a day, its rows in an order drawn from `chance`."""
        for day, rows in sorted(self.rows.items()):
            chance.shuffle(rows)
            path = folder / self.feed / day.isoformat() / f"export{self.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._encoded(rows))

    def expected(self) -> dict[str, Any]:
        """What the manifest says: rows by fate, and what was planted."""
        return {
            "landed": self.fates.total(),
            **{fate: self.fates[fate] for fate in (LOADED, DUPLICATE, QUARANTINED)},
            "current": self.fates[LOADED] - self.planted["correction"],
            "planted": dict(sorted(self.planted.items())),
        }

    def _encoded(self, rows: Sequence[Row]) -> bytes:
        if self.suffix == ".jsonl":
            return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return gzip.compress(text.getvalue().encode(), mtime=0)


def write_sample(
    folder: Path, feeds: Sequence[FeedSample], seed: int, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the feeds and `manifest.json` into `folder`; returns the manifest. `more`: what else is expected."""
    chance = random.Random(seed)
    for feed in feeds:
        feed.write(folder, chance)
    days = sorted({day.isoformat() for feed in feeds for day in feed.rows})
    manifest = {
        "synthetic": True,
        "seed": seed,
        "days": days,
        "feeds": {feed.feed: feed.expected() for feed in feeds},
        **(more or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def iso(moment: dt.datetime) -> str:
    """A time as the samples write it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

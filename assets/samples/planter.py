"""Lays invented records out as landing days, and plants the faults of real feeds, counting every one of them.

The first landing day carries a month of history, each later one what happened the day before. Faults come evenly spaced
by their rates, so that a feed of any size has them in proportion.
"""

import datetime as dt
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assets.samples.files import Record, write_file
from assets.samples.manifest import FileEntry, Manifest

HISTORY_DAYS = 30
HISTORY_SHARE = 0.3
LATE_DAYS = 45
REMEMBERED = 1_000  # records of a feed kept for corrections and repeats: memory stays bounded
SPOILT_RATE = 0.002
RATES = {"repeated_in_file": 0.004, "repeated_later": 0.006, "corrected": 0.01, "late": 0.006}
_NEEDS_KEY = {"repeated_in_file", "repeated_later", "corrected"}
_NEEDS_EARLIER = frozenset({"repeated_later", "corrected"})

New = Callable[[random.Random, int, dt.date], Record]
Correct = Callable[[random.Random, Record, dt.datetime], Record]
Spoil = Callable[[Record], Record]


@dataclass(frozen=True)
class SampleFeed:
    """How the records of one feed look. Values are by landed column.

    `new(dice, number, event_day)` invents record `number` of an event day. `correct(dice, record, revised_at)` gives
    another version of it, later in the feed's own order; None where nothing is ever corrected. `spoilt` names faults,
    each with what makes a record unfit to be loaded. `is_keyed`: a record is known again when it lands again.
    """

    name: str
    share: float
    file: str
    columns: tuple[str, ...]
    new: New
    correct: Correct | None = None
    spoilt: Mapping[str, Spoil] = field(default_factory=dict)
    is_keyed: bool = False


def plant(
    system: str, feeds: Sequence[SampleFeed], out_dir: Path, rows: int, days: int, last_day: dt.date, seed: int,
    broken_files: int = 0,
) -> Manifest:  # fmt: skip
    """Write `rows` rows over `days` landing days to `out_dir/<feed>/<YYYY-MM-DD>/`, and manifest.json beside them.

    Copies of a file, empty and broken files come on top of `rows`. Memory does not grow with `days`.
    """
    if rows < 1 or days < 1 or not 0 <= broken_files <= days:
        raise ValueError("rows and days are at least 1, broken_files is at most days")
    all_days = [last_day - dt.timedelta(days=days - 1 - number) for number in range(days)]
    manifest = Manifest(system, seed, all_days[0].isoformat(), last_day.isoformat(), rows)
    remaining, share = rows, 1.0
    for feed in feeds:
        count = remaining if share - feed.share < 1e-9 else round(remaining * feed.share / share)
        remaining, share = remaining - count, share - feed.share
        planted = _Planted(feed, out_dir, random.Random(f"longbox/{system}/{feed.name}/{seed}"))
        for number, day in enumerate(all_days):
            planted.land_day(number, day, _rows_of_day(count, days, number))
            if days == 1 or number % 15 == 1:
                planted.repeat_file(day)
            if number == days // 2:
                planted.empty_file(day)
            if feed is feeds[0] and number >= days - broken_files:
                planted.break_file(day)
        manifest.files += planted.files
        manifest.feeds[feed.name] = planted.expected()
        manifest.faults |= {f"{feed.name}/{kind}": n for kind, n in sorted(planted.counts.items())}
    manifest.sum_up()
    manifest.write(out_dir)
    return manifest


def moment_of(dice: random.Random, day: dt.date) -> dt.datetime:
    """A moment of a UTC day, to the millisecond."""
    return dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(
        milliseconds=int(dice.random() * 86_400_000)
    )


def _rows_of_day(rows: int, days: int, number: int) -> int:
    if days == 1:
        return rows
    history = int(rows * HISTORY_SHARE)
    if number == 0:
        return history
    rest, later = rows - history, days - 1
    return rest * number // later - rest * (number - 1) // later


class _Planted:
    """The state of one feed's generation: what landed lately, what is due, what was counted."""

    def __init__(self, feed: SampleFeed, out_dir: Path, dice: random.Random) -> None:
        self.feed, self.out_dir, self.dice = feed, out_dir, dice
        self.files: list[FileEntry] = []
        self.counts: Counter[str] = Counter()
        self.earlier: list[Record] = []
        self.number = self.rows = self.repeated_rows = 0
        self.last_is_new = False
        rates = RATES | dict.fromkeys(feed.spoilt, SPOILT_RATE)
        impossible = (set() if feed.is_keyed else _NEEDS_KEY) | (
            {"corrected"} if feed.correct is None else set()
        )
        self.rates = {kind: rate for kind, rate in rates.items() if kind not in impossible}
        self.due = {kind: 0.5 + dice.random() / 2 for kind in self.rates}

    def land_day(self, number: int, day: dt.date, rows: int) -> None:
        """Write the feed's file of a landing day."""
        if rows == 0:
            return
        records: list[Record] = []
        fresh: list[Record] = []
        for _ in range(rows):
            record, is_new = self._record(day, records, is_first=number == 0)
            records.append(record)
            self.last_is_new = is_new
            if is_new:
                fresh.append(record)
        self._write(day, f"{self.feed.name}-{day:%Y%m%d}.{self.feed.file}", records)
        known = self.earlier + fresh
        self.earlier = known if len(known) <= REMEMBERED else self.dice.sample(known, REMEMBERED)

    def repeat_file(self, day: dt.date) -> None:
        """Land the day's file once more under another name: the same content, nothing new."""
        original = next((entry for entry in self.files if entry.landing_day == day.isoformat()), None)
        if original is None:
            return
        source = self.out_dir / original.path
        copy = source.with_name(source.name.replace(".", "-again.", 1))
        copy.write_bytes(source.read_bytes())
        self.repeated_rows += original.rows
        self._note(copy, day, original.rows, "repeated")

    def empty_file(self, day: dt.date) -> None:
        """Land a file without a byte."""
        path = self._folder(day) / f"{self.feed.name}-{day:%Y%m%d}-empty.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        self._note(path, day, 0, "empty")

    def break_file(self, day: dt.date) -> None:
        """Land a gzip file that ends in the middle: it is quarantined whole and loads nothing."""
        path = self._folder(day) / f"{self.feed.name}-{day:%Y%m%d}-part.csv.gz"
        write_file(path, self.feed.columns, [self.feed.new(self.dice, 10**9 + n, day) for n in range(50)])
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        self._note(path, day, 0, "broken")

    def expected(self) -> dict[str, int]:
        """What must come of it."""
        quarantined = sum(self.counts[kind] for kind in self.feed.spoilt)
        duplicate = self.counts["repeated_in_file"] + self.counts["repeated_later"] + self.repeated_rows
        loaded = self.rows + self.repeated_rows - quarantined - duplicate
        return {
            "landed": self.rows + self.repeated_rows, "loaded": loaded, "duplicate": duplicate,
            "quarantined": quarantined, "superseded": self.counts["corrected"],
            "records": loaded - self.counts["corrected"], "files": len(self.files),
        }  # fmt: skip

    def _record(self, day: dt.date, written: Sequence[Record], *, is_first: bool) -> tuple[Record, bool]:
        """The next record of a landing day, and whether it may be repeated or corrected later."""
        kind = self._kind_due(written)
        if kind is not None:
            self.counts[kind] += 1
        if kind == "repeated_in_file":
            return written[-1], False
        if kind == "repeated_later":
            return self.dice.choice(self.earlier), False
        if kind == "corrected" and self.feed.correct is not None:
            index = int(self.dice.random() * len(self.earlier))
            revised_at = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(
                seconds=self.number % 80_000
            )
            self.number += 1
            self.earlier[index] = self.feed.correct(self.dice, self.earlier[index], revised_at)
            return self.earlier[index], False
        self.number += 1
        back = self.dice.randrange(1, HISTORY_DAYS) if is_first else LATE_DAYS if kind == "late" else 1
        record = self.feed.new(self.dice, self.number, day - dt.timedelta(days=back))
        if kind in self.feed.spoilt:
            return self.feed.spoilt[kind](record), False
        return record, True

    def _kind_due(self, written: Sequence[Record]) -> str | None:
        chosen = None
        for kind, rate in self.rates.items():
            self.due[kind] += rate
            if chosen is None and self.due[kind] >= 1 and self._is_possible(kind, written):
                self.due[kind] -= 1
                chosen = kind
        return chosen

    def _is_possible(self, kind: str, written: Sequence[Record]) -> bool:
        if kind == "repeated_in_file":
            return bool(written) and self.last_is_new  # a spoilt record twice would be quarantined twice
        return bool(self.earlier) if kind in _NEEDS_EARLIER else True

    def _folder(self, day: dt.date) -> Path:
        return self.out_dir / self.feed.name / day.isoformat()

    def _write(self, day: dt.date, name: str, records: Sequence[Record]) -> None:
        path = self._folder(day) / name
        write_file(path, self.feed.columns, records)
        self.rows += len(records)
        self._note(path, day, len(records), "data")

    def _note(self, path: Path, day: dt.date, rows: int, kind: str) -> None:
        name = path.relative_to(self.out_dir).as_posix()
        self.files.append(FileEntry(name, day.isoformat(), self.feed.name, rows, kind))

"""Lays the invented sales out as landing days and plants the faults of real feeds, counting every one of them.

The first landing day carries half a year of history, each later one the sales of the day before. Faults come evenly
spaced by their rates (`_RATES`), so that a feed of any size has them in proportion; the manifest says how many.
"""

import datetime as dt
import random
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assets.comics.sample.files import Layout, Writer, open_writer
from assets.comics.sample.market import Market, Sale, price_text
from assets.samples import FileEntry, Manifest

FEED = "marketplace_sales"
HISTORY_DAYS = 180
HISTORY_SHARE = 0.4
REMEMBERED = 1_000  # records of each marketplace kept for corrections and repeats: memory stays bounded


@dataclass(frozen=True)
class Marketplace:
    """An invented marketplace: how large, in what currencies, in which format it sends its sales."""

    name: str
    share: float
    currencies: tuple[str, ...]
    layout: Layout


MARKETPLACES = (
    Marketplace("gavelbay", 0.45, ("USD",) * 6 + ("GBP", "GBP", "EUR", "CAD", "AUD"), Layout("csv", "gz")),
    Marketplace(
        "backissuebarn", 0.2, ("USD",) * 5 + ("CAD",),
        Layout("csv", "", delimiter=";", quote_all=True, line_end="\r\n", time_separator=" ", time_suffix=""),
    ),
    Marketplace("cornerstone", 0.15, ("USD",), Layout("jsonl", "zst", time_suffix="+00:00")),
    Marketplace("panellink", 0.1, ("USD",), Layout("parquet", time_suffix="+00:00")),
    Marketplace(
        "stripmarkt", 0.1, ("EUR", "EUR", "EUR", "CHF", "SEK", "DKK", "JPY"),
        Layout("tsv", "bz2", delimiter="\t", time_suffix="+01:00", utc_offset_hours=1),
    ),
)  # fmt: skip

# Rows of a kind per row of the feed. The first group is quarantined, the second duplicate, the rest is loaded.
QUARANTINED = (
    "negative_price", "zero_price", "price_not_a_number", "missing_currency", "impossible_date", "future_date",
    "wrong_column_count", "invalid_utf8",
)  # fmt: skip
DUPLICATE = ("repeated_in_file", "repeated_later")
SUPERSEDING = ("corrected_price", "corrected_month", "older_version_late")
_RATES = dict.fromkeys(QUARANTINED, 0.0007) | {
    "repeated_in_file": 0.004, "repeated_later": 0.006,
    "corrected_price": 0.004, "corrected_month": 0.002, "older_version_late": 0.001,
    "cross_listed": 0.004, "late": 0.006, "unknown_currency": 0.0005, "ended_currency": 0.0003, "no_issue": 0.002,
}  # fmt: skip
_NEEDS_TEXT = frozenset({"price_not_a_number", "impossible_date", "invalid_utf8"})
_NEEDS_CSV = frozenset({"wrong_column_count"})
_NEEDS_EARLIER = frozenset({"repeated_later", *SUPERSEDING})


def generate(
    out_dir: Path, rows: int, days: int, last_day: dt.date, seed: int, broken_files: int = 0
) -> Manifest:
    """Write a feed of exactly `rows` rows over `days` landing days to `out_dir/<YYYY-MM-DD>/` and describe it.

    Also writes `out_dir/manifest.json`. Copies of a file, empty and broken files come on top of `rows`; their rows are
    in the manifest. Memory does not grow with `rows`. The same arguments give the same bytes.
    """
    if rows < 1 or days < 1 or not 0 <= broken_files <= days:
        raise ValueError("rows and days are at least 1, broken_files is at most days")
    feed = _Feed(out_dir, random.Random(f"longbox/{seed}"), rows)
    all_days = [last_day - dt.timedelta(days=days - 1 - number) for number in range(days)]
    for number, day in enumerate(all_days):
        feed.land_day(day, _rows_of_day(rows, days, number), is_first=number == 0)
        if days == 1 or number % 15 == 1:
            feed.repeat_file(day)
        if number == days // 2:
            feed.empty_file(day)
        if number >= days - broken_files:
            feed.break_file(day)
    manifest = feed.manifest(seed, all_days[0], last_day, rows)
    manifest.write(out_dir)
    return manifest


def _rows_of_day(rows: int, days: int, number: int) -> int:
    if days == 1:
        return rows
    history = int(rows * HISTORY_SHARE)
    if number == 0:
        return history
    rest, later = rows - history, days - 1
    return rest * number // later - rest * (number - 1) // later


class _Feed:
    """The state of a generation: what was sold lately, what is due, what was counted."""

    def __init__(self, out_dir: Path, dice: random.Random, rows: int) -> None:
        self.out_dir, self.dice, self.market = out_dir, dice, Market(dice)
        self.files: list[FileEntry] = []
        self.counts: Counter[str] = Counter()
        self.earlier: dict[str, list[Sale]] = {place.name: [] for place in MARKETPLACES}
        self.recent: deque[Sale] = deque(maxlen=100)
        self.elsewhere: list[Sale] = []  # of the recent ones: single comics on other marketplaces
        self.number = 0
        # A fault is due when its account reaches 1; small feeds start higher so that each fault comes at least once.
        self.due = {kind: max(dice.random(), 1 - rows * rate * 0.4) for kind, rate in _RATES.items()}

    def land_day(self, day: dt.date, rows: int, *, is_first: bool) -> None:
        """Write the files of a landing day: one for each marketplace that has a row."""
        folder = self.out_dir / day.isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        remaining, share = rows, 1.0
        for place in MARKETPLACES:
            count = round(remaining * place.share / share) if share - place.share > 1e-9 else remaining
            remaining, share = remaining - count, share - place.share
            if count:
                path = folder / f"{place.name}-{day:%Y%m%d}.{place.layout.extension}"
                with open_writer(path, place.layout) as writer:
                    self._fill(writer, place, day, count, is_first=is_first)
                self._note(path, day, count)

    def repeat_file(self, day: dt.date) -> None:
        """Land the first file of the day once more under another name: the same content, nothing new."""
        original = next(
            (entry for entry in reversed(self.files) if entry.landing_day == day.isoformat()), None
        )
        if original is None:
            return
        source = self.out_dir / original.path
        name, _, extension = source.name.partition(".")
        copy = source.with_name(f"{name}-again.{extension}")
        copy.write_bytes(source.read_bytes())
        self._note(copy, day, original.rows, "repeated")

    def empty_file(self, day: dt.date) -> None:
        """Land a file without a byte."""
        path = self.out_dir / day.isoformat() / f"{MARKETPLACES[1].name}-{day:%Y%m%d}-empty.csv"
        path.write_bytes(b"")
        self._note(path, day, 0, "empty")

    def break_file(self, day: dt.date) -> None:
        """Land a gzip file that ends in the middle: it is quarantined whole and loads nothing."""
        place = MARKETPLACES[0]
        path = self.out_dir / day.isoformat() / f"{place.name}-{day:%Y%m%d}-part.csv.gz"
        with open_writer(path, place.layout) as writer:
            for _ in range(50):
                writer.row(_values(self._new_sale(place, day, is_first=False), place.layout))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        self._note(path, day, 0, "broken")

    def manifest(self, seed: int, first_day: dt.date, last_day: dt.date, rows: int) -> Manifest:
        """What was written, and what must come of it."""
        repeated_rows = sum(entry.rows for entry in self.files if entry.kind == "repeated")
        quarantined = sum(self.counts[kind] for kind in QUARANTINED)
        duplicate = sum(self.counts[kind] for kind in DUPLICATE) + repeated_rows
        superseded = sum(self.counts[kind] for kind in SUPERSEDING)
        loaded = rows + repeated_rows - quarantined - duplicate
        kinds = Counter(entry.kind for entry in self.files)
        expected = {
            "landed": rows + repeated_rows, "loaded": loaded, "duplicate": duplicate, "quarantined": quarantined,
            "versions": loaded, "superseded": superseded, "records": loaded - superseded,
            "files": len(self.files), "repeated_files": kinds["repeated"], "repeated_rows": repeated_rows,
            "empty_files": kinds["empty"], "broken_files": kinds["broken"], "lots": self.counts["lots"],
        }  # fmt: skip
        faults = {kind: self.counts[kind] for kind in _RATES}
        return Manifest(
            "comics", seed, first_day.isoformat(), last_day.isoformat(), rows, files=self.files, faults=faults,
            feeds={FEED: expected}, expected=expected,
        )  # fmt: skip

    def _note(self, path: Path, day: dt.date, rows: int, kind: str = "data") -> None:
        name = path.relative_to(self.out_dir).as_posix()
        self.files.append(FileEntry(name, day.isoformat(), FEED, rows, kind))

    def _fill(self, writer: Writer, place: Marketplace, day: dt.date, count: int, *, is_first: bool) -> None:
        landed: list[Sale] = []
        last: Sale | None = None
        self.elsewhere = [sale for sale in self.recent if sale.marketplace != place.name and not sale.is_lot]
        for written in range(count):
            kind = self._kind_due(place, last)
            if kind is not None:
                self.counts[kind] += 1
            if kind in QUARANTINED:
                self._write_fault(writer, place, day, kind)
                continue
            if kind == "repeated_in_file" and last is not None:
                sale = last
            elif kind in _NEEDS_EARLIER:
                sale = self._revisited(place, day, kind)
            else:
                sale = self._new_sale(place, day, is_first=is_first, kind=kind)
                self.counts["lots"] += sale.is_lot
                self.recent.append(sale)
                if len(landed) < REMEMBERED or self.dice.random() < REMEMBERED / (written + 1):
                    landed.append(sale)
            writer.row(_values(sale, place.layout))
            last = sale
        known = self.earlier[place.name] + landed
        self.earlier[place.name] = known if len(known) <= REMEMBERED else self.dice.sample(known, REMEMBERED)

    def _kind_due(self, place: Marketplace, last: Sale | None) -> str | None:
        chosen = None
        for kind, rate in _RATES.items():
            self.due[kind] += rate
            if chosen is None and self.due[kind] >= 1 and self._is_possible(kind, place, last):
                self.due[kind] -= 1
                chosen = kind
        return chosen

    def _is_possible(self, kind: str, place: Marketplace, last: Sale | None) -> bool:
        if kind in _NEEDS_TEXT:
            return place.layout.is_text
        if kind in _NEEDS_CSV:
            return place.layout.is_csv
        if kind in _NEEDS_EARLIER:
            return bool(self.earlier[place.name])
        if kind == "repeated_in_file":
            return last is not None
        if kind == "cross_listed":
            return bool(self.elsewhere)
        return True

    def _new_sale(self, place: Marketplace, day: dt.date, *, is_first: bool, kind: str | None = None) -> Sale:
        self.number += 1
        back_days = self.dice.randrange(1, HISTORY_DAYS) if is_first else 1
        if kind == "late":
            back_days = self.dice.randrange(35, 120)
        midnight = dt.datetime.combine(day - dt.timedelta(days=back_days), dt.time())
        sold_at = midnight + dt.timedelta(seconds=int(self.dice.random() * 86_400))
        sale = self.market.sale(place.name, self.number, sold_at, place.currencies)
        if kind == "cross_listed":
            other = self.dice.choice(self.elsewhere)
            sale = replace(
                other,
                listing_id=sale.listing_id,
                marketplace=place.name,
                title=self.market.restyle(other.title),
            )
        elif kind == "unknown_currency":
            sale.currency = "XQQ"
        elif kind == "ended_currency":
            sale.currency = "HRK"
        elif kind == "no_issue":
            sale.title, sale.condition, sale.is_lot = "Vintage comic book, see photos", "see pics", False
        return sale

    def _revisited(self, place: Marketplace, day: dt.date, kind: str | None) -> Sale:
        """A record that landed on an earlier day: once more, corrected, or in a version older than the one known."""
        self.number += 1
        known = self.earlier[place.name]
        index = int(self.dice.random() * len(known))
        sale = known[index]
        if kind == "repeated_later":
            return sale
        price = price_text(float(sale.price) * self.dice.choice((0.9, 0.95, 1.05, 1.1)) + 1, "USD")
        if sale.currency == "JPY":
            price = price.partition(".")[0]
        if kind == "older_version_late":
            # The number makes each version's time its own, so that no two versions of a record tie.
            return replace(sale, price=price, updated_at=sale.updated_at - dt.timedelta(seconds=self.number))
        landed_at = dt.datetime.combine(day, dt.time(1)) + dt.timedelta(seconds=self.number % 3600)
        updated_at = max(landed_at, sale.updated_at + dt.timedelta(hours=1))
        if kind == "corrected_month":
            corrected = replace(sale, sold_at=sale.sold_at - dt.timedelta(days=31), updated_at=updated_at)
        else:
            corrected = replace(sale, price=price, updated_at=updated_at)
        known[index] = corrected
        return corrected

    def _write_fault(self, writer: Writer, place: Marketplace, day: dt.date, kind: str) -> None:
        values = _values(self._new_sale(place, day, is_first=False), place.layout)
        if kind == "negative_price":
            values["price"] = f"-{values['price']}"
        elif kind == "zero_price":
            values["price"] = "0.00"
        elif kind == "price_not_a_number":
            values["price"] = "N/A"
        elif kind == "missing_currency":
            values["currency"] = ""
        elif kind == "impossible_date":
            values["sold_at"] = f"{day.year}-02-30T10:00:00Z"
        elif kind == "future_date":
            ahead = dt.datetime.combine(day, dt.time(12)) + dt.timedelta(days=self.dice.randrange(3, 400))
            values["sold_at"] = place.layout.time_text(ahead)
        writer.row(values, extra_field=kind == "wrong_column_count", broken_byte=kind == "invalid_utf8")


def _values(sale: Sale, layout: Layout) -> dict[str, Any]:
    """A record as the texts of its landed columns."""
    return {
        "listing_id": sale.listing_id, "marketplace": sale.marketplace, "title": sale.title,
        "condition": sale.condition,
        "price": sale.price, "currency": sale.currency, "sold_at": layout.time_text(sale.sold_at),
        "updated_at": layout.time_text(sale.updated_at), "seller": sale.seller,
        "url": f"https://{sale.marketplace}.example/item/{sale.listing_id}", "format": sale.sale_format,
        "attributes": f'{{"bids": {sale.bids}}}',
    }  # fmt: skip

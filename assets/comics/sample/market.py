"""A made-up market of comics: what is sold, where, for how much. SYNTHETIC: no price here was ever paid.

Series and famous issues bear real names so that titles look as they do; marketplaces, sellers and prices are invented.
Everything is drawn from one seeded generator. How records become files with faults is in `feed` and `files`.
"""

import bisect
import datetime as dt
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from assets.comics.sample.tables import (
    FAMOUS,
    NOISE,
    RAW_WORDS,
    SELLERS,
    SERIES,
    SHARE_OF_9_8,
    SLAB_WEIGHTS,
    SLABS,
    UNITS,
    VAGUE,
)

T = TypeVar("T")
_WORDS = tuple(RAW_WORDS)
_SLAB_WEIGHTS = tuple(itertools.accumulate(SLAB_WEIGHTS))
_GRADES = tuple(SHARE_OF_9_8)
DRIFT_FROM = dt.date(2026, 1, 1)


@dataclass(frozen=True)
class Comic:
    """One comic on sale, with the invented value of a 9.8 copy in dollars and how that drifts in a year."""

    series: str
    publisher: str
    issue: str
    year: int
    value_usd: float
    drift: float
    shout: str = ""

    def value_on(self, day: dt.date) -> float:
        """The value of a 9.8 copy on `day`."""
        return self.value_usd * math.exp(self.drift * (day - DRIFT_FROM).days / 365)


@dataclass
class Sale:
    """A record of the feed as its marketplace holds it. `updated_at` orders its versions."""

    listing_id: str
    marketplace: str
    title: str
    condition: str
    price: str
    currency: str
    sold_at: dt.datetime
    updated_at: dt.datetime
    seller: str
    sale_format: str
    bids: int
    is_lot: bool = False


class Market:
    """Draws sales from a seeded generator: few comics sell often, most seldom; prices are log-normal."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._comics = _make_comics(dice)
        # Zipf: the n-th most popular comic sells 1/n as often.
        self._weights = list(itertools.accumulate(1 / (rank + 4) for rank in range(len(self._comics))))
        self._sellers = [f"{word}{dice.randrange(10, 99)}" for word in SELLERS for _ in range(30)]

    def sale(self, marketplace: str, number: int, sold_at: dt.datetime, currencies: tuple[str, ...]) -> Sale:
        """A new sale on `marketplace`; `number` makes its listing id."""
        dice = self._dice
        comic = self._comics[bisect.bisect(self._weights, dice.random() * self._weights[-1])]
        currency = _pick(dice, currencies)
        chance = dice.random()
        is_lot = chance < 0.03
        if is_lot:
            title, condition, value = self._lot(comic, sold_at.date())
        elif chance < 0.4:
            title, condition, value = self._slab(comic, sold_at.date())
        else:
            title, condition, value = self._raw(comic, sold_at.date())
        if chance > 0.99:  # a shill bid, a typing error, a gift
            value *= _pick(dice, (0.04, 0.08, 9.0, 15.0))
        return Sale(
            f"{marketplace[:2].upper()}-{number:09d}", marketplace, title, condition,
            price_text(max(value * math.exp(dice.gauss(0, 0.17)), 0.5), currency), currency,
            sold_at, sold_at + dt.timedelta(minutes=int(dice.random() * 600) + 1),
            _pick(dice, self._sellers), _pick(dice, ("auction", "auction", "buy_it_now", "offer")),
            int(dice.random() * 40), is_lot,
        )  # fmt: skip

    def restyle(self, title: str) -> str:
        """The same title as another seller would write it; it names the same comic."""
        dice = self._dice
        changed = title.upper() if dice.random() < 0.4 else title.replace("Spider-Man", "Spiderman")
        return f"{_pick(dice, NOISE)}{changed}{_pick(dice, ('', ' MCU', ' KEY!!'))}"

    def _slab(self, comic: Comic, day: dt.date) -> tuple[str, str, float]:
        grade = self._dice.choices(_GRADES, cum_weights=_SLAB_WEIGHTS)[0]
        words = _pick(self._dice, SLABS).format(grade)
        value = comic.value_on(day) * SHARE_OF_9_8[grade]
        if self._dice.random() < 0.5:
            return f"{self._title(comic)} {words}", _pick(self._dice, ("", "Graded", words)), value
        return self._title(comic), words, value

    def _raw(self, comic: Comic, day: dt.date) -> tuple[str, str, float]:
        if self._dice.random() < 0.12:
            return self._title(comic), _pick(self._dice, VAGUE), comic.value_on(day) * 0.12
        words = _pick(self._dice, _WORDS)
        return self._title(comic), words, comic.value_on(day) * SHARE_OF_9_8[RAW_WORDS[words]] * 0.7

    def _lot(self, comic: Comic, day: dt.date) -> tuple[str, str, float]:
        size, start = self._dice.randrange(3, 25), self._dice.randrange(1, 80)
        title = _pick(
            self._dice,
            (
                f"{comic.series} #{start}-{start + size - 1}",
                f"Lot of {size} {comic.series} comics",
                f"{comic.series} complete set 1-{size}",
                f"{comic.series} bundle",
            ),
        )
        return title, "VG-FN", comic.value_on(day) * 0.03 * size + 5

    def _title(self, comic: Comic) -> str:
        dice, series = self._dice, comic.series
        mark = _pick(dice, (" #", " #", " #", " ", " No. ")) if comic.issue[0].isdigit() else " "
        if series == "52" and mark == " ":
            mark = " #"
        style = dice.random()
        if style < 0.15:
            series = series.upper()
        elif style < 0.25:
            series = series.replace("-", " ")
        elif style < 0.3:
            series = series.lower()
        elif style < 0.35:
            series = series.replace("&", "&amp;")
        title = f"{_pick(dice, NOISE)}{series}{mark}{comic.issue}"
        extra = dice.random()
        if extra < 0.3:
            title += f" ({comic.year})"
        elif extra < 0.4:
            title += f" {comic.publisher} {comic.year}"
        if comic.shout and dice.random() < 0.6:
            title += f" {comic.shout}"
        if comic.year > 1980 and dice.random() < 0.05:
            title += _pick(
                dice, (" Newsstand", " 2nd Print", " Cover B", " 1:25 Variant", ", direct edition")
            )
        return title


def price_text(value: float, currency: str) -> str:
    """A dollar value as a price in `currency`: two decimals, none in yen."""
    amount = value * UNITS.get(currency, 1.0)
    return f"{amount:.0f}" if currency == "JPY" and amount >= 1 else f"{max(amount, 0.01):.2f}"


def _pick(dice: random.Random, items: Sequence[T]) -> T:
    # A third of the time of `choice`, which is most of a generation.
    return items[int(dice.random() * len(items))]


def _make_comics(dice: random.Random) -> list[Comic]:
    """All comics on sale, the most popular first: the famous issues, then issues of every series in turn."""
    publishers = {name: (publisher, year) for name, publisher, year, _, _ in SERIES}
    comics = [
        Comic(
            series,
            publishers[series][0],
            issue,
            publishers[series][1] + 8,
            value,
            dice.gauss(0.04, 0.1),
            shout,
        )
        for series, issue, value, shout in FAMOUS
    ]
    famous = {(comic.series, comic.issue) for comic in comics}
    for _ in range(24):
        for series, publisher, year, last, value in SERIES:
            issue = str(dice.randrange(1, last + 1))
            if (series, issue) in famous:
                continue
            famous.add((series, issue))
            when = min(year + int(issue) // 12, 2024)
            comics.append(
                Comic(
                    series,
                    publisher,
                    issue,
                    when,
                    value * math.exp(dice.gauss(0, 0.6)),
                    dice.gauss(0.02, 0.08),
                )
            )
    return comics

"""The price statistics of a few comics computed again in plain Python, to hold the table against.

Shares no statement and no library with `aggregate`: decimal arithmetic and sorting. Used by the asset check and by
tests; it reports, it mends nothing.
"""

import datetime as dt
import itertools
import math
import random
import statistics
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, cast

from psycopg import sql

from assets.comics.aggregate import LEAST_SALES, QUERIES, STATISTICS
from resources.database import Connection, Database

_CENT = Decimal("0.01")
_LIMIT = 3.5
_NEAR = 1e-9  # a score this close to the limit may fall on either side: logarithms are floats

PeriodKey = tuple[uuid.UUID, str, str, dt.date]


@dataclass(frozen=True)
class Sale:
    """A normalised sale, columns as `sales_of_comics` gives them."""

    comic_id: uuid.UUID
    grade_band: str
    sale_date: dt.date
    price_usd: Decimal
    is_outlier: bool
    is_cross_listed: bool
    grade: Decimal | None
    currency: str
    price: Decimal
    sold_at: dt.datetime
    source_marketplace: str
    source_record_id: str

    @property
    def window(self) -> tuple[uuid.UUID, str, dt.date]:
        return self.comic_id, self.grade_band, self.sale_date.replace(day=1)


def recompute_sample(database: Database, count: int = 50, seed: int = 0) -> list[str]:
    """Compare flags and statistics of at most `count` comics, chosen by `seed`; mismatches in words, [] when equal.

    Reads only, under one snapshot; the cost follows the sample, not the table.
    """
    chance = random.Random(seed)
    points = [uuid.UUID(int=chance.getrandbits(128)) for _ in range(count)]
    with database.connection() as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        comics = [row[0] for row in connection.execute(QUERIES["comics_from"], {"points": points})]
        return recompute_comics(connection, cast("list[uuid.UUID]", comics))


def recompute_comics(connection: Connection, comics: Sequence[uuid.UUID]) -> list[str]:
    """`recompute_sample` for given comics."""
    chosen = {"comics": list(comics)}
    rows = connection.execute(QUERIES["sales_of_comics"], chosen).fetchall()
    sales = [Sale(*cast("tuple[Any, ...]", row)) for row in rows]
    columns = sql.SQL(", ").join(map(sql.Identifier, STATISTICS))
    kept = connection.execute(QUERIES.compose("periods_of_comics", columns=columns), chosen).fetchall()
    table = {cast(PeriodKey, row[:4]): dict(zip(STATISTICS, row[4:], strict=True)) for row in kept}
    flagged, problems = _flagged(sales)
    fresh = _periods(flagged)
    for key in sorted(table.keys() | fresh.keys()):
        if table.get(key) != fresh.get(key):
            comic, band, kind, start = key
            problems.append(
                f"{kind} {start} of comic {comic}, {band}: {_difference(table.get(key), fresh.get(key))}"
            )
    return problems


def _difference(stands: dict[str, Any] | None, fresh: dict[str, Any] | None) -> str:
    if stands is None:
        return "missing from the table"
    if fresh is None:
        return "in the table, but there is no such sale"
    parts = [
        f"{name} is {stands[name]}, should be {fresh[name]}" for name in fresh if stands[name] != fresh[name]
    ]
    return ", ".join(parts)


def _flagged(sales: Iterable[Sale]) -> tuple[list[Sale], list[str]]:
    """The sales with their flags computed anew, and where those in the table differ."""
    flagged: list[Sale] = []
    problems = []
    for window in _grouped(sales, lambda sale: sale.window).values():
        seconds = _second_listings(window)
        single = [sale for sale in window if id(sale) not in seconds]
        scores = (
            _scores([sale.price_usd for sale in single])
            if len(single) >= LEAST_SALES
            else [0.0] * len(single)
        )
        score_of = {id(sale): score for sale, score in zip(single, scores, strict=True)}
        for sale in window:
            score = score_of.get(id(sale), 0.0)
            is_outlier = sale.is_outlier if abs(score - _LIMIT) < _NEAR else score > _LIMIT
            fresh = replace(sale, is_outlier=is_outlier, is_cross_listed=id(sale) in seconds)
            if fresh != sale:
                problems.append(
                    f"sale {sale.source_marketplace}/{sale.source_record_id} is flagged outlier {sale.is_outlier}, "
                    f"second listing {sale.is_cross_listed}; should be {fresh.is_outlier}, {fresh.is_cross_listed}"
                )
            flagged.append(fresh)
    return flagged, problems


def _second_listings(window: list[Sale]) -> set[int]:
    """`id`s of sales that another marketplace reports as well and that do not stay."""
    seconds: set[int] = set()
    same = _grouped(
        window,
        lambda sale: (sale.grade, sale.currency, sale.price, sale.sold_at.replace(second=0, microsecond=0)),
    )
    for group in same.values():
        by_market = _grouped(group, lambda sale: sale.source_marketplace.encode())
        columns = [
            sorted(by_market[market], key=lambda sale: sale.source_record_id.encode())
            for market in sorted(by_market)
        ]
        for nth in itertools.zip_longest(*columns):
            seconds.update(id(sale) for sale in [sale for sale in nth if sale is not None][1:])
    return seconds


def _scores(prices: Sequence[Decimal]) -> list[float]:
    logs = [math.log(max(price, _CENT)) for price in prices]
    centre = statistics.median(logs)
    deviations = [abs(value - centre) for value in logs]
    mad = statistics.median(deviations)
    if mad > 0:
        return [0.6745 * deviation / mad for deviation in deviations]
    mean = math.fsum(deviations) / len(deviations)
    return [deviation / (1.253314 * mean) if mean > 0 else 0.0 for deviation in deviations]


def _periods(sales: Iterable[Sale]) -> dict[PeriodKey, dict[str, Any]]:
    periods: dict[PeriodKey, list[Sale]] = defaultdict(list)
    for sale in sales:
        day = sale.sale_date
        starts = {"day": day, "week": day - dt.timedelta(days=day.weekday()), "month": day.replace(day=1)}
        for kind, start in starts.items():
            periods[sale.comic_id, sale.grade_band, kind, start].append(sale)
    return {key: _statistics(group) for key, group in periods.items()}


def _statistics(sales: Sequence[Sale]) -> dict[str, Any]:
    prices = sorted(sale.price_usd for sale in sales if not (sale.is_outlier or sale.is_cross_listed))
    found: dict[str, Any] = dict.fromkeys(STATISTICS)
    found["sale_count"] = len(prices)
    found["outlier_count"] = sum(sale.is_outlier for sale in sales)
    found["cross_listed_count"] = sum(sale.is_cross_listed for sale in sales)
    found["volume_usd"] = sum(prices, Decimal(0))
    if prices:
        found["min_usd"], found["max_usd"] = prices[0], prices[-1]
        for name, share in (("p25_usd", "0.25"), ("median_usd", "0.5"), ("p75_usd", "0.75")):
            found[name] = _percentile(prices, Decimal(share))
        found["mean_usd"] = _cents(sum(prices, Decimal(0)) / len(prices))
    if len(prices) > 1:
        found["stddev_usd"] = _cents(statistics.stdev(prices))
    return found


def _percentile(ordered: Sequence[Decimal], share: Decimal) -> Decimal:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return _cents(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def _cents(value: Decimal) -> Decimal:
    return value.quantize(_CENT, rounding=ROUND_HALF_UP)


def _grouped(sales: Iterable[Sale], key: Any) -> dict[Any, list[Sale]]:
    groups: dict[Any, list[Sale]] = defaultdict(list)
    for sale in sales:
        groups[key(sale)].append(sale)
    return groups

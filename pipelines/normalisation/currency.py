"""What an amount in a currency was worth in US dollars on a day, by the ECB's reference rates.

The rate of the day, else of the last published day at most 7 days back (weekends, holidays). A rate that cannot be
had is a reason, never a guess. All arithmetic is decimal; rounding is half to even (IEEE 754, banker's rounding).
Add a redenomination or a currency's end to the tables below; loading the rates is `fx`.
https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates/
"""

import datetime as dt
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import cast

from resources.database import Connection
from resources.sql import Queries

FALLBACK_DAYS = 7
RATE_DIGITS = 18  # significant digits of a rate: one lira of 2004 in dollars still has all of them
_ARITHMETIC = Context(prec=60, rounding=ROUND_HALF_EVEN)
_RATE_CONTEXT = Context(prec=RATE_DIGITS, rounding=ROUND_HALF_EVEN)
_ONE = Decimal(1)

UNKNOWN_CURRENCY = "unknown_currency"  # no code for which the ECB ever gave a rate
NO_RATE = "no_rate"  # none published within 7 days: may come with newer rates, replay then
CURRENCY_ENDED = "currency_ended"  # the currency was replaced before that day
CURRENCY_NOT_YET = "currency_not_yet"  # the currency replaced another one after that day

Pair = tuple[str, dt.date]

# The last day on which a sale can have been made in a replaced currency. Joining the euro ends a currency with its
# last day as legal currency; the redenominated ones were legal tender beside their successors for a while.
ENDED_ON = {
    "SIT": dt.date(2006, 12, 31),
    "CYP": dt.date(2007, 12, 31),
    "MTL": dt.date(2007, 12, 31),
    "SKK": dt.date(2008, 12, 31),
    "EEK": dt.date(2010, 12, 31),
    "LVL": dt.date(2013, 12, 31),
    "LTL": dt.date(2014, 12, 31),
    "HRK": dt.date(2022, 12, 31),
    "BGN": dt.date(2025, 12, 31),
    "TRL": dt.date(2005, 12, 31),
    "ROL": dt.date(2006, 12, 31),
}


@dataclass(frozen=True)
class Redenomination:
    """From `on` one unit of `new` is `factor` units of `old`, by law."""

    old: str
    new: str
    factor: Decimal
    on: dt.date


REDENOMINATIONS = (
    Redenomination("TRL", "TRY", Decimal(1_000_000), dt.date(2005, 1, 1)),
    Redenomination("ROL", "RON", Decimal(10_000), dt.date(2005, 7, 1)),
)


@dataclass(frozen=True)
class UsdRate:
    """US dollars for one unit of a currency: `rate` as published on `rate_on`, or the reason why there is none.

    `is_provisional`: newer rates may still bring a closer day, as nothing was published on or after the sale day.
    """

    rate: Decimal | None
    rate_on: dt.date | None
    reason: str | None
    is_provisional: bool = False


@functools.lru_cache(maxsize=1024)
def canonical_currency(text: str) -> str | None:
    """The ISO 4217 code that `text` writes, None if it writes none.

    `usd` is USD, but `GBp`, `ZAc`, `ILa` are hundredths of a currency: mixed case is never taken for the code.
    """
    code = text.strip()
    is_code = len(code) == 3 and code.isascii() and code.isalpha() and (code.isupper() or code.islower())
    return code.upper() if is_code else None


def usd_amount(amount: Decimal, rate: Decimal) -> Decimal:
    """`amount` in dollars and cents, rounded half to even."""
    return _ARITHMETIC.multiply(amount, rate).quantize(Decimal("0.01"), context=_ARITHMETIC)


def usd_rates(connection: Connection, pairs: Iterable[Pair]) -> dict[Pair, UsdRate]:
    """The dollar rate for each (currency, sale date) of `pairs`, keyed by the pair as given.

    One statement over all pairs, reads only; served by the primary key of `reference.fx_rates`. Never raises for
    a strange currency: it gets its reason. USD is 1 on every day, EUR is the ECB's base.
    """
    wanted: dict[Pair, UsdRate] = {}
    candidates: list[tuple[Pair, str, Decimal]] = []
    for pair in dict.fromkeys(pairs):
        settled = _without_rates(pair)
        if settled is not None:
            wanted[pair] = settled
        else:
            code = cast(str, canonical_currency(pair[0]))
            candidates.extend((pair, quoted, factor) for quoted, factor in _quoted_as(code, pair[1]))
    wanted.update(_look_up(connection, candidates))
    return wanted


def _without_rates(pair: Pair) -> UsdRate | None:
    """What can be said about a pair before looking at the rates."""
    code, sale_date = canonical_currency(pair[0]), pair[1]
    if code is None:
        return UsdRate(None, None, UNKNOWN_CURRENCY)
    if code == "USD":
        return UsdRate(_ONE, sale_date, None)
    if code in ENDED_ON and sale_date > ENDED_ON[code]:
        return UsdRate(None, None, CURRENCY_ENDED)
    if any(code == change.new and sale_date < change.on for change in REDENOMINATIONS):
        return UsdRate(None, None, CURRENCY_NOT_YET)
    return None


def _quoted_as(code: str, sale_date: dt.date) -> Iterator[tuple[str, Decimal]]:
    """Under which codes the ECB may have quoted `code` near `sale_date`, and how many units of each it is."""
    yield code, _ONE
    for change in REDENOMINATIONS:
        if code == change.old and sale_date >= change.on:
            yield change.new, _ONE / change.factor
        if code == change.new and sale_date < change.on + dt.timedelta(days=FALLBACK_DAYS):
            yield change.old, change.factor


def _look_up(connection: Connection, candidates: list[tuple[Pair, str, Decimal]]) -> dict[Pair, UsdRate]:
    if not candidates:
        return {}
    rows = connection.execute(
        Queries.of(__package__)["convert_to_usd"],
        {
            "currencies": [quoted for _, quoted, _ in candidates],
            "sale_dates": [pair[1] for pair, _, _ in candidates],
            "fallback_days": FALLBACK_DAYS,
        },
    ).fetchall()
    found: dict[Pair, UsdRate] = {}
    for (pair, _, factor), row in zip(candidates, cast("list[_Quote]", rows), strict=True):
        best, rate = found.get(pair), _usd_rate(pair[1], factor, row)
        if best is None or (rate.rate_on or dt.date.min) > (best.rate_on or dt.date.min):
            found[pair] = rate
    return found


_Quote = tuple[int, dt.date | None, Decimal | None, Decimal | None, bool, dt.date | None]


def _usd_rate(sale_date: dt.date, factor: Decimal, quote: _Quote) -> UsdRate:
    _, rate_on, usd_per_eur, units_per_eur, is_known, newest_on = quote
    if rate_on is None or usd_per_eur is None or units_per_eur is None:
        # Before the first load of rates no code is known: that is a missing rate, not a strange currency.
        return UsdRate(None, None, NO_RATE if is_known or newest_on is None else UNKNOWN_CURRENCY)
    # One rounding: the factor is applied to the exact dividend, the quotient is rounded once.
    rate = _RATE_CONTEXT.divide(_ARITHMETIC.multiply(usd_per_eur, factor), units_per_eur)
    is_provisional = rate_on < sale_date and (newest_on is None or newest_on < sale_date)
    return UsdRate(Decimal(f"{rate.normalize():f}"), rate_on, None, is_provisional)

"""A SYNTHETIC day of trades and candles over three landing days: random walks, with the faults of real feeds.

Planted: duplicates, corrections of price and time, late and bad rows, minutes without a candle, of which some come late.
"""

import datetime as dt
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

from assets.sample_files import DUPLICATE, LOADED, QUARANTINED, FeedSample, iso, write_sample

LAST_DAY = dt.date(2026, 10, 30)
VENUE = "northex"
SYMBOLS = {"BTC-USD": Decimal("64000"), "ETH-USD": Decimal("2500")}
TRADES_A_DAY = 450  # of each symbol
MINUTES_A_DAY = 480  # of candles in each landing day's file
_MISSING = {"BTC-USD": range(130, 145), "ETH-USD": range(540, 541)}
_LATE = {"BTC-USD": range(700, 730)}
_BAD_CANDLE = ("ETH-USD", 1000)
_MINUTE = dt.timedelta(minutes=1)
_BAD_TRADES = (
    {"price": "-1"}, {"price": "NaN"}, {"quantity": "0"}, {"quantity": ""}, {"side": "hold"}, {"symbol": "btc usd"},
    {"executed_at": "2026-02-30T00:00:00Z"}, {"trade_id": ""},
)  # fmt: skip


def generate(out: Path, seed: int = 1, last_day: dt.date = LAST_DAY) -> dict[str, Any]:
    """Write the sample into `out`: `<feed>/<landing day>/<file>` and manifest.json, whose content it returns."""
    days = [last_day - dt.timedelta(days=back) for back in (2, 1, 0)]
    chance = random.Random(seed)
    gaps: list[dict[str, Any]] = []
    feeds = [_trades(days, chance), _candles(days, chance, gaps)]
    return write_sample(out, feeds, seed, {"gaps": gaps})


def _trades(days: list[dt.date], chance: random.Random) -> FeedSample:
    columns = ("venue", "trade_id", "symbol", "side", "price", "quantity", "executed_at", "updated_at")
    sample = FeedSample("trades", columns)
    number = 10_000
    for place, day in enumerate(days):
        opened = dt.datetime.combine(day - dt.timedelta(days=1), dt.time(), dt.UTC)
        for symbol, price in SYMBOLS.items():
            for _ in range(TRADES_A_DAY):
                number += 1
                price = _step(price, chance)
                # Whole seconds of eight hours: some trades share one, and their number puts them in order.
                moment = opened + dt.timedelta(seconds=chance.randrange(8 * 3600))
                row = _trade(number, symbol, price, moment, chance)
                lands = days[-1] if place < len(days) - 1 and chance.random() < 0.02 else day
                sample.add(lands, row, planted="late" if lands != day else None)
                _follow(sample, row, lands, days, moment, chance)
        for fault in _BAD_TRADES:
            number += 1
            row = _trade(number, "BTC-USD", Decimal("64000"), opened, chance)
            sample.add(day, {**row, **fault}, QUARANTINED)
    return sample


def _follow(
    sample: FeedSample, row: dict[str, Any], day: dt.date, days: list[dt.date], moment: dt.datetime,
    chance: random.Random,
) -> None:  # fmt: skip
    """Now and then land a row again as it is, or corrected, on its own or a later day."""
    again = chance.choice([each for each in days if each >= day])
    drawn = chance.random()
    if drawn < 0.03:
        sample.add(again, row, DUPLICATE)
    elif drawn < 0.05:
        shift = chance.choice([0, 90, 7200])
        corrected = {
            "price": f"{Decimal(row['price']) * Decimal('1.001'):.2f}",
            "executed_at": iso(moment + dt.timedelta(seconds=shift)),
            "updated_at": iso(moment + dt.timedelta(hours=12)),
        }
        sample.add(again, {**row, **corrected}, LOADED, planted="correction")


def _trade(
    number: int, symbol: str, price: Decimal, moment: dt.datetime, chance: random.Random
) -> dict[str, Any]:
    return {
        "venue": VENUE, "trade_id": number, "symbol": symbol, "side": chance.choice(("buy", "sell")),
        "price": f"{price:.2f}", "quantity": f"{chance.randint(1, 200_000) / 100_000:.5f}",
        "executed_at": iso(moment), "updated_at": iso(moment),
    }  # fmt: skip


def _candles(days: list[dt.date], chance: random.Random, gaps: list[dict[str, Any]]) -> FeedSample:
    sample = FeedSample("candles", (), ".jsonl")
    start = dt.datetime.combine(days[0] - dt.timedelta(days=1), dt.time(), dt.UTC)
    for symbol, price in SYMBOLS.items():
        for minute in range(MINUTES_A_DAY * len(days)):
            opened_at = start + minute * _MINUTE
            opened, price = price, _step(price, chance)
            row = _candle(symbol, opened_at, opened, price, chance)
            day = days[minute // MINUTES_A_DAY]
            if minute in _MISSING.get(symbol, ()):
                continue
            if (symbol, minute) == _BAD_CANDLE:
                sample.add(day, {**row, "low": "-1"}, QUARANTINED)
            elif minute in _LATE.get(symbol, ()):
                sample.add(days[-1], row, planted="late")
            else:
                sample.add(day, row)
            if (
                chance.random() < 0.01
                and minute not in _LATE.get(symbol, ())
                and (symbol, minute) != _BAD_CANDLE
            ):
                sample.add(days[-1], row, DUPLICATE)
    missing = [(symbol, span.start, len(span)) for symbol, span in _MISSING.items()]
    for symbol, first, count in sorted([*missing, (*_BAD_CANDLE, 1)]):
        ends = iso(start + (first + count) * _MINUTE)
        gaps.append({"venue": VENUE, "symbol": symbol, "gap_from": iso(start + first * _MINUTE), "gap_to": ends,
                     "missing_count": count})  # fmt: skip
    return sample


def _candle(
    symbol: str, opened_at: dt.datetime, opened: Decimal, closed: Decimal, chance: random.Random
) -> dict[str, Any]:
    low, high = min(opened, closed), max(opened, closed)
    return {
        "venue": VENUE, "symbol": symbol, "opened_at": iso(opened_at), "updated_at": iso(opened_at + _MINUTE),
        "open": f"{opened:.2f}", "high": f"{high * Decimal('1.0002'):.2f}", "low": f"{low * Decimal('0.9998'):.2f}",
        "close": f"{closed:.2f}", "volume": f"{chance.randint(0, 900_000) / 100_000:.5f}",
        "trade_count": chance.randint(0, 60),
    }  # fmt: skip


def _step(price: Decimal, chance: random.Random) -> Decimal:
    return max(Decimal("0.01"), (price * Decimal(1 + chance.gauss(0, 0.0004))).quantize(Decimal("0.01")))

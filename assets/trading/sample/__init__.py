"""SYNTHETIC trades and candles: random walks of two symbols, with the faults of real feeds in known numbers.

Planted: duplicates, corrections of price and time, late and bad rows, minutes without a candle, some of them late.
"""

import datetime as dt
import random
from decimal import Decimal
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

VENUE = "northex"
SYMBOLS = {"BTC-USD": Decimal("64000"), "ETH-USD": Decimal("2500")}
# Places in the series of candles, in thousandths of it, and how many minutes.
_MISSING = {"BTC-USD": (90, 15), "ETH-USD": (375, 1)}
_LATE = {"BTC-USD": (486, 30)}
_BAD_CANDLE = {"ETH-USD": (694, 1)}
_MINUTE = dt.timedelta(minutes=1)
_MINUTES_A_DAY = 1_440
_BAD_TRADES = (
    {"price": "-1"}, {"price": "NaN"}, {"quantity": "0"}, {"quantity": ""}, {"side": "hold"}, {"symbol": "btc usd"},
    {"executed_at": "2026-02-30T00:00:00Z"}, {"trade_id": ""},
)  # fmt: skip


def generate(
    out_dir: Path, rows: int, days: int, last_day: dt.date, seed: int, broken_files: int = 0
) -> Manifest:
    """Write about `rows` rows, half trades and half candles, and manifest.json, which also lists the gaps.

    A day has 1,440 candles of a symbol at most: what is beyond them are trades.
    """
    landing = days_until(last_day, days)
    chance = random.Random(seed)
    each = max(1, round(rows / (2 * days * len(SYMBOLS))))
    candles = min(each, _MINUTES_A_DAY)
    manifest = Manifest("trading", seed, landing[0].isoformat(), last_day.isoformat(), rows)
    trades = _trades(landing, 2 * each - candles, chance)
    feeds = [trades, _candles(landing, candles, chance, manifest.gaps)]
    return write_laid_out(manifest, feeds, out_dir, broken_files)


def _trades(days: list[dt.date], each: int, chance: random.Random) -> LaidOutFeed:
    columns = ("venue", "trade_id", "symbol", "side", "price", "quantity", "executed_at", "updated_at")
    sample = LaidOutFeed("trades", columns, ".csv.gz")
    number = 10_000
    for place, day in enumerate(days):
        opened = dt.datetime.combine(day - dt.timedelta(days=1), dt.time(), dt.UTC)
        for symbol, price in SYMBOLS.items():
            for _ in range(each):
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
    sample: LaidOutFeed, row: dict[str, Any], day: dt.date, days: list[dt.date], moment: dt.datetime,
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


def _candles(
    days: list[dt.date], each: int, chance: random.Random, gaps: list[dict[str, object]]
) -> LaidOutFeed:
    columns = (
        "venue",
        "symbol",
        "opened_at",
        "updated_at",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "trade_count",
    )
    sample = LaidOutFeed("candles", columns, ".jsonl")
    start = dt.datetime.combine(days[0] - dt.timedelta(days=1), dt.time(), dt.UTC)
    for symbol, price in SYMBOLS.items():
        count = each * len(days)
        missing, late, bad = (_span(plan.get(symbol), count) for plan in (_MISSING, _LATE, _BAD_CANDLE))
        for minute in range(count):
            opened, price = price, _step(price, chance)
            row = _candle(symbol, start + minute * _MINUTE, opened, price, chance)
            day = days[minute // each]
            if minute in bad:
                sample.add(day, {**row, "low": "-1"}, QUARANTINED)
            elif minute in late:
                sample.add(days[-1], row, planted="late")
            elif minute not in missing:
                sample.add(day, row)
                if chance.random() < 0.01:
                    sample.add(days[-1], row, DUPLICATE)
        spans = sorted((missing, bad), key=lambda span: span.start)
        gaps += [_gap(symbol, start, span) for span in spans if span]
    return sample


def _gap(symbol: str, start: dt.datetime, span: range) -> dict[str, object]:
    gap_from, gap_to = (iso(start + minute * _MINUTE) for minute in (span.start, span.stop))
    return {
        "venue": VENUE, "symbol": symbol, "gap_from": gap_from, "gap_to": gap_to, "missing_count": len(span),
    }  # fmt: skip


def _span(place: tuple[int, int] | None, count: int) -> range:
    """The minutes of a planted fault in a series of `count`; none in a series too short to hold all of them."""
    if place is None or count < 1000:
        return range(0)
    first = place[0] * count // 1000
    return range(first, first + place[1])


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

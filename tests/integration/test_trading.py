"""Trading from landed files to bars and gaps: what the sample planted is what the tables hold, in any order of days."""

import datetime as dt
import itertools
import json

import numpy as np
import pandas as pd
import psycopg
import pytest

from assets.trading.sample import generate
from tests.daily_runs import Daily, checks, steps
from tests.systems import Stages, feed_counts, land_sample

BARS = {"ohlcv_1m": "1min", "ohlcv_5m": "5min", "ohlcv_1h": "1h", "ohlcv_1d": "1D"}
MEASURES = ["open", "high", "low", "close", "volume", "notional", "vwap", "trades"]

DAYS = ("2026-10-28", "2026-10-29", "2026-10-30")
COUNTED = ("landed", "loaded", "duplicate", "quarantined", "records")


@pytest.fixture
def trading(settings):
    stages = Stages.of("trading", settings)
    yield stages
    stages.close()


@pytest.fixture
def sample(trading, tmp_path):
    manifest = generate(tmp_path / "sample", 5600, 3, dt.date(2026, 10, 30), 1)
    land_sample(trading.store, "trading", tmp_path / "sample")
    return manifest


def gaps(trading):
    found = trading.rows(
        "SELECT venue, symbol, to_char(gap_from AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), "
        "to_char(gap_to AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), missing_count "
        "FROM trading.market_data_gaps ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in found]


def planted(manifest):
    return [
        (g["venue"], g["symbol"], g["gap_from"][:16].replace("T", " "), g["gap_to"][:16].replace("T", " "),
         g["missing_count"])
        for g in manifest.gaps
    ]  # fmt: skip


def expected_bars(trading, length):
    rows = trading.rows(
        "SELECT symbol, executed_at, venue, trade_id, price::float8, quantity::float8 FROM trading.trades t "
        "JOIN longbox.record_keys k USING (key_hash, content_hash) WHERE k.is_current"
    )
    trades = pd.DataFrame(rows, columns=["symbol", "executed_at", "venue", "trade_id", "price", "quantity"])
    trades = trades.sort_values(["executed_at", "venue", "trade_id"])
    trades["executed_at"] = pd.to_datetime(trades["executed_at"], utc=True)
    trades["notional"] = trades["price"] * trades["quantity"]
    bars = trades.groupby(["symbol", trades["executed_at"].dt.floor(length)]).agg(
        open=("price", "first"), high=("price", "max"), low=("price", "min"), close=("price", "last"),
        volume=("quantity", "sum"), notional=("notional", "sum"), trades=("price", "size"),
    )  # fmt: skip
    bars["vwap"] = bars["notional"] / bars["volume"]
    return bars[MEASURES]


def assert_bars_equal_pandas(trading):
    for table, length in BARS.items():
        fresh = expected_bars(trading, length)
        time = "opened_on" if table == "ohlcv_1d" else "opened_at"
        columns = ", ".join(f"{name}::float8" for name in MEASURES)
        rows = trading.rows(f"SELECT symbol, {time}, {columns} FROM trading.{table}")
        stands = pd.DataFrame(rows, columns=["symbol", "executed_at", *MEASURES])
        stands["executed_at"] = pd.to_datetime(stands["executed_at"], utc=True)
        stands = stands.set_index(["symbol", "executed_at"]).sort_index()
        assert len(stands) == len(fresh)
        np.testing.assert_allclose(
            stands.to_numpy(float), fresh.reindex(stands.index).to_numpy(float), rtol=1e-9
        )


def test_a_daily_run_makes_of_the_sample_what_its_manifest_says(settings, trading, sample, tmp_path):
    daily = Daily.on(settings, tmp_path)
    assets = [f"trading/{name}" for name in ("trades", "market_data", *BARS, "market_data_gaps")]
    try:
        run = daily.run(DAYS[0], DAYS[-1], assets=assets)
        assert run.success
        assert set(steps(run).values()) == {"success"}
        for feed, expected in sample.feeds.items():
            assert feed_counts(trading, feed) == {name: expected[name] for name in COUNTED}
        assert gaps(trading) == planted(sample)
        assert_bars_equal_pandas(trading)
        told = checks(run)
        assert (
            told.pop("trading/market_data_gaps:series_complete") is False
        )  # a warning: nothing waits for it
        assert set(told.values()) == {True}
        first = trading.digest()
        assert daily.run(DAYS[0], DAYS[-1], assets=assets).success
        assert trading.digest() == first
        trading.rows("UPDATE trading.ohlcv_1d SET trades = trades + 1 RETURNING 1")
        damaged = daily.run(DAYS[-1], assets=["trading/ohlcv_1d"])
        assert checks(damaged) == {"trading/ohlcv_1d:equals_recomputation": False}
        assert daily.run(DAYS[0], DAYS[-1], assets=["trading/ohlcv_1d"]).success
        assert trading.digest() == first
    finally:
        daily.close()


def test_bars_and_gaps_are_the_same_in_any_order_of_days(trading, sample):
    digests = []
    trading.load(*DAYS)
    for order in itertools.permutations(DAYS):
        trading.empty_computed()
        for day in order:
            trading.compute(day)
        digests.append(trading.digest())
    assert all(digest == digests[0] for digest in digests)
    assert_bars_equal_pandas(trading)
    assert gaps(trading) == planted(sample)
    assert trading.compute(*DAYS) == 0
    assert all(job.recompute_sample(40) == [] for job in trading.aggregates())


def test_bars_do_not_depend_on_the_order_in_which_days_are_loaded(trading, sample):
    for day in reversed(DAYS):
        trading.load(day)
        trading.compute(day)
        assert_bars_equal_pandas(trading)


def test_a_gap_is_open_until_its_minutes_land(trading, sample):
    for day in DAYS[:2]:
        trading.load(day)
        trading.compute(day)
    late = ("northex", "BTC-USD", "2026-10-27 11:20", "2026-10-27 11:50", 30)
    assert late in gaps(trading)
    trading.load(DAYS[2])
    trading.compute(DAYS[2])
    assert gaps(trading) == planted(sample)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE trading.trades SET price = 'NaN'", "trade_price_is_positive"),
        ("UPDATE trading.trades SET quantity = 0", "trade_quantity_is_positive"),
        ("UPDATE trading.trades SET side = 'hold'", "trade_has_a_side"),
        ("UPDATE trading.market_data SET low = -1", "candle_prices_are_positive"),
        ("UPDATE trading.market_data SET volume = -1", "candle_volume_is_not_negative"),
    ],
)
def test_the_tables_refuse_what_makes_no_sense(trading, sample, statement, constraint):
    trading.load(DAYS[0])
    with (
        pytest.raises(psycopg.errors.CheckViolation, match=constraint),
        trading.owner.connection() as connection,
    ):
        connection.execute(statement)


def test_portfolio_snapshots_keep_their_own_times(trading):
    with trading.owner.connection() as connection:
        row = connection.execute(
            "INSERT INTO trading.portfolio_snapshots (taken_at, portfolio_id, account_id, cash_value, total_value, "
            "currency) "
            "VALUES (now(), gen_random_uuid(), gen_random_uuid(), 10, 20, 'USD') RETURNING created_at"
        ).fetchone()
        connection.commit()
        changed = connection.execute(
            "UPDATE trading.portfolio_snapshots SET total_value = 21, created_at = '2000-01-01' "
            "RETURNING created_at, updated_at > created_at"
        ).fetchone()
    assert changed == (row[0], True)


def test_a_large_sample_has_no_candle_of_a_day_to_come(tmp_path):
    day = dt.date(2026, 10, 30)
    manifest = generate(tmp_path, 16_000, 2, day, 1)
    opened = [
        dt.datetime.fromisoformat(json.loads(line)["opened_at"])
        for file in (tmp_path / "candles").rglob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert min(opened).date() == day - dt.timedelta(days=2)
    assert max(opened) < dt.datetime.combine(day, dt.time(), dt.UTC)
    assert 15_000 < sum(feed["landed"] for feed in manifest.feeds.values()) < 18_000

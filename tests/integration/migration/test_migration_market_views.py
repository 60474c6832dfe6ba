"""The comics market views against the same figures computed in Python from the same aggregates."""

import datetime
import math
import random
import statistics
import uuid
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest

from pipelines.migration import migrate
from tests.integration.migration_support import ASSETS, execute, new_database, value

AS_OF = datetime.date(2026, 11, 20)
VIEWS = ("market_prices", "collection_values", "trending_comics", "market_insights")
Sales = dict[tuple[uuid.UUID, str], list[tuple[datetime.date, Decimal]]]


def random_sales(seed: int) -> Sales:
    """Sales of 30 comics in two bands; some sold daily, some last sold months or years ago."""
    chance = random.Random(seed)
    found: Sales = defaultdict(list)
    for number in range(30):
        comic = uuid.UUID(int=number + 1)
        oldest, newest = chance.choice([(0, 120), (20, 200), (95, 400), (300, 700), (800, 900)])
        for band in ("9.8-10", "ungraded"):
            for _ in range(chance.randint(1, 40)):
                day = AS_OF - datetime.timedelta(days=chance.randint(oldest, newest))
                found[comic, band].append((day, Decimal(chance.randint(100, 99999)) / 100))
    found[uuid.UUID(int=1), "9.8-10"].append((AS_OF, Decimal("12.34")))
    return found


@pytest.fixture(scope="module")
def sales() -> Sales:
    return random_sales(seed=7)


@pytest.fixture(scope="module")
def url(postgres_admin_url: str, sales: Sales) -> Iterator[str]:
    with new_database(postgres_admin_url) as url:
        migrate(url, [ASSETS / "comics"])
        with psycopg.connect(url) as connection:
            connection.execute("SET ROLE longbox_app")
            write(connection, sales)
            for view in VIEWS:
                connection.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY comics.{view}".encode())
        yield url


def write(connection: psycopg.Connection, sales: Sales) -> None:
    series = uuid.UUID(int=10**6)
    connection.execute(
        "INSERT INTO comics.series (series_id, series_key, name) VALUES (%s, 's', 'S')", [series]
    )
    for comic in {comic for comic, _ in sales}:
        connection.execute(
            "INSERT INTO comics.comics (comic_id, series_id, comic_key, issue_number, title) "
            "VALUES (%s, %s, %s, %s, %s)",
            [comic, series, str(comic), str(comic.int), f"S #{comic.int}"],
        )
    for (comic, band), all_of_pair in sales.items():
        for period in ("day", "month"):
            groups: dict[datetime.date, list[Decimal]] = defaultdict(list)
            for day, price in all_of_pair:
                groups[day if period == "day" else day.replace(day=1)].append(price)
            for start, prices in groups.items():
                connection.execute(
                    "INSERT INTO comics.pricing_data_aggregated (comic_id, grade_band, period_type, period_start, "
                    "sale_count, volume_usd, min_usd, median_usd, max_usd) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        comic,
                        band,
                        period,
                        start,
                        len(prices),
                        sum(prices),
                        min(prices),
                        statistics.median(prices),
                        max(prices),
                    ],
                )


def weighted_median(days: list[tuple[datetime.date, Decimal]]) -> Decimal | None:
    """The median of each day, as often as the day has sales; then the median of all of these."""
    by_day: dict[datetime.date, list[Decimal]] = defaultdict(list)
    for day, price in days:
        by_day[day].append(price)
    values = [statistics.median(prices) for prices in by_day.values() for _ in prices]
    return statistics.median(values) if values else None


def within(
    pair: list[tuple[datetime.date, Decimal]], first: int, last: int
) -> list[tuple[datetime.date, Decimal]]:
    return [(day, price) for day, price in pair if first <= (AS_OF - day).days < last]


def test_current_prices_are_the_medians_of_their_spans(url: str, sales: Sales) -> None:
    rows = execute(
        url,
        "SELECT comic_id, grade_band, current_price_usd, price_basis, sale_count_30d, sale_count_90d, last_sale_on, "
        "change_30d_ratio, as_of FROM comics.market_prices",
    )
    found = {(row[0], row[1]): row[2:] for row in rows}
    bases = set()
    for pair, all_of_pair in sales.items():
        short, middle = (
            weighted_median(within(all_of_pair, 0, 30)),
            weighted_median(within(all_of_pair, 0, 90)),
        )
        before = weighted_median(within(all_of_pair, 30, 60))
        newest = max(day for day, _ in all_of_pair)
        month = [(day, price) for day, price in all_of_pair if day.replace(day=1) == newest.replace(day=1)]
        if middle is None and newest.replace(day=1) <= datetime.date(2024, 11, 20):
            assert pair not in found
            continue
        price, basis, count_30d, count_90d, last_sale_on, change, as_of = found.pop(pair)
        expected = short or middle or statistics.median([price for _, price in month])
        assert abs(price - expected) <= Decimal("0.005")
        assert basis == ("30 days" if short else "90 days" if middle else "month")
        assert (count_30d, count_90d) == (len(within(all_of_pair, 0, 30)), len(within(all_of_pair, 0, 90)))
        assert (last_sale_on, as_of) == (newest, AS_OF)
        assert (change is None) == (short is None or before is None)
        if change is not None:
            assert short is not None
            assert before is not None
            assert abs(change - (short / before - 1)) <= Decimal("0.00005")
        bases.add(basis)
    assert found == {}
    assert bases == {"30 days", "90 days", "month"}


def test_trends_rank_by_growth_of_the_last_week(url: str, sales: Sales) -> None:
    weeks: dict[uuid.UUID, list[int]] = defaultdict(lambda: [0, 0])
    for (comic, _), pair in sales.items():
        weeks[comic][0] += len(within(pair, 0, 7))
        weeks[comic][1] += len(within(pair, 7, 35))
    scores = {
        c: (now + 1) / (before / 4 + 1) * math.log(1 + now) for c, (now, before) in weeks.items() if now
    }
    rows = execute(url, "SELECT comic_id, rank, trend_score FROM comics.trending_comics ORDER BY rank")
    assert [rank for _, rank, _ in rows] == list(range(1, len(scores) + 1))
    assert {comic: pytest.approx(float(score), abs=1e-3) for comic, _, score in rows} == scores  # type: ignore[arg-type]


def test_insights_list_gainers_losers_and_volume(url: str) -> None:
    rows = execute(
        url,
        "SELECT insight, array_agg(value ORDER BY rank), count(*) = max(rank) FROM comics.market_insights GROUP BY 1",
    )
    insights = {name: values for name, values, _ in rows}
    assert {"gainer", "loser", "volume"} <= set(insights)
    assert insights["gainer"] == sorted(insights["gainer"], reverse=True)  # type: ignore[call-overload]
    assert insights["loser"] == sorted(insights["loser"])  # type: ignore[call-overload]
    assert all(is_dense for _, _, is_dense in rows)


def test_refreshing_again_changes_no_row(url: str) -> None:
    def rows() -> list[object]:
        return [execute(url, f"SELECT * FROM comics.{view} AS v ORDER BY v") for view in VIEWS]

    before = rows()
    for view in VIEWS:
        execute(url, f"REFRESH MATERIALIZED VIEW comics.{view}", role="longbox_app")
    assert rows() == before


def test_collections_are_worth_what_their_copies_sell_for(url: str) -> None:
    comic, band, price = execute(
        url, "SELECT comic_id, grade_band, current_price_usd FROM comics.market_prices "
        "WHERE grade_band = '9.8-10' LIMIT 1",
    )[0]  # fmt: skip
    user = value(
        url, "INSERT INTO comics.users (email, display_name) VALUES ('c@d.e', 'C') RETURNING user_id"
    )
    box = value(
        url, "INSERT INTO comics.collections (user_id, name) VALUES (%s, 'Box') RETURNING collection_id", user
    )
    item = (
        "INSERT INTO comics.collection_items (collection_id, comic_id, grade, quantity, price_paid) "
        "VALUES (%s, %s, %s, %s, %s)"
    )
    execute(url, item, box, comic, 9.8, 2, 1)
    execute(url, item, box, comic, 5.0, 1, 1)  # nobody sells that grade
    execute(url, "INSERT INTO comics.collections (user_id, name) VALUES (%s, 'Empty')", user)
    execute(url, "REFRESH MATERIALIZED VIEW CONCURRENTLY comics.collection_values")
    assert band == "9.8-10"
    rows = execute(
        url, "SELECT item_count, copy_count, valued_copy_count, value_usd, paid_usd, gain_usd "
        "FROM comics.collection_values ORDER BY item_count DESC"
    )  # fmt: skip
    assert rows == [(2, 3, 2, 2 * price, 2, 2 * price - 2), (0, 0, 0, 0, 0, 0)]  # type: ignore[operator]


def test_sell_through_counts_what_was_sold_of_what_was_offered(url: str) -> None:
    comic = value(url, "SELECT comic_id FROM comics.comics ORDER BY comic_id LIMIT 1")
    seller, buyer = (
        value(url, "INSERT INTO comics.users (email, display_name) VALUES (%s, 'S') RETURNING user_id", email)
        for email in ("seller@d.e", "buyer@d.e")
    )
    offer = (
        "INSERT INTO comics.marketplace_listings "
        "(seller_id, comic_id, listed_at, closed_at, status, asking_price, title) "
        "VALUES (%s, %s, %s, %s, %s, 10, 'T') RETURNING listing_id"
    )
    sold = value(url, offer, seller, comic, "2026-11-01", "2026-11-10", "sold")
    value(url, offer, seller, comic, "2026-10-01", None, "active")
    value(url, offer, seller, comic, "2026-10-01", "2026-11-01", "withdrawn")
    value(url, offer, seller, comic, "2026-11-19", "2026-11-25", "sold")  # sold after the newest day
    value(url, offer, seller, comic, "2025-01-01", "2025-02-01", "sold")  # closed too long ago
    execute(
        url,
        "INSERT INTO comics.marketplace_transactions (listing_id, buyer_id, seller_id, comic_id, sold_at, "
        "completed_at, unit_price, fee_amount, status) "
        "VALUES (%s, %s, %s, %s, '2026-11-10', '2026-11-10', 10, 1, 'completed')",
        sold, buyer, seller, comic,
    )  # fmt: skip
    execute(url, "REFRESH MATERIALIZED VIEW CONCURRENTLY comics.market_insights")
    rows = execute(
        url,
        "SELECT insight, label, value, sale_count FROM comics.market_insights "
        "WHERE insight ~ 'sell|revenue' ORDER BY 1",
    )
    assert rows == [
        ("marketplace_revenue", None, Decimal("1.00"), 1),
        ("sell_through", "S", Decimal("0.2500"), 1),
        ("sell_through_overall", None, Decimal("0.2500"), 1),
    ]


@pytest.mark.parametrize("view", ["market_prices", "trending_comics"])
def test_a_long_history_is_not_read_for_the_days_of_a_view(url: str, view: str):
    with psycopg.connect(url) as connection:  # ends in a rollback
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "INSERT INTO comics.pricing_data_aggregated (comic_id, grade_band, period_type, period_start, sale_count, "
            "  volume_usd, min_usd, median_usd, max_usd) "
            "SELECT md5(comic::text)::uuid, 'ungraded', 'day', %s::date - 400 - day, 1, 1, 1, 1, 1 "
            "FROM generate_series(1, 20) AS comic, generate_series(1, 1500) AS day",
            [AS_OF],
        )
        connection.execute("ANALYZE comics.pricing_data_aggregated")
        [query] = connection.execute(
            "SELECT pg_get_viewdef(%s::regclass)", [f"comics.{view}"]
        ).fetchone() or [""]
        plan = [line for (line,) in connection.execute(f"EXPLAIN {query}".encode())]
        connection.rollback()
    assert any("Index Cond: (period_start = (as_of.day - " in line for line in plan), plan
    assert not [line for line in plan if "Seq Scan on pricing_data_aggregated" in line], plan

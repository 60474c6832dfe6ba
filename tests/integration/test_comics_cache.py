"""Warming the cache from real prices on real servers, and reading prices with and without it."""

import uuid

import pytest
import redis

from assets.comics.aggregate import refresh_views
from assets.comics.normalise import comic_id_of
from assets.comics.warm import current_price, top_list, warm_cache
from resources.cache import Cache
from resources.errors import CacheUnavailableError
from tests.comics_market import open_market, sale

SPIDER = comic_id_of("Amazing Spider-Man 300")


@pytest.fixture
def market(database_url, object_store_url):
    opened = open_market(database_url, object_store_url)
    sales = [sale("Amazing Spider-Man #300 CGC 9.8", price) for price in ("90", "100", "110")]
    opened.land("2026-10-06", *sales, *(sale(f"X-Men #{number}", "5") for number in range(1, 31)))
    opened.run("2026-10-06")
    refresh_views(opened.database)
    yield opened
    opened.close()


@pytest.fixture
def cache(redis_url):
    opened = Cache(redis_url)
    yield opened
    opened.close()


@pytest.fixture
def no_cache():
    opened = Cache("redis://127.0.0.1:1/0", timeout_seconds=0.2)
    yield opened
    opened.close()


def test_prices_lists_and_insights_are_written_with_their_ttls(market, cache, redis_url):
    result = warm_cache(cache, market.database, market.system)
    assert result.counts == {"current_price": 31, "top_lists": 2, "market_insights": 1}
    assert result.keys == 34
    with redis.Redis.from_url(redis_url) as client:
        ttls = {
            key: client.ttl(f"longbox:comics:{key}")
            for key in (f"current_price:{SPIDER}", "top_lists:trending", "market_insights:all")
        }
        large = client.get("longbox:comics:top_lists:trending")
    assert [
        890 < ttls[f"current_price:{SPIDER}"] <= 900,
        1790 < ttls["top_lists:trending"] <= 1800,
        590 < ttls["market_insights:all"] <= 600,
    ] == [True] * 3
    assert large[:1] == b"\x01"
    assert len(large) < 2000


def test_the_number_of_comics_is_bounded_and_the_most_traded_come_first(market, cache, redis_url):
    assert warm_cache(cache, market.database, market.system, limit=1).counts["current_price"] == 1
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("longbox:comics:current_price:*") == [
            f"longbox:comics:current_price:{SPIDER}".encode()
        ]


def test_a_price_reads_the_same_from_the_cache_from_the_database_and_without_a_cache(market, cache, no_cache):
    cold = current_price(cache, market.database, market.system, SPIDER)
    warm = current_price(cache, market.database, market.system, SPIDER)
    without = current_price(no_cache, market.database, market.system, SPIDER)
    assert cold == warm == without
    assert cold["title"] == "Amazing Spider-Man #300"
    assert cold["bands"]["9.8-10"]["current_price_usd"] == "100.00"
    assert current_price(cache, market.database, market.system, uuid.UUID(int=0)) is None
    assert (
        top_list(no_cache, market.database, market.system, "most_traded")[0]["title"]
        == "Amazing Spider-Man #300"
    )


def test_only_warming_reports_that_the_cache_is_away(market, no_cache):
    with pytest.raises(CacheUnavailableError, match="longbox status"):
        warm_cache(no_cache, market.database, market.system)

-- What is kept in the cache: current prices, top lists, market insights. All from the materialised views, which the
-- pipeline has refreshed before.

-- name: prices_of_most_traded
-- All bands of the comics that sold most in 30 days (then in 90, then by id), one row a band, comics together.
WITH traded AS (
    SELECT comic_id FROM comics.market_prices
    GROUP BY comic_id
    ORDER BY sum(sale_count_30d) DESC, sum(sale_count_90d) DESC, max(last_sale_on) DESC NULLS LAST, comic_id
    LIMIT %(limit)s
)
SELECT {columns}, comics.title
FROM comics.market_prices JOIN traded USING (comic_id) JOIN comics.comics USING (comic_id)
ORDER BY comic_id, grade_band

-- name: prices_of_comic
-- Relies on the unique index (comic_id, grade_band).
SELECT {columns}, comics.title
FROM comics.market_prices JOIN comics.comics USING (comic_id)
WHERE comic_id = %(comic_id)s ORDER BY grade_band

-- name: trending
SELECT rank, comic_id, title, sale_count_7d, sale_count_28d_before, volume_7d_usd, trend_score, as_of
FROM comics.trending_comics ORDER BY rank LIMIT %(limit)s

-- name: most_traded
SELECT row_number() OVER (ORDER BY sum(sale_count_30d) DESC, sum(volume_30d_usd) DESC, comic_id) AS rank, comic_id, title,
       sum(sale_count_30d) AS sale_count_30d, sum(volume_30d_usd) AS volume_30d_usd, max(as_of) AS as_of
FROM comics.market_prices JOIN comics.comics USING (comic_id)
WHERE sale_count_30d > 0
GROUP BY comic_id, title ORDER BY rank LIMIT %(limit)s

-- name: insights
SELECT insight, rank, comic_id, series_id, grade_band, label, value, sale_count, volume_usd, as_of
FROM comics.market_insights ORDER BY insight, rank

-- Aggregating prices: flags within a window, then the periods that touch it. A window is a calendar month of one comic
-- and grade band. All of it runs in one transaction a batch of comics, month by month: the bounds of the month are
-- constants to the planner, which then reads that month's partition only (and its neighbours', for weeks).

-- name: windows_of_days
-- The windows that the landing days touched, by comic. Relies on the primary key of longbox.touched.
SELECT DISTINCT split_part(group_key, '|', 1)::uuid AS comic_id, split_part(group_key, '|', 2), event_on
FROM longbox.touched
WHERE table_name = %(source)s AND landing_day = ANY(%(days)s)
ORDER BY comic_id

-- name: create_batch
-- The windows of a batch, and its periods as they should be.
-- A number stands for comic and band where rows are joined and sorted: quicker, and the planner estimates a join over
-- one column rightly, where over two it takes thousands of rows for one.
CREATE TEMP TABLE touched_windows (
    window_id integer NOT NULL, comic_id uuid NOT NULL, grade_band text NOT NULL, month date NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE fresh_periods ON COMMIT DROP AS
SELECT comic_id, grade_band, period_type, period_start, {columns} FROM comics.pricing_data_aggregated LIMIT 0

-- name: copy_windows
COPY touched_windows (window_id, comic_id, grade_band, month) FROM STDIN

-- name: analyse_windows
-- Without it the planner takes a handful of windows for thousands, or the reverse.
ANALYZE touched_windows

-- name: flag_month
-- Cross-listings and outliers of the batch's windows of one month; only rows whose flags differ are written.
--
-- A sale that several marketplaces report (same comic, grade, currency, price and minute) counts once: of the nth sale
-- of each marketplace, by record id, the one of the first marketplace by name stays. Names and ids are compared by
-- bytes, so that no locale and no order of arrival decides.
--
-- Outliers: modified z-score of the logarithm of the price, 0.6745 * |x - median| / MAD, beyond 3.5 (Iglewicz and
-- Hoaglin, How to Detect and Handle Outliers, 1993), in windows of {least} sales or more. MAD 0 (half of the prices are
-- the same): the mean absolute deviation takes its place, |x - median| / (1.253314 * mean); 0 as well: none is one.
-- Prices below a cent count as one. The mean is taken in numeric: a float sum would depend on the order of rows.
-- Parameters: month, next_month, first_comic, last_comic (all as literals). Relies on pricing_data_normalized_by_comic_and_band and the primary key.
WITH sales AS (
    SELECT window_id, sale.key_hash, sale.sale_date, sale.is_cross_listed, sale.is_outlier,
           ln(greatest(sale.price_usd, 0.01)::float8) AS log_price, sale.grade, sale.currency, sale.price,
           date_trunc('minute', sale.sold_at) AS sold_minute, sale.source_marketplace, sale.source_record_id
    FROM touched_windows AS touched
    JOIN comics.pricing_data_normalized AS sale USING (comic_id, grade_band)
    WHERE touched.month = {month} AND NOT sale.is_lot
      AND sale.sale_date >= {month} AND sale.sale_date < {next_month}
      AND sale.comic_id BETWEEN {first_comic} AND {last_comic}
),
numbered AS (
    SELECT *, row_number() OVER (
        PARTITION BY window_id, price, sold_minute, currency, grade, source_marketplace
        ORDER BY source_record_id COLLATE "C", key_hash) AS nth
    FROM sales
),
listed AS (
    SELECT *, row_number() OVER (
        PARTITION BY window_id, price, sold_minute, currency, grade, nth
        ORDER BY source_marketplace COLLATE "C", key_hash) > 1 AS is_second
    FROM numbered
),
centres AS (
    SELECT window_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY log_price) AS median
    FROM listed WHERE NOT is_second GROUP BY window_id HAVING count(*) >= {least}
),
deviations AS (
    SELECT window_id, key_hash, sale_date, abs(log_price - median) AS deviation
    FROM listed JOIN centres USING (window_id) WHERE NOT is_second
),
spreads AS (
    SELECT window_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY deviation) AS mad,
           avg(deviation::numeric)::float8 AS mean_deviation
    FROM deviations GROUP BY window_id
),
outliers AS (
    SELECT key_hash, sale_date FROM deviations JOIN spreads USING (window_id)
    WHERE CASE WHEN mad > 0 THEN 0.6745 * deviation / mad
               WHEN mean_deviation > 0 THEN deviation / (1.253314 * mean_deviation) ELSE 0 END > 3.5
),
changed AS MATERIALIZED (
    SELECT key_hash, sale_date, is_second, outliers.key_hash IS NOT NULL AS is_far
    FROM listed LEFT JOIN outliers USING (key_hash, sale_date)
    WHERE is_cross_listed <> is_second OR is_outlier <> (outliers.key_hash IS NOT NULL)
)
UPDATE comics.pricing_data_normalized AS sale
SET is_cross_listed = changed.is_second, is_outlier = changed.is_far
FROM changed
WHERE sale.key_hash = changed.key_hash AND sale.sale_date = changed.sale_date
  AND sale.sale_date >= {month} AND sale.sale_date < {next_month}

-- name: compute_month
-- The days and the month of each window, and the weeks (from Monday) that overlap it, from all sales of those periods.
-- In cents, rounded half away from zero; percentiles interpolate (percentile_cont, as numpy's and pandas' default), the
-- standard deviation is the sample's. Outliers and second listings are counted, and left out of everything else.
-- A sale in a neighbouring month is read for its week alone. Parameters: month, next_month, first_monday,
-- after_last_week.
INSERT INTO fresh_periods (comic_id, grade_band, period_type, period_start, {columns})
WITH sales AS MATERIALIZED (
    SELECT window_id, sale.sale_date, sale.price_usd, sale.is_outlier, sale.is_cross_listed
    FROM touched_windows AS touched
    JOIN comics.pricing_data_normalized AS sale USING (comic_id, grade_band)
    WHERE touched.month = {month} AND NOT sale.is_lot
      AND sale.sale_date >= {first_monday} AND sale.sale_date < {after_last_week}
      AND sale.comic_id BETWEEN {first_comic} AND {last_comic}
),
periods AS (
    SELECT window_id, 'day' AS period_type, sale_date AS period_start, price_usd, is_outlier, is_cross_listed
    FROM sales WHERE sale_date >= {month} AND sale_date < {next_month}
    UNION ALL
    SELECT window_id, 'month', {month}, price_usd, is_outlier, is_cross_listed
    FROM sales WHERE sale_date >= {month} AND sale_date < {next_month}
    UNION ALL
    SELECT window_id, 'week', date_trunc('week', sale_date)::date, price_usd, is_outlier, is_cross_listed
    FROM sales
),
statistics AS (
    SELECT window_id, period_type, period_start,
           count(*) FILTER (WHERE is_in)::integer AS sale_count,
           count(*) FILTER (WHERE is_outlier)::integer AS outlier_count,
           count(*) FILTER (WHERE is_cross_listed)::integer AS cross_listed_count,
           coalesce(sum(price_usd) FILTER (WHERE is_in), 0) AS volume_usd,
           min(price_usd) FILTER (WHERE is_in) AS min_usd,
           percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY price_usd::float8) FILTER (WHERE is_in) AS quartiles,
           max(price_usd) FILTER (WHERE is_in) AS max_usd,
           round(avg(price_usd) FILTER (WHERE is_in), 2) AS mean_usd,
           round(stddev_samp(price_usd) FILTER (WHERE is_in), 2) AS stddev_usd
    FROM (SELECT *, NOT (is_outlier OR is_cross_listed) AS is_in FROM periods) AS marked
    GROUP BY window_id, period_type, period_start
)
SELECT comic_id, grade_band, period_type, period_start, sale_count, outlier_count, cross_listed_count, volume_usd, min_usd,
       round(quartiles[1]::numeric, 2), round(quartiles[2]::numeric, 2), round(quartiles[3]::numeric, 2),
       max_usd, mean_usd, stddev_usd
FROM statistics JOIN touched_windows USING (window_id)

-- name: delete_vanished
-- Periods of the batch's windows of one month in which there is no sale any more. Relies on the primary key.
DELETE FROM comics.pricing_data_aggregated AS kept USING touched_windows AS touched
WHERE touched.month = {month}
  AND kept.comic_id = touched.comic_id AND kept.grade_band = touched.grade_band
  AND kept.comic_id BETWEEN {first_comic} AND {last_comic}
  AND (kept.period_type IN ('day', 'month') AND kept.period_start >= {month} AND kept.period_start < {next_month}
       OR kept.period_type = 'week' AND kept.period_start >= {first_monday} AND kept.period_start < {after_last_week})
  AND NOT EXISTS (
      SELECT FROM fresh_periods AS fresh
      WHERE (fresh.comic_id, fresh.grade_band, fresh.period_type, fresh.period_start)
          = (kept.comic_id, kept.grade_band, kept.period_type, kept.period_start))

-- name: upsert_changed
-- Periods that are new or differ; the others are not written. Relies on the primary key.
INSERT INTO comics.pricing_data_aggregated (comic_id, grade_band, period_type, period_start, {columns})
SELECT fresh.*
FROM fresh_periods AS fresh
LEFT JOIN LATERAL (
    SELECT true AS is_there, {columns} FROM comics.pricing_data_aggregated AS kept
    WHERE (kept.comic_id, kept.grade_band, kept.period_type, kept.period_start)
        = (fresh.comic_id, fresh.grade_band, fresh.period_type, fresh.period_start) OFFSET 0
) AS kept ON true
WHERE kept.is_there IS NULL OR ({kept_columns}) IS DISTINCT FROM ({fresh_columns})
ON CONFLICT (comic_id, grade_band, period_type, period_start) DO UPDATE SET {assignments}

-- name: clear_fresh
TRUNCATE fresh_periods

-- name: refresh_view
-- Readers go on while it runs. Relies on the view's unique index.
REFRESH MATERIALIZED VIEW CONCURRENTLY {view}

-- name: count_view
SELECT count(*) FROM {view}

-- name: windows_by_day
-- How many windows each landing day touched, for its account.
SELECT landing_day, count(*) FROM longbox.touched
WHERE table_name = %(source)s AND landing_day = ANY(%(days)s) GROUP BY landing_day

-- name: comics_from
-- Comics behind given points of the id space: a sample that reads no more than it returns. Relies on the primary key.
SELECT DISTINCT found.comic_id
FROM unnest(%(points)s::uuid[]) AS point,
     LATERAL (SELECT comic_id FROM comics.comics WHERE comic_id >= point ORDER BY comic_id LIMIT 1) AS found
ORDER BY 1

-- name: sales_of_comics
SELECT comic_id, grade_band, sale_date, price_usd, is_outlier, is_cross_listed, grade, currency, price, sold_at,
       source_marketplace, source_record_id
FROM comics.pricing_data_normalized WHERE comic_id = ANY(%(comics)s) AND NOT is_lot

-- name: periods_of_comics
SELECT comic_id, grade_band, period_type, period_start, {columns}
FROM comics.pricing_data_aggregated WHERE comic_id = ANY(%(comics)s)

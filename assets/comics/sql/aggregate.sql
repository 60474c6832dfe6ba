-- Aggregating prices: flags within a window, then the periods that changed. A window is a calendar month of one comic
-- and grade band. All of it runs in one transaction a batch of comics, month by month: the bounds of the month are
-- constants to the planner, which then reads that month's partition only (and its neighbours', for weeks).

-- name: days_again
-- Those of the landing days that were here before: asked for again, they are computed again, whatever is pending.
SELECT landing_day FROM longbox.day_results WHERE asset = %(asset)s AND landing_day = ANY(%(days)s)

-- name: landed_rows
-- How many rows landed on days.
SELECT coalesce(sum(loaded_rows), 0)::bigint FROM longbox.loads JOIN longbox.feeds USING (feed_id)
WHERE (system, feed) = ('comics', 'marketplace_sales') AND landing_day = ANY(%(days)s)

-- name: pending_days
-- The sale days of each comic and band that normalising the landing days changed, by comic, from the first comic to the
-- last. Relies on the primary key of longbox.touched.
SELECT split_part(group_key, '|', 1)::uuid AS comic_id, split_part(group_key, '|', 2) AS grade_band, event_on
FROM longbox.touched
WHERE table_name = %(source)s AND landing_day = ANY(%(days)s)
  AND split_part(group_key, '|', 1)::uuid BETWEEN %(first)s AND %(last)s
GROUP BY group_key, event_on
ORDER BY comic_id

-- name: all_days
-- The same, the sale days of every record that landed on the days `again`, and all days that stand in their windows.
-- Relies on the raw table's index on (load_id) and on the primary keys of the two tables of prices.
WITH again AS MATERIALIZED (
    SELECT DISTINCT sale.comic_id, sale.grade_band, sale.sale_date
    FROM comics.pricing_data_raw AS landed
    JOIN comics.pricing_data_normalized AS sale USING (key_hash, sale_date)
    WHERE sale.comic_id BETWEEN %(first)s AND %(last)s
      AND landed.load_id = ANY(ARRAY(SELECT load_id FROM longbox.loads JOIN longbox.feeds USING (feed_id)
                                     WHERE (system, feed) = ('comics', 'marketplace_sales')
                                       AND landing_day = ANY(%(again)s)))
)
SELECT comic_id, grade_band, event_on
FROM (SELECT split_part(group_key, '|', 1)::uuid AS comic_id, split_part(group_key, '|', 2) AS grade_band, event_on
      FROM longbox.touched
      WHERE table_name = %(source)s AND landing_day = ANY(%(days)s)
        AND split_part(group_key, '|', 1)::uuid BETWEEN %(first)s AND %(last)s
      UNION
      SELECT comic_id, grade_band, sale_date FROM again
      UNION
      SELECT comic_id, grade_band, kept.period_start
      FROM (SELECT DISTINCT comic_id, grade_band, date_trunc('month', sale_date)::date AS month FROM again) AS window_,
           LATERAL (SELECT period_start FROM comics.pricing_data_aggregated AS kept
                    WHERE (kept.comic_id, kept.grade_band, kept.period_type)
                        = (window_.comic_id, window_.grade_band, 'day')
                      AND kept.period_start >= month AND kept.period_start < month + interval '1 month'
                    OFFSET 0) AS kept) AS day
ORDER BY comic_id

-- name: create_batch
-- The windows of a batch, their sale days that changed, and the periods of these as they should be (`is_there`: there
-- are sales). A number stands for comic and band where rows are joined and sorted: quicker, and the planner estimates a
-- join over one column rightly, where over two it takes thousands of rows for one.
CREATE TEMP TABLE touched_windows (
    window_id integer NOT NULL, comic_id uuid NOT NULL, grade_band text NOT NULL, month date NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE touched_days (window_id integer NOT NULL, sale_date date NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE fresh_periods ON COMMIT DROP AS
SELECT true AS is_there, comic_id, grade_band, period_type, period_start, {columns}
FROM comics.pricing_data_aggregated LIMIT 0

-- name: copy_windows
COPY touched_windows (window_id, comic_id, grade_band, month) FROM STDIN

-- name: copy_days
COPY touched_days (window_id, sale_date) FROM STDIN

-- name: analyse_windows
-- Without it the planner takes a handful of windows for thousands, or the reverse.
ANALYZE touched_windows, touched_days

-- name: flag_month
-- Cross-listings and outliers of the batch's windows of one month; only rows whose flags differ are written, and their
-- days are days that changed.
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
WITH sales AS MATERIALIZED (
    SELECT window_id, sale.key_hash, sale.sale_date, sale.is_cross_listed, sale.is_outlier,
           ln(greatest(sale.price_usd, 0.01)::float8) AS log_price, sale.grade, sale.currency, sale.price,
           date_trunc('minute', sale.sold_at) AS sold_minute, sale.source_marketplace, sale.source_record_id
    FROM touched_windows AS touched
    JOIN comics.pricing_data_normalized AS sale USING (comic_id, grade_band)
    WHERE touched.month = {month} AND NOT sale.is_lot
      AND sale.sale_date >= {month} AND sale.sale_date < {next_month}
      AND sale.comic_id BETWEEN {first_comic} AND {last_comic}
),
-- Few are on several marketplaces at once: only they are numbered.
several AS (
    SELECT window_id, price, sold_minute, currency, grade
    FROM sales GROUP BY window_id, price, sold_minute, currency, grade
    HAVING min(source_marketplace COLLATE "C") <> max(source_marketplace COLLATE "C")
),
numbered AS (
    SELECT sales.*, row_number() OVER (
        PARTITION BY window_id, price, sold_minute, currency, sales.grade, source_marketplace
        ORDER BY source_record_id COLLATE "C", key_hash) AS nth
    FROM sales JOIN several USING (window_id, price, sold_minute, currency)
    WHERE sales.grade IS NOT DISTINCT FROM several.grade
),
ranked AS (
    SELECT key_hash, sale_date, row_number() OVER (
        PARTITION BY window_id, price, sold_minute, currency, grade, nth
        ORDER BY source_marketplace COLLATE "C", key_hash) > 1 AS is_second
    FROM numbered
),
listed AS (
    SELECT window_id, key_hash, sale_date, is_cross_listed, is_outlier, log_price, coalesce(is_second, false) AS is_second
    FROM sales LEFT JOIN ranked USING (key_hash, sale_date)
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
    SELECT window_id, key_hash, sale_date, is_second, outliers.key_hash IS NOT NULL AS is_far
    FROM listed LEFT JOIN outliers USING (key_hash, sale_date)
    WHERE is_cross_listed <> is_second OR is_outlier <> (outliers.key_hash IS NOT NULL)
),
flagged AS (
    UPDATE comics.pricing_data_normalized AS sale
    SET is_cross_listed = changed.is_second, is_outlier = changed.is_far
    FROM changed
    WHERE sale.key_hash = changed.key_hash AND sale.sale_date = changed.sale_date
      AND sale.sale_date >= {month} AND sale.sale_date < {next_month}
    RETURNING window_id, sale.sale_date
)
INSERT INTO touched_days (window_id, sale_date) SELECT window_id, sale_date FROM flagged

-- name: compute_month
-- The days that changed in the windows of one month, their weeks (from Monday) and the month, from all sales of those
-- periods. In cents, rounded half away from zero; percentiles interpolate, as percentile_cont and numpy's and pandas' default do,
-- over prices sorted once for all groups (a sort a group costs more than the rest of its statistics); the standard
-- deviation is the sample's. Reckoned with in whole cents: exact, and several times as fast as with decimals. Outliers
-- and second listings are counted, and left out of everything else. A sale in a neighbouring month is read for its week
-- alone. Parameters: month, next_month, first_monday, after_last_week, first_comic, last_comic.
INSERT INTO fresh_periods (is_there, comic_id, grade_band, period_type, period_start, {columns})
WITH due AS MATERIALIZED (
    SELECT DISTINCT window_id, kind, period_start
    FROM touched_days,
         LATERAL (VALUES (1, sale_date), (2, {month}), (3, date_trunc('week', sale_date)::date)) AS period (kind, period_start)
    WHERE sale_date >= {month} AND sale_date < {next_month}
),
sales AS MATERIALIZED (
    SELECT window_id, sale.sale_date, date_trunc('week', sale.sale_date)::date AS week,
           (sale.price_usd * 100)::bigint AS cents, sale.is_outlier, sale.is_cross_listed,
           NOT (sale.is_outlier OR sale.is_cross_listed) AS is_in
    FROM touched_windows AS touched
    JOIN comics.pricing_data_normalized AS sale USING (comic_id, grade_band)
    WHERE touched.month = {month} AND NOT sale.is_lot
      AND sale.sale_date >= {first_monday} AND sale.sale_date < {after_last_week}
      AND sale.comic_id BETWEEN {first_comic} AND {last_comic}
),
periods AS (
    SELECT window_id, kind, period_start, cents, is_outlier, is_cross_listed, is_in
    FROM sales, LATERAL (VALUES (1, sale_date), (2, {month})) AS period (kind, period_start)
    WHERE sale_date >= {month} AND sale_date < {next_month}
    UNION ALL
    SELECT window_id, 3, week, cents, is_outlier, is_cross_listed, is_in FROM sales
),
statistics AS (
    SELECT window_id, kind, period_start,
           count(*) FILTER (WHERE is_in)::integer AS sale_count,
           count(*) FILTER (WHERE is_outlier)::integer AS outlier_count,
           count(*) FILTER (WHERE is_cross_listed)::integer AS cross_listed_count,
           sum(cents) FILTER (WHERE is_in) AS volume,
           array_agg(cents ORDER BY cents) FILTER (WHERE is_in) AS prices,
           stddev_samp(cents) FILTER (WHERE is_in) AS deviation
    FROM periods JOIN due USING (window_id, kind, period_start)
    GROUP BY window_id, kind, period_start
)
SELECT statistics.window_id IS NOT NULL, comic_id, grade_band, (ARRAY['day', 'month', 'week'])[kind], period_start,
       sale_count, outlier_count, cross_listed_count, coalesce(volume * 0.01, 0),
       prices[1] * 0.01, {p25}, {p50}, {p75}, prices[sale_count] * 0.01,
       round(round(volume / sale_count) * 0.01, 2), round(round(deviation) * 0.01, 2)
FROM due JOIN touched_windows USING (window_id) LEFT JOIN statistics USING (window_id, kind, period_start)
ORDER BY window_id, kind, period_start -- as the primary key lies, for the look-ups and the writes that follow

-- name: percentile
-- The {quarters} quarters' point of `prices`, sorted: between its neighbours by linear interpolation, in quarters of a
-- cent, then in cents.
((prices[1 + {quarters} * (sale_count - 1) / 4] * (4 - {quarters} * (sale_count - 1) % 4)
  + prices[1 + ({quarters} * (sale_count - 1) + 3) / 4] * ({quarters} * (sale_count - 1) % 4) + 2) / 4) * 0.01

-- name: probe_only
-- What follows finds each row by its key or place: the planner, who knows nothing of a temporary table's rows, would
-- scan the whole table of statistics instead. Until the transaction ends, or `plan_freely`.
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off

-- name: write_periods
-- Deletes the periods in which there is no sale any more, updates those that differ, adds the new ones; the others are
-- not written. Each is looked up once. The table's lock keeps other writers away. Relies on the primary key.
WITH compared AS MATERIALIZED (
    SELECT fresh.*, kept.place, ({kept_columns}) IS DISTINCT FROM ({fresh_columns}) AS is_changed
    FROM fresh_periods AS fresh
    LEFT JOIN LATERAL (
        SELECT ctid AS place, {columns} FROM comics.pricing_data_aggregated AS kept
        WHERE (kept.comic_id, kept.grade_band, kept.period_type, kept.period_start)
            = (fresh.comic_id, fresh.grade_band, fresh.period_type, fresh.period_start) OFFSET 0
    ) AS kept ON true
),
vanished AS (
    DELETE FROM comics.pricing_data_aggregated AS kept USING compared AS fresh
    WHERE kept.ctid = fresh.place AND NOT fresh.is_there
    RETURNING 1
),
changed AS (
    UPDATE comics.pricing_data_aggregated AS kept SET {assignments}
    FROM compared AS fresh WHERE kept.ctid = fresh.place AND fresh.is_there AND fresh.is_changed
    RETURNING 1
),
added AS (
    INSERT INTO comics.pricing_data_aggregated (comic_id, grade_band, period_type, period_start, {columns})
    SELECT comic_id, grade_band, period_type, period_start, {columns} FROM compared
    WHERE place IS NULL AND is_there
    RETURNING 1
)
SELECT (SELECT count(*) FROM changed) + (SELECT count(*) FROM added), (SELECT count(*) FROM vanished)

-- name: hash_only
-- What follows joins two large sets of which the planner thinks that one is small: rows that have just come.
SET LOCAL enable_nestloop = off

-- name: plan_freely
SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; SET LOCAL enable_nestloop = on

-- name: clear_fresh
TRUNCATE fresh_periods

-- name: forget_touched
-- What this batch has taken in, in its own transaction: a change that commits later is noted anew, since normalising
-- waits for the lock of its table. Relies on the primary key.
WITH taken_in AS MATERIALIZED (
    SELECT DISTINCT comic_id || '|' || grade_band AS group_key, sale_date
    FROM touched_days JOIN touched_windows USING (window_id)
)
DELETE FROM longbox.touched AS pending USING taken_in
WHERE pending.table_name = %(source)s AND pending.landing_day = ANY(%(days)s)
  AND pending.group_key = taken_in.group_key AND pending.event_on = taken_in.sale_date

-- name: windows_by_day
-- How many windows each landing day touched, for its account.
SELECT landing_day, count(DISTINCT (group_key, date_trunc('month', event_on))) FROM longbox.touched
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

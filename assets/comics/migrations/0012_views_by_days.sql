-- comics 0012: Views that ask for their days one by one
--
-- The same figures as before. How many rows lie after a day that is only known while the query runs, the planner takes
-- for a third of the table: on ten million sales it read all statistics of seven years for those of 90 days. Now each
-- day is a look-up of its own in pricing_data_aggregated_days. A view can only be made anew, and what reads it with it.

-- migrate: up
DROP MATERIALIZED VIEW comics.market_insights, comics.collection_values, comics.trending_comics, comics.market_prices;
CREATE MATERIALIZED VIEW comics.market_prices AS
WITH as_of AS (
  SELECT max(period_start) AS day FROM comics.pricing_data_aggregated WHERE period_type = 'day'
),
recent AS (
  SELECT comic_id, grade_band, period_start, sale_count, volume_usd, min_usd, median_usd, max_usd, age_days
  FROM as_of CROSS JOIN generate_series(0, 89) AS age_days,
       LATERAL (SELECT * FROM comics.pricing_data_aggregated
                WHERE period_type = 'day' AND sale_count > 0 AND period_start = as_of.day - age_days OFFSET 0) AS of_day
),
-- Median of a span from its days' medians, each as heavy as its sales: the value at which half of the weight is reached.
-- All spans in one pass over the days by price: how many sales of the span there are up to each day's median, and in all.
weighed AS (
  SELECT recent.*,
         sum(sale_count) FILTER (WHERE age_days < 30) OVER by_price AS upto_30d,
         sum(sale_count) FILTER (WHERE age_days >= 30 AND age_days < 60) OVER by_price AS upto_before,
         sum(sale_count) OVER by_price AS upto_90d,
         sum(sale_count) FILTER (WHERE age_days < 30) OVER of_all AS total_30d,
         sum(sale_count) FILTER (WHERE age_days >= 30 AND age_days < 60) OVER of_all AS total_before,
         sum(sale_count) OVER of_all AS total_90d
  FROM recent
  WINDOW of_all AS (PARTITION BY comic_id, grade_band), by_price AS (of_all ORDER BY median_usd)
),
sums AS (
  SELECT comic_id, grade_band, max(period_start) AS last_sale_on,
         coalesce(max(total_30d), 0) AS sale_count_30d, max(total_90d) AS sale_count_90d,
         coalesce(sum(volume_usd) FILTER (WHERE age_days < 30), 0) AS volume_30d_usd,
         min(min_usd) AS low_90d_usd, max(max_usd) AS high_90d_usd,
         (min(median_usd) FILTER (WHERE age_days < 30 AND upto_30d * 2 >= total_30d)
          + min(median_usd) FILTER (WHERE age_days < 30 AND upto_30d * 2 > total_30d)) / 2 AS median_30d_usd,
         (min(median_usd) FILTER (WHERE age_days >= 30 AND age_days < 60 AND upto_before * 2 >= total_before)
          + min(median_usd) FILTER (WHERE age_days >= 30 AND age_days < 60 AND upto_before * 2 > total_before)) / 2
           AS median_before_usd,
         (min(median_usd) FILTER (WHERE upto_90d * 2 >= total_90d)
          + min(median_usd) FILTER (WHERE upto_90d * 2 > total_90d)) / 2 AS median_90d_usd
  FROM weighed GROUP BY comic_id, grade_band
),
-- Comics that sold in the last two years, but not in the last 90 days: their last month's median still stands. The last
-- month of each is found by hashing: most of the months' rows are of comics that sold since, and need no order.
last_months AS (
  SELECT comic_id, grade_band, max(period_start) AS period_start
  FROM comics.pricing_data_aggregated
  WHERE period_type = 'month' AND sale_count > 0 AND period_start > (SELECT day - interval '24 months' FROM as_of)
  GROUP BY comic_id, grade_band
),
months AS (
  SELECT comic_id, grade_band, month.median_usd
  FROM last_months,
       LATERAL (SELECT median_usd FROM comics.pricing_data_aggregated AS kept
                WHERE (kept.comic_id, kept.grade_band, kept.period_type, kept.period_start)
                    = (last_months.comic_id, last_months.grade_band, 'month', last_months.period_start) OFFSET 0) AS month
  WHERE NOT EXISTS (SELECT FROM sums WHERE (sums.comic_id, sums.grade_band) = (last_months.comic_id, last_months.grade_band))
)
SELECT comic_id, grade_band,
       round(coalesce(median_30d_usd, median_90d_usd), 2) AS current_price_usd,
       CASE WHEN median_30d_usd IS NOT NULL THEN '30 days' ELSE '90 days' END AS price_basis,
       sale_count_30d::integer, sale_count_90d::integer,
       round(volume_30d_usd, 2) AS volume_30d_usd,
       low_90d_usd, high_90d_usd, last_sale_on,
       round(median_30d_usd / nullif(median_before_usd, 0) - 1, 4) AS change_30d_ratio,
       (SELECT day FROM as_of) AS as_of
FROM sums
UNION ALL
SELECT comic_id, grade_band, round(median_usd, 2), 'month', 0, 0, 0, NULL, NULL, last_day.period_start, NULL,
       (SELECT day FROM as_of)
FROM months
LEFT JOIN LATERAL (
  SELECT period_start FROM comics.pricing_data_aggregated AS day
  WHERE (day.comic_id, day.grade_band, day.period_type) = (months.comic_id, months.grade_band, 'day') AND sale_count > 0
  ORDER BY period_start DESC LIMIT 1
) AS last_day ON true;
COMMENT ON MATERIALIZED VIEW comics.market_prices IS 'Current price of each comic and grade band, with how many sales it stands on';
COMMENT ON COLUMN comics.market_prices.current_price_usd IS 'Median of the last 30 days, else of the last 90, else of the last month with sales within two years';
COMMENT ON COLUMN comics.market_prices.price_basis IS 'Which of the three it is: 30 days, 90 days, month';
COMMENT ON COLUMN comics.market_prices.change_30d_ratio IS 'Median of the last 30 days against the 30 before: 0.1 is ten per cent up; null when either has no sale';
COMMENT ON COLUMN comics.market_prices.as_of IS 'The newest day with sales: what "last 30 days" counts back from';
CREATE UNIQUE INDEX market_prices_key ON comics.market_prices (comic_id, grade_band);
CREATE INDEX market_prices_by_volume ON comics.market_prices (volume_30d_usd DESC);
CREATE INDEX market_prices_by_change ON comics.market_prices (change_30d_ratio DESC) WHERE sale_count_30d >= 3;

CREATE MATERIALIZED VIEW comics.trending_comics AS
WITH as_of AS (
  SELECT max(period_start) AS day FROM comics.pricing_data_aggregated WHERE period_type = 'day'
),
sales AS (
  SELECT comic_id,
         sum(sale_count) FILTER (WHERE age_days < 7) AS sale_count_7d,
         coalesce(sum(sale_count) FILTER (WHERE age_days >= 7), 0) AS sale_count_before,
         sum(volume_usd) FILTER (WHERE age_days < 7) AS volume_7d_usd
  FROM as_of CROSS JOIN generate_series(0, 34) AS age_days,
       LATERAL (SELECT comic_id, sale_count, volume_usd FROM comics.pricing_data_aggregated
                WHERE period_type = 'day' AND period_start = as_of.day - age_days OFFSET 0) AS of_day
  GROUP BY comic_id
),
-- Sales of a week against the weekly mean of the four before, one sale added to both so that small numbers do not
-- trend, times the logarithm of the sales, so that of equal growth the larger ranks first.
scored AS (
  SELECT *, round((sale_count_7d + 1) / (sale_count_before / 4.0 + 1) * ln(1 + sale_count_7d::numeric), 4) AS trend_score
  FROM sales WHERE sale_count_7d > 0
),
ranked AS (
  SELECT *, row_number() OVER (ORDER BY trend_score DESC, volume_7d_usd DESC, comic_id)::integer AS rank FROM scored
)
SELECT rank, comic_id, series_id, title, sale_count_7d::integer, sale_count_before::integer AS sale_count_28d_before,
       round(volume_7d_usd, 2) AS volume_7d_usd, trend_score, (SELECT day FROM as_of) AS as_of
FROM ranked JOIN comics.comics USING (comic_id)
WHERE rank <= 500;
COMMENT ON MATERIALIZED VIEW comics.trending_comics IS 'The 500 comics whose sales grew most in the last week, against the four weeks before';
CREATE UNIQUE INDEX trending_comics_key ON comics.trending_comics (comic_id);
CREATE UNIQUE INDEX trending_comics_by_rank ON comics.trending_comics (rank);
CREATE INDEX trending_comics_by_series ON comics.trending_comics (series_id, rank);

CREATE MATERIALIZED VIEW comics.collection_values AS
SELECT collections.collection_id, collections.user_id,
       count(item_id)::integer AS item_count,
       coalesce(sum(quantity), 0)::integer AS copy_count,
       coalesce(sum(quantity) FILTER (WHERE current_price_usd IS NOT NULL), 0)::integer AS valued_copy_count,
       coalesce(sum(current_price_usd * quantity), 0)::numeric(16,2) AS value_usd,
       coalesce(sum(price_paid * quantity) FILTER (WHERE currency = 'USD' AND current_price_usd IS NOT NULL), 0)::numeric(16,2)
         AS paid_usd,
       coalesce(sum((current_price_usd - price_paid) * quantity) FILTER (WHERE currency = 'USD'), 0)::numeric(16,2) AS gain_usd,
       max(as_of) AS as_of
FROM comics.collections
LEFT JOIN comics.collection_items USING (collection_id)
LEFT JOIN comics.market_prices USING (comic_id, grade_band)
GROUP BY collections.collection_id, collections.user_id;
COMMENT ON MATERIALIZED VIEW comics.collection_values IS 'What each collection is worth at current prices; sub-collections count for themselves';
COMMENT ON COLUMN comics.collection_values.valued_copy_count IS 'Copies that have a current price; the others are worth nothing here';
COMMENT ON COLUMN comics.collection_values.paid_usd IS 'Paid for those of the valued copies that were bought in dollars';
COMMENT ON COLUMN comics.collection_values.gain_usd IS 'Value less price paid, over the valued copies that were bought in dollars';
CREATE UNIQUE INDEX collection_values_key ON comics.collection_values (collection_id);
CREATE INDEX collection_values_by_user ON comics.collection_values (user_id, value_usd DESC);

CREATE MATERIALIZED VIEW comics.market_insights AS
WITH as_of AS (
  SELECT day, (day + 1)::timestamp AT TIME ZONE 'UTC' AS until_at
  FROM (SELECT max(period_start) AS day FROM comics.pricing_data_aggregated WHERE period_type = 'day') AS newest
),
movers AS (
  SELECT comic_id, grade_band, change_30d_ratio, sale_count_30d, volume_30d_usd,
         row_number() OVER (ORDER BY change_30d_ratio DESC, volume_30d_usd DESC, comic_id, grade_band) AS gain_rank,
         row_number() OVER (ORDER BY change_30d_ratio, volume_30d_usd DESC, comic_id, grade_band) AS loss_rank
  FROM comics.market_prices
  WHERE price_basis = '30 days' AND sale_count_30d >= 3 AND change_30d_ratio IS NOT NULL
),
volumes AS (
  SELECT comic_id, sum(sale_count_30d) AS sale_count_30d, sum(volume_30d_usd) AS volume_30d_usd,
         row_number() OVER (ORDER BY sum(volume_30d_usd) DESC, comic_id) AS rank
  FROM comics.market_prices WHERE sale_count_30d > 0 GROUP BY comic_id
),
-- Of the listings that were open at some time of the last 90 days, how many were sold in them.
offers AS (
  SELECT series_id, comic_id, status = 'sold' AND closed_at < until_at AS is_sold, asking_price * quantity AS volume_usd
  FROM as_of CROSS JOIN comics.marketplace_listings JOIN comics.comics USING (comic_id)
  WHERE listed_at < until_at AND (closed_at IS NULL OR closed_at >= until_at - interval '90 days')
),
sell_through AS (
  SELECT series_id, count(*) FILTER (WHERE is_sold) AS sold_count, count(*) AS offered_count,
         row_number() OVER (ORDER BY count(*) FILTER (WHERE is_sold)::numeric / count(*) DESC, count(*) DESC, series_id) AS rank
  FROM offers GROUP BY series_id HAVING count(*) >= 3
),
revenue AS (
  SELECT count(*) AS sale_count, sum(total_price) AS volume_usd, sum(fee_amount) AS fee_usd
  FROM as_of CROSS JOIN comics.marketplace_transactions
  WHERE status = 'completed' AND currency = 'USD' AND sold_at >= until_at - interval '30 days' AND sold_at < until_at
  HAVING count(*) > 0
),
insights AS (
  SELECT 'gainer' AS insight, gain_rank AS rank, comic_id, NULL::uuid AS series_id, grade_band,
         change_30d_ratio AS value, sale_count_30d AS sale_count, volume_30d_usd AS volume_usd
  FROM movers WHERE change_30d_ratio > 0
  UNION ALL
  SELECT 'loser', loss_rank, comic_id, NULL, grade_band, change_30d_ratio, sale_count_30d, volume_30d_usd
  FROM movers WHERE change_30d_ratio < 0
  UNION ALL
  SELECT 'volume', rank, comic_id, NULL, NULL, volume_30d_usd, sale_count_30d, volume_30d_usd FROM volumes
  UNION ALL
  SELECT 'sell_through', rank, NULL, series_id, NULL, round(sold_count::numeric / offered_count, 4), sold_count, NULL
  FROM sell_through
  UNION ALL
  SELECT 'sell_through_overall', 1, NULL, NULL, NULL, round(count(*) FILTER (WHERE is_sold)::numeric / count(*), 4),
         count(*) FILTER (WHERE is_sold), sum(volume_usd) FILTER (WHERE is_sold)
  FROM offers HAVING count(*) > 0
  UNION ALL
  SELECT 'marketplace_revenue', 1, NULL, NULL, NULL, fee_usd, sale_count, volume_usd FROM revenue
)
SELECT insight, rank::integer, comic_id, insights.series_id, grade_band, coalesce(comics.title, series.name) AS label,
       value, sale_count::integer, volume_usd, (SELECT day FROM as_of) AS as_of
FROM insights
LEFT JOIN comics.comics USING (comic_id)
LEFT JOIN comics.series ON series.series_id = insights.series_id
WHERE rank <= 50;
COMMENT ON MATERIALIZED VIEW comics.market_insights IS
  'Movers, volume, sell-through and revenue: the first 50 of each insight, 30 days back from the newest day with sales';
COMMENT ON COLUMN comics.market_insights.insight IS
  'gainer, loser (change_30d_ratio of a comic and band with 3 sales or more), volume (dollars in 30 days, of a comic), '
  'sell_through (sold of offered in 90 days, of a series with 3 offers or more), sell_through_overall, '
  'marketplace_revenue (our fees in 30 days, of sales in dollars)';
COMMENT ON COLUMN comics.market_insights.value IS 'What the insight ranks by: a ratio or dollars, as told there';
CREATE UNIQUE INDEX market_insights_key ON comics.market_insights (insight, rank);
CREATE INDEX market_insights_by_comic ON comics.market_insights (comic_id) WHERE comic_id IS NOT NULL;

-- migrate: down
DROP MATERIALIZED VIEW comics.market_insights, comics.collection_values, comics.trending_comics, comics.market_prices;
CREATE MATERIALIZED VIEW comics.market_prices AS
WITH as_of AS (
  SELECT max(period_start) AS day FROM comics.pricing_data_aggregated WHERE period_type = 'day'
),
recent AS (
  SELECT comic_id, grade_band, period_start, sale_count, volume_usd, min_usd, median_usd, max_usd,
         (SELECT day FROM as_of) - period_start AS age_days
  FROM comics.pricing_data_aggregated
  WHERE period_type = 'day' AND sale_count > 0 AND period_start > (SELECT day - 90 FROM as_of)
),
-- Median of a span from its days' medians, each as heavy as its sales: the value at which half of the weight is reached.
-- All spans in one pass over the days by price: how many sales of the span there are up to each day's median, and in all.
weighed AS (
  SELECT recent.*,
         sum(sale_count) FILTER (WHERE age_days < 30) OVER by_price AS upto_30d,
         sum(sale_count) FILTER (WHERE age_days >= 30 AND age_days < 60) OVER by_price AS upto_before,
         sum(sale_count) OVER by_price AS upto_90d,
         sum(sale_count) FILTER (WHERE age_days < 30) OVER of_all AS total_30d,
         sum(sale_count) FILTER (WHERE age_days >= 30 AND age_days < 60) OVER of_all AS total_before,
         sum(sale_count) OVER of_all AS total_90d
  FROM recent
  WINDOW of_all AS (PARTITION BY comic_id, grade_band), by_price AS (of_all ORDER BY median_usd)
),
sums AS (
  SELECT comic_id, grade_band, max(period_start) AS last_sale_on,
         coalesce(max(total_30d), 0) AS sale_count_30d, max(total_90d) AS sale_count_90d,
         coalesce(sum(volume_usd) FILTER (WHERE age_days < 30), 0) AS volume_30d_usd,
         min(min_usd) AS low_90d_usd, max(max_usd) AS high_90d_usd,
         (min(median_usd) FILTER (WHERE age_days < 30 AND upto_30d * 2 >= total_30d)
          + min(median_usd) FILTER (WHERE age_days < 30 AND upto_30d * 2 > total_30d)) / 2 AS median_30d_usd,
         (min(median_usd) FILTER (WHERE age_days >= 30 AND age_days < 60 AND upto_before * 2 >= total_before)
          + min(median_usd) FILTER (WHERE age_days >= 30 AND age_days < 60 AND upto_before * 2 > total_before)) / 2
           AS median_before_usd,
         (min(median_usd) FILTER (WHERE upto_90d * 2 >= total_90d)
          + min(median_usd) FILTER (WHERE upto_90d * 2 > total_90d)) / 2 AS median_90d_usd
  FROM weighed GROUP BY comic_id, grade_band
),
-- Comics that sold in the last two years, but not in the last 90 days: their last month's median still stands. The last
-- month of each is found by hashing: most of the months' rows are of comics that sold since, and need no order.
last_months AS (
  SELECT comic_id, grade_band, max(period_start) AS period_start
  FROM comics.pricing_data_aggregated
  WHERE period_type = 'month' AND sale_count > 0 AND period_start > (SELECT day - interval '24 months' FROM as_of)
  GROUP BY comic_id, grade_band
),
months AS (
  SELECT comic_id, grade_band, month.median_usd
  FROM last_months,
       LATERAL (SELECT median_usd FROM comics.pricing_data_aggregated AS kept
                WHERE (kept.comic_id, kept.grade_band, kept.period_type, kept.period_start)
                    = (last_months.comic_id, last_months.grade_band, 'month', last_months.period_start) OFFSET 0) AS month
  WHERE NOT EXISTS (SELECT FROM sums WHERE (sums.comic_id, sums.grade_band) = (last_months.comic_id, last_months.grade_band))
)
SELECT comic_id, grade_band,
       round(coalesce(median_30d_usd, median_90d_usd), 2) AS current_price_usd,
       CASE WHEN median_30d_usd IS NOT NULL THEN '30 days' ELSE '90 days' END AS price_basis,
       sale_count_30d::integer, sale_count_90d::integer,
       round(volume_30d_usd, 2) AS volume_30d_usd,
       low_90d_usd, high_90d_usd, last_sale_on,
       round(median_30d_usd / nullif(median_before_usd, 0) - 1, 4) AS change_30d_ratio,
       (SELECT day FROM as_of) AS as_of
FROM sums
UNION ALL
SELECT comic_id, grade_band, round(median_usd, 2), 'month', 0, 0, 0, NULL, NULL, last_day.period_start, NULL,
       (SELECT day FROM as_of)
FROM months
LEFT JOIN LATERAL (
  SELECT period_start FROM comics.pricing_data_aggregated AS day
  WHERE (day.comic_id, day.grade_band, day.period_type) = (months.comic_id, months.grade_band, 'day') AND sale_count > 0
  ORDER BY period_start DESC LIMIT 1
) AS last_day ON true;
COMMENT ON MATERIALIZED VIEW comics.market_prices IS 'Current price of each comic and grade band, with how many sales it stands on';
COMMENT ON COLUMN comics.market_prices.current_price_usd IS 'Median of the last 30 days, else of the last 90, else of the last month with sales within two years';
COMMENT ON COLUMN comics.market_prices.price_basis IS 'Which of the three it is: 30 days, 90 days, month';
COMMENT ON COLUMN comics.market_prices.change_30d_ratio IS 'Median of the last 30 days against the 30 before: 0.1 is ten per cent up; null when either has no sale';
COMMENT ON COLUMN comics.market_prices.as_of IS 'The newest day with sales: what "last 30 days" counts back from';
CREATE UNIQUE INDEX market_prices_key ON comics.market_prices (comic_id, grade_band);
CREATE INDEX market_prices_by_volume ON comics.market_prices (volume_30d_usd DESC);
CREATE INDEX market_prices_by_change ON comics.market_prices (change_30d_ratio DESC) WHERE sale_count_30d >= 3;

CREATE MATERIALIZED VIEW comics.trending_comics AS
WITH as_of AS (
  SELECT max(period_start) AS day FROM comics.pricing_data_aggregated WHERE period_type = 'day'
),
sales AS (
  SELECT comic_id,
         sum(sale_count) FILTER (WHERE period_start > (SELECT day - 7 FROM as_of)) AS sale_count_7d,
         coalesce(sum(sale_count) FILTER (WHERE period_start <= (SELECT day - 7 FROM as_of)), 0) AS sale_count_before,
         sum(volume_usd) FILTER (WHERE period_start > (SELECT day - 7 FROM as_of)) AS volume_7d_usd
  FROM comics.pricing_data_aggregated
  WHERE period_type = 'day' AND period_start > (SELECT day - 35 FROM as_of)
  GROUP BY comic_id
),
-- Sales of a week against the weekly mean of the four before, one sale added to both so that small numbers do not
-- trend, times the logarithm of the sales, so that of equal growth the larger ranks first.
scored AS (
  SELECT *, round((sale_count_7d + 1) / (sale_count_before / 4.0 + 1) * ln(1 + sale_count_7d::numeric), 4) AS trend_score
  FROM sales WHERE sale_count_7d > 0
),
ranked AS (
  SELECT *, row_number() OVER (ORDER BY trend_score DESC, volume_7d_usd DESC, comic_id)::integer AS rank FROM scored
)
SELECT rank, comic_id, series_id, title, sale_count_7d::integer, sale_count_before::integer AS sale_count_28d_before,
       round(volume_7d_usd, 2) AS volume_7d_usd, trend_score, (SELECT day FROM as_of) AS as_of
FROM ranked JOIN comics.comics USING (comic_id)
WHERE rank <= 500;
COMMENT ON MATERIALIZED VIEW comics.trending_comics IS 'The 500 comics whose sales grew most in the last week, against the four weeks before';
CREATE UNIQUE INDEX trending_comics_key ON comics.trending_comics (comic_id);
CREATE UNIQUE INDEX trending_comics_by_rank ON comics.trending_comics (rank);
CREATE INDEX trending_comics_by_series ON comics.trending_comics (series_id, rank);

CREATE MATERIALIZED VIEW comics.collection_values AS
SELECT collections.collection_id, collections.user_id,
       count(item_id)::integer AS item_count,
       coalesce(sum(quantity), 0)::integer AS copy_count,
       coalesce(sum(quantity) FILTER (WHERE current_price_usd IS NOT NULL), 0)::integer AS valued_copy_count,
       coalesce(sum(current_price_usd * quantity), 0)::numeric(16,2) AS value_usd,
       coalesce(sum(price_paid * quantity) FILTER (WHERE currency = 'USD' AND current_price_usd IS NOT NULL), 0)::numeric(16,2)
         AS paid_usd,
       coalesce(sum((current_price_usd - price_paid) * quantity) FILTER (WHERE currency = 'USD'), 0)::numeric(16,2) AS gain_usd,
       max(as_of) AS as_of
FROM comics.collections
LEFT JOIN comics.collection_items USING (collection_id)
LEFT JOIN comics.market_prices USING (comic_id, grade_band)
GROUP BY collections.collection_id, collections.user_id;
COMMENT ON MATERIALIZED VIEW comics.collection_values IS 'What each collection is worth at current prices; sub-collections count for themselves';
COMMENT ON COLUMN comics.collection_values.valued_copy_count IS 'Copies that have a current price; the others are worth nothing here';
COMMENT ON COLUMN comics.collection_values.paid_usd IS 'Paid for those of the valued copies that were bought in dollars';
COMMENT ON COLUMN comics.collection_values.gain_usd IS 'Value less price paid, over the valued copies that were bought in dollars';
CREATE UNIQUE INDEX collection_values_key ON comics.collection_values (collection_id);
CREATE INDEX collection_values_by_user ON comics.collection_values (user_id, value_usd DESC);

CREATE MATERIALIZED VIEW comics.market_insights AS
WITH as_of AS (
  SELECT day, (day + 1)::timestamp AT TIME ZONE 'UTC' AS until_at
  FROM (SELECT max(period_start) AS day FROM comics.pricing_data_aggregated WHERE period_type = 'day') AS newest
),
movers AS (
  SELECT comic_id, grade_band, change_30d_ratio, sale_count_30d, volume_30d_usd,
         row_number() OVER (ORDER BY change_30d_ratio DESC, volume_30d_usd DESC, comic_id, grade_band) AS gain_rank,
         row_number() OVER (ORDER BY change_30d_ratio, volume_30d_usd DESC, comic_id, grade_band) AS loss_rank
  FROM comics.market_prices
  WHERE price_basis = '30 days' AND sale_count_30d >= 3 AND change_30d_ratio IS NOT NULL
),
volumes AS (
  SELECT comic_id, sum(sale_count_30d) AS sale_count_30d, sum(volume_30d_usd) AS volume_30d_usd,
         row_number() OVER (ORDER BY sum(volume_30d_usd) DESC, comic_id) AS rank
  FROM comics.market_prices WHERE sale_count_30d > 0 GROUP BY comic_id
),
-- Of the listings that were open at some time of the last 90 days, how many were sold in them.
offers AS (
  SELECT series_id, comic_id, status = 'sold' AND closed_at < until_at AS is_sold, asking_price * quantity AS volume_usd
  FROM as_of CROSS JOIN comics.marketplace_listings JOIN comics.comics USING (comic_id)
  WHERE listed_at < until_at AND (closed_at IS NULL OR closed_at >= until_at - interval '90 days')
),
sell_through AS (
  SELECT series_id, count(*) FILTER (WHERE is_sold) AS sold_count, count(*) AS offered_count,
         row_number() OVER (ORDER BY count(*) FILTER (WHERE is_sold)::numeric / count(*) DESC, count(*) DESC, series_id) AS rank
  FROM offers GROUP BY series_id HAVING count(*) >= 3
),
revenue AS (
  SELECT count(*) AS sale_count, sum(total_price) AS volume_usd, sum(fee_amount) AS fee_usd
  FROM as_of CROSS JOIN comics.marketplace_transactions
  WHERE status = 'completed' AND currency = 'USD' AND sold_at >= until_at - interval '30 days' AND sold_at < until_at
  HAVING count(*) > 0
),
insights AS (
  SELECT 'gainer' AS insight, gain_rank AS rank, comic_id, NULL::uuid AS series_id, grade_band,
         change_30d_ratio AS value, sale_count_30d AS sale_count, volume_30d_usd AS volume_usd
  FROM movers WHERE change_30d_ratio > 0
  UNION ALL
  SELECT 'loser', loss_rank, comic_id, NULL, grade_band, change_30d_ratio, sale_count_30d, volume_30d_usd
  FROM movers WHERE change_30d_ratio < 0
  UNION ALL
  SELECT 'volume', rank, comic_id, NULL, NULL, volume_30d_usd, sale_count_30d, volume_30d_usd FROM volumes
  UNION ALL
  SELECT 'sell_through', rank, NULL, series_id, NULL, round(sold_count::numeric / offered_count, 4), sold_count, NULL
  FROM sell_through
  UNION ALL
  SELECT 'sell_through_overall', 1, NULL, NULL, NULL, round(count(*) FILTER (WHERE is_sold)::numeric / count(*), 4),
         count(*) FILTER (WHERE is_sold), sum(volume_usd) FILTER (WHERE is_sold)
  FROM offers HAVING count(*) > 0
  UNION ALL
  SELECT 'marketplace_revenue', 1, NULL, NULL, NULL, fee_usd, sale_count, volume_usd FROM revenue
)
SELECT insight, rank::integer, comic_id, insights.series_id, grade_band, coalesce(comics.title, series.name) AS label,
       value, sale_count::integer, volume_usd, (SELECT day FROM as_of) AS as_of
FROM insights
LEFT JOIN comics.comics USING (comic_id)
LEFT JOIN comics.series ON series.series_id = insights.series_id
WHERE rank <= 50;
COMMENT ON MATERIALIZED VIEW comics.market_insights IS
  'Movers, volume, sell-through and revenue: the first 50 of each insight, 30 days back from the newest day with sales';
COMMENT ON COLUMN comics.market_insights.insight IS
  'gainer, loser (change_30d_ratio of a comic and band with 3 sales or more), volume (dollars in 30 days, of a comic), '
  'sell_through (sold of offered in 90 days, of a series with 3 offers or more), sell_through_overall, '
  'marketplace_revenue (our fees in 30 days, of sales in dollars)';
COMMENT ON COLUMN comics.market_insights.value IS 'What the insight ranks by: a ratio or dollars, as told there';
CREATE UNIQUE INDEX market_insights_key ON comics.market_insights (insight, rank);
CREATE INDEX market_insights_by_comic ON comics.market_insights (comic_id) WHERE comic_id IS NOT NULL;

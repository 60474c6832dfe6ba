-- name: count_rows
SELECT count(*) FROM {table}

-- name: most_traded
-- The comics sold most often, with the median of their single sales in US dollars. Reads every sale: a demo's size.
SELECT comics.title, count(*) AS sales, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY price_usd)::numeric, 2) AS median_usd
FROM comics.pricing_data_normalized JOIN comics.comics USING (comic_id)
WHERE NOT is_lot AND NOT is_outlier AND NOT is_cross_listed
GROUP BY comic_id, comics.title
ORDER BY sales DESC, comics.title
LIMIT %(limit)s

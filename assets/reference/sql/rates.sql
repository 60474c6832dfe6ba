-- name: rates_known
-- How many rates there are and the day of the newest: an index-only scan of 230,000 rows, 20 ms.
SELECT count(*), max(rate_on) FROM reference.fx_rates

-- name: file_known
-- Mark of the file that was loaded last, and how many rates there were then. Primary key (asset, landing_day).
SELECT (counts ->> 'file_mark')::bigint, (counts ->> 'rates')::bigint
FROM longbox.day_results WHERE asset = %(asset)s
ORDER BY finished_at DESC LIMIT 1

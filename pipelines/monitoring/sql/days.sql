-- name: day_outcomes
-- What became of landing days at one or more assets. Primary key (asset, landing_day).
SELECT asset, landing_day, outcome, problems
FROM longbox.day_results
WHERE asset = ANY(%(assets)s) AND landing_day = ANY(%(days)s)
ORDER BY landing_day, asset

-- name: day_totals
-- The sums of every count that an asset kept for landing days. Primary key (asset, landing_day).
SELECT entry.key, sum(entry.value::bigint)::bigint
FROM longbox.day_results, jsonb_each_text(counts) AS entry
WHERE asset = %(asset)s AND landing_day = ANY(%(days)s)
GROUP BY entry.key

-- name: put_aside
-- Of the rows in the files of landing days, as these lie there now, how many went into the quarantine; and how many of
-- contents that were replaced since. By asset, of the days that have some. Primary key (asset, landing_day).
SELECT asset, sum(day.aside)::bigint, sum(day.in_files)::bigint, sum(day.quarantined - day.aside)::bigint
FROM longbox.day_results,
     LATERAL (SELECT (counts ->> 'quarantined_rows')::bigint AS quarantined,
                     -- results from before files were counted as they lie have only what ever landed
                     coalesce(counts ->> 'rows_put_aside', counts ->> 'quarantined_rows')::bigint AS aside,
                     coalesce(counts ->> 'rows_in_files', counts ->> 'landed_rows')::bigint AS in_files) AS day
WHERE asset = ANY(%(assets)s) AND landing_day = ANY(%(days)s) AND day.quarantined > 0
GROUP BY asset
ORDER BY asset

-- name: count_open
-- Rows and whole files that wait in the quarantine. Relies on its index over what is open.
SELECT count(*) FILTER (WHERE line IS NOT NULL), count(*) FILTER (WHERE line IS NULL)
FROM longbox.quarantine WHERE status = 'open'

-- name: days_with_result
-- The landing days on which an asset has a result. Primary key (asset, landing_day).
SELECT landing_day FROM longbox.day_results
WHERE asset = %(asset)s AND landing_day BETWEEN %(first)s AND %(last)s AND outcome <> 'failed'

-- name: read_files
-- The objects of landing days that a load accounts for, whatever became of them. Index loads (feed_id, landing_day).
SELECT loads.landing_day, loads.file_name, loads.object_e_tag, loads.object_bytes
FROM longbox.loads JOIN longbox.feeds USING (feed_id)
WHERE feeds.system = %(system)s AND feeds.feed = %(feed)s AND loads.landing_day = ANY(%(days)s)

-- name: first_day_with_result
-- The oldest landing day that was ever worked on for an asset. Primary key (asset, landing_day).
SELECT min(landing_day) FROM longbox.day_results WHERE asset = %(asset)s

-- name: results_of_days
-- What became of the landing days of a window at an asset, and when. Primary key (asset, landing_day).
SELECT landing_day, outcome, problems, finished_at FROM longbox.day_results
WHERE asset = %(asset)s AND landing_day BETWEEN %(first)s AND %(last)s

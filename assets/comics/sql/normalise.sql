-- Normalising comics: the comics, series and publishers that titles name, and what newer exchange rates may change.

-- name: titles_of_day
-- Every title that landed on a day, current or not: so that the comics do not depend on which version came first.
-- Relies on the raw table's index on (load_id).
SELECT DISTINCT title FROM comics.pricing_data_raw
WHERE load_id IN (SELECT load_id FROM longbox.loads JOIN longbox.feeds USING (feed_id)
                  WHERE (system, feed) = (%(system)s, %(feed)s) AND landing_day = %(landing_day)s)

-- name: known_publishers
SELECT publisher_id, publisher_key, name FROM comics.publishers WHERE publisher_id = ANY(%(ids)s)

-- name: known_series
SELECT series_id, series_key, series.name, publisher_key
FROM comics.series LEFT JOIN comics.publishers USING (publisher_id)
WHERE series_id = ANY(%(ids)s)

-- name: known_comics
SELECT comic_id, comic_key, series_id, issue_number, issue_sort, variant, title, year
FROM comics.comics WHERE comic_id = ANY(%(ids)s)

-- name: write_publisher
-- Parameters in order: publisher_id, publisher_key, name.
INSERT INTO comics.publishers (publisher_id, publisher_key, name) VALUES (%s, %s, %s)
ON CONFLICT (publisher_id) DO UPDATE SET name = excluded.name

-- name: write_series
-- Parameters in order: series_id, series_key, name, the publisher's key (not written), publisher_id.
INSERT INTO comics.series (series_id, series_key, name, publisher_id)
SELECT series_id, series_key, name, publisher_id
FROM (VALUES (%s::uuid, %s, %s, %s, %s::uuid)) AS row (series_id, series_key, name, publisher_key, publisher_id)
ON CONFLICT (series_id) DO UPDATE SET name = excluded.name, publisher_id = excluded.publisher_id

-- name: write_comic
-- Parameters in order: comic_id, comic_key, series_id, issue_number, issue_sort, variant, title, year.
INSERT INTO comics.comics (comic_id, comic_key, series_id, issue_number, issue_sort, variant, title, year)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (comic_id) DO UPDATE
   SET issue_number = excluded.issue_number, issue_sort = excluded.issue_sort, title = excluded.title,
       year = excluded.year

-- name: fx_facts
-- What changes whenever a rate is added or changed: how many there are, when the newest came, a sum over all times.
-- A load gives all of its rates one time, so that few times are left to reckon with.
SELECT coalesce(sum(rates), 0)::bigint, coalesce(max(loaded_us), 0),
       coalesce(sum(loaded_us % 1000000007 * rates), 0)::bigint
FROM (SELECT (extract(epoch FROM loaded_at) * 1000000)::bigint AS loaded_us, count(*) AS rates
      FROM reference.fx_rates GROUP BY loaded_at) AS load

-- name: sale_days_with_newer_rates
-- Days of sale that a rate loaded since then may serve: its own day and those after it that fall back on it. An hour is
-- allowed for loads that began earlier and committed later. Parameters: since_us, fallback_days.
SELECT DISTINCT rate_on + later
FROM (SELECT DISTINCT rate_on FROM reference.fx_rates
      WHERE loaded_at > to_timestamp(%(since_us)s / 1000000.0) - interval '1 hour') AS changed,
     generate_series(0, %(fallback_days)s::int) AS later
ORDER BY 1

-- name: keys_with_newer_rates
-- Records that were refused for want of a rate, and sales in another currency on the given days. The days are constants
-- to the planner, so that only their partitions are read.
SELECT key_hash, NULL::uuid FROM longbox.rejections JOIN longbox.feeds USING (feed_id)
WHERE (system, feed) = (%(system)s, %(feed)s) AND reason = ANY(%(reasons)s)
UNION
SELECT key_hash, NULL::uuid FROM comics.pricing_data_normalized
WHERE currency <> 'USD' AND sale_date = ANY(%(days)s)

-- Records that were loaded and cannot be normalised, with where they landed last.

-- name: list_rejections
-- Relies on the registry's primary key and on rejections_by_reason.
SELECT feed.system || '/' || feed.feed, load.landing_day, load.file_name, version.ordinal, rejected.reason,
       rejected.detail
FROM longbox.rejections AS rejected
JOIN longbox.feeds AS feed USING (feed_id)
JOIN longbox.record_keys AS version USING (feed_id, key_hash, content_hash)
JOIN longbox.loads AS load ON load.load_id = version.load_id
WHERE (%(feed)s::text IS NULL OR feed.system || '/' || feed.feed = %(feed)s)
  AND (%(reason)s::text IS NULL OR rejected.reason = %(reason)s)
ORDER BY load.landing_day, load.file_name COLLATE "C", version.ordinal
LIMIT %(limit)s

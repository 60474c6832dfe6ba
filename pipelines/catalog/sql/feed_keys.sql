-- The keys that the records of feeds were registered with: another key would give every record another identity.

-- name: keep_key
-- Note the key of feed %(feed_id)s. As long as it has no record it follows the catalogue, then it stays.
UPDATE longbox.feeds SET key_columns = %(key)s::text[]
WHERE feed_id = %(feed_id)s AND key_columns IS DISTINCT FROM %(key)s::text[]
  AND (key_columns IS NULL OR NOT EXISTS (SELECT FROM longbox.record_keys WHERE feed_id = %(feed_id)s))

-- name: kept_keys
-- Keys of the feeds of a system that have records, by feed.
SELECT feed, key_columns FROM longbox.feeds AS known
WHERE system = %(system)s AND key_columns IS NOT NULL
  AND EXISTS (SELECT FROM longbox.record_keys WHERE record_keys.feed_id = known.feed_id)

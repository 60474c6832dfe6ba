-- What the records of feeds were registered with: another key would give every record another identity, another table
-- would lack all that are registered.

-- name: keep_identity
-- Note key and table of feed %(feed_id)s. As long as it has no record they follow the catalogue, then they stay; but a
-- table that is no longer there was renamed or dropped, and its records with it.
UPDATE longbox.feeds AS known
SET key_columns = CASE WHEN free.is_free OR key_columns IS NULL THEN %(key)s::text[] ELSE key_columns END,
    table_name = CASE WHEN free.is_free OR to_regclass(quote_ident(system) || '.' || quote_ident(table_name)) IS NULL
                      THEN %(table)s ELSE table_name END
FROM (SELECT NOT EXISTS (SELECT FROM longbox.record_keys WHERE feed_id = %(feed_id)s)) AS free (is_free)
WHERE known.feed_id = %(feed_id)s
  AND (key_columns IS DISTINCT FROM %(key)s::text[] OR table_name IS DISTINCT FROM %(table)s)

-- name: kept_identities
-- Key and table of the feeds of a system that have records, by feed; no table where it is gone.
SELECT feed, key_columns,
       CASE WHEN to_regclass(quote_ident(system) || '.' || quote_ident(table_name)) IS NOT NULL THEN table_name END
FROM longbox.feeds AS known
WHERE system = %(system)s AND key_columns IS NOT NULL
  AND EXISTS (SELECT FROM longbox.record_keys WHERE record_keys.feed_id = known.feed_id)

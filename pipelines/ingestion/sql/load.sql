-- Loading one landed file: staging, the registry of record keys, the table, quarantine, the account.
-- All of it runs in the transaction of the file, under the feed's advisory lock.

-- name: lock_feed
-- One file of a feed at a time: two runs of the same day wait for each other instead of meeting in the registry.
SELECT pg_advisory_xact_lock(hashtextextended('longbox.feed', %(feed_id)s))

-- name: feed_id
-- The number of a feed, made when first seen; writes nothing, and waits for no disk, when it is known. Relies on the
-- unique key (system, feed).
WITH known AS (SELECT feed_id FROM longbox.feeds WHERE (system, feed) = (%(system)s, %(feed)s)),
made AS (
  INSERT INTO longbox.feeds (system, feed) SELECT %(system)s, %(feed)s WHERE NOT EXISTS (SELECT FROM known)
  ON CONFLICT (system, feed) DO UPDATE SET feed = excluded.feed
  RETURNING feed_id
)
SELECT feed_id FROM known UNION ALL SELECT feed_id FROM made

-- name: days_with_accounts
-- Of %(days)s, those of which anything is kept: a file, or a row put aside.
SELECT landing_day FROM longbox.loads WHERE feed_id = %(feed_id)s AND landing_day = ANY (%(days)s)
UNION
SELECT landing_day FROM longbox.quarantine WHERE feed_id = %(feed_id)s AND landing_day = ANY (%(days)s)

-- name: loads_of_day
-- Everything known of a landing day's files, newest first: a file that was read and did not change is not read again.
SELECT file_name, status, object_e_tag, object_bytes, catalogue_version,
       landed_rows, loaded_rows, duplicate_rows, quarantined_rows, file_name
FROM longbox.loads
WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s
ORDER BY load_id DESC

-- name: load_with_content
-- The load that holds the rows of this content, under whatever name or day it came first. Uses loads_one_per_content.
SELECT load_id, landed_rows, quarantined_rows, landing_day, file_name FROM longbox.loads
WHERE feed_id = %(feed_id)s AND content_hash = %(content_hash)s AND catalogue_version = %(catalogue_version)s
  AND status = 'loaded'

-- name: record_load
-- Open the account of a file. The same object read again in the same version replaces what was said of it before
-- (an empty file, one quarantined whole); a load that holds rows is never replaced.
INSERT INTO longbox.loads (feed_id, landing_day, file_name, content_hash, catalogue_version, status, object_e_tag,
                           object_bytes, content_bytes, landed_rows, duplicate_rows, original_load_id, header, report,
                           run_id)
VALUES (%(feed_id)s, %(landing_day)s, %(file_name)s, %(content_hash)s, %(catalogue_version)s, %(status)s,
        %(object_e_tag)s, %(object_bytes)s, %(content_bytes)s, %(landed_rows)s, %(landed_rows)s, %(original_load_id)s,
        %(header)s, %(report)s, %(run_id)s)
ON CONFLICT (feed_id, landing_day, file_name, content_hash, catalogue_version) DO UPDATE
   SET status = excluded.status, object_e_tag = excluded.object_e_tag, object_bytes = excluded.object_bytes,
       content_bytes = excluded.content_bytes, landed_rows = excluded.landed_rows,
       duplicate_rows = excluded.duplicate_rows, original_load_id = excluded.original_load_id,
       header = excluded.header, report = excluded.report, run_id = excluded.run_id, loaded_at = now()
RETURNING load_id

-- name: close_load
-- Close the account of a file. The table's CHECK refuses one that does not add up (promise 2).
UPDATE longbox.loads
SET landed_rows = %(landed_rows)s, loaded_rows = %(loaded_rows)s, duplicate_rows = %(duplicate_rows)s,
    quarantined_rows = %(quarantined_rows)s, header = %(header)s, report = %(report)s
WHERE load_id = %(load_id)s

-- name: note_object
-- The same content under the same name and day, written again: remember the new object, so that it is not read again.
UPDATE longbox.loads SET object_e_tag = %(object_e_tag)s, object_bytes = %(object_bytes)s WHERE load_id = %(load_id)s

-- name: earlier_headers
-- Columns of the last files up to a landing day. Relies on loads_by_day.
SELECT header FROM longbox.loads
WHERE feed_id = %(feed_id)s AND landing_day <= %(landing_day)s AND status = 'loaded' AND header ? 'columns'
ORDER BY landing_day DESC, load_id DESC LIMIT %(limit)s

-- name: faults_by_column
-- Columns in which at least so many rows of a load do not convert, with one of them. Relies on quarantine_by_load.
SELECT column_name, count(*), min(detail) FROM longbox.quarantine
WHERE load_id = %(load_id)s AND column_name IS NOT NULL AND reason = ANY (%(reasons)s)
GROUP BY column_name HAVING count(*) >= %(least)s
ORDER BY column_name

-- name: changes_of_days
-- What changed in the columns of the files of landing days, of each by its last load. Relies on loads_by_day.
SELECT feeds.system || '/' || feeds.feed, loads.landing_day, loads.file_name, change
FROM unnest(%(systems)s::text[], %(feeds)s::text[]) AS wanted (system, feed)
     JOIN longbox.feeds USING (system, feed) JOIN longbox.loads USING (feed_id),
     jsonb_array_elements(loads.report -> 'schema_changes') AS change
WHERE loads.landing_day = ANY (%(days)s)
  AND NOT EXISTS (SELECT FROM longbox.loads AS later
                  WHERE later.feed_id = loads.feed_id AND later.landing_day = loads.landing_day
                    AND later.file_name = loads.file_name AND later.load_id > loads.load_id)
ORDER BY 1, 2, loads.file_name COLLATE "C", loads.load_id

-- name: probe_by_index
-- Within a load the planner has no statistics of what was just written, and would scan the registry for a chunk's keys.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)

-- name: plan_as_before
SELECT set_config(name, setting, true)
FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin'],
            %(settings)s::text[]) AS before (name, setting)

-- name: plan_now
SELECT ARRAY[current_setting('enable_seqscan'), current_setting('enable_bitmapscan'),
             current_setting('enable_hashjoin'), current_setting('enable_mergejoin')]

-- name: has_entries
-- Whether the registry has anything of a feed. Relies on its primary key.
SELECT EXISTS (SELECT FROM longbox.record_keys WHERE feed_id = %(feed_id)s)

-- name: known_versions
-- The versions that the registry has of a chunk's keys (sorted), 32 bytes each: key and content. One walk through its
-- primary key, which a sorted array enters once for each page and not once for each key.
SELECT string_agg(uuid_send(key_hash) || uuid_send(content_hash), ''::bytea)
FROM longbox.record_keys WHERE feed_id = %(feed_id)s AND key_hash = ANY (%(keys)b::uuid[])

-- name: land_known_again
-- As land_again, of versions that are the only ones of their records: no other can win or lose by it.
UPDATE longbox.record_keys k
SET landed_on = %(landing_day)s, load_id = %(load_id)s, ordinal = r.ordinal
FROM unnest(%(keys)b::uuid[], %(contents)b::uuid[], %(ordinals)b::bigint[]) AS r (key_hash, content_hash, ordinal)
WHERE k.feed_id = %(feed_id)s AND k.key_hash = r.key_hash AND k.content_hash = r.content_hash
  AND (%(landing_day)s, %(file_name)s::text COLLATE "C", %(load_id)s, r.ordinal)
    > (k.landed_on, (SELECT l.file_name COLLATE "C" FROM longbox.loads l WHERE l.load_id = k.load_id), k.load_id,
       k.ordinal)

-- name: copy_new_rows
COPY {table} (key_hash, content_hash, line, landing_day, load_id, {columns}) FROM STDIN (FORMAT {form})

-- name: copy_new_keys
COPY longbox.record_keys (feed_id, key_hash, content_hash, event_on, revision, landed_on, load_id, ordinal)
FROM STDIN (FORMAT binary)

-- name: drop_staging
-- A second writer in one transaction (a replay of two kinds of rows) begins afresh.
DROP TABLE IF EXISTS pg_temp.ingest_rows, pg_temp.ingest_known

-- name: create_staging
-- The rows of one chunk, typed like the table but without its constraints; and what the registry knows of them.
CREATE TEMP TABLE ingest_rows ON COMMIT DROP AS
SELECT 0::bigint AS ordinal, 0::bigint AS last_ordinal, 0::bigint AS line, NULL::uuid AS key_hash,
       NULL::uuid AS content_hash, NULL::date AS event_on, NULL::bigint AS revision, false AS is_repeated,
       false AS is_tombstone, {columns}
FROM {table} LIMIT 0

-- name: create_known
CREATE TEMP TABLE ingest_known (ordinal bigint, key_hash uuid, is_same boolean) ON COMMIT DROP

-- name: copy_rows
COPY ingest_rows (ordinal, last_ordinal, line, key_hash, content_hash, event_on, revision, is_repeated, is_tombstone,
                  {columns})
FROM STDIN

-- name: find_known
-- The versions that the registry has of the chunk's keys: one probe of its primary key a row. The planner would scan
-- the registry instead (it has no statistics of a temporary table), hence LATERAL with an inner limit it cannot undo.
INSERT INTO ingest_known (ordinal, key_hash, is_same)
SELECT r.ordinal, r.key_hash, k.content_hash = r.content_hash
FROM ingest_rows r,
     LATERAL (SELECT content_hash FROM longbox.record_keys
              WHERE feed_id = %(feed_id)s AND key_hash = r.key_hash OFFSET 0) k
WHERE r.ordinal BETWEEN %(first)s AND %(last)s

-- name: register_new
-- In the order of the primary key: neighbours share its pages, random ones would each touch one of their own.
INSERT INTO longbox.record_keys (feed_id, key_hash, content_hash, event_on, revision, landed_on, load_id, ordinal,
                                 is_tombstone)
SELECT %(feed_id)s, r.key_hash, r.content_hash, r.event_on, r.revision, %(landing_day)s, %(load_id)s, r.last_ordinal,
       r.is_tombstone
FROM ingest_rows r
WHERE r.ordinal BETWEEN %(first)s AND %(last)s
  AND NOT EXISTS (SELECT FROM ingest_known k WHERE k.ordinal = r.ordinal AND k.is_same)
ORDER BY r.key_hash, r.content_hash

-- name: insert_new
-- Into the table, or into a partition that the file is filling: the rows whose event lies inside the given spans, or
-- outside of all of them.
INSERT INTO {table} ({columns}, key_hash, content_hash, landing_day, load_id, line)
SELECT {values}, r.key_hash, r.content_hash, %(landing_day)s, %(load_id)s, r.line
FROM ingest_rows r
WHERE r.ordinal BETWEEN %(first)s AND %(last)s AND NOT r.is_tombstone
  AND NOT EXISTS (SELECT FROM ingest_known k WHERE k.ordinal = r.ordinal AND k.is_same)
  AND %(is_inside)s = EXISTS (SELECT FROM unnest(%(lowers)s::date[], %(uppers)s::date[]) AS span (lower, upper)
                              WHERE r.event_on >= span.lower AND r.event_on < span.upper)

-- name: insert_tombstones
-- Deletions that are new. They have no row in the table: they may lack its required columns.
INSERT INTO longbox.tombstones (feed_id, key_hash, content_hash, landing_day, load_id, line)
SELECT %(feed_id)s, r.key_hash, r.content_hash, %(landing_day)s, %(load_id)s, r.line
FROM ingest_rows r
WHERE r.ordinal BETWEEN %(first)s AND %(last)s AND r.is_tombstone
  AND NOT EXISTS (SELECT FROM ingest_known k WHERE k.ordinal = r.ordinal AND k.is_same)

-- name: land_again
-- A content that lands again counts from its last landing: day, then file name, then arrival, then line.
UPDATE longbox.record_keys k
SET landed_on = %(landing_day)s, load_id = %(load_id)s, ordinal = r.last_ordinal
FROM ingest_rows r JOIN ingest_known n ON n.ordinal = r.ordinal AND n.is_same
WHERE r.ordinal BETWEEN %(first)s AND %(last)s
  AND k.feed_id = %(feed_id)s AND k.key_hash = r.key_hash AND k.content_hash = r.content_hash
  AND (%(landing_day)s, %(file_name)s::text COLLATE "C", %(load_id)s, r.last_ordinal)
    > (k.landed_on, (SELECT l.file_name COLLATE "C" FROM longbox.loads l WHERE l.load_id = k.load_id), k.load_id,
       k.ordinal)

-- name: switch_versions
-- For every key of the chunk with more than one version: mark the winner (the feed's revision, else the last landed)
-- and note all its versions under the landing day, so that later stages recompute what any of them touches.
WITH keys AS MATERIALIZED (
    SELECT DISTINCT r.key_hash FROM ingest_rows r
    WHERE r.ordinal BETWEEN %(first)s AND %(last)s
      AND (r.is_repeated OR EXISTS (SELECT FROM ingest_known n WHERE n.ordinal = r.ordinal AND NOT n.is_same))
), versions AS MATERIALIZED (
    SELECT v.key_hash, v.content_hash, v.event_on, v.is_current,
           row_number() OVER (PARTITION BY v.key_hash ORDER BY v.revision DESC NULLS LAST, v.landed_on DESC,
                              l.file_name COLLATE "C" DESC, v.load_id DESC, v.ordinal DESC) = 1 AS wins,
           count(*) OVER (PARTITION BY v.key_hash) AS versions
    FROM keys,
         LATERAL (SELECT * FROM longbox.record_keys k
                  WHERE k.feed_id = %(feed_id)s AND k.key_hash = keys.key_hash OFFSET 0) v
         JOIN longbox.loads l ON l.load_id = v.load_id
), marked AS (
    UPDATE longbox.record_keys k SET is_current = v.wins
    FROM versions v
    WHERE v.versions > 1 AND v.wins <> v.is_current
      AND k.feed_id = %(feed_id)s AND k.key_hash = v.key_hash AND k.content_hash = v.content_hash
)
INSERT INTO longbox.version_switches (feed_id, landing_day, key_hash, content_hash, event_on)
SELECT %(feed_id)s, %(landing_day)s, key_hash, content_hash, event_on FROM versions WHERE versions > 1
ON CONFLICT DO NOTHING

-- name: copy_quarantine
COPY longbox.quarantine (feed_id, load_id, landing_day, file_name, line, ordinal, column_name, reason, detail, remedy,
                         raw_text, run_id) FROM STDIN

-- name: quarantine_file
-- A file that cannot be read at all; once, however often it is tried.
INSERT INTO longbox.quarantine (feed_id, load_id, landing_day, file_name, reason, detail, remedy, run_id)
SELECT %(feed_id)s, %(load_id)s, %(landing_day)s, %(file_name)s, %(reason)s, %(detail)s, %(remedy)s, %(run_id)s
WHERE NOT EXISTS (SELECT FROM longbox.quarantine WHERE load_id = %(load_id)s AND line IS NULL AND status = 'open')

-- name: close_file_faults
-- A complete file under the same name and day repairs what was quarantined whole before it.
UPDATE longbox.quarantine SET status = 'replayed', closed_at = now()
WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s AND file_name = %(file_name)s AND line IS NULL
  AND status = 'open'

-- name: close_rows_read_again
-- The same content read under a changed catalogue: its rows are judged anew, so the old verdicts are closed and
-- accounted for as duplicates of the new reading.
WITH closed AS (
    UPDATE longbox.quarantine q SET status = 'replayed', closed_at = now()
    FROM longbox.loads l
    WHERE q.load_id = l.load_id AND l.feed_id = %(feed_id)s AND l.content_hash = %(content_hash)s
      AND l.load_id <> %(load_id)s AND q.line IS NOT NULL AND q.status = 'open'
    RETURNING q.load_id
)
UPDATE longbox.loads l
SET quarantined_rows = quarantined_rows - c.rows, duplicate_rows = duplicate_rows + c.rows
FROM (SELECT load_id, count(*) AS rows FROM closed GROUP BY load_id) c
WHERE l.load_id = c.load_id

-- name: day_totals
SELECT coalesce(sum(landed_rows), 0)::bigint, coalesce(sum(loaded_rows), 0)::bigint,
       coalesce(sum(duplicate_rows), 0)::bigint, coalesce(sum(quarantined_rows), 0)::bigint
FROM longbox.loads WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s

-- name: open_file_faults
SELECT file_name, reason, detail FROM longbox.quarantine
WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s AND line IS NULL AND status = 'open'
ORDER BY quarantine_id

-- name: tombstones_of_day
-- Deletions that landed on the day. Relies on tombstones_by_load.
SELECT count(*) FROM longbox.tombstones
WHERE load_id IN (SELECT load_id FROM longbox.loads WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s)

-- name: raw_rows_of_day
-- Rows of the table that landed on the day, counted in the table itself. Relies on its index on (load_id).
SELECT count(*) FROM {table}
WHERE load_id IN (SELECT load_id FROM longbox.loads WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s)

-- name: open_rows_of_day
-- Quarantined rows that are still accounted as such: open ones, and those an operator dismissed.
SELECT count(*) FROM longbox.quarantine
WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s AND line IS NOT NULL AND status <> 'replayed'

-- name: constrained_column
-- The column of a constraint that is of one column only; no row for others.
SELECT a.attname
FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE k.conrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))
  AND k.conname = %(constraint)s AND cardinality(k.conkey) = 1

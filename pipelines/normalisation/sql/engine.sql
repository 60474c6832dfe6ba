-- The generic normaliser: a batch of record keys, from the raw versions to the target table, in one transaction.
-- Temporary tables live as long as the transaction. LATERAL with OFFSET 0 makes every lookup one probe of an index:
-- the planner knows nothing of a temporary table's rows and would scan whole relations instead.

-- name: lock_relation
-- One writer of a derived table at a time, across processes; goes with the transaction. Parameter: relation.
SELECT pg_advisory_xact_lock(hashtextextended('longbox write ' || %(relation)s, 0))

-- name: share_relation
-- The same lock for those who do not write what it names as a whole: they have it together, and keep its one writer away.
SELECT pg_advisory_xact_lock_shared(hashtextextended('longbox write ' || %(relation)s, 0))

-- name: feed_id
SELECT feed_id FROM longbox.feeds WHERE system = %(system)s AND feed = %(feed)s

-- name: loads_of_day
-- Loads of a landing day that hold rows. Relies on loads_by_day.
SELECT load_id FROM longbox.loads
WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s AND loaded_rows > 0
ORDER BY load_id

-- name: keys_of_day
-- What a landing day touched: its own versions, in the order in which they lie on disk, then (without a content) the
-- records of which it switched versions. Relies on the raw table's index on (load_id).
SELECT key_hash, content_hash FROM {raw} WHERE load_id = ANY(%(loads)s)
UNION ALL
SELECT DISTINCT key_hash, NULL::uuid FROM longbox.version_switches
WHERE feed_id = %(feed_id)s AND landing_day = %(landing_day)s

-- name: keys_of_other_rules
-- Records whose row, or rejection, was made by other rules than today's (older ones, or newer that were taken back). Scans the target: for a changed rule, not for every day.
SELECT key_hash, NULL::uuid FROM {target} WHERE rule_version <> %(rule_version)s
UNION ALL
SELECT key_hash, NULL::uuid FROM longbox.rejections
WHERE feed_id = %(feed_id)s AND rule_version <> %(rule_version)s

-- name: create_batch
-- What a batch works with: its keys, their versions, rows to be, rejections, what changes and what goes.
CREATE TEMP TABLE batch_landed (key_hash uuid NOT NULL, content_hash uuid) ON COMMIT DROP;
CREATE TEMP TABLE batch_versions (key_hash uuid NOT NULL, content_hash uuid NOT NULL, event_on date NOT NULL,
                                  is_current boolean NOT NULL, is_tombstone boolean NOT NULL,
                                  is_deleted boolean NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE batch_rows ON COMMIT DROP AS SELECT {columns} FROM {target} LIMIT 0;
CREATE TEMP TABLE batch_touched ON COMMIT DROP AS SELECT {timed_groups} FROM {target} LIMIT 0;
CREATE TEMP TABLE batch_rejected (key_hash uuid NOT NULL, content_hash uuid NOT NULL, event_on date NOT NULL,
                                  reason text NOT NULL, detail text NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE batch_absent (key_hash uuid NOT NULL, content_hash uuid NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE batch_changed (key_hash uuid NOT NULL, event_on date NOT NULL, is_there boolean NOT NULL,
                                 is_same boolean NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE batch_gone (key_hash uuid NOT NULL, event_on date NOT NULL) ON COMMIT DROP

-- name: add_landed
INSERT INTO batch_landed (key_hash, content_hash) SELECT unnest(%(keys)s::uuid[]), unnest(%(contents)s::uuid[])

-- name: copy_rows
COPY batch_rows ({columns}) FROM STDIN

-- name: copy_rejected
COPY batch_rejected (key_hash, content_hash, event_on, reason, detail) FROM STDIN

-- name: find_versions
-- Every version of the batch's keys that was ever accepted, and whether the winning one deletes the record. Relies on
-- the registry's primary key.
INSERT INTO batch_versions (key_hash, content_hash, event_on, is_current, is_tombstone, is_deleted)
SELECT key.key_hash, version.content_hash, version.event_on, version.is_current, version.is_tombstone,
       bool_or(version.is_current AND version.is_tombstone) OVER (PARTITION BY key.key_hash)
FROM (SELECT DISTINCT key_hash FROM batch_landed) AS key,
     LATERAL (SELECT content_hash, event_on, is_current, is_tombstone FROM longbox.record_keys
              WHERE feed_id = %(feed_id)s AND key_hash = key.key_hash OFFSET 0) AS version

-- name: event_days
-- The days that the batch's versions are of.
SELECT DISTINCT event_on FROM batch_versions

-- name: current_rows
-- The winning version of each key with its raw columns; `is_here` is null when the raw row is no longer in PostgreSQL
-- (its month is in the archive). Relies on the raw table's index on (key_hash); partitions are pruned by {raw_within}
-- when it is planned and by {placed} when it runs. The hashes as text: they only go back to the server.
SELECT version.key_hash::text, version.content_hash::text, version.event_on, raw.is_here, {reads}
FROM batch_versions AS version
LEFT JOIN LATERAL (
    SELECT true AS is_here, source.* FROM {raw} AS source
    WHERE key_hash = version.key_hash AND content_hash = version.content_hash AND {placed} AND {raw_within} LIMIT 1
) AS raw ON true
WHERE version.is_current AND NOT version.is_tombstone

-- name: find_absent
-- Keys whose winning version cannot be read here: what was made of it before must stand.
INSERT INTO batch_absent (key_hash, content_hash) SELECT unnest(%(keys)s::uuid[]), unnest(%(contents)s::uuid[])

-- name: find_changed
-- Rows that are new or differ from what stands (`is_there`); `is_same`: in nothing but the version of the rules that
-- made them. Relies on the target's primary key (key_hash, {time}).
INSERT INTO batch_changed (key_hash, event_on, is_there, is_same)
SELECT fresh.key_hash, fresh.{time}, kept.is_there IS NOT NULL,
       kept.is_there IS NOT NULL AND ({kept_content}) IS NOT DISTINCT FROM ({fresh_content})
FROM batch_rows AS fresh
LEFT JOIN LATERAL (
    SELECT true AS is_there, {columns} FROM {target} AS kept
    WHERE kept.key_hash = fresh.key_hash AND kept.{time} = fresh.{time} AND {within} OFFSET 0
) AS kept ON true
WHERE kept.is_there IS NULL OR ({kept_columns}) IS DISTINCT FROM ({fresh_columns})

-- name: find_gone
-- Rows that stand for a version that moved, lost, or can no longer be normalised. Relies on the same primary key.
INSERT INTO batch_gone (key_hash, event_on)
SELECT version.key_hash, version.event_on
FROM (SELECT DISTINCT key_hash, event_on FROM batch_versions) AS version,
     LATERAL (SELECT kept.content_hash FROM {target} AS kept
              WHERE kept.key_hash = version.key_hash AND kept.{time} = version.event_on AND {within} OFFSET 0) AS kept
WHERE NOT EXISTS (SELECT FROM batch_rows AS fresh
                  WHERE fresh.key_hash = version.key_hash AND fresh.{time} = version.event_on)
  AND NOT EXISTS (SELECT FROM batch_absent AS absent
                  WHERE absent.key_hash = version.key_hash AND absent.content_hash = kept.content_hash)

-- name: find_touched
-- The groups of which a row changes or goes, as it was.
INSERT INTO batch_touched ({timed_groups})
SELECT kept.{time}, {kept_groups}
FROM (TABLE batch_gone UNION ALL
      SELECT key_hash, event_on FROM batch_changed WHERE is_there AND NOT is_same) AS change,
     LATERAL (SELECT {timed_groups} FROM {target} AS kept
              WHERE kept.key_hash = change.key_hash AND kept.{time} = change.event_on AND {within} OFFSET 0) AS kept

-- name: touch_groups
-- Remember which groups of which days the landing day changed, by the rows as they were and as they are. Whoever
-- recomputes them deletes what it has taken in. Last and in order: where another part noted the same group this waits for
-- its end.
INSERT INTO longbox.touched (table_name, landing_day, group_key, event_on)
SELECT DISTINCT %(relation)s, %(landing_day)s::date, concat_ws('|', {groups}), row.{time}
FROM (
    SELECT {timed_groups} FROM batch_touched
    UNION ALL
    SELECT fresh.{time}, {fresh_groups}
    FROM batch_rows AS fresh JOIN batch_changed AS change
      ON change.key_hash = fresh.key_hash AND change.event_on = fresh.{time} AND NOT change.is_same
) AS row
WHERE num_nulls({groups}) = 0
ORDER BY 3, 4
ON CONFLICT DO NOTHING

-- name: delete_gone
DELETE FROM {target} AS kept USING batch_gone AS gone
WHERE kept.key_hash = gone.key_hash AND kept.{time} = gone.event_on AND {within}

-- name: count_changed
-- Rows that are new, that differ, and that only say by which rules they were made.
SELECT count(*) FILTER (WHERE NOT is_there), count(*) FILTER (WHERE is_there AND NOT is_same),
       count(*) FILTER (WHERE is_same) FROM batch_changed

-- name: insert_new
-- The target's lock keeps other writers away: a row that is there after all stops the batch.
INSERT INTO {target} ({columns})
SELECT {fresh_columns} FROM batch_rows AS fresh
JOIN batch_changed AS change
  ON change.key_hash = fresh.key_hash AND change.event_on = fresh.{time} AND NOT change.is_there

-- name: upsert_changed
-- Only rows that differ are written; columns that a later stage sets start from their default again.
INSERT INTO {target} ({columns})
SELECT {fresh_columns} FROM batch_rows AS fresh
JOIN batch_changed AS change
  ON change.key_hash = fresh.key_hash AND change.event_on = fresh.{time} AND change.is_there AND NOT change.is_same
ON CONFLICT (key_hash, {time}) DO UPDATE SET {assignments}

-- name: stamp_rules
-- Rows that today's rules make as they stand: they only say so. Nothing of a later stage is touched.
UPDATE {target} AS kept SET rule_version = %(rule_version)s
FROM batch_changed AS change
WHERE change.is_same AND kept.key_hash = change.key_hash AND kept.{time} = change.event_on AND {within}

-- name: clear_rejections
-- Rejections of the batch's keys that no longer hold, or hold otherwise.
DELETE FROM longbox.rejections AS kept USING (SELECT DISTINCT key_hash FROM batch_landed) AS key
WHERE kept.feed_id = %(feed_id)s AND kept.key_hash = key.key_hash
  AND NOT EXISTS (SELECT FROM batch_rejected AS fresh
                  WHERE (fresh.key_hash, fresh.content_hash, fresh.event_on, fresh.reason, fresh.detail)
                      = (kept.key_hash, kept.content_hash, kept.event_on, kept.reason, kept.detail)
                    AND kept.rule_version = %(rule_version)s)
  AND NOT EXISTS (SELECT FROM batch_absent AS absent
                  WHERE absent.key_hash = kept.key_hash AND absent.content_hash = kept.content_hash)

-- name: add_rejections
INSERT INTO longbox.rejections (feed_id, key_hash, content_hash, event_on, reason, detail, rule_version, run_id)
SELECT %(feed_id)s, key_hash, content_hash, event_on, reason, detail, %(rule_version)s, %(run_id)s FROM batch_rejected
ON CONFLICT (feed_id, key_hash) DO NOTHING

-- name: account_batch
-- The equation of promise 2 over the batch's raw versions, read back from the tables before the batch commits:
-- raw = normalised + superseded + rejected + deleted.
SELECT count(*),
       count(*) FILTER (WHERE version.is_deleted),
       count(*) FILTER (WHERE NOT version.is_current AND NOT version.is_deleted),
       count(*) FILTER (WHERE version.is_current AND rejected.is_there),
       count(*) FILTER (WHERE version.is_current AND rejected.is_there IS NULL AND kept.is_there)
FROM batch_landed AS landed
LEFT JOIN batch_versions AS version
  ON version.key_hash = landed.key_hash AND version.content_hash = landed.content_hash
LEFT JOIN LATERAL (
    SELECT true AS is_there FROM {target} AS kept
    WHERE kept.key_hash = landed.key_hash AND kept.{time} = version.event_on
      AND kept.content_hash = landed.content_hash AND {within} OFFSET 0
) AS kept ON version.is_current
LEFT JOIN LATERAL (
    SELECT true AS is_there FROM longbox.rejections AS rejected
    WHERE rejected.feed_id = %(feed_id)s AND rejected.key_hash = landed.key_hash
      AND rejected.content_hash = landed.content_hash OFFSET 0
) AS rejected ON version.is_current
WHERE landed.content_hash IS NOT NULL

-- name: account_day
-- The same equation over all raw versions of a landing day, for a check that trusts nothing the run said.
SELECT count(*),
       count(*) FILTER (WHERE deleted.is_there),
       count(*) FILTER (WHERE NOT version.is_current AND deleted.is_there IS NULL),
       count(*) FILTER (WHERE version.is_current AND rejected.is_there),
       count(*) FILTER (WHERE version.is_current AND rejected.is_there IS NULL AND kept.is_there)
FROM {raw} AS landed
LEFT JOIN LATERAL (
    SELECT event_on, is_current FROM longbox.record_keys AS version
    WHERE version.feed_id = %(feed_id)s AND version.key_hash = landed.key_hash
      AND version.content_hash = landed.content_hash OFFSET 0
) AS version ON true
LEFT JOIN LATERAL (
    SELECT true AS is_there FROM longbox.record_keys AS winner
    WHERE winner.feed_id = %(feed_id)s AND winner.key_hash = landed.key_hash AND winner.is_current
      AND winner.is_tombstone OFFSET 0
) AS deleted ON NOT version.is_current
LEFT JOIN LATERAL (
    SELECT true AS is_there FROM {target} AS kept
    WHERE kept.key_hash = landed.key_hash AND kept.{time} = version.event_on
      AND kept.content_hash = landed.content_hash OFFSET 0
) AS kept ON version.is_current
LEFT JOIN LATERAL (
    SELECT true AS is_there FROM longbox.rejections AS rejected
    WHERE rejected.feed_id = %(feed_id)s AND rejected.key_hash = landed.key_hash
      AND rejected.content_hash = landed.content_hash OFFSET 0
) AS rejected ON version.is_current
WHERE landed.load_id = ANY(%(loads)s)

-- name: newest_counts
-- The counts of the last finished entry of an asset.
SELECT counts FROM longbox.day_results WHERE asset = %(asset)s ORDER BY finished_at DESC, landing_day DESC LIMIT 1

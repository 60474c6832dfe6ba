-- Recomputing the groups of a declared aggregate that landing days touched. All of it runs in one transaction.
--
-- Groups are compared as rows of the type of touched_groups: like GROUP BY, and unlike `=`, that takes null for equal to
-- null, and it can be hashed.

-- name: lock_relation
-- One run of an aggregate at a time; goes with the transaction. The same key as other writers of derived tables use.
SELECT pg_advisory_xact_lock(hashtextextended('longbox write ' || %(relation)s, 0))

-- name: feed_ids
SELECT feed_id FROM longbox.feeds WHERE system = %(system)s AND feed = ANY(%(names)s)

-- name: has_other_feeds
-- Whether feeds that the system no longer declares have loaded any of its tables.
SELECT EXISTS (SELECT FROM longbox.feeds WHERE system = %(system)s AND feed <> ALL(%(declared)s))

-- name: loads_of_days
-- Loads of the landing days that hold rows. Relies on loads_by_day.
SELECT load_id FROM longbox.loads
WHERE feed_id = ANY(%(feeds)s) AND landing_day = ANY(%(days)s) AND loaded_rows > 0

-- name: table_files
-- The files that hold a table, with those of its partitions: others after TRUNCATE, and when it was made anew.
SELECT string_agg(relid::bigint || ':' || pg_relation_filenode(relid), ',' ORDER BY relid)
FROM pg_partition_tree(%(relation)s) WHERE isleaf

-- name: news_of_days
-- Of each day that has files: whether there is one that the aggregate has not taken in as its account now stands, the
-- accounts of all of them, and the loads that hold rows, those not taken in and the others. Whatever changes which
-- rows are current changes the account of a file of the same day, in its transaction. Relies on loads_by_day.
WITH known AS (
    SELECT landing_day, unnest(accounts) AS account FROM longbox.taken_in
    WHERE asset = %(asset)s AND landing_day = ANY(%(days)s) AND definition = %(definition)s
),
files AS (
    SELECT landing_day, load_id, loaded_rows > 0 AS has_rows, hashtextextended(
        ROW(load_id, status, landed_rows, loaded_rows, duplicate_rows, quarantined_rows)::text, 0) AS account
    FROM longbox.loads WHERE feed_id = ANY(%(feeds)s) AND landing_day = ANY(%(days)s)
)
SELECT landing_day, bool_or(known.account IS NULL), array_agg(account),
       coalesce(array_agg(load_id) FILTER (WHERE has_rows AND known.account IS NULL), '{}'),
       coalesce(array_agg(load_id) FILTER (WHERE has_rows AND known.account IS NOT NULL), '{}')
FROM files LEFT JOIN known USING (landing_day, account)
GROUP BY landing_day ORDER BY landing_day

-- name: take_in
-- Parameters in order: asset, landing_day, definition, accounts.
INSERT INTO longbox.taken_in (asset, landing_day, definition, accounts) VALUES (%s, %s, %s, %s)
ON CONFLICT (asset, landing_day) DO UPDATE SET definition = excluded.definition, accounts = excluded.accounts

-- name: forget_taken_in
DELETE FROM longbox.taken_in WHERE asset = %(asset)s

-- name: create_groups
CREATE TEMP TABLE touched_groups ON COMMIT DROP AS SELECT {groups} FROM {aggregate} LIMIT 0;
CREATE TEMP TABLE fresh_groups ON COMMIT DROP AS SELECT {columns} FROM {aggregate} LIMIT 0

-- name: touch_groups
-- The groups of every version of the loads, and of every version of records that switched on the days: a
-- correction changes the group it leaves as well. Relies on the table's indexes on (load_id) and (key_hash).
INSERT INTO touched_groups ({groups})
SELECT {group_values} FROM {source} AS source WHERE load_id = ANY(%(loads)s)
UNION
SELECT {group_values}
FROM (SELECT DISTINCT key_hash, content_hash, event_on FROM longbox.version_switches
      WHERE feed_id = ANY(%(feeds)s) AND landing_day = ANY(%(days)s)) AS version,
     LATERAL (SELECT * FROM {source} AS source
              WHERE source.key_hash = version.key_hash AND source.content_hash = version.content_hash AND {placed}
              OFFSET 0) AS source

-- name: touch_missing_groups
-- Groups of the loads that the aggregate lacks, though it took them in: somebody deleted them, or no row of them is
-- current.
INSERT INTO touched_groups ({groups})
SELECT {group_values} FROM {source} AS source WHERE load_id = ANY(%(loads)s)
EXCEPT (SELECT {groups} FROM {aggregate} UNION ALL SELECT {groups} FROM touched_groups)

-- name: touch_all_groups
-- Every group, for a table that no feed loads: nothing tells what changed in it.
INSERT INTO touched_groups ({groups})
SELECT {group_values} FROM {source} AS source UNION SELECT {groups} FROM {aggregate}

-- name: analyse_groups
ANALYZE touched_groups

-- name: count_groups
SELECT count(*) FROM touched_groups

-- name: chunks
-- The touched groups by month of their time, each chunk with its first and last value.
SELECT min({time_group}), max({time_group}) FROM touched_groups
GROUP BY date_trunc('month', {time_group}) ORDER BY 1

-- name: compute_groups
-- The measures of the touched groups from all current rows: those that the registry does not call superseded.
-- {within} bounds the time with constants, so that only the partitions of the groups' own time are read.
INSERT INTO fresh_groups ({columns})
SELECT {group_numbers}, {measures}
FROM (SELECT {numbered_values} FROM {source} AS source WHERE {within} AND {is_current}) AS numbered
WHERE EXISTS (SELECT FROM touched_groups AS touched
              WHERE touched = ROW({group_numbers})::touched_groups AND {groups_within})
GROUP BY {group_numbers}

-- name: delete_vanished
-- Touched groups that have no row any more.
DELETE FROM {aggregate} AS kept USING touched_groups AS touched
WHERE ROW({kept_groups})::touched_groups = touched AND {groups_within}
  AND NOT EXISTS (SELECT FROM fresh_groups AS fresh WHERE ROW({fresh_groups})::touched_groups = touched)

-- name: upsert_changed
-- Groups that are new or differ; the others are not written. Relies on the unique index over the groups.
INSERT INTO {aggregate} ({columns})
SELECT {fresh_columns}
FROM fresh_groups AS fresh
LEFT JOIN (SELECT true AS is_there, {columns} FROM {aggregate} AS touched WHERE {groups_within}) AS kept
  ON ROW({kept_groups})::touched_groups = ROW({fresh_groups})::touched_groups
WHERE kept.is_there IS NULL OR ROW({kept_measures}) IS DISTINCT FROM ROW({fresh_measures})
ON CONFLICT ({groups}) DO UPDATE SET {assignments}

-- name: clear_fresh
TRUNCATE fresh_groups

-- name: sample_groups
-- Some groups of the aggregate, chosen by a seed, with their measures. Scans the aggregate, not its source.
SELECT {sampled_columns} FROM {aggregate} ORDER BY hashtextextended(ROW({groups})::text, %(seed)s) LIMIT %(count)s

-- name: days_to_run
-- Landing days of which the source has more than the aggregate was computed from: what was loaded, or came out of the
-- quarantine, after the day's last run. By time, as what was taken in is forgotten where something differs. Reads every
-- load of the feeds; asked only where something differs.
SELECT landing_day
FROM (SELECT landing_day, loaded_at AS changed_at FROM longbox.loads
      WHERE feed_id = ANY(%(feeds)s) AND status = 'loaded'
      UNION ALL
      SELECT landing_day, closed_at FROM longbox.quarantine
      WHERE feed_id = ANY(%(feeds)s) AND status = 'replayed' AND line IS NOT NULL) AS change
GROUP BY landing_day
HAVING max(changed_at) > coalesce((SELECT finished_at FROM longbox.day_results AS done
                                   WHERE done.asset = %(asset)s AND done.landing_day = change.landing_day
                                     AND done.outcome <> 'failed'), '-infinity')
ORDER BY landing_day

-- name: is_touched
-- Whether the run of landing days computes one group anew: it is among those that touch_groups finds.
SELECT EXISTS (SELECT FROM {source} AS source JOIN longbox.loads USING (load_id)
               WHERE {same_group} AND loads.feed_id = ANY(%(feeds)s) AND loads.landing_day = ANY(%(days)s))
    OR EXISTS (SELECT FROM longbox.version_switches AS version
               JOIN {source} AS source ON source.key_hash = version.key_hash
                AND source.content_hash = version.content_hash AND {placed}
               WHERE version.feed_id = ANY(%(feeds)s) AND version.landing_day = ANY(%(days)s) AND {same_group})

-- name: values_of_group
-- The values that the measures of one group are taken of, from its current rows, in the order of first and last.
SELECT {values} FROM {source} AS source WHERE {same_group} AND {is_current} ORDER BY {order}

-- The tables of Dagster 1.13's storage (dagster/_core/storage/*/schema.py), in the instance's own database. Its
-- timestamps have no zone and mean UTC.

-- name: bound_statements
SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '10min', true)

-- name: failed_attempts
-- Runs that are the newest attempt at an asset or one of its partitions and materialised nothing: what the UI shows as
-- failed. Relies on idx_events_by_asset and idx_events_by_asset_partition.
SELECT DISTINCT run_id
FROM (SELECT DISTINCT ON (asset_key, partition) run_id, dagster_event_type
      FROM event_logs
      WHERE asset_key IS NOT NULL
        AND dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED')
      ORDER BY asset_key, partition, id DESC) AS newest
WHERE dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'

-- name: deletable_runs
-- Finished runs older than the cut-off whose backfill is over too, oldest first. Relies on idx_run_range.
SELECT run_id, update_timestamp FROM runs
WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED') AND update_timestamp < %(before)s
  AND NOT EXISTS (SELECT FROM bulk_actions AS backfill
                  WHERE backfill.key = runs.backfill_id
                    AND backfill.status NOT IN ('COMPLETED', 'COMPLETED_SUCCESS', 'COMPLETED_FAILED', 'FAILED', 'CANCELED'))
  AND run_id <> ALL(%(kept)s)
ORDER BY id LIMIT %(count)s
FOR UPDATE OF runs SKIP LOCKED

-- name: count_deletable_runs
SELECT count(*) FROM runs
WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED') AND update_timestamp < %(before)s
  AND NOT EXISTS (SELECT FROM bulk_actions AS backfill
                  WHERE backfill.key = runs.backfill_id
                    AND backfill.status NOT IN ('COMPLETED', 'COMPLETED_SUCCESS', 'COMPLETED_FAILED', 'FAILED', 'CANCELED'))
  AND run_id <> ALL(%(kept)s)

-- name: delete_events
-- The events of runs, but for the newest of its kind about an asset or a partition: the UI's status, metadata and data
-- versions come from it. Plans and evaluations of checks have served. Relies on idx_events_by_run_id and the two above.
WITH gone AS (
    DELETE FROM event_logs AS event
    WHERE event.run_id = ANY(%(runs)s)
      AND (event.asset_key IS NULL
           OR event.dagster_event_type IN ('ASSET_MATERIALIZATION_PLANNED', 'ASSET_CHECK_EVALUATION_PLANNED',
                                           'ASSET_CHECK_EVALUATION')
           OR CASE WHEN event.partition IS NULL THEN
                EXISTS (SELECT FROM event_logs AS newer
                        WHERE newer.asset_key = event.asset_key AND newer.dagster_event_type = event.dagster_event_type
                          AND newer.partition IS NULL AND newer.id > event.id)
              ELSE
                EXISTS (SELECT FROM event_logs AS newer
                        WHERE newer.asset_key = event.asset_key AND newer.dagster_event_type = event.dagster_event_type
                          AND newer.partition = event.partition AND newer.id > event.id)
              END)
    RETURNING event.id
), tags AS (
    DELETE FROM asset_event_tags USING gone WHERE asset_event_tags.event_id = gone.id
)
SELECT count(*) FROM gone

-- name: delete_checks
-- The executions of checks of runs, but for the newest of each check and partition.
DELETE FROM asset_check_executions
WHERE run_id = ANY(%(runs)s)
  AND id NOT IN (SELECT max(id) FROM asset_check_executions GROUP BY asset_key, check_name, partition)

-- name: delete_runs
-- Runs without their events; run_tags go with them.
DELETE FROM runs WHERE run_id = ANY(%(runs)s) AND status IN ('SUCCESS', 'FAILURE', 'CANCELED')

-- name: asset_keys
SELECT asset_key FROM asset_keys ORDER BY id

-- name: delete_superseded_events
-- Events about an asset that outlived their run, or never had one, once a newer one of their kind is there.
WITH gone AS (
    DELETE FROM event_logs
    WHERE id IN (SELECT id
                 FROM (SELECT id, run_id, timestamp,
                              row_number() OVER (PARTITION BY dagster_event_type, partition ORDER BY id DESC) AS place
                       FROM event_logs WHERE asset_key = %(asset_key)s) AS event
                 WHERE place > 1 AND timestamp < %(before)s
                   AND NOT EXISTS (SELECT FROM runs WHERE runs.run_id = event.run_id)
                 LIMIT %(count)s)
    RETURNING id
), tags AS (
    DELETE FROM asset_event_tags USING gone WHERE asset_event_tags.event_id = gone.id
)
SELECT count(*) FROM gone

-- name: delete_superseded_checks
DELETE FROM asset_check_executions AS execution
WHERE evaluation_event_timestamp < %(before)s
  AND NOT EXISTS (SELECT FROM runs WHERE runs.run_id = execution.run_id)
  AND id NOT IN (SELECT max(id) FROM asset_check_executions GROUP BY asset_key, check_name, partition)

-- name: delete_backfills
-- Backfills that are over and of which no run is left.
WITH gone AS (
    DELETE FROM bulk_actions AS backfill
    WHERE backfill.status IN ('COMPLETED', 'COMPLETED_SUCCESS', 'COMPLETED_FAILED', 'FAILED', 'CANCELED')
      AND backfill.timestamp < %(before)s
      AND NOT EXISTS (SELECT FROM runs WHERE runs.backfill_id = backfill.key)
    RETURNING key
), tags AS (
    DELETE FROM backfill_tags USING gone WHERE backfill_tags.backfill_id = gone.key
)
SELECT count(*) FROM gone

-- name: vacuum
-- Makes the room of deleted rows usable again; blocks neither readers nor writers. Not in a transaction.
VACUUM (ANALYZE) event_logs, runs, run_tags, asset_event_tags, asset_check_executions

-- name: size_bytes
SELECT pg_database_size(current_database())

-- name: record_purge
INSERT INTO longbox.ledger (act, relation, policy, affected_rows, proof, run_id)
VALUES ('purge', 'dagster.runs', %(policy)s, %(runs)s, %(proof)s, %(run_id)s)

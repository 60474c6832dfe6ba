-- name: is_promoted
SELECT NOT pg_is_in_recovery();

-- name: restored_facts
-- One row after promotion: system identifier, last commit that was replayed, the timeline begun, its history.
SELECT (SELECT system_identifier::text FROM pg_control_system()), pg_last_xact_replay_timestamp(),
       ('x' || begun)::bit(32)::integer, pg_read_file('pg_wal/' || begun || '.history')
FROM substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS begun;

-- name: databases
SELECT datname::text FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname;

-- name: relations
-- Touches the catalogue of a database: whether it opens at all.
SELECT count(*) FROM pg_class;

-- name: act_as
-- The rest of the session works as %(role)s.
SELECT set_config('role', %(role)s, false);

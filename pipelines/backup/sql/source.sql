-- name: server_facts
-- What a backup needs to know of the cluster. Reads pg_control, no table.
-- One row: system identifier, server version (180006), timeline, bytes of all databases, bytes of a WAL segment,
-- name of the bootstrap superuser, in recovery, wal_level, summarize_wal, may replicate, free senders.
SELECT (SELECT system_identifier::text FROM pg_control_system()),
       current_setting('server_version_num')::integer,
       (SELECT timeline_id FROM pg_control_checkpoint()),
       (SELECT sum(pg_database_size(oid))::bigint FROM pg_database WHERE datallowconn),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
       (SELECT rolname::text FROM pg_roles WHERE oid = 10),
       pg_is_in_recovery(),
       current_setting('wal_level'),
       current_setting('summarize_wal', true) = 'on',
       (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
       current_setting('max_wal_senders')::integer;

-- name: server_run
-- Which run of which server answers: no two have both in common.
SELECT pg_postmaster_start_time(), inet_server_addr()::text, inet_server_port();

-- name: wal_mark
-- The clock, then where WAL is and on which timeline: what was committed before the clock's moment is before that LSN.
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at)
SELECT at, pg_current_wal_insert_lsn()::text,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer
FROM clock;

-- name: wait_until
-- Until the clock is past %(at)s, at most two seconds: a moment further ahead is another clock's.
SELECT pg_sleep_until(least(%(at)s::timestamptz, clock_timestamp() + interval '2 seconds'));

-- name: current_timeline
-- The timeline that WAL is written to now: pg_control knows a new one only after the checkpoint that follows promotion.
SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer;

-- name: tablespaces
-- Tablespaces beside PostgreSQL's own two, which a backup as one stream cannot carry.
SELECT spcname::text FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY spcname;

-- name: hold_wal
-- Keep WAL from now on until this session ends, and be the only backup: the name is unique in the cluster.
SELECT pg_create_physical_replication_slot(%(slot)s, true, true);

-- name: holder
-- Who has the slot: process, and since when.
SELECT a.pid, a.backend_start FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
WHERE s.slot_name = %(slot)s;

-- name: clock
SELECT clock_timestamp();

-- name: wal_source
-- Whether the server can feed a receiver: system identifier, bytes of a segment, in recovery, wal_level, free senders,
-- may replicate, and how much WAL the server itself lets a slot hold (MB, -1: all of it).
SELECT (SELECT system_identifier::text FROM pg_control_system()),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
       pg_is_in_recovery(), current_setting('wal_level'), current_setting('max_wal_senders')::integer,
       (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size');

-- name: limit_statements
-- No question to the server waits for longer than this.
SELECT set_config('statement_timeout', '15s', false);

-- name: lock_receiver
-- Be the only receiver: until this session ends.
SELECT pg_try_advisory_lock(hashtextextended('longbox wal receiver', 0));

-- name: receiver_holder
-- Who is: process, application, address, since when.
SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'this machine'), a.backend_start
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) + l.objid::bigint = hashtextextended('longbox wal receiver', 0) AND l.objsubid = 1;

-- name: end_process
-- A role may end processes of its own.
SELECT pg_terminate_backend(%(pid)s, 5000);

-- name: wal_state
-- Where WAL is written to (bytes since its begin), the timeline, and the slot: is there, in use by which process, what
-- the receiver connected now said to have on disk, lost by the server, how much the server keeps for it. A role sees
-- the replication of its own processes.
WITH written AS MATERIALIZED (SELECT pg_current_wal_insert_lsn() AS lsn)
SELECT (w.lsn - '0/0'::pg_lsn)::bigint, ('x' || substr(pg_walfile_name(w.lsn), 1, 8))::bit(32)::integer,
       s.slot_name IS NOT NULL, s.active_pid, (r.flush_lsn - '0/0'::pg_lsn)::bigint,
       (s.restart_lsn - '0/0'::pg_lsn)::bigint,
       coalesce(s.wal_status = 'lost', false), coalesce((w.lsn - s.restart_lsn)::bigint, 0)
FROM written w LEFT JOIN pg_replication_slots s ON s.slot_name = %(slot)s
     LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid;

-- name: create_wal_slot
-- It holds WAL from now on.
SELECT pg_create_physical_replication_slot(%(slot)s, true);

-- name: drop_wal_slot
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %(slot)s;

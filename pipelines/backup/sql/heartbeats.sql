-- name: has_heartbeats
SELECT to_regprocedure('longbox.trim_heartbeats()') IS NOT NULL;

-- name: beat
-- The next heartbeat; the trigger fills it.
INSERT INTO longbox.heartbeats DEFAULT VALUES;

-- name: trim_heartbeats
SELECT longbox.trim_heartbeats();

-- name: heartbeats_since
-- Heartbeats after %(beat)s in their order, some thousands at most.
SELECT beat, beat_at, encode(prev_hash, 'hex'), encode(row_hash, 'hex')
FROM longbox.heartbeats WHERE beat > %(beat)s ORDER BY beat LIMIT 5000;

-- name: heartbeat_hashes
-- Hashes of those of %(beats)s that are there.
SELECT beat, encode(row_hash, 'hex') FROM longbox.heartbeats WHERE beat = ANY (%(beats)s);

-- name: heartbeats_of_table
SELECT beat, beat_at, encode(prev_hash, 'hex'), encode(row_hash, 'hex') FROM longbox.heartbeats ORDER BY beat;

-- name: heartbeat_faults
SELECT beat, fault FROM longbox.heartbeat_faults();

-- name: timeline_now
SELECT clock_timestamp(), ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer;

-- name: history_exists
SELECT to_regclass('longbox.migrations') IS NOT NULL;

-- name: create_history
-- What was applied, with the checksum of the file it came from. The heads Alembic counts with are beside it in
-- longbox.alembic_version; this table says more, and says it also of systems whose folder is not at hand.
CREATE TABLE longbox.migrations (
  revision    text PRIMARY KEY,
  system      text NOT NULL,
  number      integer NOT NULL CHECK (number >= 0),
  title       text NOT NULL,
  file_name   text NOT NULL,
  sha256      text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{{64}}$'),
  depends     text[] NOT NULL DEFAULT '{{}}',
  duration_ms bigint NOT NULL DEFAULT 0,
  applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  applied_by  text NOT NULL DEFAULT session_user,
  UNIQUE (system, number)
);
COMMENT ON TABLE longbox.migrations IS
  'Revisions applied to this database; an applied file must not change any more (sha256 is verified)';
REVOKE INSERT, UPDATE, DELETE, MAINTAIN ON longbox.migrations FROM longbox_app;

-- name: guard_version_table
-- Alembic's own table: read by all, written by migrations alone.
REVOKE INSERT, UPDATE, DELETE, MAINTAIN ON longbox.alembic_version FROM longbox_app;

-- name: applied
SELECT revision, system, number, title, file_name, sha256, depends, applied_at
FROM longbox.migrations ORDER BY system, number;

-- name: record
INSERT INTO longbox.migrations (revision, system, number, title, file_name, sha256, depends, duration_ms)
VALUES ({revision}, {system}, {number}, {title}, {file_name}, {sha256}, {depends}::text[], {duration_ms});

-- name: forget
DELETE FROM longbox.migrations WHERE revision = {revision};

-- name: ledger_down
-- Promise 8: undoing a revision destroys what it made. Written in the transaction that undoes it; the very last
-- step down takes the ledger itself away, then there is nowhere to write.
DO $down$
BEGIN
  IF to_regclass('longbox.ledger') IS NOT NULL THEN
    INSERT INTO longbox.ledger (act, relation, policy, proof)
    VALUES ('migrate down', {system}, 'longbox migrate --down',
            jsonb_build_object('revision', {revision}, 'sha256', {sha256}));
  END IF;
END
$down$;

-- name: try_lock
-- Session lock, asked for without waiting: a waiting statement would hold a snapshot, and CREATE INDEX CONCURRENTLY
-- of the migrator that has the lock would wait for it in turn, for ever.
SELECT pg_try_advisory_lock(%(key)s);

-- name: unlock
SELECT pg_advisory_unlock(%(key)s);

-- name: lock_holder
SELECT pid, application_name, coalesce(client_addr::text, 'local'), backend_start
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid::bigint = %(key)s >> 32 AND objid::bigint = (%(key)s & 4294967295) AND objsubid = 1;

-- name: invalid_index
-- An index that an interrupted CREATE INDEX CONCURRENTLY left behind.
SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT indisvalid AND relname = %(name)s;

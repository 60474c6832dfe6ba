-- name: ledger_entry
-- One entry of the ledger. Parameters: act, relation, policy, affected_rows, proof, run_id. The trigger chains it.
INSERT INTO longbox.ledger (act, relation, policy, affected_rows, proof, run_id)
VALUES (%(act)s, %(relation)s, %(policy)s, %(affected_rows)s, %(proof)s, %(run_id)s);

-- name: has_ledger
-- Whether there is a ledger whose entries are chained.
SELECT to_regprocedure('longbox.ledger_faults()') IS NOT NULL;

-- name: ledger_head
-- Position and hash of the newest entry; no row in an empty ledger.
SELECT chain_position, encode(row_hash, 'hex') FROM longbox.ledger ORDER BY chain_position DESC LIMIT 1;

-- name: ledger_hash_at
SELECT encode(row_hash, 'hex') FROM longbox.ledger WHERE chain_position = %(position)s;

-- name: ledger_faults
SELECT chain_position, fault FROM longbox.ledger_faults();

-- name: ledgered_witnesses
-- Name and digest of every witness that was put into the store.
SELECT proof ->> 'name', proof ->> 'blake2b' FROM longbox.ledger
WHERE act = 'witness' AND relation = %(relation)s ORDER BY chain_position;

-- name: ledgered_drills
-- Name and digest of the result of every drill.
SELECT proof ->> 'result', coalesce(proof ->> 'blake2b', '') FROM longbox.ledger
WHERE act = 'restore drill' AND relation = %(relation)s;

-- name: ledgered_backups
-- Every backup of the default engine that began at %(since)s or later and did not expire in the store %(store)s.
SELECT made.proof ->> 'backup_id' FROM longbox.ledger AS made
WHERE made.act = 'backup' AND made.relation = %(relation)s AND NOT made.proof ? 'engine'
  AND coalesce((made.proof ->> 'started_at')::timestamptz, made.occurred_at) >= %(since)s
  AND NOT EXISTS (
    SELECT FROM longbox.ledger AS gone
    WHERE gone.act = 'expire backup' AND gone.relation = %(relation)s AND gone.proof ->> 'store' = %(store)s
      AND gone.proof ->> 'backup_id' = made.proof ->> 'backup_id'
  );

-- name: truth_clock
-- The server's clock, which cluster it is, and the database.
SELECT clock_timestamp(), (SELECT system_identifier::text FROM pg_control_system()), current_database()::text;

-- name: fix_output
-- Rows become the same text whatever a role's or a database's settings are.
SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false),
       set_config('IntervalStyle', 'postgres', false), set_config('extra_float_digits', '1', false),
       set_config('bytea_output', 'hex', false), set_config('row_security', 'off', false);

-- name: one_snapshot
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: tables
-- Tables and partitions that this role may read, with their bytes, in an order that differs from day to day.
SELECT n.nspname::text, c.relname::text, pg_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY hashtextextended(n.nspname || '.' || c.relname, extract(epoch FROM current_date)::bigint), n.nspname, c.relname;

-- name: table_truth
-- Rows of {table} and a digest of their content that does not depend on their order.
SELECT count(*), coalesce(sum(hashtextextended(longbox_row::text COLLATE "C", 0)), 0)::text FROM {table} AS longbox_row;

-- name: has_amcheck
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck');

-- name: make_amcheck
CREATE EXTENSION IF NOT EXISTS amcheck;

-- name: amcheck_heaps
-- Damaged pages of every heap with storage, TOAST included: relation, block, what is wrong.
SELECT c.oid::regclass::text, v.blkno, v.msg
FROM pg_class c CROSS JOIN LATERAL verify_heapam(c.oid::regclass, check_toast => false) AS v
WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p' LIMIT 20;

-- name: btree_indexes
SELECT c.oid::bigint, c.oid::regclass::text FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
JOIN pg_am a ON a.oid = c.relam
WHERE c.relkind = 'i' AND c.relpersistence = 'p' AND a.amname = 'btree' AND i.indisvalid AND i.indisready;

-- name: amcheck_index
SELECT bt_index_check(%(index)s::oid::regclass);

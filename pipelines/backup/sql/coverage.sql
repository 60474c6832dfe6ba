-- name: partition_files
-- Of %(partition)s, a partition of %(table)s or once one (detached under its name): system identifier, persistence,
-- and the file numbers of its heap and its TOAST table. No row if there is no such relation.
SELECT (SELECT system_identifier::text FROM pg_control_system()), c.relpersistence::text,
       array_remove(ARRAY[pg_relation_filenode(c.oid)::bigint,
                          CASE WHEN c.reltoastrelid <> 0 THEN pg_relation_filenode(c.reltoastrelid)::bigint END], NULL)
FROM pg_class c
WHERE c.oid = to_regclass(%(partition)s) AND c.relkind = 'r'
  AND (NOT c.relispartition
       OR EXISTS (SELECT FROM pg_partition_ancestors(c.oid) AS a WHERE a.relid = to_regclass(%(table)s)));

-- name: lsn_now
-- As a number: bytes of WAL since its begin.
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint;

-- name: checkpoint
CHECKPOINT;

-- name: summarised_lsn
-- Up to where summaries are on disk.
SELECT max(end_lsn - '0/0'::pg_lsn)::bigint FROM pg_available_wal_summaries();

-- name: summaries
-- Spans of the summaries of one timeline, in order.
SELECT (start_lsn - '0/0'::pg_lsn)::bigint, (end_lsn - '0/0'::pg_lsn)::bigint
FROM pg_available_wal_summaries() WHERE tli = %(timeline)s ORDER BY start_lsn;

-- name: changed_files
-- Whether any of %(files)s of this database appears in a summary that reaches beyond %(from_lsn)s.
SELECT EXISTS (
  SELECT FROM pg_available_wal_summaries() AS s,
       LATERAL pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) AS c
  WHERE s.tli = %(timeline)s AND s.end_lsn > %(from_lsn)s::pg_lsn AND c.relfilenode = ANY (%(files)s::oid[])
    AND c.reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: partition_key
-- Strategy ('r' is RANGE), number of key columns, type of the first of table {schema}.{table}; no row: not partitioned.
SELECT partstrat::text, partnatts, format_type(atttypid, NULL)
FROM pg_partitioned_table
JOIN pg_attribute ON attrelid = partrelid AND attnum = partattrs[0]
WHERE partrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text));

-- name: partition_bounds
-- Name and bounds of every partition, as text in the session's time zone (UTC).
SELECT relname, pg_get_expr(relpartbound, pg_class.oid)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text)) AND relispartition
ORDER BY relname;

-- name: lock_partitions
-- One maker of partitions of a table at a time; goes with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 0));

-- name: relation_exists
SELECT to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text)) IS NOT NULL;

-- name: create_partition_table
-- A table of its own at first: making it locks nothing but the right to change the parent's shape. Identity is left
-- out because a partition gets it from its parent when it is attached.
CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY);

-- name: attach_partition
-- SHARE UPDATE EXCLUSIVE on the parent: readers and writers go on, and so does a transaction of the caller that has
-- already written to it. (CREATE TABLE ... PARTITION OF would take ACCESS EXCLUSIVE.) The new table is empty, so
-- there is nothing to scan and no matching CHECK to prepare. A parent with foreign keys locks their targets
-- SHARE ROW EXCLUSIVE for the moment it takes.
ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({lower}) TO ({upper});

-- name: indexes
-- Indexes of the relation %(relation)s (schema.table as text): name, and its definition from the method on.
SELECT c.relname, CASE WHEN i.indisunique THEN 'unique ' ELSE '' END || substring(pg_get_indexdef(i.indexrelid) FROM ' USING (.*)$')
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = %(relation)s::regclass
 ORDER BY i.indisprimary DESC, c.relname COLLATE "C"

-- name: constraints
-- Foreign keys, checks and exclusions of the relation %(relation)s: name, definition.
SELECT conname, pg_get_constraintdef(oid)
  FROM pg_constraint
 WHERE conrelid = %(relation)s::regclass AND contype IN ('f', 'c', 'x')
 ORDER BY contype DESC, conname COLLATE "C"

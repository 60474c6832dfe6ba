-- name: begin_survey
-- Everything of a survey is one snapshot, and PostgreSQL itself refuses any change.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: schema_exists
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s);

-- name: schemas
-- Schemas of users that hold a table.
SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'longbox') ORDER BY nspname;

-- name: sizes
-- Per table of %(schema)s, partitions counted with their parent: rows by the planner's last count (-1: never
-- analysed), bytes with indexes and TOAST, and the writes since statistics were last reset.
SELECT c.relname,
       (SELECT CASE WHEN bool_or(l.reltuples < 0 AND pg_relation_size(l.oid) > 0) THEN -1
                    ELSE coalesce(sum(greatest(l.reltuples, 0)), 0) END::bigint
          FROM pg_class l WHERE l.oid = ANY (leaves.oids)) AS row_count,
       (SELECT coalesce(sum(pg_total_relation_size(l.oid)), 0)::bigint FROM pg_class l
         WHERE l.oid = ANY (leaves.oids)) AS total_bytes,
       (SELECT coalesce(sum(s.n_tup_ins), 0)::bigint FROM pg_stat_all_tables s WHERE s.relid = ANY (leaves.oids)),
       (SELECT coalesce(sum(s.n_tup_upd + s.n_tup_del), 0)::bigint
          FROM pg_stat_all_tables s WHERE s.relid = ANY (leaves.oids))
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT CASE WHEN c.relkind = 'r' THEN ARRAY[c.oid]
                                 ELSE ARRAY(SELECT relid::oid FROM pg_partition_tree(c.oid) WHERE isleaf) END) AS leaves (oids)
 WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p') AND NOT c.relispartition;

-- name: column_statistics
-- Per column of a date or timestamp type: is it the first of an index, and what ANALYZE saw (null without it).
SELECT c.relname, a.attname,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indkey[0] = a.attnum),
       s.correlation::float8,
       (s.histogram_bounds::text::text[])[1],
       (s.histogram_bounds::text::text[])[array_upper(s.histogram_bounds::text::text[], 1)]
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
       AND s.inherited = (c.relkind = 'p')
 WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
       IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype);

-- name: foreign_keys
-- Every foreign key into or within %(schema)s: the table that has it, its columns, and the table it points at.
SELECT conname, fn.nspname, f.relname,
       ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
               JOIN pg_attribute ON attrelid = conrelid AND attnum = k.number ORDER BY place),
       tn.nspname, t.relname
  FROM pg_constraint
  JOIN pg_class f ON f.oid = conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
  JOIN pg_class t ON t.oid = confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE contype = 'f' AND conparentid = 0 AND %(schema)s IN (fn.nspname, tn.nspname)
 ORDER BY fn.nspname, f.relname, conname;

-- name: count_and_span
-- A table without statistics that is small enough to be read: its rows, and the ends of its time.
SELECT count(*), min({time})::text, max({time})::text FROM {table};

-- name: count_rows
SELECT count(*), NULL, NULL FROM {table};

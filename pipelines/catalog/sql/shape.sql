-- name: shapes
-- Every table, partitioned table, view and materialised view of schema %(schema)s (only %(table)s unless null), one
-- row each with its columns in order. Partitions are left out of a listing and found when asked for by name.
-- Format of a type is independent of the session because search_path holds no system's schema.
SELECT c.relname,
       c.relkind::text,
       coalesce(obj_description(c.oid, 'pg_class'), '') AS description,
       row_security_active(c.oid),
       p.partstrat::text,
       coalesce((SELECT array_agg(coalesce(a.attname::text, '(expression)') ORDER BY k.position)
                   FROM unnest(p.partattrs::smallint[]) WITH ORDINALITY AS k (attnum, position)
                   LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum), '{}') AS partition_by,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.position)
                   FROM pg_index i
                  CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                  WHERE i.indrelid = c.oid AND i.indisprimary), '{}') AS primary_key,
       coalesce((SELECT jsonb_agg(jsonb_build_object(
                            'name', a.attname,
                            'type_name', format_type(a.atttypid, a.atttypmod),
                            'base_type_name', CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
                                                   ELSE format_type(a.atttypid, a.atttypmod) END,
                            'is_nullable', NOT (a.attnotnull OR t.typnotnull),
                            'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                            'generation', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                            'is_identity', a.attidentity <> '',
                            'enum_labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder)
                                              FROM pg_enum e
                                             WHERE e.enumtypid = CASE WHEN t.typtype = 'd' THEN t.typbasetype
                                                                      ELSE t.oid END),
                            'description', coalesce(col_description(c.oid, a.attnum), ''))
                         ORDER BY a.attnum)
                   FROM pg_attribute a
                   JOIN pg_type t ON t.oid = a.atttypid
                   LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]') AS columns
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
 WHERE n.nspname = %(schema)s
   AND c.relkind IN ('r', 'p', 'm', 'v', 'f')
   AND CASE WHEN %(table)s::text IS NULL THEN NOT c.relispartition ELSE c.relname = %(table)s END
 ORDER BY c.relname COLLATE "C"

-- name: view_state
-- Whether the materialised view %(schema)s.%(view)s holds rows, and whether REFRESH ... CONCURRENTLY can match its rows
-- by a unique index: valid, not partial, no expression.
SELECT c.relispopulated,
       EXISTS (SELECT FROM pg_index i
                WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                  AND i.indpred IS NULL AND i.indexprs IS NULL)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(view)s AND c.relkind = 'm'

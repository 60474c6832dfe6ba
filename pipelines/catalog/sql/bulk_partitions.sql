-- Partitions that are filled before they are attached (pipelines.catalog.bulk_partitions).

-- name: bulk_table
-- Key column and type, identity column and its sequence, constraints, indexes and extended statistics as definitions,
-- columns that can be written; no row where filling a partition before attaching it would not be the same as filling
-- it afterwards.
SELECT key.attname, format_type(key.atttypid, NULL), own.attname, own.sequence,
       coalesce((SELECT array_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname)
                 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u')), '{}'),
       coalesce((SELECT array_agg(substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)$') ORDER BY i.indexrelid)
                 FROM pg_index i WHERE i.indrelid = c.oid AND NOT i.indisunique), '{}'),
       coalesce((SELECT array_agg(coalesce('(' || kinds.names || ') ', '') || 'ON '
                                  || pg_get_statisticsobjdef_columns(s.oid) ORDER BY s.oid)
                 FROM pg_statistic_ext s,
                      LATERAL (SELECT string_agg(CASE kind WHEN 'd' THEN 'ndistinct' WHEN 'f' THEN 'dependencies'
                                                           ELSE 'mcv' END, ', ') AS names
                               FROM unnest(s.stxkind) AS kind WHERE kind <> 'e') AS kinds
                 WHERE s.stxrelid = c.oid), '{}'),
       (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
FROM pg_class c
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_partitioned_table p ON p.partrelid = c.oid
     JOIN pg_attribute key ON key.attrelid = c.oid AND key.attnum = p.partattrs[0]
     LEFT JOIN LATERAL (
         SELECT a.attnum, a.attname, pg_get_serial_sequence(format('%%I.%%I', n.nspname, c.relname), a.attname) AS sequence
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity <> '') own ON true
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND p.partstrat = 'r' AND p.partnatts = 1
  AND pg_get_userbyid(c.relowner) = %(owner)s AND pg_has_role(session_user, c.relowner, 'SET')
  AND NOT c.relrowsecurity AND NOT c.relhastriggers
  AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity <> '') <= 1
  AND NOT EXISTS (SELECT FROM pg_publication WHERE puballtables)
  AND NOT EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_publication_namespace WHERE pnnspid = c.relnamespace)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND (k.contype IN ('f', 'x') OR k.condeferrable))
  AND NOT EXISTS (SELECT FROM pg_index i
                  WHERE i.indrelid = c.oid AND i.indisunique
                    AND (own.attnum IS NULL OR own.attnum <> ALL (i.indkey::smallint[])
                         OR NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)))
  AND (own.sequence IS NULL OR has_sequence_privilege(current_user, own.sequence, 'USAGE'))

-- name: create_intake
-- What it partitions by finds the place of a row, whatever rules its partitions have for it.
CREATE TABLE {intake} (LIKE {parent} INCLUDING DEFAULTS INCLUDING GENERATED) PARTITION BY RANGE ({key})

-- name: create_fresh
-- The CHECK spares ATTACH from reading the rows.
CREATE TABLE {partition} (
    LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY EXCLUDING INDEXES EXCLUDING STATISTICS,
    CONSTRAINT longbox_bounds CHECK ({key} IS NOT NULL AND {key} >= {lower} AND {key} < {upper})
)

-- name: number_fresh
ALTER TABLE {partition} ALTER {column} SET DEFAULT nextval({sequence}::regclass)

-- name: lend_fresh
-- What default privileges give is enough, as a rule; a role without them could not fill what it asked for.
GRANT SELECT, INSERT ON {partition} TO {role}

-- name: detach_fresh
ALTER TABLE {intake} DETACH PARTITION {partition}

-- name: index_fresh
CREATE INDEX ON {partition} {definition}

-- name: constrain_fresh
ALTER TABLE {partition} ADD {definition}

-- name: indexes_of
-- The indexes of a table, and how PostgreSQL would have named them for the table's final name; those that can be so.
SELECT i.relname, replaced.name
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace,
     LATERAL (SELECT %(final)s || substr(i.relname, length(%(table)s) + 1) AS name) AS replaced
WHERE x.indrelid = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass
  AND starts_with(i.relname, %(table)s) AND octet_length(replaced.name) <= 63
  AND to_regclass(format('%%I.%%I', n.nspname, replaced.name)) IS NULL

-- name: rename_fresh
ALTER TABLE {partition} RENAME TO {new_name}

-- name: rename_index
ALTER INDEX {index} RENAME TO {new_name}

-- name: describe_fresh
-- PostgreSQL names extended statistics for the table, when it has its final name, as it does those of other partitions.
CREATE STATISTICS {definition} FROM {partition}

-- name: unnumber_fresh
-- A partition gets its parent's identity when it is attached.
ALTER TABLE {partition} ALTER {column} DROP DEFAULT

-- name: forget_bounds
ALTER TABLE {partition} DROP CONSTRAINT longbox_bounds

-- name: hand_over
INSERT INTO {parent} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {partition}

-- name: drop_fresh
DROP TABLE {partition}

-- name: become
SELECT set_config('role', %(role)s, true)

-- name: who_am_i
SELECT current_user::text

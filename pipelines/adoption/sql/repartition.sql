-- name: facts
-- Everything that decides whether and how %(schema)s.%(table)s is carried over, as one JSON object; no row: no such table.
SELECT jsonb_build_object(
  'qualified_name', format('%%I.%%I', n.nspname, c.relname), 'kind', c.relkind, 'persistence', c.relpersistence, 'owner', pg_get_userbyid(c.relowner),
  'is_partition', c.relispartition,
  'is_inherited', EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)),
  'has_row_security', c.relrowsecurity,
  'has_default_identity', c.relreplident = 'd',
  'options', coalesce(to_jsonb(c.reloptions), '[]'),
  'comment', obj_description(c.oid, 'pg_class'),
  'rules', coalesce((SELECT jsonb_agg(rulename) FROM pg_rewrite WHERE ev_class = c.oid), '[]'),
  'triggers', coalesce((SELECT jsonb_agg(tgname) FROM pg_trigger
                         WHERE tgrelid = c.oid AND NOT tgisinternal AND tgname NOT IN ('longbox_mark', 'longbox_mark_truncate')), '[]'),
  'columns', (SELECT jsonb_agg(jsonb_build_object(
                       'name', attname, 'type', format_type(atttypid, atttypmod), 'is_nullable', NOT attnotnull,
                       'is_generated', attgenerated <> '', 'identity', attidentity,
                       'default', pg_get_expr(adbin, adrelid)) ORDER BY attnum)
                FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
               WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
  'key', coalesce((SELECT jsonb_agg(attname ORDER BY place)
                     FROM pg_index, unnest(indkey::smallint[]) WITH ORDINALITY AS k (number, place)
                     JOIN pg_attribute ON attnum = k.number
                    WHERE indrelid = c.oid AND indisprimary AND attrelid = c.oid AND place <= indnkeyatts), '[]'),
  'indexes', coalesce((SELECT jsonb_agg(jsonb_build_object(
                       'name', i.relname, 'is_unique', indisunique, 'is_primary', indisprimary,
                       'is_exclusion', indisexclusion, 'is_valid', indisvalid,
                       'definition', pg_get_indexdef(i.oid),
                       'constraint_name', con.conname, 'constraint_definition', pg_get_constraintdef(con.oid),
                       'comment', obj_description(i.oid, 'pg_class'),
                       'columns', (SELECT coalesce(jsonb_agg(attname), '[]') FROM pg_attribute
                                    WHERE attrelid = c.oid AND attnum = ANY ((indkey::smallint[])[0:indnkeyatts - 1])))
                       ORDER BY indisprimary DESC, i.relname)
                FROM pg_index JOIN pg_class i ON i.oid = indexrelid
                LEFT JOIN pg_constraint con ON conindid = i.oid AND conrelid = c.oid AND contype IN ('p', 'u', 'x')
               WHERE indrelid = c.oid), '[]'),
  'foreign_keys', coalesce((SELECT jsonb_agg(jsonb_build_object('name', conname, 'definition', pg_get_constraintdef(oid))
                                             ORDER BY conname)
                FROM pg_constraint WHERE conrelid = c.oid AND contype = 'f' AND conparentid = 0), '[]'),
  'referenced_by', coalesce((SELECT jsonb_agg(conname || ' of ' || conrelid::regclass)
                FROM pg_constraint WHERE confrelid = c.oid AND contype = 'f' AND conparentid = 0), '[]'),
  'statistics', coalesce((SELECT jsonb_agg(stxname) FROM pg_statistic_ext WHERE stxrelid = c.oid), '[]'),
  'serials', coalesce((SELECT jsonb_agg(jsonb_build_object('column', attname, 'sequence', s.relname, 'schema', sn.nspname,
                                                           'is_identity', deptype = 'i') ORDER BY attnum)
                FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                JOIN pg_namespace sn ON sn.oid = s.relnamespace
                JOIN pg_attribute ON attrelid = c.oid AND attnum = d.refobjsubid
               WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                 AND d.deptype IN ('a', 'i')), '[]'),
  'views', coalesce((SELECT jsonb_agg(DISTINCT jsonb_build_object(
                       'schema', vn.nspname, 'name', v.relname, 'definition', pg_get_viewdef(v.oid),
                       'options', array_to_string(v.reloptions, ', ')))
                FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
                JOIN pg_namespace vn ON vn.oid = v.relnamespace
               WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                 AND v.relkind = 'v'), '[]'),
  'dependents', coalesce((SELECT jsonb_agg(DISTINCT pg_describe_object(d.classid, d.objid, 0))
                FROM pg_depend d
                LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
                LEFT JOIN pg_class v ON v.oid = r.ev_class
               WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                      AND (d.classid IN ('pg_proc'::regclass, 'pg_policy'::regclass, 'pg_publication_rel'::regclass)
                           OR v.relkind = 'm'))
                  OR (d.refclassid = 'pg_type'::regclass AND d.deptype = 'n'
                      AND d.refobjid IN (c.reltype, (SELECT typarray FROM pg_type WHERE oid = c.reltype))
                      AND d.classid IN ('pg_class'::regclass, 'pg_proc'::regclass))), '[]'),
  'grants', coalesce((SELECT jsonb_agg(jsonb_build_object(
                       'role', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, 'column', g.attname,
                       'privilege', a.privilege_type, 'is_grantable', a.is_grantable))
                FROM (SELECT NULL::name AS attname, c.relacl AS acl UNION ALL
                      SELECT attname, attacl FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) g,
                     aclexplode(g.acl) a
               WHERE a.grantee <> c.relowner), '[]'))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

-- name: session_facts
SELECT current_setting('server_version_num')::int, rolsuper, session_user FROM pg_roles WHERE rolname = session_user;

-- name: job_lock
SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0));

-- name: job_table_exists
SELECT to_regclass(format('%%I.longbox_jobs', %(schema)s::text)) IS NOT NULL;

-- name: create_work_schema
CREATE SCHEMA IF NOT EXISTS {schema};

-- name: lend_work_schema
GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};

-- name: create_job_table
CREATE TABLE IF NOT EXISTS {jobs} (table_name text PRIMARY KEY, job jsonb NOT NULL);

-- name: lend_job_table
GRANT SELECT, INSERT, UPDATE, DELETE ON {jobs} TO {owner};

-- name: read_job
SELECT job FROM {jobs} WHERE table_name = %(table)s;

-- name: save_job
INSERT INTO {jobs} VALUES (%(table)s, %(job)s::jsonb) ON CONFLICT (table_name) DO UPDATE SET job = EXCLUDED.job;

-- name: forget_job
DELETE FROM {jobs} WHERE table_name = %(table)s;

-- name: job_count
SELECT count(*) FROM {jobs};

-- name: create_twin
-- Columns, defaults, CHECKs, identity, storage and comments of the original; keys and indexes follow, with the time in
-- every unique one.
CREATE TABLE {twin} (LIKE {source} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS) PARTITION BY RANGE ({time});

-- name: analyse
-- So that the first query after the switch is planned with statistics.
ANALYZE {table};

-- name: add_constraint
ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition};

-- name: create_marks
-- The keys of rows that were written since and are not carried over yet; longbox_truncate: all rows before it are gone.
CREATE TABLE {marks} (longbox_mark bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, longbox_truncate boolean NOT NULL DEFAULT false,
  {columns});

-- name: create_mark_function
-- As its owner, whoever writes: a writer needs no rights on the marks. It only notes keys, so it cannot fail where the
-- other table would refuse a row, and it is right at every isolation level of the writer.
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $mark$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO {marks} (longbox_truncate) VALUES (true);
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO {marks} ({keys}) VALUES ({old_keys});
  END IF;
  IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND ({new_keys}) IS DISTINCT FROM ({old_keys})) THEN
    INSERT INTO {marks} ({keys}) VALUES ({new_keys});
  END IF;
  RETURN NULL;
END
$mark$;

-- name: create_mark_trigger
CREATE TRIGGER longbox_mark AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {function}();

-- name: create_truncate_trigger
CREATE TRIGGER longbox_mark_truncate AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}();

-- name: enable_mark_triggers
-- ALWAYS: also where session_replication_role would silence ordinary triggers.
ALTER TABLE {table} ENABLE ALWAYS TRIGGER longbox_mark, ENABLE ALWAYS TRIGGER longbox_mark_truncate;

-- name: drop_mark_trigger
DROP TRIGGER IF EXISTS {trigger} ON {table};

-- name: next_batch
-- Key of the last row of the next batch, in the order of the primary key.
SELECT {keys_as_text} FROM (SELECT {keys} FROM {source} WHERE {after} ORDER BY {keys} LIMIT {limit}) AS batch
ORDER BY {keys_descending} LIMIT 1;

-- name: periods_of_batch
SELECT DISTINCT {period}::text FROM {source} WHERE {after} AND ({keys}) <= ({upper});

-- name: copy_batch
-- A row that is there already came by its mark: that mark, or a later one, carries what it says now.
INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM {source} WHERE {after} AND ({keys}) <= ({upper}) ON CONFLICT DO NOTHING;

-- name: batch_of_marks
-- Newest of the oldest %(limit)s marks, and the newest TRUNCATE among them.
SELECT max(longbox_mark), max(longbox_mark) FILTER (WHERE longbox_truncate) FROM (SELECT longbox_mark, longbox_truncate FROM {marks} ORDER BY longbox_mark LIMIT %(limit)s) AS batch;

-- name: newest_mark
SELECT coalesce(max(longbox_mark), 0) FROM {marks};

-- name: count_marks
SELECT count(*) FROM (SELECT FROM {marks} LIMIT %(limit)s) AS waiting;

-- name: empty_target
TRUNCATE {target};

-- name: remove_marked
DELETE FROM {target} AS t USING (SELECT DISTINCT {keys} FROM {marks} WHERE longbox_mark <= {newest} AND NOT longbox_truncate) AS m
WHERE {same_key};

-- name: periods_of_marked
SELECT DISTINCT {period}::text FROM {source}
WHERE ({keys}) IN (SELECT {keys} FROM {marks} WHERE longbox_mark <= {newest} AND NOT longbox_truncate);

-- name: insert_marked
INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM {source}
WHERE ({keys}) IN (SELECT {keys} FROM {marks} WHERE longbox_mark <= {newest} AND NOT longbox_truncate);

-- name: remove_marks
DELETE FROM {marks} WHERE longbox_mark <= {newest};

-- name: digest_by_period
-- Count and order-free content hash per period, of the rows that have no mark: those must be equal on both sides.
SELECT {period}::text, count(*),
       sum(('0x' || substr(encode(sha256(convert_to(ROW({columns})::text, 'UTF8')), 'hex'), 1, 32))::numeric)::text
FROM {table} AS t
WHERE NOT EXISTS (SELECT FROM {marks} AS m WHERE {same_key})
GROUP BY 1;

-- name: mark_period
-- Marks every row of one period anew, so that it is carried over again.
INSERT INTO {marks} ({keys}) SELECT {keys} FROM {table} WHERE {period} = {first_day}::date;

-- name: lock_tables
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE;

-- name: release_sequence
ALTER SEQUENCE {sequence} OWNED BY NONE;

-- name: take_sequence
ALTER SEQUENCE {sequence} OWNED BY {column};

-- name: carry_sequence
SELECT setval(pg_get_serial_sequence(%(to_table)s, %(column)s)::regclass, last_value, is_called) FROM {sequence};

-- name: drop_constraint
ALTER TABLE {table} DROP CONSTRAINT {constraint};

-- name: add_foreign_key
-- Enforced for every row from now on; those that are there satisfied the same key a moment ago and are checked later.
ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition} NOT VALID;

-- name: unvalidated
SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))
  AND contype = 'f' AND NOT convalidated AND conparentid = 0;

-- name: validate_constraint
-- SHARE UPDATE EXCLUSIVE: readers and writers go on.
ALTER TABLE {table} VALIDATE CONSTRAINT {constraint};

-- name: partitions_of
SELECT n.nspname, c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE inhparent = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text));

-- name: set_schema
ALTER TABLE {table} SET SCHEMA {schema};

-- name: replace_view
CREATE OR REPLACE VIEW {view} {options} AS {definition};

-- name: grant
GRANT {privilege} ON {table} TO {role} {option};

-- name: comment_on
COMMENT ON {object} IS {text};

-- name: drop_table
DROP TABLE {table};

-- name: drop_function
DROP FUNCTION IF EXISTS {function}();

-- name: drop_schema
DROP SCHEMA IF EXISTS {schema};

-- name: ledger_exists
SELECT to_regclass('longbox.ledger') IS NOT NULL;

-- name: record_drop
INSERT INTO longbox.ledger (act, relation, policy, affected_rows, proof)
VALUES ('drop the original of a partitioned table', %(relation)s, 'longbox partition --finish', %(rows)s, %(proof)s::jsonb);

-- name: blockers
-- Who holds a lock on %(schema)s.%(table)s.
SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'), a.state
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text)) AND a.pid <> pg_backend_pid()
ORDER BY a.pid LIMIT 5;

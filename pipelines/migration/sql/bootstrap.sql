-- name: server_version
-- 180003 for 18.3.
SELECT current_setting('server_version_num')::integer;

-- name: missing_roles
-- Roles of %(roles)s that the cluster does not have.
SELECT role FROM unnest(%(roles)s::text[]) WITH ORDINALITY AS wanted (role, place)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) ORDER BY place;

-- name: roles_not_settable
-- Existing roles of %(roles)s that the login user cannot SET ROLE to.
SELECT rolname FROM pg_roles
WHERE rolname = ANY (%(roles)s) AND NOT pg_has_role(current_user, oid, 'SET') ORDER BY rolname;

-- name: may_create_roles
SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user;

-- name: create_role
CREATE ROLE {role} NOLOGIN;

-- name: grant_role
GRANT {role} TO CURRENT_USER;

-- name: backup_may_replicate
SELECT rolreplication FROM pg_roles WHERE rolname = 'longbox_backup';

-- name: let_backup_replicate
ALTER ROLE {role} REPLICATION;

-- name: missing_database_grants
-- (role, privilege) of %(roles)s x %(privileges)s (pairwise) not granted by name on this database.
SELECT role, privilege FROM unnest(%(roles)s::text[], %(privileges)s::text[]) AS wanted (role, privilege)
WHERE NOT EXISTS (
  SELECT FROM pg_database, aclexplode(datacl) AS granted
  WHERE datname = current_database() AND granted.grantee = to_regrole(role) AND granted.privilege_type = privilege);

-- name: grant_on_database
GRANT {privilege} ON DATABASE {database} TO {role};

-- name: missing_extensions
SELECT extension FROM unnest(%(extensions)s::text[]) WITH ORDINALITY AS wanted (extension, place)
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = extension) ORDER BY place;

-- name: create_extension
-- In public, said outright: the search path starts with a schema of the user's name, and a user named longbox is usual.
CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA public;

-- name: extension_schemas
-- Schemas whose operator classes migrations name without schema (gin_trgm_ops).
SELECT DISTINCT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = ANY (%(extensions)s) ORDER BY nspname;

-- name: schema_state
-- Per wanted schema: does it exist, may longbox_owner create in it, does it have default privileges of longbox_owner.
SELECT wanted, pg_namespace.oid IS NOT NULL,
       coalesce(has_schema_privilege(to_regrole('longbox_owner'), pg_namespace.oid, 'CREATE'), false),
       EXISTS (SELECT FROM pg_default_acl WHERE defaclnamespace = pg_namespace.oid
               AND defaclrole = to_regrole('longbox_owner'))
FROM unnest(%(schemas)s::text[]) WITH ORDINALITY AS schemas (wanted, place)
LEFT JOIN pg_namespace ON nspname = wanted ORDER BY place;

-- name: create_schema
CREATE SCHEMA {schema} AUTHORIZATION longbox_owner;

-- name: lend_schema
-- A schema that was there before Longbox stays its owner's; Longbox may add to it.
GRANT USAGE, CREATE ON SCHEMA {schema} TO longbox_owner;

-- name: use_schema
GRANT USAGE ON SCHEMA {schema} TO longbox_app, longbox_reader, longbox_backup;

-- name: default_privileges_tables
-- Whatever longbox_owner makes in the schema from now on, partitions included, is granted as it is made.
-- MAINTAIN: the pipelines refresh materialised views and ANALYZE what they loaded.
ALTER DEFAULT PRIVILEGES FOR ROLE longbox_owner IN SCHEMA {schema}
  GRANT SELECT, INSERT, UPDATE, DELETE, MAINTAIN ON TABLES TO longbox_app;

-- name: default_privileges_tables_read
ALTER DEFAULT PRIVILEGES FOR ROLE longbox_owner IN SCHEMA {schema}
  GRANT SELECT ON TABLES TO longbox_reader, longbox_backup;

-- name: default_privileges_sequences
ALTER DEFAULT PRIVILEGES FOR ROLE longbox_owner IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO longbox_app;

-- name: default_privileges_sequences_read
ALTER DEFAULT PRIVILEGES FOR ROLE longbox_owner IN SCHEMA {schema} GRANT SELECT ON SEQUENCES TO longbox_backup;

-- name: default_privileges_functions
ALTER DEFAULT PRIVILEGES FOR ROLE longbox_owner IN SCHEMA {schema}
  GRANT EXECUTE ON FUNCTIONS TO longbox_app, longbox_reader;

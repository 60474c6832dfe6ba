-- name: create_schema
-- The schema of a system whose tables are all declared in YAML.
CREATE SCHEMA {schema}

-- name: create_table
-- {definitions}: columns and keys; {partitioning} is empty or PARTITION BY RANGE over the time column.
CREATE TABLE {table} ({definitions}){partitioning}

-- name: create_index
-- Without a name, so that PostgreSQL finds one that is free.
CREATE INDEX ON {table} ({columns})

-- name: create_group_index
-- One row a group, also where a column of the group is null.
CREATE UNIQUE INDEX ON {table} ({columns}) NULLS NOT DISTINCT

-- name: add_column
-- Metadata only: a constant default is kept in the catalogue of PostgreSQL, not written to every row.
ALTER TABLE {table} ADD COLUMN {definition}

-- name: set_default
ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {value}

-- name: drop_default
ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT

-- name: comment_on_table
COMMENT ON TABLE {table} IS {description}

-- name: comment_on_column
COMMENT ON COLUMN {column} IS {description}

-- name: same_value
-- Whether two expressions print the same value of a type; {actual} is what pg_get_expr gave.
SELECT ({actual})::{type}::text = ({declared})::{type}::text

-- name: schema_exists
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s)

-- name: limit_waiting
-- DDL waits a short while for its lock and then gives up, since readers queue behind it. Returns the limit before.
WITH before AS MATERIALIZED (SELECT current_setting('lock_timeout') AS lock_timeout)
SELECT lock_timeout FROM before WHERE set_config('lock_timeout', '5s', true) IS NOT NULL

-- name: restore_waiting
SELECT set_config('lock_timeout', %s, true)

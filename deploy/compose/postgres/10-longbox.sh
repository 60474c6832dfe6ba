#!/bin/sh
# Run once by the postgres image, when the database cluster is new: one login and one database for Longbox, one for
# Dagster. `longbox` may create the roles of the platform and owns its database, and is no superuser.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set longbox_password="$DATABASE_PASSWORD" --set dagster_password="$DAGSTER_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE longbox LOGIN CREATEROLE PASSWORD :'longbox_password';
CREATE ROLE dagster LOGIN PASSWORD :'dagster_password';
CREATE DATABASE longbox OWNER longbox;
CREATE DATABASE dagster OWNER dagster;
REVOKE CONNECT ON DATABASE longbox, dagster FROM PUBLIC;
SQL
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname longbox \
    --command 'CREATE EXTENSION pg_stat_statements'

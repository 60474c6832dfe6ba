#!/bin/sh
# Run once by the postgres image, when the database cluster is new: one login and one database for Longbox, one for
# Dagster, one for backups. `longbox` may create the roles of the platform and owns its database, and is no superuser.
# `backup` may copy the whole cluster (REPLICATION), see how large it is, and change nothing.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set longbox_password="$DATABASE_PASSWORD" --set dagster_password="$DAGSTER_DATABASE_PASSWORD" \
    --set backup_password="$BACKUP_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE longbox LOGIN CREATEROLE PASSWORD :'longbox_password';
CREATE ROLE dagster LOGIN PASSWORD :'dagster_password';
CREATE ROLE longbox_backup NOLOGIN REPLICATION;
GRANT longbox_backup TO longbox WITH ADMIN OPTION;
CREATE ROLE backup LOGIN REPLICATION PASSWORD :'backup_password' IN ROLE longbox_backup, pg_monitor;
CREATE DATABASE longbox OWNER longbox;
CREATE DATABASE dagster OWNER dagster;
REVOKE CONNECT ON DATABASE longbox, dagster FROM PUBLIC;
SQL
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname longbox \
    --command 'CREATE EXTENSION pg_stat_statements'
# the image lets nobody replicate over the network
if [ -n "${PGDATA:-}" ] && [ -w "$PGDATA/pg_hba.conf" ]; then
    echo 'host replication backup all scram-sha-256' >>"$PGDATA/pg_hba.conf"
fi

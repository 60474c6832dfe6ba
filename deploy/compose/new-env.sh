#!/bin/sh
# Writes .env and secrets/postgres_password beside itself, with random passwords, readable by you alone.
# Never overwrites: the passwords of a database that exists are not changed by writing new ones here.
set -eu
umask 077
cd "$(dirname "$0")"
[ ! -e .env ] || { echo "new-env.sh: .env is there already; keep it, or move it away first" >&2; exit 2; }
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
mkdir -p secrets systems
chmod 755 systems
[ -e secrets/postgres_password ] || random >secrets/postgres_password
while IFS= read -r line; do
    case $line in
        *_PASSWORD= | S3_*_KEY=) printf '%s%s\n' "$line" "$(random)" ;;
        *) printf '%s\n' "$line" ;;
    esac
done <.env.example >.env.part
mv .env.part .env
echo "wrote $(pwd)/.env and secrets/postgres_password"

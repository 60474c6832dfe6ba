-- name: server_clock
SELECT clock_timestamp();

-- name: server_version
SHOW server_version;

-- name: missing_roles
-- Roles that `longbox migrate` makes and this server does not have.
SELECT role FROM unnest(ARRAY['longbox_owner', 'longbox_app', 'longbox_reader', 'longbox_backup']) AS wanted (role)
WHERE to_regrole(role) IS NULL;

-- name: idle_sessions
-- Sessions of this database that do nothing but hold an advisory lock or an open transaction: pid, name, state,
-- seconds since, and whether %(key)s (the lock of migrations) is among their locks.
SELECT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'), a.state,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8,
       coalesce(bool_or(l.classid::bigint = %(key)s::bigint >> 32 AND l.objid::bigint = (%(key)s::bigint & 4294967295)
                        AND l.objsubid = 1), false),
       count(l.pid) > 0
  FROM pg_stat_activity a
  LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.granted AND l.database = a.datid
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
   AND (a.state LIKE 'idle in transaction%%' OR (a.state = 'idle' AND l.pid IS NOT NULL))
 GROUP BY a.pid, a.application_name, a.state, a.state_change
 ORDER BY a.pid;

-- name: estimated_rows
-- How many rows the planner believes a table has; 0 when it was never analysed.
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(%(table)s)

-- name: analyse
-- Samples a table and its partitions anew. Needs MAINTAIN; blocks neither readers nor writers.
ANALYZE {table}

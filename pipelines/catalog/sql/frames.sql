-- name: begin_frame
-- One snapshot for everything a frame reads; PostgreSQL refuses any change in it.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: frame_timeout
SELECT set_config('statement_timeout', %(milliseconds)s::text, true);

-- name: frame
SELECT {columns} FROM {table} WHERE {condition} {order} {limit};

-- name: frame_digits
-- Digits before and after the point that the rows of a frame need in a numeric column without declared size.
SELECT coalesce(max(length(trunc(abs({column}))::text)), 1), coalesce(max(scale({column})), 0)
FROM (SELECT {column} FROM {table} WHERE {condition} AND {column} NOT IN ('NaN', 'Infinity', '-Infinity') {order} {limit}) AS rows_of_frame;

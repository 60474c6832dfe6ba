-- name: pin_output
-- One spelling for every value whatever the session says: the canonical text of a row depends on these settings.
SELECT set_config('TimeZone', 'UTC', true),
       set_config('DateStyle', 'ISO, YMD', true),
       set_config('IntervalStyle', 'postgres', true),
       set_config('extra_float_digits', '1', true),
       set_config('bytea_output', 'hex', true),
       set_config('xmloption', 'content', true),
       set_config('lc_monetary', 'C', true),
       set_config('search_path', 'pg_catalog', true)

-- name: digest_table
-- Count of the rows of {table} and the sum of their 128-bit hashes; the order of rows does not matter, their number
-- does. ROW(...)::text is PostgreSQL's own quoting of a row: NULL, '' and every delimiter are told apart. One pass,
-- bounded memory, parallel where the planner likes; hexadecimal numeric input needs PostgreSQL 16.
SELECT count(*),
       coalesce(sum(('0x' || substr(encode(sha256(convert_to(ROW({columns})::text, 'UTF8')), 'hex'), 1, 32))::numeric),
                0)::text
  FROM {table}

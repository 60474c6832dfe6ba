"""A long history of sales as the pipeline would have left it, written by SQL: raw, registry, normalised, aggregated.

The comics are those that `sales.write_sales` names, so that a landing day meets months that are full of their sales.
Views are left to the pipeline.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from assets.comics.matching import Matches
from assets.comics.rules import RULE_VERSION
from assets.comics.rules.title import parse_title
from assets.reference.rates import load_rates_of_new_file
from benchmarks import sales
from pipelines.catalog.partitions import ensure_periods, span_of
from resources.database import OWNER_ROLE, Database

MONTHS = 84
LAST_DAY = sales.LANDING_DAY - dt.timedelta(days=1)
FIRST_DAY = LAST_DAY - dt.timedelta(days=30 * MONTHS)
LAST_ISSUE = 699
TABLES = ("pricing_data_raw", "pricing_data_normalized")

# In the order in which they landed, a day's together: as a table lies that was loaded day by day.
_SALES = """
CREATE UNLOGGED TABLE longbox.bench_sales AS
SELECT n, day, md5('key' || n)::uuid AS key_hash, md5('content' || n)::uuid AS content_hash, comics.comic_id,
       comics.title, price, grade, 1 + day - %(first)s::date AS load_id
FROM (SELECT n, %(first)s::date + (n * %(days)s::bigint / (%(rows)s + 1))::integer AS day,
             1 + floor(power(random(), 2) * %(comics)s)::integer AS comic,
             1 + round((random() * 500)::numeric, 2) AS price,
             (ARRAY[9.8, 9.6, 9.4, 8.0, 6.0, 4.0, 2.0, NULL])[1 + n %% 8]::numeric AS grade
      FROM generate_series(1, %(rows)s::bigint) AS n) AS sale
JOIN (SELECT row_number() OVER (ORDER BY comic_key) AS comic, comic_id, title FROM comics.comics) AS comics
  USING (comic)
ORDER BY n
"""
_RAW = """
INSERT INTO comics.pricing_data_raw (sold_at, load_id, line, sale_date, landing_day, quantity, key_hash, content_hash,
  price, source_marketplace, source_record_id, title, condition, currency)
SELECT (day + interval '12 hours') AT TIME ZONE 'UTC', load_id, n, day, day + 1, 1, key_hash, content_hash, price,
       'bench', n::text, title, coalesce(grade::text, 'ungraded'), 'USD'
FROM longbox.bench_sales
"""
_NORMALISED = """
INSERT INTO comics.pricing_data_normalized (sold_at, sale_date, rule_version, key_hash, content_hash, comic_id, price,
  price_usd, fx_rate, grade, is_firm_grade, currency, grade_band, source_marketplace, source_record_id)
SELECT (day + interval '12 hours') AT TIME ZONE 'UTC', day, %(rules)s, key_hash, content_hash, comic_id, price,
       price, 1, grade, grade IS NOT NULL, 'USD', comics.grade_band(grade), 'bench', n::text
FROM longbox.bench_sales
"""
# By key, as its primary key lies: ten million random places in an index are another benchmark.
_REGISTRY = """
INSERT INTO longbox.record_keys (feed_id, key_hash, content_hash, event_on, landed_on, load_id, ordinal)
SELECT feed_id, key_hash, content_hash, day, day + 1, load_id, n
FROM longbox.bench_sales CROSS JOIN longbox.feeds WHERE (system, feed) = ('comics', 'marketplace_sales')
ORDER BY key_hash, content_hash
"""
_LOADS = """
INSERT INTO longbox.loads (load_id, feed_id, landing_day, file_name, content_hash, catalogue_version, status,
  object_bytes, landed_rows, loaded_rows)
OVERRIDING SYSTEM VALUE
SELECT load_id, feed_id, day + 1, 'history.csv', sha256(convert_to(load_id::text, 'UTF8')), 'bench', 'loaded', 0,
       count(*), count(*)
FROM longbox.bench_sales CROSS JOIN longbox.feeds WHERE (system, feed) = ('comics', 'marketplace_sales')
GROUP BY load_id, feed_id, day;
SELECT setval(pg_get_serial_sequence('longbox.loads', 'load_id'), (SELECT max(load_id) FROM longbox.loads))
"""
# As the pipeline computes them from these sales, of which none is an outlier or a second listing, and about as it
# writes them: period by period.
_AGGREGATED = """
INSERT INTO comics.pricing_data_aggregated (comic_id, grade_band, period_type, period_start, sale_count, volume_usd,
  min_usd, p25_usd, median_usd, p75_usd, max_usd, mean_usd, stddev_usd)
SELECT comic_id, grade_band, period_type, period_start, sale_count, volume_usd, min_usd,
       round(quartiles[1]::numeric, 2), round(quartiles[2]::numeric, 2), round(quartiles[3]::numeric, 2), max_usd,
       mean_usd, stddev_usd
FROM (SELECT comic_id, grade_band, period_type, period_start, count(*) AS sale_count, sum(price) AS volume_usd,
             min(price) AS min_usd, max(price) AS max_usd, round(avg(price), 2) AS mean_usd,
             percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY price::float8) AS quartiles,
             round(stddev_samp(price), 2) AS stddev_usd
      FROM (SELECT comic_id, comics.grade_band(grade) AS grade_band, day, price FROM longbox.bench_sales) AS sale,
           LATERAL (VALUES ('day', day), ('week', date_trunc('week', day)::date),
                           ('month', date_trunc('month', day)::date)) AS period (period_type, period_start)
      GROUP BY comic_id, grade_band, period_type, period_start) AS periods
ORDER BY period_start, period_type, comic_id
"""
_KEYS = """
SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %(table)s::regclass AND contype = 'p'
"""
_INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = %(table)s::regclass AND NOT indisprimary
"""


def write_history(url: str, rows: int, *, aggregated: bool = True) -> None:
    """Write `rows` sales of the 84 months before the landing day into an empty database, vacuumed and analysed.

    `aggregated`: also their price statistics.
    """
    with Database(url, role=OWNER_ROLE) as owner:
        for table in TABLES:
            ensure_periods(owner, "comics", table, _months(), "month")
    with Database(url) as database:
        load_rates_of_new_file(database, None, None)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET work_mem = '256MB'")
        _write_comics(connection)
        connection.execute("INSERT INTO longbox.feeds (system, feed) VALUES ('comics', 'marketplace_sales')")
        comics = connection.execute("SELECT count(*) FROM comics.comics").fetchone()
        days = (LAST_DAY - FIRST_DAY).days + 1
        made = {"first": FIRST_DAY, "days": days, "rows": rows, "comics": comics[0] if comics else 0}
        connection.execute(_SALES, made)
        connection.execute(
            "SET session_replication_role = replica"
        )  # the comics are there: no check of each row
        connection.execute(_RAW)
        connection.execute(_NORMALISED, {"rules": RULE_VERSION})
        connection.execute(_REGISTRY)
        connection.execute(_LOADS)
        if aggregated:
            with _indexed_after(connection, "comics.pricing_data_aggregated"):
                connection.execute(_AGGREGATED)
        connection.execute("DROP TABLE longbox.bench_sales")
        connection.execute("RESET session_replication_role")
        connection.execute("VACUUM (ANALYZE)")


@contextmanager
def _indexed_after(connection: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """Without the primary key and the indexes of `table`: 25 million rows at random places take half an hour."""
    keys = connection.execute(_KEYS, {"table": table}).fetchall()
    indexes = connection.execute(_INDEXES, {"table": table}).fetchall()
    for name, _ in keys:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    yield
    connection.execute("SET maintenance_work_mem = '512MB'")
    for _, definition in indexes:
        connection.execute(definition)
    for name, definition in keys:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def _months() -> set[dt.date]:
    days = (FIRST_DAY + dt.timedelta(days=number) for number in range((LAST_DAY - FIRST_DAY).days + 2))
    return {span_of(day, "month").lower for day in days}


def _write_comics(connection: psycopg.Connection[Any]) -> None:
    titles = [parse_title(f"{name} #{issue}") for name in sales.TITLES for issue in range(1, LAST_ISSUE + 1)]
    with connection.transaction():
        Matches.of(titles).write(connection)

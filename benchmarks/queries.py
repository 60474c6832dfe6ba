"""Queries over a long history of sales: prices of a comic, and the search for its title.

python -m benchmarks.queries        ROWS=200000 QUERIES=300

The history is written by SQL into the real tables, under their constraints, not through the pipeline: 84 months of
sales over 20,000 comics, the first ones far more often sold. Every query runs warm, with other parameters each time.
"""

import os
import random
import time
from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks import harness

PRICE_GOAL_MS, TITLE_GOAL_MS = 50, 100
_COMICS = 20_000
_PARTITIONS = """
DO $$ BEGIN
  FOR month IN 0..83 LOOP
    EXECUTE format(
      'CREATE TABLE comics.bench_%s PARTITION OF comics.pricing_data_normalized FOR VALUES FROM (%L) TO (%L)',
      month, date '2019-01-01' + make_interval(months => month),
      date '2019-01-01' + make_interval(months => month + 1));
  END LOOP;
END $$
"""
_SERIES = """
INSERT INTO comics.series (series_id, series_key, name)
SELECT md5('series' || n)::uuid, 'series' || n,
       (ARRAY['Amazing','Uncanny','Savage','Silver','Night','Green','Black','Iron'])[1 + n % 8] || ' '
       || (ARRAY['Spider','Hunter','Lantern','Panther','Surfer'])[1 + n / 8 % 5] || ' ' || substr(md5(n::text), 1, 5)
FROM generate_series(0, 199) AS n
"""
_TITLES = """
INSERT INTO comics.comics (comic_id, series_id, comic_key, issue_number, issue_sort, title)
SELECT md5('comic' || n)::uuid, series_id, 'comic' || n, (n / 200 + 1)::text, n / 200 + 1, name || ' #' || (n / 200 + 1)
FROM generate_series(0, %(comics)s - 1) AS n JOIN comics.series ON series_key = 'series' || n %% 200
"""
_SALES = """
INSERT INTO comics.pricing_data_normalized (sold_at, sale_date, rule_version, key_hash, content_hash, comic_id, price,
  price_usd, fx_rate, grade, currency, grade_band, source_marketplace, source_record_id)
SELECT day + interval '12 hours', day, 1, md5('key' || n)::uuid, md5('content' || n)::uuid,
       md5('comic' || floor(power(random(), 3) * %(comics)s))::uuid, price, price, 1, grade, 'USD',
       comics.grade_band(grade), 'bench', n::text
FROM (SELECT n, date '2019-01-01' + (random() * 2555)::integer AS day, 1 + round((random() * 500)::numeric, 2) AS price,
             (ARRAY[9.8, 9.4, 8.0, 6.5, 4.0, 3.0, 1.0, NULL])[1 + n %% 8]::numeric AS grade
      FROM generate_series(1, %(rows)s) AS n) AS sale
"""
# What is asked. The 90 days are those before a random day of the history.
_QUERIES = {
    "price of a comic in a grade band, 90 days": """
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY price_usd), count(*) FROM comics.pricing_data_normalized
        WHERE comic_id = %(comic)s AND grade_band = %(band)s AND NOT is_lot
          AND sale_date BETWEEN %(day)s::date - 90 AND %(day)s::date""",
    "price history of a comic, 90 days": """
        SELECT sale_date, grade_band, price_usd FROM comics.pricing_data_normalized
        WHERE comic_id = %(comic)s AND sale_date BETWEEN %(day)s::date - 90 AND %(day)s::date
        ORDER BY sale_date DESC""",
    "last 100 sales of a comic": """
        SELECT sale_date, grade_band, price_usd FROM comics.pricing_data_normalized
        WHERE comic_id = %(comic)s ORDER BY sale_date DESC LIMIT 100""",
    "title search, words": """
        SELECT comic_id, title FROM comics.comics WHERE title_search @@ plainto_tsquery('simple', %(words)s)
        ORDER BY ts_rank(title_search, plainto_tsquery('simple', %(words)s)) DESC, comic_id LIMIT 20""",
    "title search, misspelt (trigrams)": """
        SELECT comic_id, title FROM comics.comics WHERE lower(title) %% lower(%(misspelt)s)
        ORDER BY similarity(lower(title), lower(%(misspelt)s)) DESC, comic_id LIMIT 20""",
}


def write_history(connection: psycopg.Connection[Any], rows: int) -> None:
    """Write `rows` sales with their comics and months, analysed and vacuumed. `connection` commits by itself."""
    connection.execute(_PARTITIONS)
    connection.execute(_SERIES)
    connection.execute(_TITLES, {"comics": _COMICS})
    connection.execute(_SALES, {"rows": rows, "comics": _COMICS})
    connection.execute("VACUUM (ANALYZE) comics.pricing_data_normalized, comics.comics, comics.series")


def _parameters(connection: psycopg.Connection[Any], number: int) -> list[dict[str, Any]]:
    chance = random.Random(1)
    comics = connection.execute("SELECT comic_id, title FROM comics.comics ORDER BY comic_key").fetchall()
    bands = ("9.8-10", "9.0-9.6", "8.0-8.5", "ungraded")
    made = []
    for comic_id, title in chance.choices(comics, k=number):
        at = chance.randrange(1, 10)
        made.append(
            {"comic": comic_id, "band": chance.choice(bands), "words": title.replace("#", ""),
             "day": f"20{chance.randrange(20, 26)}-{chance.randrange(1, 13):02d}-15",
             "misspelt": title[:at] + title[at + 1 :]}
        )  # fmt: skip
    return made


def _times_ms(ask: Callable[[dict[str, Any]], object], asked: list[dict[str, Any]]) -> list[float]:
    for parameters in asked:  # warm
        ask(parameters)
    times = []
    for parameters in asked:
        started = time.perf_counter()
        ask(parameters)
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)


def measure(rows: int, queries: int) -> None:
    """Print p50, p95 and p99 of every query over a history of `rows` sales."""
    table = []
    with (
        harness.server() as bench,
        bench.database() as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        write_history(connection, rows)
        asked = _parameters(connection, queries)
        for name, query in _QUERIES.items():

            def ask(parameters: dict[str, Any], query: str = query) -> object:
                return connection.execute(query, parameters).fetchall()

            times = _times_ms(ask, asked)
            goal = f"< {TITLE_GOAL_MS if 'title' in name else PRICE_GOAL_MS} ms"
            table.append((name, *(f"{times[int(len(times) * at)]:.2f}" for at in (0.5, 0.95, 0.99)), goal))
    harness.print_table(("query", "p50 ms", "p95 ms", "p99 ms", "goal on 10,000,000"), table)
    harness.conditions(f"{rows:,} sales, {queries} queries each")


def main() -> None:
    """Read ROWS and QUERIES, measure, print."""
    measure(int(os.environ.get("ROWS", "200000")), int(os.environ.get("QUERIES", "300")))


if __name__ == "__main__":
    main()

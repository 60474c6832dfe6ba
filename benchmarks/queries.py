"""Queries over a long history of sales: prices of a comic, and the search for its title.

python -m benchmarks.queries        ROWS=200000 QUERIES=300 TITLES=20000

The history is written by SQL into the real tables, under their constraints, not through the pipeline: 84 months of
sales over TITLES comics, 100 a series, the first ones far more often sold. Every query runs warm, with other parameters
each time.
"""

import datetime as dt
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import harness

PRICE_GOAL_MS, TITLE_GOAL_MS = 50, 100
_FIRST_YEAR, _YEARS = 2019, 7
_ISSUES = 100
_SERIES = """
INSERT INTO comics.series (series_id, series_key, name)
SELECT md5('series' || n)::uuid, 'series' || n,
       (ARRAY['Amazing','Uncanny','Savage','Silver','Night','Green','Black','Iron'])[1 + n % 8] || ' '
       || (ARRAY['Spider','Hunter','Lantern','Panther','Surfer'])[1 + n / 8 % 5] || ' ' || substr(md5(n::text), 1, 5)
FROM generate_series(0, {series} - 1) AS n
"""
_TITLES = """
INSERT INTO comics.comics (comic_id, series_id, comic_key, issue_number, issue_sort, title)
SELECT md5('comic' || n)::uuid, series_id, 'comic' || n, issue::text, issue, name || ' #' || issue
FROM (SELECT n, n / {series} + 1 AS issue FROM generate_series(0, {titles} - 1) AS n) AS numbered
JOIN comics.series ON series_key = 'series' || n % {series}
"""
# A month is filled before it has indexes and is part of anything: that is a third of the work. In order of the sales'
# days, as a table lies that was loaded day by day. `comic` is the n-th of {titles}, the first ones far more often.
_MONTH = """
CREATE TABLE {month} (LIKE comics.pricing_data_normalized INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO {month} (sold_at, sale_date, rule_version, key_hash, content_hash, comic_id, price, price_usd, fx_rate,
  grade, currency, grade_band, source_marketplace, source_record_id)
SELECT (day + interval '12 hours') AT TIME ZONE 'UTC', day, 1, md5('key' || n)::uuid, md5('content' || n)::uuid,
       md5('comic' || floor(power(random(), 3) * {titles}))::uuid, price, price, 1, grade, 'USD',
       comics.grade_band(grade), 'bench', n::text
FROM (SELECT n, {first}::date + (({until}::date - {first}::date) * (n - {start}) / {rows})::integer AS day,
             1 + round((random() * 500)::numeric, 2) AS price,
             (ARRAY[9.8, 9.4, 8.0, 6.5, 4.0, 3.0, 1.0, NULL])[1 + n % 8]::numeric AS grade
      FROM generate_series({start}::bigint, {start} + {rows} - 1) AS n) AS sale;
ALTER TABLE comics.pricing_data_normalized ATTACH PARTITION {month} FOR VALUES FROM ({first}) TO ({until})
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
    "title search, all words": "SELECT comic_id, title FROM comics.search_titles(%(words)s)",
    "title search, misspelt": "SELECT comic_id, title FROM comics.search_titles(%(misspelt)s)",
    "title search, misspelt, no number": "SELECT comic_id, title FROM comics.search_titles(%(misspelt_name)s)",
    "title search, a word of each fifth title": "SELECT comic_id, title FROM comics.search_titles(%(word)s)",
}


def write_history(connection: psycopg.Connection[Any], rows: int, titles: int) -> None:
    """Write `rows` sales of `titles` comics and their months, vacuumed. `connection` commits by itself."""
    series = {"series": sql.Literal(max(titles // _ISSUES, 1)), "titles": sql.Literal(titles)}
    connection.execute(sql.SQL(_SERIES).format(**series))
    connection.execute(sql.SQL(_TITLES).format(**series))
    for number, (first, until) in enumerate(_months()):
        start, end = rows * number // (12 * _YEARS), rows * (number + 1) // (12 * _YEARS)
        month = {
            "month": sql.Identifier("comics", f"bench_{number}"), "titles": sql.Literal(titles),
            "first": sql.Literal(first.isoformat()), "until": sql.Literal(until.isoformat()),
            "start": sql.Literal(start), "rows": sql.Literal(end - start),
        }  # fmt: skip
        connection.execute(sql.SQL(_MONTH).format(**month))
    connection.execute("VACUUM (ANALYZE) comics.pricing_data_normalized, comics.comics, comics.series")


def _months() -> Iterator[tuple[dt.date, dt.date]]:
    firsts = [dt.date(_FIRST_YEAR + n // 12, n % 12 + 1, 1) for n in range(12 * _YEARS + 1)]
    yield from itertools.pairwise(firsts)


def _parameters(connection: psycopg.Connection[Any], number: int) -> list[dict[str, Any]]:
    """Half of the comics are any, half are asked for as often as they sell."""
    chance = random.Random(1)
    found = connection.execute(
        "SELECT substr(comic_key, 6)::integer, comic_id, title FROM comics.comics ORDER BY 1"
    )
    comics = found.fetchall()
    bands = ("9.8-10", "9.0-9.6", "8.0-8.5", "ungraded")
    made = []
    for turn in range(number):
        _, comic_id, title = comics[int(chance.random() ** (1 if turn % 2 else 3) * len(comics))]
        at = chance.randrange(1, 10)
        misspelt = title[:at] + title[at + 1 :]
        made.append(
            {"comic": comic_id, "band": chance.choice(bands), "words": title.replace("#", ""),
             "day": f"20{chance.randrange(20, 26)}-{chance.randrange(1, 13):02d}-15", "misspelt": misspelt,
             "misspelt_name": misspelt.rpartition(" #")[0], "word": title.split()[1]}
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


def measure(rows: int, queries: int, titles: int) -> None:
    """Print p50, p95 and p99 of every query over a history of `rows` sales of `titles` comics."""
    table = []
    with (
        harness.server() as bench,
        bench.database() as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        started = time.perf_counter()
        write_history(connection, rows, titles)
        harness.note(f"{rows:,} sales written in {time.perf_counter() - started:.0f} s")
        asked = _parameters(connection, queries)
        for name, query in _QUERIES.items():

            def ask(parameters: dict[str, Any], query: str = query) -> object:
                return connection.execute(query, parameters).fetchall()

            times = _times_ms(ask, asked)
            goal = f"< {TITLE_GOAL_MS if 'title' in name else PRICE_GOAL_MS} ms"
            table.append((name, *(f"{times[int(len(times) * at)]:.2f}" for at in (0.5, 0.95, 0.99)), goal))
    harness.print_table(("query", "p50 ms", "p95 ms", "p99 ms", "goal on 10,000,000"), table)
    harness.conditions(f"{rows:,} sales of {titles:,} comics, {queries} queries each")


def main() -> None:
    """Read ROWS, QUERIES and TITLES, measure, print."""
    sizes = {"ROWS": "200000", "QUERIES": "300", "TITLES": "20000"}
    measure(*(int(os.environ.get(name, size)) for name, size in sizes.items()))


if __name__ == "__main__":
    main()

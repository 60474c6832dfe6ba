"""The table that the benchmark of backups grows and changes: sales-like rows, about 200 bytes each with their index."""

import psycopg

_BATCH = 250_000
_TABLE = """
CREATE TABLE IF NOT EXISTS bench_sales (
  id bigint PRIMARY KEY, sold_at timestamptz, title text, marketplace text, condition text, price numeric(12, 2),
  record uuid, note text
)
"""
_ROWS = """
INSERT INTO bench_sales
SELECT n, timestamptz '2019-01-01' + n * interval '7 seconds', 'Amazing Tales of the Unexpected #' || 1 + n %% 699,
       (ARRAY['ebay', 'heritage', 'comiclink', 'mycomicshop'])[1 + n %% 4], round((n %% 98) / 10.0, 1)::text,
       1 + round((random() * 500)::numeric, 2), md5(n::text)::uuid, md5('note' || n)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_CHANGE = """
UPDATE bench_sales SET price = price + 1
WHERE id BETWEEN %(from)s::bigint AND %(from)s + (SELECT count(*) FROM bench_sales) / 100
"""


def cluster_bytes(connection: psycopg.Connection) -> int:
    """All databases of the cluster."""
    row = connection.execute("SELECT sum(pg_database_size(oid)) FROM pg_database").fetchone()
    assert row is not None
    return int(row[0])


def grow(url: str, size_bytes: int) -> int:
    """Add rows until the cluster is as large, settle it, and return how large it is.

    Vacuumed and frozen, so that later changes of blocks are those of `change`.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLE)
        row = connection.execute("SELECT coalesce(max(id), 0) FROM bench_sales").fetchone()
        last = int(row[0]) if row else 0
        while cluster_bytes(connection) < size_bytes:
            connection.execute(_ROWS, {"first": last + 1, "last": last + _BATCH})
            last += _BATCH
        connection.execute("VACUUM (FREEZE, ANALYZE) bench_sales")
        connection.execute("CHECKPOINT")
        return cluster_bytes(connection)


def change(url: str, turn: int) -> int:
    """Update 1 % of the rows, neighbours as a day's rows are; another hundredth each turn. Returns how many."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM bench_sales").fetchone()
        rows = int(row[0]) if row else 0
        return connection.execute(_CHANGE, {"from": 1 + turn * (rows // 50)}).rowcount

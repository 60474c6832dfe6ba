"""The digest of a table: the same for the same rows in any order, another for any change of any value."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from cli.digest import register
from pipelines.catalog.digest import TableDigest, digest_tables
from pipelines.catalog.model import Catalog, System
from resources.database import Connection
from resources.errors import UserError

CATALOG = Catalog(systems={name: System(name=name, folder=Path(name)) for name in ("mint", "attic")})
TYPES = """
    id bigint GENERATED ALWAYS AS IDENTITY, n integer, label text, price numeric(12,2), rate numeric, ratio float8,
    at timestamptz, local timestamp, span interval, day date, ok boolean, doc jsonb, tags text[], raw bytea,
    mood mint.mood, months daterange, note varchar(10), code char(3), address inet, key uuid,
    loaded_at timestamptz DEFAULT clock_timestamp(), doubled numeric GENERATED ALWAYS AS (price * 2) STORED
"""
ROW = {
    "n": "1", "label": "'a'", "price": "12.5", "rate": "1.10", "ratio": "0.1", "at": "'2024-03-31 01:30+01'",
    "local": "'2024-03-31 01:30'", "span": "'1 day'", "day": "'2024-02-29'", "ok": "true",
    "doc": """'{"a": [1.0, null]}'""",
    "tags": "'{a,NULL}'", "raw": "'\\x00ff'", "mood": "'good'", "months": "'[2024-01-01,2024-02-01)'", "note": "'x'",
    "code": "'ab'", "address": "'10.0.0.1'", "key": "'00000000-0000-0000-0000-000000000001'",
}  # fmt: skip


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url) as opened:
        opened.execute("CREATE SCHEMA mint")
        opened.execute("CREATE TYPE mint.mood AS ENUM ('good', 'bad')")
        opened.execute(f"CREATE TABLE mint.coins ({TYPES})")  # type: ignore[arg-type]
        opened.commit()
        yield opened


def digest(connection: Connection, name: str = "mint/coins") -> TableDigest:
    (found,) = digest_tables(connection, CATALOG, [name])
    return found


def fill(connection: Connection, *rows: dict[str, str], table: str = "mint.coins") -> str:
    """The hash of the table once it holds exactly these rows, in this order."""
    connection.execute(f"TRUNCATE {table}")  # type: ignore[arg-type]
    for row in rows:
        columns, values = ", ".join(row), ", ".join(row.values())
        connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})")  # type: ignore[arg-type]
    found = digest(connection, table)
    assert found.rows == len(rows)
    return found.content_hash


def test_order_surrogate_ids_and_load_times_do_not_matter(connection: Connection) -> None:
    rows = [{**ROW, "n": str(n)} for n in range(4)]
    assert len({fill(connection, *order) for order in itertools.permutations(rows)}) == 1
    assert set(digest(connection).left_out) == {"id", "loaded_at"}


CHANGES = [
    ("n", "2"), ("n", "NULL"), ("label", "''"), ("label", "NULL"), ("label", "'a '"), ("label", "'A'"),
    ("label", "'a,'"), ("label", "'\"a\"'"), ("label", "E'a\\n'"), ("price", "12.51"), ("price", "NULL"),
    ("rate", "1.1"), ("rate", "'NaN'"), ("ratio", "0.1::float4"),
    ("at", "'2024-03-31 01:30+00'"), ("at", "'infinity'"), ("local", "'2024-03-31 01:30:00.000001'"),
    ("span", "'24 hours'"), ("day", "'2024-03-01'"), ("ok", "false"), ("doc", """'{"a": [1.00, null]}'"""),
    ("doc", """'{"a": [1.0]}'"""), ("doc", "'null'"), ("doc", "NULL"), ("tags", "'{a,\"NULL\"}'"),
    ("tags", "'[0:1]={a,NULL}'"), ("tags", "'{}'"), ("raw", "'\\x00fe'"), ("mood", "'bad'"),
    ("months", "'[2024-01-01,2024-02-02)'"), ("months", "'empty'"), ("note", "'y'"), ("code", "'abc'"),
    ("address", "'10.0.0.0/24'"), ("key", "'00000000-0000-0000-0000-000000000002'"),
]  # fmt: skip


def test_any_change_of_any_value_changes_the_hash(connection: Connection) -> None:
    other = {**ROW, "n": "7"}
    before = fill(connection, ROW, other)
    unseen = [
        change for change in CHANGES if fill(connection, {**ROW, change[0]: change[1]}, other) == before
    ]
    assert unseen == []


def test_what_is_stored_alike_hashes_alike(connection: Connection) -> None:
    before = fill(connection, ROW)
    for column, value in (
        ("ratio", "0.1::float8 + 1e-18"),  # below the precision of a double
        ("price", "12.50"),
        ("at", "'2024-03-31 06:15+05:45'"),
        ("doc", """'{ "a":[1.0,null] }'"""),
        ("code", "'ab '"),
    ):
        assert fill(connection, {**ROW, column: value}) == before, column


def test_minus_zero_is_not_zero(connection: Connection) -> None:
    assert fill(connection, {"ratio": "0"}) != fill(connection, {"ratio": "'-0'"})


def test_values_swapped_between_rows_or_columns_change_the_hash(connection: Connection) -> None:
    straight = fill(connection, {"n": "1", "label": "'a'"}, {"n": "2", "label": "'b'"})
    assert straight != fill(connection, {"n": "1", "label": "'b'"}, {"n": "2", "label": "'a'"})
    assert fill(connection, {"label": "'1'"}) != fill(connection, {"note": "'1'"})
    assert fill(connection, {"label": "'a,b'"}) != fill(connection, {"label": "'a'", "note": "'b'"})


def test_the_number_of_equal_rows_matters(connection: Connection) -> None:
    hashes = [fill(connection, *[ROW] * count) for count in range(5)]
    assert len(set(hashes)) == 5


def test_settings_of_the_session_do_not_matter_and_are_left_alone(connection: Connection) -> None:
    before = fill(connection, ROW)
    connection.execute(
        "SET timezone = 'Asia/Kathmandu'; SET datestyle = 'German'; SET intervalstyle = 'iso_8601'"
    )
    connection.execute("SET extra_float_digits = -3; SET bytea_output = 'escape'; SET search_path = mint")
    connection.commit()
    assert digest(connection).content_hash == before
    assert connection.execute("SHOW timezone").fetchone() == ("Asia/Kathmandu",)
    assert connection.execute("SHOW search_path").fetchone() == ("mint",)


def test_the_order_of_columns_does_not_matter_and_their_names_do(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA attic")
    connection.execute("CREATE TABLE attic.ab (a text, b text); CREATE TABLE attic.ba (b text, a text)")
    connection.execute("CREATE TABLE attic.ac (a text, c text)")
    ab = fill(connection, {"a": "'1'", "b": "'2'"}, table="attic.ab")
    assert fill(connection, {"a": "'1'", "b": "'2'"}, table="attic.ba") == ab
    assert fill(connection, {"a": "'1'", "c": "'2'"}, table="attic.ac") != ab


def test_a_partitioned_table_counts_once_and_wherever_its_rows_lie(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA attic")
    connection.execute("CREATE TABLE attic.whole (day date, n int)")
    connection.execute("CREATE TABLE attic.parts (n int, day date) PARTITION BY RANGE (day)")
    for month in (1, 2):
        bounds = f"FROM ('2024-0{month}-01') TO ('2024-0{month + 1}-01')"
        connection.execute(f"CREATE TABLE attic.parts_{month} PARTITION OF attic.parts FOR VALUES {bounds}")  # type: ignore[arg-type]
    for table in ("whole", "parts"):
        connection.execute(
            f"INSERT INTO attic.{table} (day, n) SELECT date '2024-01-01' + i, i FROM generate_series(0, 50) i"
        )  # type: ignore[arg-type]
    parts, whole = digest_tables(connection, CATALOG, ["attic"])
    assert (parts.table, parts.rows, parts.content_hash) == ("parts", whole.rows, whole.content_hash)


def test_lineage_is_left_out_where_a_feed_loads_and_only_there(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA attic")
    lineage = "landing_day date, load_id bigint, line bigint, loaded_at timestamptz"
    connection.execute(f"CREATE TABLE attic.raw (n int, key_hash uuid, {lineage})")  # type: ignore[arg-type]
    connection.execute("CREATE TABLE attic.poem (line int, run_id text)")
    assert digest(connection, "attic/raw").left_out == ("landing_day", "load_id", "line", "loaded_at")
    assert digest(connection, "attic/poem").left_out == ("run_id",)


def test_materialised_views_are_digested_without_the_clocks_they_copy(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA attic")
    connection.execute(
        "CREATE TABLE attic.sums (n int, day timestamptz, computed_at timestamptz DEFAULT now())"
    )
    connection.execute(
        "CREATE MATERIALIZED VIEW attic.top AS SELECT *, now() AS refreshed_at FROM attic.sums"
    )
    connection.execute("CREATE VIEW attic.plain AS SELECT 1 AS n")
    connection.commit()
    assert [found.table for found in digest_tables(connection, CATALOG, ["attic"])] == ["sums", "top"]
    before = digest(connection, "attic/top")
    assert before.left_out == ("computed_at", "refreshed_at")
    connection.execute("INSERT INTO attic.sums VALUES (1); REFRESH MATERIALIZED VIEW attic.top")
    assert digest(connection, "attic/top").rows == 1


def test_columns_generated_from_what_is_left_out_are_left_out(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA attic")
    connection.execute(
        "CREATE TABLE attic.t (at timestamptz DEFAULT now(), n int, m int GENERATED ALWAYS AS (n + 1) STORED,"
        " later timestamp GENERATED ALWAYS AS (at AT TIME ZONE 'UTC') STORED)"
    )
    assert digest(connection, "attic/t").left_out == ("at", "later")


def test_all_tables_of_all_systems_come_in_order_under_one_snapshot(
    connection: Connection, database_url: str
) -> None:
    connection.execute("CREATE SCHEMA attic; CREATE TABLE attic.b (n int); CREATE TABLE attic.a (n int)")
    connection.execute("CREATE SCHEMA other; CREATE TABLE other.a (n int)")
    connection.commit()
    found = digest_tables(connection, CATALOG)
    assert [digest.key_name for digest in found] == ["attic/a", "attic/b", "mint/coins"]
    for name in ("attic/a", "attic.a", "a"):
        assert [digest.key_name for digest in digest_tables(connection, CATALOG, [name])] == ["attic/a"]
    assert digest_tables(connection, CATALOG, ["attic", "attic/a"]) == found[:2]


def test_an_unknown_table_names_the_nearest(connection: Connection) -> None:
    with pytest.raises(UserError, match="there is no table 'mint/coin' to digest; did you mean 'mint/coins'"):
        digest_tables(connection, CATALOG, ["mint/coin"])


def test_a_view_that_was_never_filled_says_so(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA attic")
    connection.execute("CREATE MATERIALIZED VIEW attic.top AS SELECT 1 AS n WITH NO DATA")
    with pytest.raises(UserError, match="attic/top was never filled; refresh it"):
        digest(connection, "attic")


def test_the_command_prints_tables_and_refuses_unknown_ones(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGBOX_POSTGRES_URL", database_url)
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    runner = CliRunner()
    printed = runner.invoke(app, ["digest", "comics/comics", "reference"])
    assert printed.exit_code == 0, printed.output
    assert [line.split()[0] for line in printed.output.splitlines()] == [
        "comics/comics",
        "reference/fx_rates",
    ]
    (found,) = json.loads(runner.invoke(app, ["digest", "comics.comics", "--json"]).output)
    assert found["content_hash"] in printed.output
    assert isinstance(runner.invoke(app, ["digest", "comics/comic"]).exception, UserError)

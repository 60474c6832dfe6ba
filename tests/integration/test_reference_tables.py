"""The pages of tables say what a migrated database has."""

import psycopg

from cli.reference import TABLES_FOLDER, table_pages
from pipelines.catalog.loader import load_catalog, system_folders
from resources.settings import PROJECT_ROOT, Settings


def test_the_pages_of_tables_are_those_of_a_migrated_database(database_url: str, settings: Settings) -> None:
    with psycopg.connect(database_url) as connection:
        pages = table_pages(connection, load_catalog(system_folders(settings)))
    written = {
        f"{TABLES_FOLDER}/{file.name}": file.read_text(encoding="utf-8")
        for file in (PROJECT_ROOT / TABLES_FOLDER).glob("*.md")
    }
    assert written == pages, "run `make reference` and commit what it writes"


def test_every_relation_and_column_of_the_database_stands_in_them(database_url: str) -> None:
    query = """SELECT c.table_schema, c.table_name, c.column_name FROM information_schema.columns c
      JOIN pg_class r ON r.oid = format('%I.%I', c.table_schema, c.table_name)::regclass AND NOT r.relispartition
      WHERE c.table_schema !~ '^pg_' AND c.table_schema NOT IN ('information_schema', 'public')"""
    with psycopg.connect(database_url) as connection:
        columns = connection.execute(query).fetchall()
    assert len(columns) > 100
    for schema, table, column in columns:
        page = (PROJECT_ROOT / TABLES_FOLDER / f"{schema}.md").read_text(encoding="utf-8")
        section = page.split(f"## {schema}.{table}\n")[1].split("\n## ")[0]
        assert f"| `{column}` |" in section, f"{schema}.{table}.{column}"

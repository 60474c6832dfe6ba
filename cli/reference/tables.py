"""Every table as it is in a migrated database: columns, types, comments, keys, indexes. One page a schema.

Read from PostgreSQL and not from the migrations, because only the server knows what they add up to. Partitions are
left out: they come and go with the calendar.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import Connection

from cli.reference.markdown import NOTE, cell, code, table
from pipelines.catalog.model import Catalog
from pipelines.catalog.shape import ColumnShape, TableShape, table_shapes
from resources.sql import Queries

TABLES_FOLDER = "docs/reference/tables"
PLATFORM = "longbox"
_HEAD = ("column", "type", "not null", "default", "meaning")
Row = tuple[Any, ...]


def table_pages(connection: Connection[Row], catalog: Catalog) -> dict[str, str]:
    """Path in the project -> text: one page a system that has tables, one for the platform's, and their index."""
    titles = {PLATFORM: "The platform's own tables: identities, accounts, quarantine, ledger."}
    titles |= {name: system.description for name, system in sorted(catalog.systems.items())}
    pages, index = {}, []
    for schema, description in titles.items():
        shapes = table_shapes(connection, schema)
        if shapes:
            pages[f"{TABLES_FOLDER}/{schema}.md"] = _page(connection, schema, description, shapes)
            index.append((f"[`{schema}`]({schema}.md)", len(shapes), description))
    head = ["# Tables\n", "One schema a system, in the database of `LONGBOX_POSTGRES_URL`.", NOTE]
    pages[f"{TABLES_FOLDER}/README.md"] = "\n".join([*head, *table(("schema", "tables", "of"), index)])
    return pages


def _page(
    connection: Connection[Row], schema: str, description: str, shapes: Mapping[str, TableShape]
) -> str:
    lines = [f"# Tables of `{schema}`\n", *([f"{description}\n"] if description else []), NOTE]
    for shape in shapes.values():
        relation = {"relation": f"{schema}.{shape.name}"}
        lines += [f"## {schema}.{shape.name}\n", f"{cell(shape.description)} ({_kind(shape)})\n".lstrip()]
        lines += table(_HEAD, [_column(column) for column in shape.columns])
        for title, query in (("Indexes", "indexes"), ("Constraints", "constraints")):
            lines += _list(title, connection.execute(Queries.of("cli")[query], relation).fetchall())
    return "\n".join(lines)


def _kind(shape: TableShape) -> str:
    if not shape.partition_strategy:
        return shape.kind
    return f"{shape.kind}, by {shape.partition_strategy} of {', '.join(shape.partition_by)}"


def _column(column: ColumnShape) -> tuple[str, ...]:
    default = column.default or ""
    if column.is_generated:
        default = f"generated: {column.generation}"
    elif column.is_identity:
        default = "identity"
    required = "" if column.is_nullable else "yes"
    return code(column.name), cell(column.type_name), required, code(default), column.description


def _list(title: str, rows: Sequence[Row]) -> list[str]:
    return [f"{title}:\n", *(f"- `{name}`: `{cell(text)}`" for name, text in rows), ""] if rows else []

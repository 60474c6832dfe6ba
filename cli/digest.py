"""`longbox digest`: count and content hash of every table, to compare two states of the data.

Read-only, under one snapshot. What the hash sees and what it leaves out is told in
`pipelines.catalog.digest`.
"""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.catalog.digest import TableDigest


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("digest")(digest)


def digest(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE]...", help="SYSTEM/TABLE, or SYSTEM for all of its tables. All unless given."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for programs.")] = False,
) -> None:
    """Print the row count and an order-free content hash of each table.

    The hash leaves out surrogate ids, load times and run ids: two runs that mean the same print the same.
    """
    from cli.session import session
    from pipelines.catalog.digest import digest_tables

    with session() as current, current.database.connection() as connection:
        digests = digest_tables(connection, current.catalog, tables or ())
    typer.echo(_as_json(digests) if as_json else _as_text(digests))


def _as_text(digests: "list[TableDigest]") -> str:
    if not digests:
        return "no tables yet; `longbox migrate` makes them"
    name_width = max(len(found.key_name) for found in digests)
    rows_width = max(len(f"{found.rows:,}") for found in digests)
    return "\n".join(
        f"{found.key_name:<{name_width}}  {found.rows:>{rows_width},}  {found.content_hash}"
        for found in digests
    )


def _as_json(digests: "list[TableDigest]") -> str:
    return json.dumps([dataclasses.asdict(found) for found in digests], indent=2)

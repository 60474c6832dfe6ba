"""`longbox adopt`: describe the tables of an existing schema as a system.yaml. Changes nothing.

Only reads options and prints; what is read and judged is `pipelines.adoption`'s.
"""

from pathlib import Path
from typing import Annotated

import typer

from resources.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("adopt")(adopt)


def adopt(
    schema: Annotated[
        str, typer.Argument(metavar="SCHEMA", help="The schema; its name becomes the system's.")
    ],
    url: Annotated[
        str | None, typer.Option("--url", help="Its database. LONGBOX_POSTGRES_URL unless given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write DIR/system.yaml, which must not exist. Else print it."
        ),
    ] = None,
) -> None:
    """Write a system.yaml for tables that exist already. Reads their schema and statistics, changes nothing."""
    from pipelines.adoption.advice import advise
    from pipelines.adoption.document import compose_document, write_document
    from pipelines.adoption.survey import read_only, survey_schema
    from resources.database import Database
    from resources.setting_values import postgres_url
    from resources.settings import Settings

    try:
        address = postgres_url(url) if url else Settings.load().postgres_url
    except ValueError as error:
        raise UserError(f"--url {error}; write postgresql://user:password@host:port/database") from None
    with Database(address, role=None, application_name="longbox adopt", max_size=1) as database:
        with read_only(database) as connection:
            survey = survey_schema(connection, schema)
    text = compose_document(survey, [advise(table) for table in survey.tables])
    if out is None:
        typer.echo(text, nl=False)
        return
    file = write_document(text, out)
    typer.echo(
        f"{file} describes {len(survey.tables)} tables; read it, then add {file.parent} to LONGBOX_SYSTEMS"
    )

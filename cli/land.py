"""`longbox land`: put files into the landing zone of a feed, where the landing sensor and the daily job find them."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from resources.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("land")(land)


def land(
    feed: Annotated[
        str, typer.Argument(metavar="SYSTEM/FEED", help="The feed, as in comics/marketplace_sales.")
    ],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files to land: CSV, JSON Lines or Parquet.")
    ],
    date: Annotated[
        str | None,
        typer.Option("--date", metavar="YYYY-MM-DD", help="The landing day. Today (UTC) unless given."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite a landed file of the same name.")
    ] = False,
) -> None:
    """Copy files into the landing zone. They are loaded by the next run of their landing day."""
    from cli.session import session
    from pipelines.catalog.job_names import daily_pipeline_of
    from pipelines.ingestion import land_file

    day = _landing_day(date)
    with session() as current:
        system, found = current.feed(feed)
        for path in files:
            target = land_file(current.store, found, path, day, replace=replace)
            typer.echo(f"landed {target} ({path.stat().st_size:,} bytes)")
    if replace and not found.key:
        typer.echo(
            f"{feed} has no `key:`, so that nothing tells which rows the new content corrects: rows of the old "
            "one that were loaded stay beside it",
            err=True,
        )
    typer.echo(
        f"{feed} {day}: loaded by the landing sensor, or by materialising that day in the UI or with "
        f"`longbox run {daily_pipeline_of(system)} --date {day}`"
    )


def _landing_day(text: str | None) -> dt.date:
    today = dt.datetime.now(dt.UTC).date()
    if text is None:
        return today
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"--date {text!r} is not a date; write YYYY-MM-DD, as in {today}") from None
    if day > today:
        raise UserError(f"--date {day} is in the future; files land today ({today}, UTC) or on a day before")
    return day

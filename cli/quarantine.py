"""`longbox quarantine`: rows and files that did not load and why; replay them after a fix, or write them off."""

import datetime as dt
import json
from typing import Annotated

import typer

commands = typer.Typer(
    help="Rows and files that did not load: list, show, replay, dismiss.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the group to `app`."""
    app.add_typer(commands, name="quarantine")


@commands.command("list")
def list_entries(
    feed: Annotated[str | None, typer.Option(metavar="SYSTEM/FEED", help="Only this feed.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only this reason, as in not_a_number.")] = None,
    date: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only this landing day.")
    ] = None,
    status: Annotated[str, typer.Option(help="open, replayed, dismissed or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, help="At most so many entries.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List quarantined rows and files, oldest first, after a summary by reason."""
    from cli.session import session
    from pipelines.ingestion import quarantine
    from resources.errors import UserError

    if status not in ("open", "replayed", "dismissed", "all"):
        raise UserError(f"--status {status!r} is unknown; write open, replayed, dismissed or all")
    with session() as current:
        rows = quarantine.list_quarantine(
            current.database,
            feed=feed,
            reason=reason,
            status=None if status == "all" else status,
            landing_day=date.date() if date else None,
            limit=limit,
        )
        if feed is not None and not rows:
            current.feed(feed)  # one that was taken out of the file may have entries; no other name has
        counts = []
        if not as_json and status != "all" and date is None:
            counts = [
                count
                for count in quarantine.count_quarantine(current.database, status=status)
                if feed in (None, count[0]) and reason in (None, count[1])
            ]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row.__dict__, default=str, ensure_ascii=False))
        return
    if not rows:
        chosen = any(choice is not None for choice in (feed, reason, date))
        empty = "the quarantine is empty" if status == "open" else f"no entry is {status}"
        typer.echo("no such entry" if chosen else empty)
        return
    for name, why, number in counts:
        typer.echo(f"{number:>8,}  {name}  {why}")
    for row in rows:
        place = f"{row.landing_day}/{row.file_name}" + (f" line {row.line}" if row.line else " (whole file)")
        column = f" [{row.column}]" if row.column else ""
        typer.echo(f"{row.quarantine_id:>8}  {row.feed} {place}{column}: {row.detail}")
    if len(rows) == limit:
        typer.echo(f"(the first {limit}; --limit shows more, `longbox quarantine show ID` one of them whole)")


@commands.command("show")
def show(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of the entry, from `list`.")],
) -> None:
    """Show one entry whole: where it stood, what is wrong, what would be right, and its text."""
    from cli.session import session
    from pipelines.ingestion import quarantine

    with session() as current:
        row = quarantine.show_quarantined(current.database, number)
    for name, value in (
        ("feed", row.feed), ("landing day", row.landing_day), ("file", row.file_name),
        ("line", row.line if row.line else "(whole file)"), ("column", row.column or "-"), ("reason", row.reason),
        ("what is wrong", row.detail), ("what would be right", row.remedy), ("status", row.status),
    ):  # fmt: skip
        typer.echo(f"{name + ':':<21}{value}")
    if row.raw_text is not None:
        typer.echo(f"text:\n{row.raw_text}")


@commands.command("replay")
def replay(
    feed: Annotated[str, typer.Argument(metavar="SYSTEM/FEED", help="The feed whose rows are judged anew.")],
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help="Only these entries.")
    ] = None,
) -> None:
    """Judge open rows anew under today's system.yaml and load those that pass."""
    from cli.session import session
    from pipelines.catalog.job_names import daily_pipeline_of
    from pipelines.ingestion import quarantine

    with session() as current:
        loader = current.loader(feed)
        result = quarantine.replay(loader, numbers or None)
        job = daily_pipeline_of(loader.system)
    typer.echo(f"{result.loaded:,} loaded, {result.duplicate:,} known already, {result.remaining:,} stay")
    if result.landing_days:
        days = ", ".join(map(str, result.landing_days))
        typer.echo(
            f"later tables take them in when their landing days run again, until then they differ: {days}"
        )
        typer.echo(
            f"as in `longbox run {job} --date {result.landing_days[0]}`, or in the UI, those partitions"
        )


@commands.command("rejected")
def rejected(
    feed: Annotated[str | None, typer.Option(metavar="SYSTEM/FEED", help="Only this feed.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only this reason, as in no_rate.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many records.")] = 50,
) -> None:
    """List records that were loaded but cannot be normalised (no rate, no such currency), and what would help."""
    from cli.session import session
    from pipelines.normalisation.rejections import list_rejections

    with session() as current:
        found = list_rejections(current.database, feed=feed, reason=reason, limit=limit)
    if not found:
        typer.echo("no record is rejected")
    for row in found:
        place = f"{row.landing_day}/{row.file_name} record {row.record}"
        typer.echo(f"{row.feed} {place} {row.reason}: {row.detail}")
    if len(found) == limit:
        typer.echo(f"(the first {limit}; --limit shows more)")


@commands.command("dismiss")
def dismiss(
    numbers: Annotated[list[int], typer.Argument(metavar="ID...", help="Entries to write off.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this only what would happen is shown.")
    ] = False,
) -> None:
    """Write entries off: they stay on record but are no longer open, and their day is no longer incomplete."""
    from cli.session import session
    from pipelines.ingestion import quarantine

    with session() as current:
        found = [quarantine.show_quarantined(current.database, number) for number in numbers]
        still_open = [row.quarantine_id for row in found if row.status == "open"]
        if not yes:
            typer.echo(f"would write off {len(still_open)} of {len(found)} entries; add --yes to do it")
            return
        typer.echo(f"{quarantine.dismiss(current.database, still_open)} entries written off")
    for row in found:
        if row.status != "open":
            typer.echo(
                f"{row.quarantine_id} is {row.status} and not open; `longbox quarantine list` shows what is"
            )

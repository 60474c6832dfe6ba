"""`longbox partition`: carry a plain table over to a partitioned one, online, with a way back until `--finish`.

Only reads options and prints; what happens is `pipelines.adoption.repartition`'s. Without --yes nothing changes.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from resources.errors import UserError

if TYPE_CHECKING:
    from pipelines.adoption.repartition import Repartition, Result

_NEXT = {
    "verified": "nothing has changed for applications yet; --switch --yes puts the partitioned table in its place, "
    "--undo --yes takes it away",
    "switched": "applications use the partitioned table; --undo --yes goes back without losing a "
    "write, --finish --yes drops "
    "the original",
}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("partition")(partition)


def partition(
    table: Annotated[str, typer.Argument(metavar="SCHEMA/TABLE", help="The plain table.")],
    by: Annotated[
        Literal["day", "week", "month", "quarter", "year"] | None,
        typer.Option("--by", help="Length of a partition."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="COLUMN",
            help="Column to partition by; `time:` of its system.yaml unless given.",
        ),
    ] = None,
    weaker_keys: Annotated[
        bool, typer.Option("--weaker-keys", help="Accept that unique keys hold only together with the time.")
    ] = False,
    switch: Annotated[bool, typer.Option("--switch", help="Put the partitioned table in place.")] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Carry over what was written since, and compare.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Go back one step; no write is lost.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Drop the original. There is no way back.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only told.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", help="Its database. LONGBOX_POSTGRES_URL unless given.")
    ] = None,
) -> None:
    """Carry a plain table over to a partitioned one while it is used: build, then --switch, then --finish.

    Each step can be interrupted and asked for again, and tells what comes next.
    """
    from pipelines.adoption.repartition import Repartition, parse_target
    from resources.setting_values import postgres_url
    from resources.settings import Settings

    chosen = [
        name
        for name, given in (("switch", switch), ("sync", sync), ("undo", undo), ("finish", finish))
        if given
    ]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]} do not go together; take one step at a time")
    if bool(chosen) == bool(by):
        raise UserError(
            "give either --by month (or day, week, quarter, year) or one of --switch, --sync, --undo, --finish"
        )
    schema, name = parse_target(table)
    try:
        address = postgres_url(url) if url else Settings.load().postgres_url
    except ValueError as error:
        raise UserError(f"--url {error}; write postgresql://user:password@host:port/database") from None
    work = Repartition(address, schema, name)
    if by is None:
        _take_step(work, chosen[0], yes=yes)
        return
    column = time or _declared_time(schema, name)
    if not yes:
        typer.echo(work.plan(column, by), nl=False)
        typer.echo("-- nothing was done; add --yes to do it")
        return
    _tell(work, work.build(column, by, has_weaker_keys=weaker_keys))


def _take_step(work: "Repartition", step: str, *, yes: bool) -> None:
    if not yes:
        typer.echo(f"--{step} would change {work.target.name}; add --yes to do it, after a backup")
        return
    _tell(work, getattr(work, step)())


def _tell(work: "Repartition", result: "Result") -> None:
    name = work.target.name
    if result.verdict is not None:
        typer.echo(
            f"{name}: {result.verdict.rows:,} rows in {result.verdict.periods} periods are equal on both sides "
            f"(hash {result.verdict.content_hash}; {result.verdict.marked} rows written meanwhile "
            f"are still to be carried over)"
        )
    if result.phase is None:
        typer.echo(f"{name}: done, nothing is under way any more")
    else:
        typer.echo(f"{name}: {result.phase}; {_NEXT.get(result.phase, 'go on')}")


def _declared_time(schema: str, table: str) -> str:
    from cli.session import session

    with session() as current:
        system = current.catalog.systems.get(schema)
    declared = system.tables.get(table) if system else None
    if declared is None or declared.time is None:
        raise UserError(f"no system.yaml says what the time of {schema}/{table} is; give --time COLUMN")
    return declared.time

"""`longbox migrate`: bring the database's schema up to date, show where it stands, or undo revisions.

Only reads options and prints; what happens is `pipelines.migration`'s.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from resources.errors import UserError

if TYPE_CHECKING:
    from cli.session import Session
    from pipelines.migration import DownResult, MigrationResult, RevisionStatus

_REMEDIES = {
    "edited": "edited after it was applied: restore the file, write the change as a new revision",
    "lost": "applied, but its file is gone: restore it",
    "absent": "applied; its system is not among the folders (LONGBOX_SYSTEMS)",
}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("migrate")(migrate)


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL that would run; change nothing.")
    ] = False,
    show_status: Annotated[
        bool, typer.Option("--status", help="List every revision and whether it is applied.")
    ] = False,
    down: Annotated[
        str | None,
        typer.Option(
            "--down",
            metavar="SYSTEM@REVISION",
            help="Undo what came after this revision (comics@0002; comics@base undoes all of it). Only shows the SQL "
            "unless --yes is given.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --down: do it. What those revisions made is destroyed.")
    ] = False,
) -> None:
    """Apply the revisions of every system that the database lacks. Safe to run again, and from two places at once."""
    from cli.session import session
    from pipelines import migration
    from pipelines.catalog.loader import system_folders

    _refuse_contradictions(dry_run=dry_run, show_status=show_status, down=down, yes=yes)
    with session() as current:
        url, folders = current.settings.postgres_url, system_folders(current.settings)
        if show_status:
            _print_status(migration.status(url, folders))
        elif down is not None:
            _print_down(migration.migrate_down(url, folders, down, dry_run=not yes, report=_report), down)
        elif dry_run:
            typer.echo(migration.plan(url, folders) or "-- nothing to do: the database is up to date")
        else:
            _print_result(migration.migrate(url, folders, report=_report))
            _check_catalogue(current)


def _check_catalogue(current: "Session") -> None:
    """Hold what the systems declare against the tables that migrations made. Raises `CatalogError` with every fault."""
    from pipelines.catalog.check import check_against_database
    from pipelines.catalog.errors import CatalogError

    with current.database.connection() as connection:
        problems = check_against_database(connection, current.catalog)
    if problems:
        raise CatalogError(problems)


def _refuse_contradictions(*, dry_run: bool, show_status: bool, down: str | None, yes: bool) -> None:
    chosen = [
        name for name, given in (("--dry-run", dry_run), ("--status", show_status), ("--down", down)) if given
    ]
    if "--status" in chosen and len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} do not go together; give one of them")
    if yes and down is None:
        raise UserError("--yes belongs to --down; plain `longbox migrate` needs no confirmation")
    if yes and dry_run:
        raise UserError("--yes and --dry-run contradict each other; give one of them")


def _report(line: str) -> None:
    typer.echo(line)


def _print_result(result: "MigrationResult") -> None:
    if not (result.applied or result.declared or result.partitions):
        typer.echo(f"up to date: {result.already_applied} revisions were applied before")
        return
    typer.echo(
        f"{len(result.applied)} revisions applied ({result.already_applied} were before), "
        f"{len(result.declared)} changes of declared tables, {len(result.partitions)} partitions made, "
        f"{result.seconds:.1f} s"
    )


def _print_status(found: "Sequence[RevisionStatus]") -> None:
    for item in found:
        when = f"{item.applied_at:%Y-%m-%d %H:%M} UTC" if item.applied_at else ""
        typer.echo(f"{item.revision:<32} {item.state:<8} {when:<21} {_REMEDIES.get(item.state, item.title)}")
    pending = sum(item.state == "pending" for item in found)
    typer.echo(f"{pending} pending; `longbox migrate` applies them" if pending else "nothing pending")


def _print_down(result: "DownResult", target: str) -> None:
    if not result.undone:
        typer.echo(f"nothing is applied above {target}")
    elif result.is_dry_run:
        typer.echo(result.sql)
        typer.echo(f"-- this would undo {', '.join(result.undone)}; add --yes to do it, after a backup")
    else:
        typer.echo(
            f"undid {', '.join(result.undone)}; `longbox migrate` applies them again, without their rows"
        )

"""`longbox restore`: bring a database cluster back, to a moment, to the newest there is, or to one backup's end.

Only reads options and prints; what happens is `pipelines.backup`'s. Needs the store and the recovery keys, no server.
"""

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.backup import System
from resources.errors import UserError

if TYPE_CHECKING:
    from pipelines.backup.restore import RestoreResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore")(restore)


def restore(
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="An empty or new folder for the cluster.")
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="MOMENT", help='As in "2026-11-20 12:00:00Z"; the zone is needed.'),
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="The newest moment that the store holds.")] = False,
    backup_id: Annotated[
        str | None, typer.Option("--backup", metavar="ID", help="The end of this backup, without later WAL.")
    ] = None,
    start: Annotated[
        bool, typer.Option("--start", help="Leave the restored server running, on loopback.")
    ] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=1024, max=65535, help="With --start: its port.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    system: System = None,
) -> None:
    """Restore into a folder of its own, start the database there and check it. Overwrites nothing."""
    from cli.progress import ProgressLine
    from deploy.local import ports
    from pipelines.backup.model import RestoreRequest
    from pipelines.backup.routine import restore_and_tell
    from pipelines.backup.setup import open_stored_source
    from resources.settings import Settings

    if [to is not None, latest, backup_id is not None].count(True) != 1:
        raise UserError("say what to restore with exactly one of --to MOMENT, --latest and --backup ID")
    if port is not None and not start:
        raise UserError("--port belongs to --start")
    moment = _moment(to) if to is not None else None
    settings = Settings.load()
    chosen = ports.choose("--port", port, remembered=None) if start else None
    request = RestoreRequest(into.expanduser().absolute(), moment, backup_id, chosen)
    source = open_stored_source(settings, system)
    typer.echo(source.preview(request))
    if dry_run:
        return
    line = ProgressLine()
    try:
        result = restore_and_tell(
            settings, source, request, line, warn=lambda text: typer.echo(text, err=True)
        )
    finally:
        line.close()
    _tell(result)


def _moment(text: str) -> dt.datetime:
    try:
        # "2026-11-20 12:00:00 UTC" is how messages write a moment
        moment = dt.datetime.fromisoformat(
            re.sub(r"\s*(?:UTC|Z)$", "+00:00", text.strip(), flags=re.IGNORECASE)
        )
        if moment.tzinfo is None:
            raise UserError(f'--to {text!r} has no zone; write "{moment.isoformat(" ")}Z" if it is UTC')
        return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise UserError(f'--to {text!r} is no moment; write it as in "2026-11-20 12:00:00Z"') from error


def _tell(result: "RestoreResult") -> None:
    assert result.recovered is not None  # every engine that restores into a folder looks at the server
    last = result.recovered.last_commit_at
    commit = f"last commit {last:%Y-%m-%d %H:%M:%S.%f} UTC, " if last else ""
    typer.echo(
        f"restored {result.backup_id} into {result.into / 'data'}: {commit}"
        f"{result.recovered.databases} databases opened, timeline {result.recovered.timeline}, "
        f"{result.rto_seconds:.1f} s"
    )
    if result.port:
        typer.echo(
            f"it runs on 127.0.0.1:{result.port} (pid {result.pid}) with the users and passwords of that moment"
        )

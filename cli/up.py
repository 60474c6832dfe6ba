"""`longbox up`: start the local stack and keep watch over it, or leave it running in the background."""

import os
import sys
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once everything is healthy.")
    ] = False,
    with_dagster: Annotated[
        bool, typer.Option("--dagster/--no-dagster", help="Start code server, daemon and webserver too.")
    ] = True,
) -> None:
    """Start the local stack; Ctrl-C stops it.

    PostgreSQL, Valkey, migrations, then Dagster with its UI, each with a health check.

    A server that is named by a setting (LONGBOX_POSTGRES_URL, ...) is checked and used instead of started.
    """
    from deploy.local import supervisor
    from deploy.local.stack import Stack
    from resources.settings import unknown_variables

    for name, nearest in unknown_variables(os.environ).items():
        typer.echo(f"note: {name} is no setting of Longbox{f'; {nearest} is' if nearest else ''}", err=True)
    stack = Stack(dagster=with_dagster, migrate=True, report=typer.echo)
    if not detach:
        supervisor.run_in_foreground(stack, typer.echo, lambda: _summary(stack.state.urls.get("ui")))
        return
    arguments = [] if with_dagster else ["--no-dagster"]
    code = supervisor.run_in_background(stack.home, arguments, os.environ, typer.echo)
    if code:
        raise typer.Exit(code)


def _summary(ui: str | None) -> None:
    how = "Ctrl-C or `longbox down`" if sys.stdin.isatty() else "`longbox down`"
    typer.echo(f"the stack is up{f': {ui}' if ui else ''}; stop it with {how}")

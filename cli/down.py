"""`longbox down`: stop the local stack from elsewhere, and whatever a killed one left running."""

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(down)


def down() -> None:
    """Stop the local stack in order; its data stay. Fine to run when nothing runs."""
    from deploy.local.state import Home
    from deploy.local.supervisor import bring_down
    from resources.settings import Settings

    home = Home(Settings.load().home.resolve())
    if not bring_down(home, typer.echo):
        typer.echo(f"no stack runs in {home.path}")

"""`longbox status`: every part of the local stack with version, address, health and process."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploy.local.report import Report

NOT_RUNNING = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show how the local stack is. Exit code 0: healthy, 1: a part has a fault or still starts, 3: not running."""
    from deploy.local.report import collect
    from deploy.local.state import Home
    from resources.settings import Settings

    report = collect(Home(Settings.load().home.resolve()), os.environ)
    if as_json:
        facts = asdict(report) | {"home": str(report.home), "is_healthy": report.is_healthy}
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(report)
    if not report.is_running:
        raise typer.Exit(NOT_RUNNING)
    if not report.is_healthy:
        raise typer.Exit(1)


def _show(report: "Report") -> None:
    if not report.is_running:
        why = f": {report.ended}, so the whole stack was stopped" if report.ended else ""
        typer.echo(f"no stack runs in {report.home}{why}; start it with `longbox up`")
        if report.left_over:
            typer.echo(
                f"{report.left_over} process(es) of a killed stack are left; `longbox down` stops them"
            )
        return
    typer.echo(f"{report.home}: {report.status} (pid {report.supervisor_pid})")
    rows = [("PART", "VERSION", "ADDRESS", "HEALTH", "PID")]
    rows += [(p.part, p.version, p.address, p.health, str(p.pid or "")) for p in report.parts]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for part in report.parts:
        if part.note:
            typer.echo(f"{part.part}: {part.note}")

"""`longbox wal`: receive WAL into the repository of backups, and see how far it is.

Only reads options and prints; what happens is `pipelines.backup`'s.
"""

import datetime as dt
from typing import Annotated

import typer

commands = typer.Typer(help="Write-ahead log: ship it all the time, see how far it is.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to `app`."""
    app.add_typer(commands, name="wal")


@commands.command("receive")
def receive() -> None:
    """Receive WAL and ship it to the backup store until Ctrl-C or SIGTERM. One process a server; safe to kill."""
    import signal
    import threading

    from pipelines.backup.resident import Resident
    from pipelines.backup.setup import require_own_wal
    from resources.notifier import Notifier
    from resources.settings import Settings

    settings = Settings.load()
    require_own_wal(settings)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    Resident(settings, _say, Notifier(settings.alert_urls)).run(stop)


def _say(text: str) -> None:
    print(f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC  {text}", flush=True)


@commands.command("status")
def status(
    alive: Annotated[
        bool, typer.Option("--alive", help="Only whether a receiver is at work (exit code 1: none is).")
    ] = False,
) -> None:
    """Show what can be restored up to when, what is missing, and what slot and spool hold (exit code 1: a problem)."""
    from pipelines.backup.readiness import RPO
    from pipelines.backup.setup import opener, require_own_wal
    from pipelines.backup.spool import store_fault
    from pipelines.backup.watch import is_received, look
    from resources.settings import Settings

    settings = Settings.load()
    require_own_wal(settings)
    if alive:
        raise typer.Exit(0 if is_received(settings) else 1)
    found = look(settings, opener(settings))
    age = found.age_seconds
    if found.newest_restorable is None or age is None:
        typer.echo("newest restorable moment: none, there is no backup; `longbox backup --full` makes one")
    else:
        typer.echo(
            f"newest restorable moment: {found.newest_restorable:%Y-%m-%d %H:%M:%S} UTC, {age:.0f} s ago"
        )
    lag = (
        "nothing is in the store"
        if found.lag_bytes is None
        else f"{found.lag_bytes:,} bytes not in the store"
    )
    typer.echo(f"WAL: {found.segments} segments in the store, {lag}")
    is_alive = found.slot.holder_pid is not None
    slot = "in use" if is_alive else "not in use: no receiver runs" if found.slot.exists else "missing"
    typer.echo(f"slot: {slot}; the server keeps {found.slot.retained_bytes:,} bytes for it")
    if found.spool_bytes is not None:
        typer.echo(f"spool: {found.spool_bytes:,} bytes")
    if fault := store_fault(settings.wal_spool):
        typer.echo(f"the store takes no WAL: {fault}")
    is_behind = False
    for copy in found.copies:
        behind = copy.age_seconds(found.at)
        is_behind = is_behind or behind is None or behind > RPO.total_seconds()
        typer.echo(f"copy {copy.store}: {copy.fault if behind is None else f'leads to {behind:.0f} s ago'}")
    for gap in found.gaps:
        typer.echo(f"gap: {gap}{'' if gap in found.open_gaps else ' (a later backup bridges it)'}")
    if found.open_gaps or is_behind or fault or not is_alive or age is None or age > RPO.total_seconds():
        raise typer.Exit(1)

"""`longbox wal`: receive WAL into the repository of backups, and see how far it is.

Only reads options and prints; what happens is `pipelines.backup`'s.
"""

import datetime as dt

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
    from resources.notifier import Notifier
    from resources.settings import Settings

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings.load()
    Resident(settings, _say, Notifier(settings.alert_urls)).run(stop)


def _say(text: str) -> None:
    print(f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC  {text}", flush=True)

"""`longbox doctor`: look at everything Longbox needs and say what is wrong and what to do. Changes nothing.

Only puts the checks together and prints; they are in `pipelines.monitoring.diagnosis` and `deploy.local.checkup`.
"""

import dataclasses
import datetime as dt
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.monitoring.diagnosis import Finding
    from resources.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for programs.")] = False,
) -> None:
    """Check settings, versions, disks, ports, servers, clocks, locks and migrations. Exit code 1: a problem was found.

    Every line is ok, a warning or a problem, the last two with what to do. Passwords are never shown.
    """
    found = examine(os.environ)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            typer.echo(f"{finding.state:<8} {finding.check}: {finding.message}")
            if finding.remedy:
                typer.echo(f"{'':<8} -> {finding.remedy}")
    if any(finding.state == "problem" for finding in found):
        raise typer.Exit(1)


def examine(environ: "Mapping[str, str]") -> "list[Finding]":
    """Every finding, in the order in which they are shown."""
    from deploy.local.checkup import local_checks
    from pipelines.migration.lock import LOCK_KEY
    from pipelines.monitoring.diagnosis import check_settings, check_versions, guarded, server_checks

    settings, found = check_settings(environ)
    found += guarded("libraries", check_versions)
    if settings is None:
        return found
    found += local_checks(settings, environ)
    found += server_checks(
        settings, migration_lock_key=LOCK_KEY, migration_states=lambda: _migration_states(settings)
    )
    sound = {finding.check for finding in found if finding.state == "ok"}
    if "object store" in sound:
        found += guarded("landing zone", lambda: _landing_zone(settings))
    if "migrations" in sound:
        found += guarded("quarantine", lambda: _quarantine(settings))
    return found


def _landing_zone(settings: "Settings") -> "list[Finding]":
    from pipelines.catalog.loader import load_catalog, system_folders
    from pipelines.monitoring.diagnosis import check_landing_zone
    from pipelines.monitoring.landing import unread_for_good
    from resources.object_store import ObjectStore

    catalog = load_catalog(system_folders(settings))
    store, today = ObjectStore.from_url(settings.object_store), dt.datetime.now(dt.UTC).date()
    return check_landing_zone(unread_for_good(store, catalog, catalog.systems.values(), today=today))


def _quarantine(settings: "Settings") -> "list[Finding]":
    from pipelines.monitoring.days import waiting_in_quarantine
    from pipelines.monitoring.diagnosis import check_quarantine
    from resources.database import Database

    with Database(settings.postgres_url, application_name="longbox doctor") as database:
        return check_quarantine(*waiting_in_quarantine(database))


def _migration_states(settings: "Settings") -> "dict[str, str]":
    from pipelines.catalog.loader import system_folders
    from pipelines.migration import status

    return {item.revision: item.state for item in status(settings.postgres_url, system_folders(settings))}

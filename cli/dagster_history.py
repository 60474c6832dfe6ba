"""`longbox dagster-history`: what of Dagster's own runs and events is past its days; `--apply` deletes it."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("dagster-history")(dagster_history)


def dagster_history(
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it nothing changes.")] = False,
) -> None:
    """Count Dagster's finished runs past LONGBOX_DAGSTER_HISTORY_DAYS, and with --apply delete them.

    The job dagster_retention does the same by the clock. What the status of assets stands on is kept.
    """
    from cli.session import session
    from pipelines.retention.dagster_history import HistoryJob
    from resources.dagster_logs import delete_compute_logs
    from resources.database import Database
    from resources.setting_values import postgres_url

    with session() as current:
        settings = current.settings
        url = postgres_url(settings.dagster_postgres_url)
        with Database(url, role=None, application_name="longbox cli") as dagster:
            job = HistoryJob(
                current.database, dagster, settings.dagster_history_days,
                lambda run_ids: delete_compute_logs(settings, run_ids),
            )  # fmt: skip
            done = job.purge(dry_run=not apply)
    what = "deleted" if apply else "would be deleted (with --apply)"
    typer.echo(
        f"{done.runs:,} runs that ended before {done.before:%Y-%m-%d %H:%M} UTC {what}; "
        f"{done.protected_runs:,} stay as the last, failed attempt at an asset"
    )
    if apply:
        typer.echo(
            f"{done.events:,} events, {done.checks:,} checks, {done.backfills:,} backfills went with them"
        )
    typer.echo(f"database: {done.bytes_after / 1e6:,.1f} MB")

"""`longbox env`: the addresses of the stack as lines for a shell: eval "$(longbox env)"."""

import shlex

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(env)


def env() -> None:
    """Print `export` lines for psql, redis-cli, DuckDB and plain Dagster commands. They hold passwords."""
    from resources.setting_values import postgres_url
    from resources.settings import Settings

    settings = Settings.load()
    variables = {
        "LONGBOX_HOME": str(settings.home),
        "LONGBOX_POSTGRES_URL": settings.postgres_url,
        # libpq's spelling, so that psql takes it too; Longbox turns it into SQLAlchemy's where that is needed
        "LONGBOX_DAGSTER_POSTGRES_URL": postgres_url(settings.dagster_postgres_url),
        "LONGBOX_REDIS_URL": settings.redis_url,
        "LONGBOX_OBJECT_STORE": settings.object_store,
        "DAGSTER_HOME": str(settings.home / "dagster"),
    }
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")

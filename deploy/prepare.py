"""`python -m deploy.prepare`: what must be there before a deployment serves, made or brought up to date in order.

Asks every server whether it works, makes the bucket of an S3 server of one's own, applies migrations, puts this
version's dagster.yaml into DAGSTER_HOME and prepares Dagster's tables. Running it again changes nothing; it is the
first service of deploy/compose and deploy/systemd.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.local import external
from resources.errors import LongboxError, UserError
from resources.s3_admin import S3Administration
from resources.setting_values import redact
from resources.settings import PROJECT_ROOT, Settings

Report = Callable[[str], None]


def prepare(environ: Mapping[str, str], report: Report) -> None:
    """Do it all, one line a part. Raises `LongboxError` naming the setting at fault."""
    settings = Settings.load(environ)
    report(f"PostgreSQL {external.check_postgres(settings.postgres_url, 'LONGBOX_POSTGRES_URL')}")
    external.check_postgres(
        settings.dagster_postgres_url.replace("+psycopg2", ""), "LONGBOX_DAGSTER_POSTGRES_URL"
    )
    report(external.check_redis(settings.redis_url, "LONGBOX_REDIS_URL"))
    _prepare_store(settings, environ, report)
    _migrate(settings, report)
    _prepare_dagster(environ, report)


def _prepare_store(settings: Settings, environ: Mapping[str, str], report: Report) -> None:
    # at Amazon a bucket is made on purpose, with its region and its rules
    if settings.object_store.startswith("s3://") and environ.get("AWS_ENDPOINT_URL"):
        administration = S3Administration.from_url(settings.object_store)
        if administration.ensure_bucket():
            report(f"bucket {administration.bucket} made")
    external.check_object_store(settings.object_store)
    report(f"object store {redact(settings.object_store)}")


def _migrate(settings: Settings, report: Report) -> None:
    from pipelines.catalog.loader import system_folders
    from pipelines.migration import migrate

    result = migrate(settings.postgres_url, system_folders(settings))
    report(f"migrations: {len(result.applied)} applied, {result.already_applied} were")


def _prepare_dagster(environ: Mapping[str, str], report: Report) -> None:
    from dagster import DagsterInstance

    home = environ.get("DAGSTER_HOME")
    if not home:
        raise UserError(
            "DAGSTER_HOME is not set; name a folder for Dagster's own files, as in /var/lib/longbox/dagster"
        )
    # Dagster also writes there (logs of ticks), so that it cannot be the folder of the code, which is read-only
    folder = Path(home)
    folder.mkdir(parents=True, exist_ok=True)
    text = (PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8")
    part = folder / "dagster.yaml.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / "dagster.yaml")
    instance = DagsterInstance.from_config(home)
    instance.upgrade()
    instance.dispose()
    report("Dagster's tables")


def main() -> None:
    """Exit code 0: ready; 1: something failed; 2: a setting is wrong."""
    try:
        prepare(os.environ, lambda line: print(f"ready: {line}", flush=True))
    except LongboxError as error:
        print(f"prepare: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)


if __name__ == "__main__":
    main()

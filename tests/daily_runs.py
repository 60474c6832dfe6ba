"""Runs of the daily pipeline inside the test's process, on the test's own database, cache and object store.

`Daily.run("2026-10-05")` is one landing day, `Daily.run("2026-10-01", "2026-10-05")` a range in a single run, both
through the same job definition that the UI launches.
"""

import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg

from definitions import build_definitions
from pipelines.catalog.digest import digest_tables
from pipelines.catalog.loader import load_catalog, system_folders
from pipelines.catalog.model import Catalog
from resources.cache import Cache
from resources.database import OWNER_ROLE, Database
from resources.notifier import Notifier
from resources.object_store import ObjectStore
from resources.settings import Settings

FEED = "landing/comics/marketplace_sales"
HEADER = "marketplace,listing_id,title,condition,price,currency,sold_at,updated_at"


def csv_of(*rows: str) -> bytes:
    """A landed file: the header and `rows`."""
    return "\n".join([HEADER, *rows, ""]).encode()


def sales(
    day: str, count: int, *, title: str = "Amazing Spider-Man #300 CGC 9.8", price: float = 100.0
) -> bytes:
    """A landed file of `count` sales that happened on `day`, each with an id of its own."""
    return csv_of(
        *(f"ebay,{day}-{n},{title},,{price + n:.2f},USD,{day}T12:00:{n % 60:02d}Z," for n in range(count))
    )


RESOURCES = ("settings", "database", "owner_database", "cache", "store", "notifier")
_of_this_run: dict[str, Any] = {}


@functools.cache
def job_of(name: str) -> dg.JobDefinition:
    """A job of the bundled systems; built once a session, its resources are those of the run under way."""
    return build_definitions(resources={name: _given(name) for name in RESOURCES}).resolve_job_def(name)


@functools.cache
def comics_assets() -> tuple[str, ...]:
    """The assets of `daily_pipeline` that prices are made of: the other systems' steps are most of a run's time."""
    keys = job_of("daily_pipeline").asset_layer.selected_asset_keys
    names = sorted(key.to_user_string() for key in keys)
    return tuple(name for name in names if name.split("/")[0] in ("comics", "reference", "platform"))


def _given(name: str) -> dg.ResourceDefinition:
    return dg.ResourceDefinition(lambda _: _of_this_run[name])


def small_rates(folder: Path) -> Path:
    """A file of exchange rates for the days of the tests: the bundled history takes seconds to load."""
    first = dt.date(2026, 6, 1)
    days = [first + dt.timedelta(days=number) for number in range(160)]
    lines = [f"{day},1.10,0.85,160," for day in reversed(days) if day.weekday() < 5]
    file = folder / "rates.csv"
    file.write_text("\n".join(["Date,USD,GBP,JPY,", *lines, ""]), encoding="utf-8")
    return file


@dataclass
class Daily:
    """The bundled systems on the servers of one test."""

    settings: Settings
    database: Database
    owner: Database
    cache: Cache
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    retry_seconds: tuple[float, ...] = (0.0,)

    @classmethod
    def on(cls, settings: Settings, folder: Path) -> "Daily":
        settings = replace(settings, fx_rates_file=small_rates(folder))
        database = Database(settings.postgres_url)
        return cls(settings, database, database.as_role(OWNER_ROLE), Cache(settings.redis_url))

    @property
    def store(self) -> ObjectStore:
        return ObjectStore.from_url(self.settings.object_store)

    @property
    def catalog(self) -> Catalog:
        return load_catalog(system_folders(self.settings))

    def land(self, day: str, name: str, content: bytes) -> None:
        self.store.put(f"{FEED}/{day}/{name}", content)

    def run(
        self, first: str, last: str | None = None, *, assets: Sequence[str] | None = None,
        job: str = "daily_pipeline", **resources: Any,
    ) -> dg.ExecuteInProcessResult:  # fmt: skip
        """Run a day or a range: of `daily_pipeline` the comics alone, unless `assets` says otherwise."""
        if assets is None and job == "daily_pipeline":
            assets = comics_assets()
        _of_this_run.update(
            settings=self.settings, database=self.database, owner_database=self.owner, cache=self.cache,
            store=self.store, notifier=Notifier(),
        )  # fmt: skip
        _of_this_run.update(resources)
        tags: Mapping[str, str] = {}
        if last is not None:
            tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        with mock.patch("assets.retries.WAIT_SECONDS", self.retry_seconds):
            return job_of(job).execute_in_process(
                instance=self.instance,
                partition_key=first if last is None else None,
                tags=dict(tags),
                asset_selection=None if assets is None else [dg.AssetKey(a.split("/")) for a in assets],
                raise_on_error=False,
            )

    def run_job(self, name: str) -> dg.ExecuteInProcessResult:
        """A job without partitions."""
        _of_this_run.update(
            settings=self.settings, database=self.database, owner_database=self.owner, cache=self.cache,
            store=self.store, notifier=Notifier(),
        )  # fmt: skip
        return job_of(name).execute_in_process(instance=self.instance, raise_on_error=False)

    def digest(self) -> Any:
        with self.database.connection() as connection:
            return digest_tables(connection, self.catalog)

    def count(self, table: str) -> int:
        with self.database.connection() as connection:
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(str(row[0])) if row else 0

    def outcomes(self, asset: str) -> dict[str, str]:
        with self.database.connection() as connection:
            rows = connection.execute(
                "SELECT landing_day, outcome FROM longbox.day_results WHERE asset = %s ORDER BY 1", [asset]
            ).fetchall()
        return {str(day): str(outcome) for day, outcome in rows}

    def forget_everything(self) -> None:
        """Empty every table that a run fills, so that the same files can be read as if for the first time."""
        with self.owner.connection() as connection:
            connection.execute(
                "TRUNCATE longbox.loads, longbox.record_keys, longbox.version_switches, longbox.quarantine, "
                "longbox.rejections, longbox.touched, longbox.day_results, comics.publishers, comics.series, "
                "comics.comics, comics.pricing_data_raw, comics.pricing_data_normalized, "
                "comics.pricing_data_aggregated CASCADE"
            )

    def close(self) -> None:
        self.database.close()
        self.owner.close()
        self.cache.close()
        self.instance.dispose()


def steps(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What became of each step: success, failure, skipped."""
    kinds = {"STEP_SUCCESS": "success", "STEP_FAILURE": "failure", "STEP_SKIPPED": "skipped"}
    return {
        event.step_key: kinds[event.event_type_value]
        for event in result.all_events
        if event.step_key and event.event_type_value in kinds
    }


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Every check of the run's own days, by `asset:check`: `yesterday_complete` speaks of today, not of them."""
    return {
        f"{found.asset_key.to_user_string()}:{found.check_name}": found.passed
        for found in result.get_asset_check_evaluations()
        if found.check_name != "yesterday_complete"
    }


def days_back(number: int) -> str:
    """An ISO landing day, `number` days before today."""
    return (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=number)).isoformat()

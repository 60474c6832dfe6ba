"""Storage of the Dagster instance, chosen by Longbox's settings; named in `dagster.yaml`, never imported by our code.

Runs, events and schedules go to PostgreSQL; what steps print goes to S3 where the object store is S3, else to the
home. Every part of Dagster (webserver, daemon, run worker) builds these for itself from the same settings.
https://docs.dagster.io/deployment/oss/dagster-yaml
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from dagster import DagsterEventType, EventLogEntry, Field
from dagster._config.config_schema import UserConfigSchema
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData, serialize_value
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.storage import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine
from sqlalchemy.exc import InternalError

from resources.settings import Settings

_EVENT_BATCH = "DAGSTER_EVENT_BATCH_SIZE"
_EVENTS_A_BATCH = 500
_PLANNED = {DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


def _seconds_to_next_claim(context: InstanceConcurrencyContext) -> float:
    """How long a run that waits for a pool may sleep. Dagster 1.13.27 says 0 or less always, so that the run keeps a
    processor busy while it waits (https://github.com/dagster-io/dagster/pull/20367).
    """
    now = time.time()
    return max(0.0, min((due - now for due in context._pending_timeouts.values()), default=0.0))


# Here, as every process of an instance builds its storage, run workers included.
InstanceConcurrencyContext.interval_to_next_pending_claim_check = _seconds_to_next_claim  # type: ignore[method-assign, assignment]


class _EventLog(PostgresEventLogStorage):
    """Dagster's event log, for which two runs may be the first of a concurrency pool at the same time."""

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """Make the pool, unless it is there. Dagster 1.13.27 makes it, and the run fails, if another run was faster:
        its UPDATE follows a failed INSERT in the same transaction (InFailedSqlTransaction).
        """
        try:
            return super().initialize_concurrency_limit_to_default(concurrency_key)
        except InternalError:
            pools = {pool.name: pool for pool in self.get_pool_limits()}
            if concurrency_key not in pools:
                raise
            return True

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store a batch in one transaction, also the plan of a run: Dagster 1.13.27 stores its events one by one.

        A range plans an event for each asset and day before its first step: 30 days took 61 s on a busy machine.
        """
        types = {event.get_dagster_event().event_type for event in events}
        if types == {DagsterEventType.ASSET_MATERIALIZATION}:
            ids = self._insert_events(events)
            with self.index_transaction() as connection:
                self._store_asset_event_tags(connection, events, ids)
                self._store_asset_event(connection, events[-1], ids[-1])  # the last one has the word
        elif types <= _PLANNED:
            self._store_plan(events)
        else:
            super().store_event_batch(events)

    def _store_plan(self, events: Sequence[EventLogEntry]) -> None:
        assets = {}
        for event, event_id in zip(events, self._insert_events(events), strict=True):
            if event.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                self.store_asset_check_event(event, event_id)
            else:
                assets[event.get_dagster_event().asset_key] = event, event_id
        with self.index_transaction() as connection:
            for event, event_id in assets.values():  # the last one of each has the word
                self._store_asset_event(connection, event, event_id)

    def _insert_events(self, events: Sequence[EventLogEntry]) -> list[int]:
        """Insert a batch; returns its ids in order. One row's statement for all: VALUES of thousands are compiled anew
        each time, which took as long as the rest of the plan.
        """
        table = SqlEventLogStorageTable
        statement = table.insert().returning(table.c.id, sort_by_parameter_order=True)
        with self._connect() as connection:
            rows = connection.execute(statement, [self._event_to_row(event) for event in events])
            return [int(row[0]) for row in rows]

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """Note for each partition that a check is planned. Dagster 1.13.27 serialises the whole event for each."""
        planned = cast("AssetCheckEvaluationPlanned", event.get_dagster_event().event_specific_data)
        row = {
            "asset_key": planned.asset_key.to_string(), "check_name": planned.check_name, "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event), "evaluation_event_storage_id": event_id,
            "evaluation_event_timestamp": self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]
        }  # fmt: skip
        subset = planned.partitions_subset
        partitions = subset.get_partition_keys() if subset else [None]
        with self.index_connection() as connection:
            connection.execute(
                AssetCheckExecutionsTable.insert(), [row | {"partition": key} for key in partitions]
            )


class LongboxStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage at LONGBOX_DAGSTER_POSTGRES_URL, or in the local stack if that is not set."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """One option: whether missing tables are created."""
        return {"should_autocreate_tables": Field(bool, is_required=False, default_value=True)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "LongboxStorage":
        """Build it from the settings of this process. Raises `UserError` if there is no URL.

        Events of one output (its partitions' materialisations) are stored in batches, in a transaction each instead of
        two an event. A process that is killed loses the events of an output that was not yet whole, whose step is run
        again. DAGSTER_EVENT_BATCH_SIZE in the environment has the word; 0 stores each alone.
        """
        storage = cls(
            postgres_url=Settings.load().dagster_postgres_url,
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )
        storage.keep_connections()
        os.environ.setdefault(_EVENT_BATCH, str(_EVENTS_A_BATCH))  # Dagster reads it there and nowhere else
        storage._event_log_storage.__class__ = _EventLog
        return storage

    def keep_connections(self) -> None:
        """Reuse connections: as Dagster makes them, every statement of a run worker opens one and logs in anew.

        A range of 30 days at one asset: 200 connections, 6.6 s and 2.0 s of CPU; kept, 2.6 s and 0.75 s. Run workers
        are spawned, never forked, so that no two processes share one. A restarted server is noticed by the ping.
        """
        for part in (self._run_storage, self._event_log_storage, self._schedule_storage):
            part._engine = create_pg_engine(
                self.postgres_url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=50, pool_pre_ping=True,
                pool_recycle=600,
            )  # fmt: skip


class LongboxComputeLogs(LocalComputeLogManager):
    """What steps print: beside the objects if the store is S3, else in LONGBOX_HOME."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """One option, for S3: seconds between uploads of the logs of a step that still runs."""
        return {"upload_interval_seconds": Field(int, is_required=False, default_value=30)}

    @classmethod
    def from_config_value(  # type: ignore[override]  # a factory: the store decides the class
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> ComputeLogManager:
        """Build the one that fits the object store of the settings."""
        settings = Settings.load()
        local_folder = str(settings.home / "dagster" / "compute_logs")
        store = urlsplit(settings.object_store)
        if store.scheme != "s3":
            return LocalComputeLogManager(base_dir=local_folder, inst_data=inst_data)
        from dagster_aws.s3.compute_log_manager import S3ComputeLogManager  # boto3 costs 0.5 s

        return S3ComputeLogManager(
            bucket=store.netloc,
            prefix="/".join(filter(None, (store.path.strip("/"), "compute_logs"))),
            local_dir=local_folder,
            skip_empty_files=True,
            upload_interval=config_value.get("upload_interval_seconds", 30),
            inst_data=inst_data,
        )

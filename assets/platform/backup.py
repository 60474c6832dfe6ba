"""Backups as assets: made, copied, read back, and proved by restoring them; each only calls `pipelines.backup.routine`.

One pool holds them, so that no two heavy steps meet. The figures plot over time in the UI; the recovery-readiness page
is the Markdown of `platform/restore_drill`. https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.metadata import OWNERS
from assets.pools import UPKEEP
from assets.retries import retry_passing_faults
from resources.database import Database
from resources.settings import Settings

if TYPE_CHECKING:
    from pipelines.backup.drill import DrillResult
    from pipelines.backup.model import Kind
    from pipelines.backup.routine import BackupMade

FULL, INCREMENTAL, COPY, VERIFICATION, DRILL, DISASTER, FAILOVER = (
    dg.AssetKey(["platform", name])
    for name in (
        "backup_full", "backup_incremental", "backup_copy", "backup_verification", "restore_drill", "disaster_drill",
        "failover_drill",
    )
)  # fmt: skip
GROUP, KINDS = "backup", {"postgresql"}


def backup_definitions(settings: Settings) -> dg.Definitions:
    """The assets, their checks and jobs; `platform/backup_copy` where the settings name copy stores."""
    has_copies = bool(settings.backup_copy_stores)
    backups = [_backup(FULL, "full"), _backup(INCREMENTAL, "incremental"), _verification()]
    disaster = "The newest moment from each store and the keys alone: restored, compared, measured."
    failover = "The newest moment restored into a server that takes the platform's writes."
    rare = [_rare_drill(DISASTER, disaster, _disaster), _rare_drill(FAILOVER, failover, _failover)]
    assets = [*backups, _drill(), *rare]
    if has_copies:
        assets.append(_copy())
    copies = (COPY,) if has_copies else ()
    jobs = [
        _job("backup_full", "A full backup; then what is too old goes, and copies are brought.", FULL, *copies),
        _job("backup_incremental", "What changed since the last backup; then copies.", INCREMENTAL, *copies),
        _job("backup_verification", "Reads every object of the store and of each copy back.", VERIFICATION),
        _job("restore_drill", "Restores a random moment and compares it with the truth.", DRILL),
        _job("disaster_drill", "Restores the newest moment from each store as if it were all that is left.", DISASTER),
        _job("failover_drill", "Restores the newest moment into a server that takes the platform's writes.", FAILOVER),
    ]  # fmt: skip
    return dg.Definitions(
        assets=assets, asset_checks=[_reads_back(), _within_rpo(), _within_rto()], jobs=jobs
    )


def _job(name: str, description: str, *keys: dg.AssetKey) -> Any:
    return dg.define_asset_job(name, selection=dg.AssetSelection.assets(*keys), description=description)


def _backup(key: dg.AssetKey, kind: "Kind") -> dg.AssetsDefinition:
    words = "A full backup of the whole cluster, and expiry of what is too old." if kind == "full" else (
        "What changed since the newest backup; a full one if there is none to build on."
    )  # fmt: skip

    @dg.asset(key=key, description=words, group_name=GROUP, owners=OWNERS, kinds=KINDS, pool=UPKEEP)
    @retry_passing_faults
    def backup(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        database: dg.ResourceParam[Database],
    ) -> dg.MaterializeResult[None]:
        from pipelines.backup.routine import expire_all, make_backup

        made = make_backup(settings, database, kind, run_id=context.run.run_id, warn=context.log.warning)
        described = _described(made)
        if kind == "full":
            gone = expire_all(settings, database, run_id=context.run.run_id)
            for one in gone:
                if one.fault:
                    context.log.warning(f"nothing expired in {one.store}: {one.fault}")
            described["expired_backups"] = sum(len(one.plan.expired) for one in gone)
            described["freed_bytes"] = sum(one.freed_bytes for one in gone)
        return dg.MaterializeResult(metadata=described)

    return backup


def _described(made: "BackupMade") -> dict[str, Any]:
    from pipelines.backup.model import BackupRecord

    record = made.record
    described: dict[str, Any] = {
        "backup_id": record.backup_id,
        "kind": record.kind,
        "size_bytes": record.plain_bytes,
        "stored_bytes": record.stored_bytes,
        "ratio": round(record.plain_bytes / max(1, record.stored_bytes), 3),
        "duration_seconds": record.duration_seconds,
    }
    if isinstance(record, BackupRecord):
        described |= {"parts": len(record.parts), "files": record.files}
    if made.reason:
        described["why_full"] = made.reason
    if made.window is not None:
        age = dt.datetime.now(dt.UTC) - made.window.until
        described["newest_restorable"] = dg.MetadataValue.timestamp(made.window.until)
        described["newest_restorable_age_seconds"] = max(0.0, age.total_seconds())
    return described


def _copy() -> dg.AssetsDefinition:
    @dg.asset(
        key=COPY,
        deps=[FULL, INCREMENTAL],
        description="Every object in each copy store, checked there.",
        group_name=GROUP,
        owners=OWNERS,
        kinds=KINDS,
        pool=UPKEEP,
    )
    @retry_passing_faults
    def backup_copy(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        database: dg.ResourceParam[Database],
    ) -> dg.MaterializeResult[None]:
        from pipelines.backup.routine import copy_all

        results = copy_all(settings, database)
        return dg.MaterializeResult(
            metadata={
                "stores": len(results),
                "objects": sum(one.objects for one in results),
                "copied_objects": sum(one.copied for one in results),
                "copied_bytes": sum(one.copied_bytes for one in results),
            }
        )

    return backup_copy


def _verification() -> dg.AssetsDefinition:
    @dg.asset(
        key=VERIFICATION,
        description="Every object of every store, read back; fails naming faults.",
        group_name=GROUP,
        owners=OWNERS,
        kinds=KINDS,
        pool=UPKEEP,
    )
    @retry_passing_faults
    def backup_verification(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        database: dg.ResourceParam[Database],
    ) -> dg.MaterializeResult[None]:
        from pipelines.backup.routine import read_back_all

        reports = read_back_all(settings, database, run_id=context.run.run_id)
        faults = [f"{one.store}: {fault}" for one in reports for fault in one.faults]
        described: Mapping[str, Any] = {
            "objects": sum(one.objects for one in reports),
            "stored_bytes": sum(one.stored_bytes for one in reports),
            "faults": len(faults),
            "is_decrypted": all(one.is_decrypted for one in reports),
        }
        if faults:
            shown = "; ".join(faults[:10])
            raise dg.Failure(
                f"{len(faults)} fault(s): {shown}. See docs/runbooks/corrupted-block.md",
                metadata=described,
                allow_retries=False,
            )
        return dg.MaterializeResult(metadata=described)

    return backup_verification


def _drill() -> dg.AssetsDefinition:
    @dg.asset(
        key=DRILL,
        description="A random moment restored, compared with its truth, measured.",
        group_name=GROUP,
        owners=OWNERS,
        kinds=KINDS,
        pool=UPKEEP,
    )
    @retry_passing_faults
    def restore_drill(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        database: dg.ResourceParam[Database],
    ) -> dg.MaterializeResult[None]:
        from pipelines.backup.protection import protections
        from pipelines.backup.readiness import readiness
        from pipelines.backup.routine import open_source, run_drill
        from pipelines.backup.setup import backup_urls

        result = run_drill(settings, database, run_id=context.run.run_id)
        state = readiness(
            open_source(settings, database),
            dt.datetime.now(dt.UTC),
            protections(backup_urls(settings)),
        )
        page = {"recovery_readiness": dg.MetadataValue.md(state.as_markdown())}
        return dg.MaterializeResult(metadata={**_measured([result]), **page})

    return restore_drill


def _rare_drill(
    key: dg.AssetKey, description: str, drilled: Callable[[Settings, Database, str], dict[str, Any]]
) -> dg.AssetsDefinition:
    @dg.asset(key=key, description=description, group_name=GROUP, owners=OWNERS, kinds=KINDS, pool=UPKEEP)
    @retry_passing_faults
    def rare_drill(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        database: dg.ResourceParam[Database],
    ) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=drilled(settings, database, context.run.run_id))

    return rare_drill


def _disaster(settings: Settings, database: Database, run_id: str) -> dict[str, Any]:
    from pipelines.backup.routine import run_disaster_drill

    results = run_disaster_drill(settings, database, run_id=run_id)
    return {"stores": len(results), **_measured(results)}


def _failover(settings: Settings, database: Database, run_id: str) -> dict[str, Any]:
    from pipelines.backup.routine import run_failover_drill

    return _measured([run_failover_drill(settings, database, run_id=run_id)])


def _measured(results: "Sequence[DrillResult]") -> dict[str, Any]:
    """The figures of drills of one run: the worst of each, and what the one of the oldest moment proved."""
    oldest = min(results, key=lambda one: one.moment)
    return {
        "rto_seconds": max(one.rto_seconds for one in results),
        "rpo_seconds": max(one.rpo_seconds for one in results),
        "duration_seconds": sum(one.duration_seconds for one in results),
        "compared": sum(one.compared for one in results),
        "backup_id": oldest.backup_id,
        "proven_moment": dg.MetadataValue.timestamp(oldest.moment),
        "newest_restorable": dg.MetadataValue.timestamp(oldest.newest_restorable),
    }


def _reads_back() -> dg.AssetChecksDefinition:
    # it reads as much as a backup writes: in the pool too
    @dg.asset_check(
        asset=FULL,
        name="reads_back",
        description="Every object of the newest full backup is whole",
        pool=UPKEEP,
    )
    @retry_passing_faults
    def reads_back(
        settings: dg.ResourceParam[Settings], database: dg.ResourceParam[Database]
    ) -> dg.AssetCheckResult:
        from pipelines.backup.errors import EngineCannotError
        from pipelines.backup.routine import read_back_newest

        try:
            found = read_back_newest(settings, database)
        except EngineCannotError as error:
            return dg.AssetCheckResult(
                passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(error)
            )
        return dg.AssetCheckResult(
            passed=found.is_sound,
            description="\n".join(found.faults) or None,
            metadata={
                "objects": found.objects,
                "stored_bytes": found.stored_bytes,
                "is_decrypted": found.is_decrypted,
            },
        )

    return reads_back


def _within_rpo() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=INCREMENTAL, name="within_rpo", description="The newest restorable moment is young enough"
    )
    @retry_passing_faults
    def within_rpo(
        settings: dg.ResourceParam[Settings], database: dg.ResourceParam[Database]
    ) -> dg.AssetCheckResult:
        from pipelines.backup.readiness import RPO
        from pipelines.backup.routine import open_source

        found = open_source(settings, database).window()
        age = (dt.datetime.now(dt.UTC) - found.until).total_seconds() if found else -1.0
        return dg.AssetCheckResult(
            passed=found is not None and age <= RPO.total_seconds(),
            metadata={"newest_restorable_age_seconds": age, "goal_seconds": RPO.total_seconds()},
        )

    return within_rpo


def _within_rto() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=DRILL, name="within_rto", description="The last drill restored fast enough")
    @retry_passing_faults
    def within_rto(
        settings: dg.ResourceParam[Settings], database: dg.ResourceParam[Database]
    ) -> dg.AssetCheckResult:
        from pipelines.backup.drill import drill_results
        from pipelines.backup.readiness import RTO
        from pipelines.backup.routine import open_own

        found = drill_results(open_own(settings, database))
        seconds = found[-1].rto_seconds if found else -1.0
        return dg.AssetCheckResult(
            passed=bool(found) and found[-1].is_proven and seconds <= RTO.total_seconds(),
            metadata={"rto_seconds": seconds, "goal_seconds": RTO.total_seconds()},
        )

    return within_rto

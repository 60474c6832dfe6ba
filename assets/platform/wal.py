"""`platform/wal`: the write-ahead log as an asset that is observed; the resident receiver makes it, not Dagster.

The figures plot over time: live RPO, lag, what the slot and the spool hold, gaps. Its checks are the promises.
https://docs.dagster.io/guides/build/assets/metadata-and-tags/asset-observations
"""

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.metadata import OWNERS
from assets.platform.backup import GROUP, KINDS
from assets.retries import retry_passing_faults
from resources.settings import Settings

if TYPE_CHECKING:
    from pipelines.backup.watch import WalState

WAL = dg.AssetKey(["platform", "wal"])


def wal_definitions(engine: str = "postgres") -> dg.Definitions:
    """The asset, its checks, and the job that looks; nothing where a provider keeps the WAL."""
    if engine == "external":
        return dg.Definitions()
    job = dg.define_asset_job(
        "wal_observation",
        selection=dg.AssetSelection.assets(WAL),
        description="Looks how far the WAL is: live RPO, lag, gaps, slot, spool.",
    )
    if engine == "pgbackrest":
        archive = (
            "The write-ahead log in pgBackRest's archive; looking switches WAL and waits until it is there."
        )
        return dg.Definitions(
            assets=[_wal(archive, _archived)], asset_checks=[_within_rpo(_archive_age)], jobs=[job]
        )
    shipped = "The write-ahead log in the store of backups, shipped by `longbox wal receive`."
    return dg.Definitions(
        assets=[_wal(shipped, lambda settings: _described(_look(settings)))],
        asset_checks=[_within_rpo(lambda settings: _look(settings).age_seconds), _no_gaps(), _slot_alive()],
        jobs=[job],
    )


def _look(settings: Settings) -> "WalState":
    from pipelines.backup.setup import opener
    from pipelines.backup.watch import look

    return look(settings, opener(settings))


def _wal(description: str, found: Callable[[Settings], dict[str, Any]]) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(WAL, group_name=GROUP, owners=OWNERS, kinds=KINDS, description=description)

    @dg.multi_observable_source_asset(name="platform__wal", specs=[spec])
    @retry_passing_faults
    def wal(settings: dg.ResourceParam[Settings]) -> dg.ObserveResult:
        return dg.ObserveResult(asset_key=WAL, metadata=found(settings))

    return wal


def _described(found: "WalState") -> dict[str, Any]:
    described: dict[str, Any] = {
        "segments": found.segments,
        "gaps": len(found.gaps),
        "open_gaps": len(found.open_gaps),
        "slot_retained_bytes": found.slot.retained_bytes,
        "is_received": found.slot.holder_pid is not None,
    }
    if found.newest_restorable is not None and found.age_seconds is not None:
        described["newest_restorable"] = dg.MetadataValue.timestamp(found.newest_restorable)
        described["newest_restorable_age_seconds"] = found.age_seconds
    if found.lag_bytes is not None:
        described["lag_bytes"] = found.lag_bytes
    if found.spool_bytes is not None:
        described["spool_bytes"] = found.spool_bytes
    for number, copy in enumerate(found.copies, start=1):
        described[f"copy_{number}"] = copy.fault or copy.store
        if (age := copy.age_seconds(found.at)) is not None:
            described[f"copy_{number}_age_seconds"] = age
    return described


def _within_rpo(age_of: Callable[[Settings], float | None]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=WAL, name="within_rpo", description="What a lost server would cost is within the RPO"
    )
    @retry_passing_faults
    def within_rpo(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        from pipelines.backup.readiness import RPO

        age = age_of(settings)
        return dg.AssetCheckResult(
            passed=age is not None and age <= RPO.total_seconds(),
            metadata={"newest_restorable_age_seconds": -1.0 if age is None else age},
        )

    return within_rpo


def _no_gaps() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=WAL, name="no_gaps", description="No WAL is missing behind the newest backup")
    @retry_passing_faults
    def no_gaps(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        found = _look(settings)
        return dg.AssetCheckResult(
            passed=not found.open_gaps,
            description="\n".join(map(str, found.gaps)) or None,
            metadata={"gaps": len(found.gaps), "open_gaps": len(found.open_gaps)},
        )

    return no_gaps


def _slot_alive() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=WAL, name="slot_alive", description="The slot is there and a receiver uses it")
    @retry_passing_faults
    def slot_alive(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        slot = _look(settings).slot
        return dg.AssetCheckResult(
            passed=slot.exists and slot.holder_pid is not None and not slot.is_lost,
            metadata={"slot_retained_bytes": slot.retained_bytes},
        )

    return slot_alive


def _archived(settings: Settings) -> dict[str, Any]:
    from pipelines.backup.routine import observe_archive

    found = observe_archive(settings)
    if found is None:
        return {}
    return {
        "newest_restorable": dg.MetadataValue.timestamp(found.until),
        "newest_restorable_age_seconds": _age_seconds(found.until),
    }


def _archive_age(settings: Settings) -> float | None:
    from pipelines.backup.setup import open_stored_source

    found = open_stored_source(settings).window()
    return None if found is None else _age_seconds(found.until)


def _age_seconds(moment: dt.datetime) -> float:
    return max(0.0, (dt.datetime.now(dt.UTC) - moment).total_seconds())

"""Claims about landing days as asset checks: counts reconcile, files could be read, nothing was left out.

In a one-day run a broken account blocks what follows. In a range it may not: one bad day would sink the others, so that
it warns, the bad day is held back by its own result, and `landing_verdict` fails at the end naming it.
https://docs.dagster.io/guides/test/asset-checks
"""

import datetime as dt
from collections.abc import Iterator, Sequence

import dagster as dg

from assets.partitions import landing_days
from assets.retries import retry_passing_faults
from pipelines.catalog.model import Aggregate, Gaps, System
from resources.database import Database
from resources.object_store import ObjectStore

SHOWN_PROBLEMS = 20
SAMPLE_GROUPS = 50
NEWEST_GAPS = 10
GAP_DAYS = 7  # older gaps stay listed, but no longer warn


def result_of(
    context: dg.AssetCheckExecutionContext,
    key: dg.AssetKey,
    name: str,
    problems: Sequence[str],
    *,
    blocks: bool = False,
    warns: bool = False,
    metadata: dict[str, object] | None = None,
) -> dg.AssetCheckResult:
    """A check's result. One that blocks is an error in a one-day run and a warning in a range; `warns`: always that."""
    is_warning = warns or (blocks and len(context.partition_keys) > 1)
    severity = dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR
    shown = [*problems[:SHOWN_PROBLEMS], *(["..."] if len(problems) > SHOWN_PROBLEMS else [])]
    return dg.AssetCheckResult(
        passed=not problems,
        asset_key=key,
        check_name=name,
        severity=severity,
        description="\n".join(shown) or None,
        metadata={"problems": len(problems), "landing_days": len(context.partition_keys), **(metadata or {})},
    )


def spec(
    key: dg.AssetKey,
    name: str,
    description: str,
    calendar: dg.DailyPartitionsDefinition,
    *,
    blocks: bool = False,
) -> dg.AssetCheckSpec:
    """One check over landing days."""
    return dg.AssetCheckSpec(
        name, asset=key, description=description, blocking=blocks, partitions_def=calendar
    )


def landing_check(
    system: System, table: str, calendar: dg.DailyPartitionsDefinition
) -> dg.AssetChecksDefinition:
    """The checks of a table that feeds are loaded into."""
    key, feeds = dg.AssetKey([system.name, table]), system.feeds_of(table)

    @dg.multi_asset_check(
        name=f"{system.name}__{table}__checks",
        specs=[
            spec(key, "counts_reconcile", "landed = loaded + duplicate + quarantined, and the table and the quarantine "
                 "have those rows", calendar, blocks=True),
            spec(key, "files_readable", "No file of the day is quarantined whole", calendar),
            spec(key, "schema_unchanged", "The files of the day have the columns that the feed's files had before",
                 calendar),
            spec(key, "no_gaps", "Every folder of the landing zone up to this day has been read", calendar),
        ],
    )  # fmt: skip
    @retry_passing_faults
    def checks(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> Iterator[dg.AssetCheckResult]:
        from pipelines.ingestion import reconcile_days, schema_changes

        days = landing_days(context)
        found = {feed.name: reconcile_days(database, feed, days) for feed in feeds}
        accounts = [day for feed in feeds for day in found[feed.name]]
        broken = [f"{day.landing_day}: {problem}" for day in accounts for problem in day.problems]
        faults = [f"{day.landing_day}: {fault}" for day in accounts for fault in day.file_faults]
        yield result_of(context, key, "counts_reconcile", broken, blocks=True)
        yield result_of(context, key, "files_readable", faults)
        changes = schema_changes(database, feeds, days)
        yield result_of(context, key, "schema_unchanged", changes, warns=True)
        yield result_of(context, key, "no_gaps", landing_gaps(database, store, system, table, days[-1]))

    return checks


def landing_gaps(
    database: Database, store: ObjectStore, system: System, table: str, until: dt.date
) -> list[str]:
    """What lies in the landing zone and was not read, up to `until`, in words."""
    from pipelines.monitoring.days import days_without_result
    from pipelines.monitoring.landing import FeedFolder

    problems = []
    for feed in system.feeds_of(table):
        folder = FeedFolder.look(store, feed)
        folders = [day for day in folder.days if day <= until]
        if folders:
            left = days_without_result(database, f"landing/{feed.key_name}", folders[0], until)
            unread = {day for day in left if day >= feed.starts_on} & set(folders)
            problems += [f"{feed.prefix}{day}/ was not read; run that day" for day in sorted(unread)]
        problems += folder.never_read()
    return problems


def aggregate_check(
    system: System, aggregate: Aggregate, calendar: dg.DailyPartitionsDefinition
) -> dg.AssetChecksDefinition:
    """The check of a declared aggregate: a sample of its groups computed anew."""
    key = dg.AssetKey([system.name, aggregate.name])

    @dg.multi_asset_check(
        name=f"{system.name}__{aggregate.name}__checks",
        specs=[spec(key, "equals_recomputation", f"{SAMPLE_GROUPS} groups, computed anew, are equal", calendar)],
    )  # fmt: skip
    @retry_passing_faults
    def checks(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        from pipelines.aggregation import AggregateJob

        seed = landing_days(context)[
            -1
        ].toordinal()  # another sample every day, the same one for the same day
        job = AggregateJob(database, system, aggregate)
        mismatches = job.recompute_sample(count=SAMPLE_GROUPS, seed=seed)
        if mismatches:
            job.forget()  # or running the day again, which is what a reader of the check does, would not mend it
        yield result_of(context, key, "equals_recomputation", mismatches)

    return checks


def gaps_check(
    system: System, gaps: Gaps, calendar: dg.DailyPartitionsDefinition
) -> dg.AssetChecksDefinition:
    """The check of a table of gaps: it warns of those that reach into the last days, and names the newest."""
    key = dg.AssetKey([system.name, gaps.name])

    @dg.multi_asset_check(
        name=f"{system.name}__{gaps.name}__checks",
        specs=[spec(key, "series_complete", f"No series has a gap in the {GAP_DAYS} days up to this one", calendar)],
    )  # fmt: skip
    @retry_passing_faults
    def checks(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        from pipelines.aggregation import GapsJob

        count, newest = GapsJob(database, system, gaps).newest(NEWEST_GAPS)
        since = landing_days(context)[-1] - dt.timedelta(days=GAP_DAYS)
        recent = [str(gap) for gap in newest if gap.gap_to.date() >= since]
        yield dg.AssetCheckResult(
            passed=not recent,
            asset_key=key,
            check_name="series_complete",
            severity=dg.AssetCheckSeverity.WARN,
            description="\n".join(recent) or None,
            metadata={"gaps": count, "newest_gaps": [str(gap) for gap in newest]},
        )

    return checks

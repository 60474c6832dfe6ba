"""`longbox demo`: the whole platform on this machine, its main job run over the bundled sample, and the UI.

Lands the sample once; later demos find it landed and done, and only warm the cache. What is shown is read back from
PostgreSQL and from Dagster, not from what this process did.
"""

import contextlib
import datetime as dt
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cli.run_progress import Progress
from pipelines.catalog.job_names import DAILY_PIPELINE
from resources.errors import LongboxError, UserError

if TYPE_CHECKING:
    from assets.samples import FileEntry
    from cli.dagster_client import DagsterClient
    from cli.session import Session
    from deploy.local.stack import Stack
    from pipelines.catalog.model import System

STAGES = ("comics/pricing_data_raw", "comics/pricing_data_normalized", "comics/pricing_data_aggregated")
WARM_JOB = "cache_warm"
BACKUP_JOBS = ("backup_incremental", "restore_drill")
ROWS, OTHER_ROWS = 20_000, 3_000  # of comics, of each other system
DAYS, LAST_DAY, SEED = 30, dt.date(2026, 10, 30), 1  # the bundled exchange rates end on that day
RUN_SECONDS = 900.0
ACCOUNT = ("landed", "loaded", "duplicate", "quarantined")
VERSIONS = ("normalised", "superseded", "rejected")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="End after the job and stop what was started, instead of staying up."),
    ] = False,
) -> None:
    """Start everything, run the main job over the bundled (synthetic) samples, show the result and the UI's address."""
    from deploy.local.stack import Stack
    from deploy.local.state import RUNNING, State, is_locked

    stack = Stack(report=typer.echo)
    running = State.read(stack.home)
    if running.status == RUNNING and is_locked(stack.home):
        ui = running.urls.get("ui")
        if ui is None:
            raise UserError("a stack without Dagster is running here; `longbox down`, then `longbox demo`")
        typer.echo(f"using the stack that is running in {stack.home.path}")
        show(ui, stack.home.path, lambda: None)
        typer.echo(f"\nthe UI: {ui} (the stack was running before and stays; stop it with `longbox down`)")
        return
    _on_own_stack(stack, once=once)


def _on_own_stack(stack: "Stack", *, once: bool) -> None:
    from deploy.local.supervisor import StopRequested, stop_on_signals

    with stop_on_signals(typer.echo) as raise_if_asked:
        try:
            stack.start()
            ui = stack.state.urls["ui"]
            show(ui, stack.home.path, stack.restart_ended)
            if once:
                return
            typer.echo(f"\nthe UI: {ui} (Ctrl-C stops everything)")
            while True:
                raise_if_asked()
                stack.restart_ended()
                time.sleep(0.2)
        except StopRequested as request:
            typer.echo(f"stopping ({request})")
        finally:
            stack.stop()


def show(ui: str, home: Path, check: Callable[[], None]) -> None:
    """Land the samples, run the job over its days, print what came of it.

    `check` starts parts of the stack anew, and raises when it cannot.
    """
    from cli.dagster_client import DagsterClient
    from cli.session import session

    client = DagsterClient(ui)
    with session() as current:
        days, landed = land_sample(current, home / "sample")
        is_done = not landed and _is_done(current, days)
        if is_done:
            typer.echo(f"the sample is landed and its {len(days)} days are done: only the cache is warmed")
            run_id = client.launch(WARM_JOB)
        else:
            span = (days[0].isoformat(), days[-1].isoformat())
            typer.echo(f"{DAILY_PIPELINE} over {len(days)} landing days, {span[0]} to {span[1]}, as one run:")
            run_id = client.launch(DAILY_PIPELINE, partition_range=span)
        typer.echo(f"  {ui}/runs/{run_id}")
        run = client.wait(run_id, timeout_seconds=RUN_SECONDS, poll_seconds=0.3, on_progress=Progress(check))
        _print_counts(current, client, days)
        _print_most_traded(current)
    if run.status != "SUCCESS":
        told = "".join(f"\n  {step}: {why}" for step, why in client.failures(run_id).items())
        raise LongboxError(f"the run ended as {run.status}; see {ui}/runs/{run_id}{told}")
    prove_a_backup(client, check)


def prove_a_backup(client: "DagsterClient", check: Callable[[], None]) -> None:
    """Make a backup (the first is a full one), restore it, and tell what that took. `check` as in `show`."""
    typer.echo("\na backup, and a drill that restores it and compares:")
    for job in BACKUP_JOBS:
        run_id = client.launch(job)
        run = client.wait(run_id, timeout_seconds=RUN_SECONDS, poll_seconds=0.3, on_progress=Progress(check))
        if run.status != "SUCCESS":
            told = "".join(f"\n  {step}: {why}" for step, why in client.failures(run_id).items())
            raise LongboxError(f"{job} ended as {run.status}; see {client.url}/runs/{run_id}{told}")
    made, proved = (client.latest_metadata(f"platform/{job}") for job in BACKUP_JOBS)
    typer.echo(
        f"backed up {int(made['size_bytes']) / 1e6:,.1f} MB ({made['kind']}) as "
        f"{int(made['stored_bytes']) / 1e6:,.1f} MB, "
        f"encrypted, in {float(made['duration_seconds']):.1f} s\n"
        f"restored and compared: RTO {float(proved['rto_seconds']):.1f} s, "
        f"{int(proved['compared'])} comparisons with the truth of {proved['backup_id']}"
    )


def land_sample(current: "Session", folder: Path) -> tuple[list[dt.date], int]:
    """Generate the samples into `folder` unless they are there, land what has not landed. Returns days and files."""
    from assets.samples import landing_files
    from cli.sample import sampled_systems
    from pipelines.ingestion import land_file

    days: set[dt.date] = set()
    landed = rows = 0
    for system in sampled_systems():
        files = _sample_files(system, folder / system)
        sizes = {folder / system / entry.path: entry.rows for entry in files}
        for feed_name, day, path in landing_files(folder / system, files):
            _, feed = current.feed(f"{system}/{feed_name}")
            days.add(day)
            if current.store.head(f"{feed.prefix}{day}/{path.name}") is None:
                land_file(current.store, feed, path, day)
                landed, rows = landed + 1, rows + sizes[path]
    if landed:
        typer.echo(f"landed the samples: {landed} files, {rows:,} rows (synthetic; exchange rates are real)")
    return sorted(days), landed


def _sample_files(system: str, folder: Path) -> "list[FileEntry]":
    from assets.samples.manifest import MANIFEST, entries_of
    from cli.sample import generator_of

    if not (folder / MANIFEST).is_file():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.mkdir(parents=True)
        rows = ROWS if system == "comics" else OTHER_ROWS
        generator_of(system)(partial, rows, DAYS, LAST_DAY, SEED, 0)
        partial.rename(folder)
    return entries_of(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))


def _is_done(current: "Session", days: Sequence[dt.date]) -> bool:
    from cli.sample import sampled_systems
    from pipelines.monitoring.days import days_without_result

    feeds = [feed for name in sampled_systems() for feed in current.catalog.systems[name].feeds.values()]
    wanted, stages = set(days), [*STAGES, *(f"landing/{feed.key_name}" for feed in feeds)]
    return all(
        not wanted.intersection(days_without_result(current.database, stage, days[0], days[-1]))
        for stage in stages
    )


def _print_counts(current: "Session", client: "DagsterClient", days: Sequence[dt.date]) -> None:
    from cli.sample import sampled_systems
    from pipelines.monitoring.days import day_totals

    heads = ("rows landed", *ACCOUNT[1:], "aggregate rows")
    typer.echo("\n" + f"{'system':<14}" + "".join(f"{head:>16}" for head in heads))
    for name in sampled_systems():
        system = current.catalog.systems[name]
        totals: Counter[str] = Counter()
        for feed in system.feeds.values():
            totals.update(day_totals(current.database, f"landing/{feed.key_name}", days))
        counts = [totals[f"{word}_rows"] for word in ACCOUNT] + [_aggregate_rows(current, system)]
        typer.echo(f"{name:<14}" + "".join(f"{count:>16,}" for count in counts))
    done = day_totals(current.database, STAGES[1], days)
    told = ", ".join(f"{done.get(f'{word}_rows', 0):,} {word}" for word in VERSIONS)
    typer.echo(f"\ncomics: of the loaded rows {told}")
    with contextlib.suppress(LongboxError):  # the run's own failure says more than a missing number
        typer.echo(f"cached keys: {int(client.latest_metadata('platform/cache')['keys_written']):,}")


def _aggregate_rows(current: "Session", system: "System") -> int:
    """Rows of every table that is computed from a feed's."""
    from psycopg import sql

    from resources.sql import Queries

    names = [*system.aggregates, *(["pricing_data_aggregated"] if system.name == "comics" else [])]
    total = 0
    with current.database.connection() as connection:
        for name in names:
            query = Queries.of("cli").compose("count_rows", table=sql.Identifier(system.name, name))
            total += cast("tuple[int]", connection.execute(query).fetchone())[0]
    return total


def _print_most_traded(current: "Session") -> None:
    from resources.sql import Queries

    with current.database.connection() as connection:
        rows = connection.execute(Queries.of("cli")["most_traded"], {"limit": 10}).fetchall()
    typer.echo(f"\n{'most traded comics':<44}{'sales':>7}{'median USD':>13}")
    for title, sales, median in cast("Iterator[tuple[str, int, Any]]", iter(rows)):
        typer.echo(f"{title[:43]:<44}{sales:>7,}{median:>13,.2f}")

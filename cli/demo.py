"""`longbox demo`: the whole platform on this machine, its main job run over the bundled sample, and the UI.

Lands the sample once; later demos find it landed and done, and only warm the cache. What is shown is read back from
PostgreSQL and from Dagster, not from what this process did.
"""

import contextlib
import datetime as dt
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cli.progress import Progress
from resources.errors import LongboxError, UserError

if TYPE_CHECKING:
    from cli.dagster_client import DagsterClient
    from cli.session import Session
    from deploy.local.stack import Stack

FEED = "comics/marketplace_sales"
STAGES = ("comics/pricing_data_raw", "comics/pricing_data_normalized", "comics/pricing_data_aggregated")
JOB, WARM_JOB = "daily_pipeline", "cache_warm"
ROWS, DAYS, LAST_DAY, SEED = (
    20_000,
    30,
    dt.date(2026, 10, 30),
    1,
)  # the bundled exchange rates end on that day
RUN_SECONDS = 900.0
COUNTS = (
    ("rows landed", STAGES[0], "landed_rows"), ("loaded", STAGES[0], "loaded_rows"),
    ("duplicate", STAGES[0], "duplicate_rows"), ("quarantined", STAGES[0], "quarantined_rows"),
    ("normalised", STAGES[1], "normalised_rows"), ("superseded", STAGES[1], "superseded_rows"),
    ("rejected", STAGES[1], "rejected_rows"),
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="End after the job and stop what was started, instead of staying up."),
    ] = False,
) -> None:
    """Start everything, run the main job over the bundled (synthetic) sample, show the result and the UI's address."""
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

    with stop_on_signals(typer.echo):
        try:
            stack.start()
            ui = stack.state.urls["ui"]
            show(ui, stack.home.path, stack.raise_if_crashed)
            if once:
                return
            typer.echo(f"\nthe UI: {ui} (Ctrl-C stops everything)")
            while True:
                stack.raise_if_crashed()
                time.sleep(0.2)
        except StopRequested as request:
            typer.echo(f"stopping ({request})")
        finally:
            stack.stop()


def show(ui: str, home: Path, check: Callable[[], None]) -> None:
    """Land the sample, run the job over its days, print what came of it. `check` raises when the stack crashed."""
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
            typer.echo(f"{JOB} over {len(days)} landing days, {span[0]} to {span[1]}, as one run:")
            run_id = client.launch(JOB, partition_range=span)
        typer.echo(f"  {ui}/runs/{run_id}")
        run = client.wait(run_id, timeout_seconds=RUN_SECONDS, poll_seconds=0.3, on_progress=Progress(check))
        _print_counts(current, client, days)
        _print_most_traded(current)
    if run.status != "SUCCESS":
        told = "".join(f"\n  {step}: {why}" for step, why in client.failures(run_id).items())
        raise LongboxError(f"the run ended as {run.status}; see {ui}/runs/{run_id}{told}")


def land_sample(current: "Session", folder: Path) -> tuple[list[dt.date], int]:
    """Generate the sample into `folder` unless it is there, land what has not landed. Returns its days and how many."""
    from pipelines.ingestion import land_file

    _, feed = current.feed(FEED)
    entries = _sample_files(folder)
    missing = [entry for entry in entries if current.store.head(f"{feed.prefix}{entry['path']}") is None]
    for entry in missing:
        land_file(current.store, feed, folder / entry["path"], dt.date.fromisoformat(entry["landing_day"]))
    if missing:
        rows = sum(entry["rows"] for entry in missing)
        typer.echo(
            f"landed the sample: {len(missing)} files, {rows:,} rows (synthetic; exchange rates are real)"
        )
    return sorted({dt.date.fromisoformat(entry["landing_day"]) for entry in entries}), len(missing)


def _sample_files(folder: Path) -> list[dict[str, Any]]:
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        from assets.comics.sample import generate

        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.mkdir(parents=True)
        generate(partial, ROWS, DAYS, LAST_DAY, SEED)
        partial.rename(folder)
    return cast("list[dict[str, Any]]", json.loads(manifest.read_text(encoding="utf-8"))["files"])


def _is_done(current: "Session", days: Sequence[dt.date]) -> bool:
    from pipelines.monitoring.days import days_without_result

    wanted = set(days)
    return all(
        not wanted.intersection(days_without_result(current.database, stage, days[0], days[-1]))
        for stage in STAGES
    )


def _print_counts(current: "Session", client: "DagsterClient", days: Sequence[dt.date]) -> None:
    from pipelines.monitoring.days import day_totals
    from resources.sql import Queries

    totals = {stage: day_totals(current.database, stage, days) for stage in STAGES}
    with current.database.connection() as connection:
        found = connection.execute(Queries.of("cli")["aggregate_count"]).fetchone()
    typer.echo("")
    for label, stage, name in COUNTS:
        typer.echo(f"{label:<20}{totals[stage].get(name, 0):>12,}")
    typer.echo(f"{'aggregates':<20}{cast('tuple[int]', found)[0]:>12,}")
    with contextlib.suppress(LongboxError):  # the run's own failure says more than a missing number
        typer.echo(f"{'cached keys':<20}{int(client.latest_metadata('platform/cache')['keys_written']):>12,}")


def _print_most_traded(current: "Session") -> None:
    from resources.sql import Queries

    with current.database.connection() as connection:
        rows = connection.execute(Queries.of("cli")["most_traded"], {"limit": 10}).fetchall()
    typer.echo(f"\n{'most traded comics':<44}{'sales':>7}{'median USD':>13}")
    for title, sales, median in cast("Iterator[tuple[str, int, Any]]", iter(rows)):
        typer.echo(f"{title[:43]:<44}{sales:>7,}{median:>13,.2f}")

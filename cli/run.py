"""`longbox run`: launch a job over a landing day or a range of them, as the UI does, and follow it to its end."""

import datetime as dt
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from cli.run_progress import Progress
from pipelines.catalog.job_names import is_daily, verdict_of
from resources.errors import LongboxError, UserError

if TYPE_CHECKING:
    from cli.dagster_client import DagsterClient
    from deploy.local.state import Home

RUN_SECONDS = 86_400.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job, as in daily_pipeline.")],
    date: Annotated[
        str | None,
        typer.Option("--date", metavar="YYYY-MM-DD", help="The landing day, for a job that has days."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="YYYY-MM-DD", help="With --date: the last day of a range, in one run."),
    ] = None,
    ui: Annotated[
        str | None,
        typer.Option("--ui", metavar="URL", help="The Dagster UI. That of the local stack unless given."),
    ] = None,
) -> None:
    """Launch a job in the running Dagster and wait for it. Ctrl-C stops the waiting, not the run."""
    from cli.dagster_client import DagsterClient

    first, last = _day("--date", date), _day("--to", to)
    if last is not None and (first is None or last < first):
        raise UserError("--to is the last day of a range; give its first with --date, on or before it")
    client = DagsterClient(ui or _ui_of_the_stack())
    again = f"longbox run {job}" + (f" --date {first}" if first else "") + (f" --to {last}" if last else "")
    _check(client, job, first, last)
    run_id = client.launch(
        job,
        partition=None if first is None or last is not None else first.isoformat(),
        partition_range=(first.isoformat(), last.isoformat()) if first and last else None,
    )
    try:
        typer.echo(f"{client.url}/runs/{run_id}")
        ended = client.wait(
            run_id,
            timeout_seconds=RUN_SECONDS,
            poll_seconds=0.3,
            on_progress=Progress(),
            on_silence=lambda: None if ui else _raise_if_the_stack_ended(again),
        )
    except KeyboardInterrupt:
        typer.echo(f"no longer waiting; the run goes on: {client.url}/runs/{run_id}", err=True)
        raise
    if ended.status != "SUCCESS":
        told = "".join(f"\n  {step}: {why}" for step, why in client.failures(run_id).items())
        raise LongboxError(f"the run ended as {ended.status}; see {client.url}/runs/{run_id}{told}")
    for told in _told_by_the_verdict(client, job, run_id):
        typer.echo(f"  {told}")
    typer.echo(f"{job}: {ended.status} in {ended.seconds or 0:.1f} s")


def _check(client: "DagsterClient", job: str, first: dt.date | None, last: dt.date | None) -> None:
    """Dagster would launch a day that the job does not have, and fail every step."""
    known = client.jobs()
    if job not in known:
        near = get_close_matches(job, known, n=1)
        remedy = f"did you mean {near[0]}? " if near else ""
        if is_daily(job):
            remedy += "Dagster knows a system added since it began after `longbox down` and `longbox up`. "
        raise UserError(f"there is no job {job!r}; {remedy}There are: {', '.join(known)}")
    days = client.partitions(job)
    if days and first is None:
        raise UserError(f"{job} runs by landing day; name one with --date, from {days[0]} to {days[-1]}")
    if not days and first is not None:
        raise UserError(f"{job} has no landing days; leave --date out")
    for day in (first, last):
        if day is not None and day.isoformat() not in days:
            raise UserError(f"{job} has the landing days {days[0]} to {days[-1]}, and {day} is none of them")


def _told_by_the_verdict(client: "DagsterClient", job: str, run_id: str) -> list[str]:
    """What a daily run that ended well leaves to be seen: rows put aside, changed columns, files that nothing reads."""
    if not is_daily(job):
        return []
    told = client.latest_metadata(f"platform/{verdict_of(job)}", run_id=run_id)
    aside, changes, unread = (
        str(told.get(name, "")).splitlines() for name in ("put_aside", "schema_changes", "never_read")
    )
    return [*(f"{line}; `longbox quarantine list` tells why" for line in aside), *changes, *unread]


def _day(option: str, text: str | None) -> dt.date | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"{option} {text!r} is not a date; write YYYY-MM-DD, as in 2026-11-20") from None


def _raise_if_the_stack_ended(again: str) -> None:
    """A Dagster that is started anew takes its runs up again; one whose whole stack ended never answers."""
    from deploy.local.state import State, is_locked

    home = _home()
    if not is_locked(home):
        ended = State.read(home).ended or "`longbox down`, a signal or a kill ended it"
        raise LongboxError(
            f"the stack in {home.path} stopped while the run was under way ({ended}), and the run with it. What it "
            f"had committed stays: `longbox up`, then `{again}` completes it"
        )


def _home() -> "Home":
    from deploy.local.state import Home
    from resources.settings import Settings

    return Home(Settings.load().home.resolve())


def _ui_of_the_stack() -> str:
    from deploy.local.state import State

    home = _home()
    found = State.read(home).urls.get("ui")
    if not found:
        raise UserError(f"no Dagster runs in {home.path}; start it with `longbox up`, or name one with --ui")
    return found

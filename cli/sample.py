"""`longbox sample`: write a synthetic feed of any size, to try things out and to measure with."""

import datetime as dt
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from resources.errors import UserError
from resources.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from assets.samples import Manifest

    Generate = Callable[[Path, int, int, dt.date, int, int], Manifest]

LAST_DAY = dt.date(2026, 10, 30)  # the bundled exchange rates end here


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("sample")(sample)


def sample(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where to: DIR/[<feed>/]<landing day>/<file>.")
    ],
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows over all files.")] = 20_000,
    days: Annotated[int, typer.Option("--days", min=1, max=5000, help="Landing days.")] = 30,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="YYYY-MM-DD",
            help="First landing day. Unless given: so that the last is 2026-10-30.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same files.")] = 1,
    system: Annotated[
        str, typer.Option("--system", help="Whose feeds: comics, browser, chain, ...")
    ] = "comics",
    broken_files: Annotated[
        int, typer.Option("--broken-files", min=0, help="Truncated files to add, one a day.")
    ] = 0,
) -> None:
    """Generate SYNTHETIC feeds of a bundled system: invented records, with the faults of real feeds in known numbers.

    manifest.json in DIR says what was planted and what a pipeline must make of it.
    """
    generate = generator_of(system)
    last_day = LAST_DAY if start is None else _day(start) + dt.timedelta(days=days - 1)
    if broken_files > days:
        raise UserError(f"--broken-files {broken_files} is more than --days {days}; one a day is the most")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is not an empty folder; give a new one, nothing is overwritten")
    try:
        manifest = generate(out, rows, days, last_day, seed, broken_files)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error}); give a folder with room in it") from error
    expected = manifest.expected
    typer.echo(
        f"{out}: {len(manifest.files)} files over {days} landing days ({manifest.first_day} to {manifest.last_day}), "
        f"{expected['landed']:,} rows, SYNTHETIC"
    )
    typer.echo(
        f"expected: {expected['loaded']:,} loaded, {expected['duplicate']:,} duplicate, "
        f"{expected['quarantined']:,} quarantined (see {out / 'manifest.json'})"
    )


def generator_of(system: str) -> "Generate":
    """What generates the sample of a bundled system. Raises `UserError` naming those that have one."""
    if system not in sampled_systems():
        raise UserError(f"--system {system!r} has no sample; choose one of {', '.join(sampled_systems())}")
    module = importlib.import_module(f"assets.{system}.sample")
    return cast("Generate", module.generate)


def sampled_systems() -> list[str]:
    """The bundled systems that have a sample, by name."""
    folders = (PROJECT_ROOT / "assets").iterdir()
    return sorted(
        folder.name for folder in folders if (folder / "sample.py").is_file() or (folder / "sample").is_dir()
    )


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"--start {text!r} is not a date; write YYYY-MM-DD, as in 2026-10-01") from None

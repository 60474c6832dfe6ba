"""`longbox backup`: make a backup; list, verify, copy and expire backups; make and rotate their keys.

Only reads options and prints; what happens is `pipelines.backup`'s.
"""

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources.errors import UserError

if TYPE_CHECKING:
    from pipelines.backup.engine import Backup, BackupSource
    from resources.settings import Settings

commands = typer.Typer(help="Back up the database cluster; see what there is and whether it is sound.")
key_commands = typer.Typer(help="Keys of backups: make, rotate, show.", no_args_is_help=True)
commands.add_typer(key_commands, name="keys")

System = Annotated[
    str | None,
    typer.Option("--system", metavar="ID", help="Whose backups, if the store has several clusters'."),
]


def register(app: typer.Typer) -> None:
    """Add the group to `app`."""
    app.add_typer(commands, name="backup")


@commands.callback(invoke_without_command=True)
def backup(
    context: typer.Context,
    full: Annotated[
        bool, typer.Option("--full", help="A full backup, also where an incremental one could be made.")
    ] = False,
) -> None:
    """Make a backup: incremental if there is one to build on, else full. Safe to interrupt and to run again."""
    if context.invoked_subcommand is not None:
        return
    from cli.progress import ProgressLine
    from pipelines.backup.model import BackupRecord
    from pipelines.backup.routine import make_backup, platform_database
    from resources.keys import ServerKeys
    from resources.settings import Settings

    def warn(text: str) -> None:
        typer.echo(text, err=True)

    settings, line = Settings.load(), ProgressLine()
    with platform_database(settings) as database:
        if database is None:
            warn("the database is not migrated: no witness for drills and no entry in the ledger is written")
        try:
            made = make_backup(settings, database, "full" if full else "incremental", warn=warn, report=line)
        finally:
            line.close()
    record = made.record
    if made.reason:
        warn(f"a full backup: {made.reason}")
    files = ""
    if isinstance(record, BackupRecord):
        files = f" in {record.files:,} files"
        if ServerKeys.load(settings.backup_keys).is_due(dt.datetime.now(dt.UTC)):
            warn("the recovery key is older than 90 days; `longbox backup keys rotate` adds one")
    typer.echo(
        f"{record.backup_id}: {_size(record.plain_bytes)}{files}, "
        f"{_size(record.stored_bytes)} stored, {record.duration_seconds:.1f} s"
    )


@commands.command("list")
def list_backups(
    system: System = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the backups, oldest first, the moments that can be restored, and what the engine cannot prove."""
    from pipelines.backup.setup import open_stored_source
    from resources.settings import Settings

    source = open_stored_source(Settings.load(), system)
    found = source.catalogue()
    for record in found.sound:
        typer.echo(_as_json(source, record) if as_json else _as_line(source, record))
    for name, reason in found.faults.items():
        typer.echo(f"damaged: {name}: {reason}", err=True)
    window = source.window()
    if not as_json and window is not None:
        how = "any moment" if window.is_from_wal else "the end of each backup (no WAL is in the store)"
        typer.echo(
            f"restorable: {how}, {window.first:%Y-%m-%d %H:%M:%SZ} to {window.until:%Y-%m-%d %H:%M:%SZ}"
        )
    for limit in source.limits if not as_json else ():
        typer.echo(f"not proved: {limit}")
    if found.faults:
        raise typer.Exit(1)


@commands.command("verify")
def verify(
    backup_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only this backup and what it builds on.")
    ] = None,
    system: System = None,
) -> None:
    """Read everything back, from the store and each copy; name what is damaged or missing (exit code 1).

    What the ledger names has to be there too, where the platform's database can be asked.
    """
    from pipelines.backup.setup import open_stored_source
    from resources.settings import Settings

    settings = Settings.load()
    source = open_stored_source(settings, system)
    reports = source.read_back(backup_id, {} if backup_id else _named_by_ledger(settings, source))
    for report in reports:
        for fault in report.faults:
            typer.echo(f"{report.store}: {fault}")
        for note in report.notes:
            typer.echo(f"{report.store}: no fault: {note}")
        how = (
            "decrypted" if report.is_decrypted else "checked by their hashes; the recovery keys are not here"
        )
        count = f"{report.objects} objects, {_size(report.stored_bytes)}, {how}"
        typer.echo(f"{report.store}: {count}: {len(report.faults) or 'no'} fault(s)")
    if not all(report.is_sound for report in reports):
        raise typer.Exit(1)


def _named_by_ledger(settings: "Settings", source: "BackupSource") -> dict[str, str]:
    from pipelines.backup.routine import named_by_ledger
    from resources.errors import LongboxError

    try:
        return named_by_ledger(settings, source)
    except LongboxError as error:
        typer.echo(f"the ledger was not asked what has to be there: {error}", err=True)
        return {}


@commands.command("copy")
def copy(
    system: System = None,
    mend: Annotated[
        bool,
        typer.Option("--mend", help="Read everything; replace what is damaged or missing by a sound copy."),
    ] = False,
) -> None:
    """Bring every object to the stores of LONGBOX_BACKUP_COPY_STORES and check it there (exit code 1: a fault)."""
    from pipelines.backup import copies
    from pipelines.backup.setup import open_stored_source
    from resources.settings import Settings

    repository = open_stored_source(Settings.load(), system).repository
    if not repository.copies:
        raise UserError("no copy store is named; set LONGBOX_BACKUP_COPY_STORES")
    results = copies.mend(repository) if mend else copies.copy_repository(repository)
    for result in results:
        for fault in result.faults:
            typer.echo(f"{result.store}: {fault}")
        typer.echo(
            f"{result.store}: {result.copied} of {result.objects} objects brought, {_size(result.copied_bytes)}"
        )
    if any(result.faults for result in results):
        raise typer.Exit(1)


@commands.command("expire")
def expire(
    system: System = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete; without it only what would go is shown.")
    ] = False,
) -> None:
    """Delete backups and WAL that the policy no longer keeps, in the store and in each copy. Shows only, by default."""
    from pipelines.backup.expiry import Policy
    from pipelines.backup.routine import expire_source, platform_database
    from pipelines.backup.setup import open_stored_source
    from resources.settings import Settings

    settings = Settings.load()
    source = open_stored_source(settings, system)
    if yes:
        with platform_database(settings) as database:
            if database is None:
                raise UserError(
                    "the database is not migrated, so that its ledger cannot be told; `longbox migrate`"
                )
            results = expire_source(source, database, Policy())
    else:
        results = source.expire(Policy(), dt.datetime.now(dt.UTC))
    for result in results:
        if result.fault:
            typer.echo(f"{result.store}: nothing expired there: {result.fault}", err=True)
            continue
        for backup_id in result.plan.expired:
            typer.echo(f"{result.store}: {backup_id}")
        act = "deleted" if yes else "would go; --yes deletes"
        typer.echo(
            f"{result.store}: {len(result.plan.expired)} backup(s) and {len(result.plan.wal)} of WAL, "
            f"{_size(result.freed_bytes)}, {act}; {len(result.plan.kept)} backup(s) stay"
        )
    if any(result.fault for result in results):
        raise typer.Exit(1)


@commands.command("protect")
def protect(
    days: Annotated[
        int, typer.Option("--days", min=1, help="For how long nobody can delete what was written.")
    ] = 30,
    compliance: Annotated[
        bool,
        typer.Option("--compliance", help="Also not the owner of the account; cannot be taken back."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Set it; without it only what is set is shown.")] = False,
) -> None:
    """Versioning and Object Lock of the S3 stores of backups: show (exit code 1: one has none), or set with --yes."""
    from pipelines.backup import protection
    from pipelines.backup.setup import backup_urls
    from resources.settings import Settings

    urls = list(dict.fromkeys(backup_urls(Settings.load())))
    if yes:
        for url in urls:
            if url.startswith("s3://"):
                protection.protect(url, days, "COMPLIANCE" if compliance else "GOVERNANCE")
    found = list(protection.protections(urls))
    for one in found:
        typer.echo(f"{one.store}: {one.text}")
    if not any(one.is_protected for one in found):
        typer.echo("no store is protected; set it with --yes, and keep one store or copy on S3", err=True)
        raise typer.Exit(1)


@key_commands.command("init")
def init(
    recovery_file: Annotated[
        Path | None,
        typer.Option("--recovery-file", help="Where the recovery keys go (default: LONGBOX_HOME/keys)."),
    ] = None,
    kms: Annotated[
        str | None,
        typer.Option("--kms", metavar="URI", help="Seal the recovery keys with this key: aws-kms://arn:..."),
    ] = None,
) -> None:
    """Make the keys: one file for the server, which only encrypts, and one to keep elsewhere, which decrypts."""
    from pipelines.backup.setup import key_warning
    from resources.keys import make_keys
    from resources.settings import Settings

    settings = Settings.load()
    place = recovery_file or settings.backup_recovery_keys
    made = make_keys(settings.backup_keys, place.expanduser().absolute(), dt.datetime.now(dt.UTC), kms)
    typer.echo(f"{made.server_file}: keys of the server (recovery key {made.key_id})")
    typer.echo(key_warning(made.recovery_file), err=True)


@key_commands.command("rotate")
def rotate() -> None:
    """Add a recovery key that new backups use. Older backups stay readable with the same file."""
    from pipelines.backup.setup import key_warning
    from resources.keys import rotate_keys
    from resources.settings import Settings

    settings = Settings.load()
    made = rotate_keys(settings.backup_keys, settings.backup_recovery_keys, dt.datetime.now(dt.UTC))
    typer.echo(f"recovery key {made.key_id} is used from now on")
    typer.echo(key_warning(made.recovery_file), err=True)


@key_commands.command("show")
def show_keys() -> None:
    """Show the recovery keys by their ids, without secrets, and how many backups need each."""
    from resources.keys import ServerKeys
    from resources.settings import Settings

    settings = Settings.load()
    keys = ServerKeys.load(settings.backup_keys)
    uses = _uses(settings)
    for key in keys.keys:
        mark = " (new backups use it)" if key.is_primary else ""
        typer.echo(
            f"{key.key_id}  made {key.created_at:%Y-%m-%d}, {uses.get(key.key_id, 0)} backup(s) need it{mark}"
        )


def _uses(settings: "Settings") -> dict[str, int]:
    from pipelines.backup.setup import open_stored_repository

    found: dict[str, int] = {}
    try:
        for record in open_stored_repository(settings).records():
            found[record.recovery_key_id] = found.get(record.recovery_key_id, 0) + 1
    except UserError:
        return found  # no backup yet
    return found


def _as_line(source: "BackupSource", record: "Backup") -> str:
    checked = source.repository.verification(record.backup_id)
    if checked is None:
        state = "not verified"
    else:
        state = f"{'sound' if checked.is_sound else 'DAMAGED'}, verified {checked.verified_at:%Y-%m-%d %H:%M}"
    return (
        f"{record.backup_id}  {record.kind:<11}  {record.ended_at:%Y-%m-%d %H:%M:%SZ}  {_size(record.plain_bytes):>9}  "
        f"{_size(record.stored_bytes):>9} stored  {record.duration_seconds:6.1f} s  {state}"
    )


def _as_json(source: "BackupSource", record: "Backup") -> str:
    checked = source.repository.verification(record.backup_id)
    facts = {
        "backup_id": record.backup_id,
        "kind": record.kind,
        "started_at": record.started_at.isoformat(),
        "ended_at": record.ended_at.isoformat(),
        "parent_id": record.parent_id,
        "plain_bytes": record.plain_bytes,
        "stored_bytes": record.stored_bytes,
        "recovery_key_id": getattr(record, "recovery_key_id", None),
        "snapshot_id": getattr(record, "snapshot_id", None),
        "is_sound": checked.is_sound if checked else None,
    }
    return json.dumps(facts)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"

"""The files of a backup out of the repository: fetched, unpacked, checked, combined into one data folder.

Everything is checked twice on the way: each object against its digest, each file against PostgreSQL's manifest. A
folder that `lay_out` did not finish is marked by its name and never looks like a data folder.
"""

import base64
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines.backup.engine import Progress, Report
from pipelines.backup.errors import DamagedError, RestoreFailedError
from pipelines.backup.incremental import apply_changes
from pipelines.backup.model import BackupRecord
from pipelines.backup.repository import Repository
from pipelines.backup.sealed import Opener
from pipelines.backup.stream import read_parts
from pipelines.backup.tar import Extractor, TarReader
from resources.postgres_tools import PostgresToolError, PostgresTools

_REPORT_BYTES = 32 << 20


def require_keys(chain: Sequence[BackupRecord], opener: Opener) -> None:
    """Whether the keys at hand open every backup of a chain. Raises `WrongKeyError`; reads and writes nothing."""
    for record in chain:
        opener.unwrap("recovery", base64.b64decode(record.wrapped_key), record.recovery_key_id)


def needed_bytes(chain: Sequence[BackupRecord], tools: PostgresTools) -> int:
    """Disk space that `lay_out` takes at its fullest: all files of the chain, twice where links cannot be made."""
    files = sum(record.plain_bytes for record in chain)
    is_copied = len(chain) > 1 and not tools.can_link
    return files + (chain[0].plain_bytes if is_copied else 0)


def lay_out(
    repository: Repository,
    chain: Sequence[BackupRecord],
    opener: Opener,
    tools: PostgresTools,
    into: Path,
    report: Report,
) -> None:
    """Make `into`, which must not exist, the data folder of the last backup of `chain`, checked by pg_verifybackup.

    Raises `WrongKeyError` before anything is written, `DamagedError` naming objects, `RestoreFailedError`. What was
    begun is removed, but for a kill, which leaves a folder `<name>.incoming`.
    """
    require_keys(chain, opener)
    work = into.with_name(f"{into.name}.incoming")
    if into.exists() or work.exists():
        raise RestoreFailedError(
            f"{into if into.exists() else work} exists; remove it or choose another folder"
        )
    _new_folder(tools, work)
    try:
        folders = _unpack_all(repository, chain, opener, tools, work, report)
        result = folders[0]
        if len(folders) > 1:
            report(Progress("combining", 0, 0))
            result = work / "combined"
            _combine(tools, folders, result)
        _require_system(tools, result, chain[-1])
        result.rename(into)
    except PostgresToolError as error:
        if os.strerror(errno.ENOSPC) in error.said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work)) from error
        raise DamagedError(f"the files of backup {chain[-1].backup_id} are not sound: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack_all(
    repository: Repository,
    chain: Sequence[BackupRecord],
    opener: Opener,
    tools: PostgresTools,
    work: Path,
    report: Report,
) -> list[Path]:
    total, before, folders = sum(record.plain_bytes for record in chain), 0, []
    for number, record in enumerate(chain):
        folder = work / f"{number:03d}"
        _new_folder(tools, folder)
        tar = TarReader(Extractor(folder, lambda place: _own(tools, place)))
        done = reported = 0
        for piece in read_parts(repository, record.parts, opener):
            tar.feed(piece)
            done += len(piece)
            if done - reported >= _REPORT_BYTES:
                reported = done
                report(Progress("restoring", before + done, total))
        if not tar.is_complete or done != record.plain_bytes:
            raise DamagedError(f"the tar of backup {record.backup_id} is not whole", [record.backup_id])
        before += done
        report(Progress("checking", before, total))
        tools.verify(folder)
        folders.append(folder)
    return folders


def _combine(tools: PostgresTools, folders: Sequence[Path], result: Path) -> None:
    """Make one data folder of verified ones, which are worthless afterwards."""
    if not tools.can_link:
        tools.combine(folders, result)
        tools.verify(result)  # reads what was just written
        return
    apply_changes(folders, int(tools.control(folders[-1])["Database block size"]))
    tools.combine(folders, result)
    # content was verified in these very files, but for the changed blocks, which were read back; WAL and sizes are left
    tools.verify(result, is_content_known=True)


def _require_system(tools: PostgresTools, folder: Path, record: BackupRecord) -> None:
    found = tools.control(folder).get("Database system identifier")
    if found != record.system_identifier:
        raise DamagedError(f"the files of {record.backup_id} are of cluster {found}, not of the one recorded")


def _new_folder(tools: PostgresTools, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    _own(tools, folder)


def _own(tools: PostgresTools, place: int | Path) -> None:
    if tools.run_as is not None:
        os.chown(place, tools.run_as.uid, tools.run_as.gid)

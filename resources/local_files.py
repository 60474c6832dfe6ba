"""What lies in the folder of a local object store, and why some of it cannot be handed out as an object.

Other stores have objects and nothing else; a folder has links, pipes, names that no store carries, uploads under way.
"""

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_UNFINISHED = re.compile(r"#[0-9]+\Z")  # as the driver names uploads under way
_NOT_CARRIED = re.compile(rf"[\x00-\x1f\x7f\ud800-\udfff]|{_UNFINISHED.pattern}")


def is_carried(name: str) -> bool:
    """Whether every store can keep an object of that file name and list it again.

    Control characters and invalid UTF-8 are refused; `#1` at the end is how a local store names unfinished uploads.
    """
    return _NOT_CARRIED.search(name) is None


def fault_of(path: Path) -> str:
    """Why a local store cannot hand out what is at `path`; empty for files, folders and uploads under way."""
    if _UNFINISHED.search(path.name) and path.is_file():
        return _fault_of_upload(path)
    if not is_carried(path.name):
        return "the object store cannot carry that name; rename the file"
    try:
        is_readable = stat.S_IFMT(path.stat().st_mode) in (stat.S_IFREG, stat.S_IFDIR)
    except OSError as error:  # a link to nothing, or to itself; or a file that was just removed
        why = f"it is a link that leads to no file ({error.strerror}); put the file itself there"
        return why if path.is_symlink() else ""
    return "" if is_readable else "it is no file but a pipe, a socket or a device; put a file there"


def _fault_of_upload(path: Path) -> str:
    """What is wrong with an upload's file: nothing while `one_writer` has its folder, or when it was just done."""
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return ""
    except OSError:  # a disk that knows no locks
        pass
    finally:
        os.close(handle)
    if not path.exists():
        return ""
    return (
        "it is named as an upload that was broken off, of which it would hold a part only; remove it and land the "
        "file again, or rename it if it is whole,"
    )


def fault_of_folder(place: Path) -> str:
    """Why what is at `place`, where a folder is wanted, is none; empty if nothing is there."""
    if place.is_symlink():
        return "it is a link that leads to no folder; mount what it leads to, or put a folder there"
    return "it is no folder; put one there" if place.exists() else ""


def everything_in(folder: Path, around: frozenset[Path] = frozenset()) -> Iterator[tuple[Path, str]]:
    """What is in `folder` and in the folders in it, but for these folders, each with what `fault_of` says of it."""
    around |= {folder.resolve()}
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:  # just removed
        return
    except OSError as error:
        yield folder, f"it cannot be opened ({error.strerror}); give Longbox's user the right to it"
        return
    for path in paths:
        fault = fault_of(path)
        if fault or not path.is_dir():
            yield path, fault
        elif path.resolve() in around:
            yield path, "it is a link to a folder that it lies in; remove it"
        else:
            yield from everything_in(path, around)

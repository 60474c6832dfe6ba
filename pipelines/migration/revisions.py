"""Revision files: `migrations/0001_core_tables.sql`, one a change, read into Alembic's map of revisions.

    -- comics 0002: Users and their collections        system, number and title; the number repeats the file name's
    -- depends: reference 0001                         optional: revisions of other systems that come first
    -- transaction: none                               optional: for CREATE INDEX CONCURRENTLY; must bear a second run
    -- migrate: up
    ...
    -- migrate: down                                   left out: the change cannot be undone

The order within a system is the number's. No Python a revision: what SQL cannot say belongs to a pipeline
stage.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

from alembic.script.revision import Revision, RevisionError, RevisionMap

from pipelines.migration.errors import RevisionFileError
from pipelines.migration.statements import bare_words, split_statements

PLATFORM = "longbox"
PLATFORM_FOLDER = Path(__file__).parent / "platform"
_FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_HEADING = re.compile(r"\A-- (\w+) (\d{4}): (\S.*?)\s*$", re.MULTILINE)
_OPTION = re.compile(r"^-- (depends|transaction): *(.*?)\s*$", re.MULTILINE)
_SECTION = re.compile(r"^-- migrate: *(\w+)[ \t]*$", re.MULTILINE)
_DEPENDENCY = re.compile(r"^(\w+) (\d{4})$")
_SYSTEM_NAME = re.compile(r"^[a-z][a-z0-9_]{0,26}$")  # Alembic keeps `<system>_<number>` in a varchar(32)
_TRANSACTION_WORDS = {"begin", "start", "commit", "rollback", "abort"}


class Executor(Protocol):
    """Carries out one direction of one revision: on a connection, or as text for a dry run."""

    def run(self, revision: "SqlRevision", direction: str) -> None: ...


@dataclass(frozen=True)
class RevisionFile:
    """One file as read. `sha256` is of its text with Unix line ends, so that a checkout on any system agrees."""

    system: str
    number: int
    title: str
    path: Path
    depends: tuple[str, ...]
    is_transactional: bool
    up: str
    down: str | None
    up_line: int
    down_line: int
    sha256: str

    @property
    def revision(self) -> str:
        """Its id, as Alembic and `longbox.migrations` know it: `comics_0002`."""
        return revision_id(self.system, self.number)


class SqlRevision(Revision):
    """A revision in Alembic's map. `file` is None for one of a system whose folder is not at hand."""

    def __init__(
        self, revision: str, down: str | None, depends: Sequence[str], system: str, file: RevisionFile | None
    ):
        labels = (system,) if down is None else None
        super().__init__(revision, down, dependencies=tuple(depends) or None, branch_labels=labels)
        self.system = system
        self.file = file
        self.doc = file.title if file else "its system is not among the folders"
        # Alembic calls module.upgrade(**run_args): the executor decides what that means.
        self.module = SimpleNamespace(upgrade=self._runner("up"), downgrade=self._runner("down"))

    def _runner(self, direction: str) -> "Callable[[Executor], None]":
        def run(executor: Executor) -> None:
            executor.run(self, direction)

        run.__name__ = "upgrade" if direction == "up" else "downgrade"
        return run


def revision_id(system: str, number: int | str) -> str:
    """`comics`, 2 -> `comics_0002`."""
    return f"{system}_{int(number):04d}"


def read_system(system: str, folder: Path) -> list[RevisionFile]:
    """The revision files of one folder, ordered by number. A folder that does not exist has none."""
    if not _SYSTEM_NAME.match(system):
        raise RevisionFileError(
            f"system {system!r} ({folder}): a system that has migrations is named by a lower-case letter and up to "
            "26 more letters, digits or underscores; rename it"
        )
    files: dict[int, RevisionFile] = {}
    for path in sorted(folder.glob("*.sql")):
        file = read_file(system, path)
        if file.number in files:
            raise RevisionFileError(
                f"{path} and {files[file.number].path.name} are both number {file.number:04d} of {system}; "
                "give the later one the next free number, in its name and in its heading"
            )
        files[file.number] = file
    return [files[number] for number in sorted(files)]


def read_file(system: str, path: Path) -> RevisionFile:
    """Read one revision file; every fault of it is a `RevisionFileError` that says what would be right."""
    name = _FILE_NAME.match(path.name)
    if not name:
        raise RevisionFileError(
            f"{path}: a revision is named 0001_what_it_does.sql (four digits, lower case); rename it"
        )
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    heading = _HEADING.match(text)
    if not heading or (heading[1], heading[2]) != (system, name[1]):
        raise RevisionFileError(
            f"{path}: the first line must be `-- {system} {name[1]}: <title>`; write it so"
        )
    up, down, up_line, down_line, head = _sections(path, text)
    options = dict(_OPTION.findall(head))
    file = RevisionFile(
        system=system,
        number=int(name[1]),
        title=heading[3],
        path=path,
        depends=_dependencies(
            path, options.get("depends", ""), is_first=system != PLATFORM and int(name[1]) == 1
        ),
        is_transactional=_is_transactional(path, options.get("transaction")),
        up=up,
        down=down,
        up_line=up_line,
        down_line=down_line,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )
    _refuse_transaction_control(file)
    return file


def build_map(files: Iterable[RevisionFile], absent: Iterable[SqlRevision] = ()) -> RevisionMap:
    """Alembic's map of all branches. `absent` are applied revisions of systems whose folder is not at hand."""
    revisions: dict[str, SqlRevision] = {revision.revision: revision for revision in absent}
    last: dict[str, str] = {}
    for file in sorted(files, key=lambda f: (f.system != PLATFORM, f.system, f.number)):
        revisions[file.revision] = SqlRevision(
            file.revision, last.get(file.system), file.depends, file.system, file
        )
        last[file.system] = file.revision
    _refuse_unknown_dependencies(revisions)
    revision_map = RevisionMap(lambda: list(revisions.values()))
    try:
        _ = revision_map.heads  # resolves the whole map, and with it finds cycles
    except RevisionError as error:
        raise RevisionFileError(
            f"the revisions depend on each other in a circle: {error}; break it"
        ) from error
    return revision_map


def read_systems(systems: Mapping[str, Path]) -> list[RevisionFile]:
    """The platform's revisions and those of every system (name -> its folder)."""
    files = read_system(PLATFORM, PLATFORM_FOLDER)
    for system, folder in systems.items():
        files.extend(read_system(system, folder / "migrations"))
    return files


def _sections(path: Path, text: str) -> tuple[str, str | None, int, int, str]:
    marks = list(_SECTION.finditer(text))
    names = [mark[1] for mark in marks]
    if names not in (["up"], ["up", "down"]):
        raise RevisionFileError(
            f"{path}: expected one line `-- migrate: up` and after it at most one `-- migrate: down`, "
            f"found {names or 'none'}; mend the sections"
        )
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    bodies = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    lines = [text.count("\n", 0, mark.end()) + 1 for mark in marks]
    if not split_statements(bodies[0]):
        raise RevisionFileError(f"{path}: its up section has no statement; write one or delete the file")
    down = bodies[1] if len(bodies) == 2 and split_statements(bodies[1]) else None
    return bodies[0], down, lines[0], lines[-1], text[: marks[0].start()]


def _dependencies(path: Path, text: str, *, is_first: bool) -> tuple[str, ...]:
    found = [revision_id(PLATFORM, 1)] if is_first else []  # every system stands on the platform's tables
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _DEPENDENCY.match(item)
        if not match:
            raise RevisionFileError(
                f"{path}: `depends: {item}` is no revision; write it as `depends: reference 0001`"
            )
        found.append(revision_id(match[1], match[2]))
    return tuple(found)


def _is_transactional(path: Path, option: str | None) -> bool:
    if option not in (None, "none"):
        raise RevisionFileError(
            f"{path}: `transaction: {option}` is unknown; write `transaction: none` or leave it out"
        )
    return option is None


def _refuse_transaction_control(file: RevisionFile) -> None:
    for body, first_line in ((file.up, file.up_line), (file.down or "", file.down_line)):
        for statement, line in split_statements(body):
            words = bare_words(statement)
            if words[:1] and words[0] in _TRANSACTION_WORDS:
                raise RevisionFileError(
                    f"{file.path}:{first_line + line}: {words[0].upper()} in a revision would break its "
                    "all-or-nothing transaction; take it out"
                )
            if file.is_transactional and words[:1] != ["refresh"] and "concurrently" in words:
                raise RevisionFileError(
                    f"{file.path}:{first_line + line}: CONCURRENTLY cannot run in a transaction; put the statement "
                    "into a revision of its own with the heading line `-- transaction: none`"
                )


def _refuse_unknown_dependencies(revisions: Mapping[str, SqlRevision]) -> None:
    for revision in revisions.values():
        for needed in revision.file.depends if revision.file else ():
            if needed not in revisions and revision.file:
                raise RevisionFileError(
                    f"{revision.file.path}: depends on {needed}, which no folder has; "
                    "correct the line `-- depends:` or add the system's folder"
                )

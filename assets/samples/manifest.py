"""What was generated, and what a pipeline must make of it. Written beside the files as manifest.json."""

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """A landed file. `kind`: data, repeated (content that landed before), empty, broken."""

    path: str
    landing_day: str
    feed: str
    rows: int
    kind: str = "data"


@dataclass
class Manifest:
    """A generated sample. `expected` and `feeds` (by feed) are in rows over all landing days.

    `faults` and `gaps` (of series) were planted.
    """

    system: str
    seed: int
    first_day: str
    last_day: str
    rows: int
    note: str = "SYNTHETIC data: nothing in these files ever happened"
    files: list[FileEntry] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    feeds: dict[str, dict[str, int]] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    gaps: list[dict[str, object]] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write manifest.json into `folder`."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    def sum_up(self) -> None:
        """Fill `expected` from what is expected of each feed."""
        for counts in self.feeds.values():
            for name, count in counts.items():
                self.expected[name] = self.expected.get(name, 0) + count


def landing_files(folder: Path, files: list[FileEntry]) -> Iterator[tuple[str, dt.date, Path]]:
    """The feed, landing day and path of every generated file, in landing order."""
    for entry in sorted(files, key=lambda entry: (entry.landing_day, entry.feed, entry.path)):
        yield entry.feed, dt.date.fromisoformat(entry.landing_day), folder / entry.path


def entries_of(described: Mapping[str, object]) -> list[FileEntry]:
    """The files of a manifest.json that was read."""
    names = {"path", "landing_day", "feed", "rows", "kind"}
    files = described.get("files")
    assert isinstance(files, list), "a manifest lists its files"
    return [FileEntry(**{name: entry[name] for name in names & entry.keys()}) for entry in files]

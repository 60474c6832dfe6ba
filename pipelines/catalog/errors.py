"""Faults of a catalogue, told so that they can be mended: file, line, path inside it, what is wrong, what is right.

Everything that finds faults returns `Problem`s and keeps going; `CatalogError` carries all of them at once.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resources.errors import UserError

YamlPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One fault. `path` is the place inside the file, as in `feeds.marketplace_sales.rules.price`."""

    file: Path | None
    line: int | None
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        at = f"{self.path}: " if self.path else ""
        return f"{place}{at}{self.message}; {self.remedy}"


class CatalogError(UserError):
    """One or more faults in what the systems declare. `problems` holds them, ordered by file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (str(p.file or ""), p.line or 0, p.path)))
        count = len(self.problems)
        title = "1 fault in the catalogue" if count == 1 else f"{count} faults in the catalogue"
        super().__init__("\n".join([f"{title}:", *(f"  {problem}" for problem in self.problems)]))


def format_path(path: Sequence[str | int]) -> str:
    """`("feeds", "sales", "key", 0)` as `feeds.sales.key[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def suggest(wrong: str, known: Iterable[str], *, noun: str) -> str:
    """What would be right in place of `wrong`: the nearest known name, else the list of them."""
    names = sorted(set(known))
    if not names:
        return f"there is no {noun} to name here yet"
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(wrong.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lowered[near[0]]!r}?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"the {noun}s are {shown}"

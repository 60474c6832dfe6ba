"""The loader of named SQL blocks: `<package>/sql/*.sql` holds the statements, Python only names them.

A block starts with `-- name: snake_case`; comment lines under it tell its purpose, its parameters and the
index it relies on. Values are bound as parameters (`%(name)s`), identifiers go in as `{part}` placeholders.
Keep statements out of Python files: SQL is read and reviewed best as SQL.
"""

import functools
import importlib.resources
import re
from collections.abc import Mapping
from typing import LiteralString, cast

from psycopg import sql

from resources.errors import LongboxError

_BLOCK = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


class UnknownQueryError(LongboxError):
    """Code asked for an SQL block that its package does not have: a programming error."""


class Queries:
    """The named SQL blocks of one package."""

    def __init__(self, package: str, blocks: Mapping[str, LiteralString]) -> None:
        self._package = package
        self._blocks = blocks

    @classmethod
    @functools.cache
    def of(cls, package: str) -> "Queries":
        """Read every `sql/*.sql` of `package` (dotted name). Cached: files do not change while a process lives."""
        blocks: dict[str, LiteralString] = {}
        folder = importlib.resources.files(package) / "sql"
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".sql"):
                for name, text in _blocks(file.read_text(encoding="utf-8")).items():
                    if name in blocks:
                        raise LongboxError(f"SQL block {name!r} is defined twice in package {package}")
                    blocks[name] = text
        return cls(package, blocks)

    def __getitem__(self, name: str) -> LiteralString:
        """The text of block `name`, ready to execute."""
        try:
            return self._blocks[name]
        except KeyError:
            raise UnknownQueryError(f"package {self._package} has no SQL block named {name!r}") from None

    def compose(self, name: str, **parts: sql.Composable) -> sql.Composed:
        """Block `name` with its `{part}` placeholders filled by quoted identifiers or composed SQL."""
        return sql.SQL(self[name]).format(**parts)


def storable(text: str) -> str:
    """`text` as PostgreSQL can keep it: invalid bytes and NULs written out as escapes, nothing dropped."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _blocks(text: str) -> dict[str, LiteralString]:
    # The files are part of the program, hence literal.
    pieces = _BLOCK.split(text)
    return {
        name: cast(LiteralString, body.strip()) for name, body in zip(pieces[1::2], pieces[2::2], strict=True)
    }

"""Splitting SQL text into statements, as far as running them one by one and refusing some of them needs.

Knows comments, quoted text and identifiers, and dollar quotes. It does not know BEGIN ATOMIC bodies: text
that runs in one transaction is handed to PostgreSQL whole and never through here.
https://www.postgresql.org/docs/18/sql-syntax-lexical.html
"""

import re

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*.*?\*/)
  | (?P<quoted>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$)
  | (?P<end>;)
  | (?P<word>\w+)
  | (?P<space>\s+)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(text: str) -> list[tuple[str, int]]:
    """The statements of `text` without their semicolons, each with the line (from 0) it starts in."""
    found: list[tuple[str, int]] = []
    start: int | None = None
    end = 0
    for token in _TOKEN.finditer(text):
        if token["end"]:
            if start is not None:
                found.append((text[start:end], text.count("\n", 0, start)))
            start = None
        elif not token["comment"] and not token["space"]:
            start = token.start() if start is None else start
            end = token.end()
    if start is not None:
        found.append((text[start:end], text.count("\n", 0, start)))
    return found


def bare_words(statement: str) -> list[str]:
    """The words of a statement in lower case; comments, strings, quoted names and function bodies left out."""
    words = (token["word"] for token in _TOKEN.finditer(statement))
    return [word.lower() for word in words if word]

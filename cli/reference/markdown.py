"""What the pages share: the note at their head, tables, cells that hold no bar or line break."""

from collections.abc import Iterable, Sequence

NOTE = "Made from the code by `make reference`; edit the code, not this page.\n"


def cell(text: object) -> str:
    """`text` fit for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def code(text: object) -> str:
    """`text` as code in a cell; nothing for nothing."""
    return f"`{cell(text)}`" if str(text) else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table, with an empty line after it."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    return [*lines, ""]


def first_sentence(text: str | None) -> str:
    """The first sentence of a description."""
    words = " ".join((text or "").split())
    end = words.find(". ")
    return words if end < 0 else words[: end + 1]

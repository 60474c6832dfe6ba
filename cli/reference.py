"""Writes the reference pages that come from the code: `python -m cli.reference` after a setting or a command changed.

A test holds the pages against the code. A new page is one more entry of `PAGES`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main

from cli.main import build_app
from resources.settings import PROJECT_ROOT, SETTINGS

FOLDER = PROJECT_ROOT / "docs" / "reference"
_NOTE = "Made from the code by `python -m cli.reference`.\n"


def settings_page() -> str:
    """Every environment variable."""
    rows = [
        f"| `{setting.name}` | {setting.description} | {setting.default} | `{setting.example}` |"
        for setting in SETTINGS
    ]
    return "\n".join(
        [
            "# Settings\n",
            "All are environment variables, all are optional: what is not set is the local stack.",
            _NOTE,
            "| variable | what it is | unless set | example |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(build_app())
    parts = ["# Commands\n", _NOTE]
    parts += _described(root, "longbox")
    return "\n".join(parts)


def _described(command: Any, path: str) -> list[str]:
    children = getattr(command, "commands", None)
    if children is not None:
        return [line for name, child in children.items() for line in _described(child, f"{path} {name}")]
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join(parameter.metavar or str(parameter.name).upper() for parameter in arguments)
    lines = [f"## `{' '.join(filter(None, (path, usage)))}`\n", (command.help or "").strip(), ""]
    options = [
        f"- `{', '.join(parameter.opts)}`: {parameter.help}"
        for parameter in command.params
        if parameter.param_type_name == "option"
        and parameter.name != "help"
        and getattr(parameter, "help", None)
    ]
    return lines + ([*options, ""] if options else [])


PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "commands.md": commands_page}


def main(folder: Path = FOLDER) -> None:
    """Write every page into `folder`."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

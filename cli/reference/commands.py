"""Every command with its arguments and options, as `--help` has them."""

from typing import Any

import typer.main

from cli.main import build_app
from cli.reference.markdown import NOTE


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(build_app())
    return "\n".join(["# Commands\n", NOTE, *_described(root, "longbox")])


def _described(command: Any, path: str) -> list[str]:
    children = getattr(command, "commands", None)
    if children is not None:
        own = _section(command, path) if command.invoke_without_command else []
        return own + [
            line for name, child in children.items() for line in _described(child, f"{path} {name}")
        ]
    return _section(command, path)


def _section(command: Any, path: str) -> list[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join(parameter.metavar or str(parameter.name).upper() for parameter in arguments)
    lines = [f"## `{' '.join(filter(None, (path, usage)))}`\n", (command.help or "").strip(), ""]
    told = [line for parameter in command.params if (line := _parameter(parameter))]
    return lines + ([*told, ""] if told else [])


def _parameter(parameter: Any) -> str:
    if parameter.name == "help" or not getattr(parameter, "help", None):
        return ""
    if parameter.param_type_name == "argument":
        return f"- `{parameter.metavar or str(parameter.name).upper()}`: {parameter.help}"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return f"- `{names}{_value(parameter)}`: {parameter.help}{_default(parameter)}"


def _value(option: Any) -> str:
    if option.is_flag:
        return ""
    numbers = option.type_descriptor.annotation in (int, float)
    return f" {option.metavar or ('N' if numbers else str(option.name).upper())}"


def _default(option: Any) -> str:
    default = option.default
    if default is None or default is False or default is True or callable(default) or default in ((), [], ""):
        return ""
    return f" Unless given: {default}."

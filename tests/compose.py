"""deploy/compose as data: the services with their variables filled in, and their commands as processes of this machine.

`Compose.read(variables)` interpolates as Compose does; `on_this_machine` replaces what only containers have (names of
hosts, fixed ports, /opt/longbox), and nothing else, so that a test runs the very commands that a container would.
https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resources.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "deploy" / "compose"
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def env_file(path: Path) -> dict[str, str]:
    """The variables of a .env file: NAME=value lines, # comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`text` with ${NAME}, ${NAME:-default} and ${NAME:?message} replaced, and $$ as one $."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if name is None:
            return "$"
        found = variables.get(name, "")
        if not found and operator == ":?":
            raise ValueError(f"{name}: {rest}")
        return found or (rest if operator == ":-" else "")

    return _VARIABLE.sub(value, text)


@dataclass(frozen=True)
class Compose:
    """A compose.yaml with its variables filled in."""

    document: dict[str, Any]
    variables: Mapping[str, str]

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Compose":
        text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
        return cls(_interpolated(yaml.safe_load(text), variables), variables)

    def service(self, name: str) -> dict[str, Any]:
        return dict(self.document["services"][name])

    def environment(self, name: str) -> dict[str, str]:
        """What the containers of a service get: env_file below, environment above."""
        service = self.service(name)
        given = dict(self.variables) if ".env" in service.get("env_file", []) else {}
        return given | {key: str(value) for key, value in service.get("environment", {}).items()}

    def command(self, name: str) -> list[str]:
        return [str(part) for part in self.service(name)["command"]]

    def health_command(self, name: str) -> list[str]:
        kind, *rest = (str(part) for part in self.service(name)["healthcheck"]["test"])
        return ["sh", "-c", *rest] if kind == "CMD-SHELL" else rest


def on_this_machine(text: str, replacements: Mapping[str, str]) -> str:
    """`text` with every key of `replacements` replaced, longest first."""
    keys = sorted(replacements, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, keys)), lambda match: replacements[match.group()], text)


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [_interpolated(part, variables) for part in value]
    return interpolate(value, variables) if isinstance(value, str) else value

"""Every key of a system.yaml, from the JSON Schema that the model makes of its own docstrings."""

from typing import Any

from cli.reference.markdown import NOTE, code, table
from pipelines.catalog.schema import system_schema

_INTRODUCTION = """\
A system is a folder with a `system.yaml`. [How to bring your own table](../how-to/bring-your-own-table.md) shows one
whole; editors check it against the [JSON Schema](system.schema.json). Unknown keys are errors.
"""


def system_yaml_page() -> str:
    """Every key with its type, its default and what it means."""
    schema = system_schema()
    definitions: dict[str, Any] = schema["$defs"]
    lines = ["# system.yaml\n", _INTRODUCTION, NOTE, "## The file\n", *_keys(schema)]
    for name in _reached(schema, definitions):
        lines += [f"## {name}\n", f"{definitions[name]['description']}\n", *_keys(definitions[name])]
    return "\n".join(lines)


def _keys(definition: dict[str, Any]) -> list[str]:
    required = definition.get("required", [])
    rows = [
        (
            code(name),
            _type(spec),
            "required" if name in required else code(_default(spec)),
            spec.get("description", ""),
        )
        for name, spec in definition["properties"].items()
    ]
    return table(("key", "value", "unless set", "meaning"), rows)


def _default(spec: dict[str, Any]) -> str:
    default = spec.get("default")
    if default in (None, [], {}) or isinstance(default, dict):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _reached(schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """Names of the definitions in the order in which a reader meets them."""
    found: list[str] = []
    waiting: list[Any] = [schema["properties"]]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).rsplit("/", 1)[-1]
            if name in definitions and name not in found:
                found.append(name)
                waiting.append(definitions[name]["properties"])
            waiting += [value for key, value in part.items() if key != "default"]
        elif isinstance(part, list):
            waiting += part
    return found


def _type(spec: dict[str, Any]) -> str:
    """A few words for a schema: text, a list of text, Rule by name."""
    if "$ref" in spec:
        name = str(spec["$ref"]).rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in spec:
        return "one of " + ", ".join(f"`{value}`" for value in spec["enum"])
    if "const" in spec:
        return f"`{spec['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in spec:
            kinds = [_type(part) for part in spec[key] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    return _plain_type(spec)


def _plain_type(spec: dict[str, Any]) -> str:
    kind = spec.get("type")
    if kind == "array":
        return f"list of {_type(spec['items'])}" if "items" in spec else "list"
    if kind == "object":
        values = spec.get("additionalProperties") or next(
            iter(spec.get("patternProperties", {}).values()), None
        )
        return f"name: {_type(values)}" if isinstance(values, dict) else "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    kinds = kind if isinstance(kind, list) else [kind]
    told = " or ".join(words[str(name)] for name in kinds if name in words) or "any"
    shown = {"date": "date", "duration": "duration", "regex": "regular expression"}
    return shown.get(str(spec.get("format")), told)

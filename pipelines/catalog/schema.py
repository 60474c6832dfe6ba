"""The JSON Schema of system.yaml, for editors: completion, descriptions and errors while typing.

Made from the model, published as docs/reference/system.schema.json; a test keeps the two alike. Run
`python -m pipelines.catalog.schema` after a change of the model. Editors find it through a first line
`# yaml-language-server: $schema=<path or URL>` (https://github.com/redhat-developer/yaml-language-server).
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.catalog import values
from pipelines.catalog.loader import HIDDEN, SECTIONS
from pipelines.catalog.model import Aggregate, CacheEntry, Feed, Gaps, Table, View
from pipelines.catalog.types import SUPPORTED_TYPES
from resources.settings import PROJECT_ROOT

PUBLISHED = PROJECT_ROOT / "docs" / "reference" / "system.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class SystemFile(BaseModel):
    """One system: its feeds, tables, aggregates and cache entries."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    system: values.SystemName
    """Name of the system: its schema in PostgreSQL and the first part of its asset keys."""
    description: str = ""
    """What the system is, in plain words."""
    feeds: dict[values.Name, Feed] = {}
    """Files that land day by day, by name."""
    tables: dict[values.TableName, Table | None] = {}
    """Tables, by name."""
    aggregates: dict[values.TableName, Aggregate] = {}
    """Tables computed from others, by name."""
    gaps: dict[values.TableName, Gaps] = {}
    """Tables of the gaps in a series, by name."""
    views: dict[values.TableName, View] = {}
    """Materialised views made by migrations, by name."""
    cache: dict[values.Name, CacheEntry] = {}
    """Kinds of values kept in Redis, by name."""


def system_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a system.yaml."""
    schema = SystemFile.model_json_schema(by_alias=True)
    for model in SECTIONS.values():
        _hide(schema["$defs"][model.__name__])
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"].values():
            field.pop("title", None)
            if field.get("default") in (None, "", "PT0S"):
                field.pop("default", None)
    column = schema["$defs"]["Table"]["properties"]["columns"]["anyOf"][0]
    column["additionalProperties"] = {
        "anyOf": [{"type": "string", "examples": list(SUPPORTED_TYPES)}, {"$ref": "#/$defs/Column"}]
    }
    return {"$schema": _DIALECT, **schema, "title": "Longbox system.yaml"}


def schema_text() -> str:
    """The published form."""
    return json.dumps(system_schema(), indent=2, ensure_ascii=False) + "\n"


def _hide(definition: dict[str, Any]) -> None:
    for name in HIDDEN:
        definition["properties"].pop(name, None)
    if "required" in definition:
        definition["required"] = [name for name in definition["required"] if name not in HIDDEN]


def main(path: Path = PUBLISHED) -> None:
    """Write the published file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

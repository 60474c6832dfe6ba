"""The JSON Schema that editors use says the same as the model."""

import datetime
import json
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.catalog.schema import PUBLISHED, schema_text, system_schema
from resources.settings import PROJECT_ROOT

FILES = sorted((PROJECT_ROOT / "assets").glob("*/system.yaml"))


def test_the_published_schema_is_current() -> None:
    assert PUBLISHED.read_text() == schema_text(), "run `python -m pipelines.catalog.schema`"


def test_every_key_an_editor_offers_is_described() -> None:
    schema = system_schema()
    models = {"system.yaml": schema, **schema["$defs"]}
    missing = [
        f"{model}.{key}"
        for model, definition in models.items()
        for key, field in definition["properties"].items()
        if not field.get("description")
    ]
    assert missing == []


def test_what_longbox_fills_in_is_not_offered() -> None:
    offered = {key for model in system_schema()["$defs"].values() for key in model["properties"]}
    assert not offered & {"name", "system", "table_columns"}


def with_texts_for_dates(value: Any) -> Any:
    """As an editor sees the file: JSON has no dates."""
    if isinstance(value, dict):
        return {key: with_texts_for_dates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_texts_for_dates(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_bundled_systems_satisfy_the_schema(file: Any) -> None:
    jsonschema.validate(
        with_texts_for_dates(yaml.safe_load(file.read_text())), json.loads(PUBLISHED.read_text())
    )


@pytest.mark.parametrize(
    "text",
    [
        "{system: shop, tabels: {}}",
        "{system: Shop}",
        "{system: shop, tables: {t: {partition: moon}}}",
        "{system: shop, tables: {t: {lifecycle: {hot: 24 moons}}}}",
        "{system: shop, feeds: {f: {starts_on: '2024-01-01'}}}",
        "{system: shop, aggregates: {a: {from: t, by: [x], measures: {m: medain(x)}}}}",
    ],
)
def test_an_editor_sees_the_same_faults(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), system_schema())

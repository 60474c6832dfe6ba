"""From folders to a `Catalog`: every fault of every file is found in one go and raised as one `CatalogError`.

Each feed, table, aggregate and cache entry is validated by itself, so that a fault in one hides none in
another; `consistency` then looks across them. Reading only: no database, no environment.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pipelines.catalog import values
from pipelines.catalog.consistency import check_system
from pipelines.catalog.document import Document, read_document
from pipelines.catalog.errors import CatalogError, Problem, YamlPath, suggest
from pipelines.catalog.model import (
    Aggregate,
    CacheEntry,
    Catalog,
    Column,
    Deletions,
    Feed,
    Freshness,
    Gaps,
    Lifecycle,
    Rule,
    System,
    Table,
    View,
)
from resources.errors import UserError
from resources.settings import PROJECT_ROOT, Settings

FILE_NAME = "system.yaml"
SECTIONS: Mapping[str, type[BaseModel]] = {
    "feeds": Feed,
    "tables": Table,
    "aggregates": Aggregate,
    "gaps": Gaps,
    "views": View,
    "cache": CacheEntry,
}
_INNER: Mapping[str, type[BaseModel]] = {
    "lifecycle": Lifecycle,
    "freshness": Freshness,
    "rules": Rule,
    "deletions": Deletions,
    "columns": Column,
}
HIDDEN = frozenset({"system", "name", "table_columns"})  # fields of parts that are filled in, not written
_INDISPENSABLE = {
    "Feed": {"name", "table"},
    "Table": {"name", "columns", "time", "partition", "adopt", "primary_key"},
    "Aggregate": {"name", "from", "by"},
    "Gaps": {"name", "from", "by", "every"},
    "View": {"name", "after"},
    "CacheEntry": {"name"},
}
_TOP_LEVEL = ("system", "description", *SECTIONS)
_Part = TypeVar("_Part", bound=BaseModel)

_EXPECTED = {
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "tuple_type": "a list, written as [a, b]",
    "list_type": "a list, written as [a, b]",
    "dict_type": "a mapping of `key: value` lines",
    "model_type": "a mapping of `key: value` lines",
    "model_attributes_type": "a mapping of `key: value` lines",
}


def system_folders(settings: Settings) -> list[Path]:
    """The folders that hold a system.yaml: Longbox's own under `assets/`, then those of LONGBOX_SYSTEMS.

    An entry of LONGBOX_SYSTEMS is a system's folder or a folder of such folders. Raises UserError for one
    that is neither.
    """
    folders = _systems_under(PROJECT_ROOT / "assets")
    for entry in settings.systems:
        if not entry.is_dir():
            raise UserError(
                f"LONGBOX_SYSTEMS names {entry}, which is no folder; correct the path or take it out"
            )
        found = [entry] if (entry / FILE_NAME).is_file() else _systems_under(entry)
        if not found:
            raise UserError(
                f"LONGBOX_SYSTEMS names {entry}, but neither it nor a folder in it has a {FILE_NAME}; "
                f"put one there or take the entry out"
            )
        folders.extend(found)
    unique = {folder.resolve(): folder for folder in reversed(folders)}
    return [folder for folder in folders if unique.pop(folder.resolve(), None) is not None]


def load_catalog(folders: Sequence[Path]) -> Catalog:
    """Read `<folder>/system.yaml` of every folder. Raises `CatalogError` with all faults of all files."""
    systems: dict[str, System] = {}
    problems: list[Problem] = []
    for folder in folders:
        document = read_document(folder / FILE_NAME)
        system = _read_system(folder, document)
        problems.extend(document.problems)
        if system is None:
            continue
        if system.name in systems:
            other = systems[system.name].file
            message = f"the system {system.name!r} is also declared by {other}"
            remedy = "give one of them another name; each has a schema of its own"
            problems.append(Problem(system.file, document.line_of(("system",)), "system", message, remedy))
            continue
        systems[system.name] = system
    if problems:
        raise CatalogError(problems)
    return Catalog(systems=systems)


def _systems_under(parent: Path) -> list[Path]:
    return sorted(file.parent for file in parent.glob(f"*/{FILE_NAME}") if file.is_file())


def _read_system(folder: Path, document: Document) -> System | None:
    if document.data is None:
        if not document.problems:
            document.report((), "the file is empty", "declare at least `system: <name>`")
        return None
    if not isinstance(document.data, dict):
        document.report((), "the file is not a mapping", "start it with `system: <name>`")
        return None
    data = cast("dict[str, object]", document.data)
    for key in data.keys() - set(_TOP_LEVEL):
        document.report((key,), f"unknown key {key!r}", suggest(key, _TOP_LEVEL, noun="key"))
    name = _checked(document, ("system",), data.get("system"), values.SystemName)
    description = _checked(document, ("description",), data.get("description") or "", str)
    parts: dict[str, Any] = {
        section: _read_section(document, name, section, data.get(section)) for section in SECTIONS
    }
    system = System.model_construct(
        None, name=name or folder.name, folder=folder, description=description or "", **parts
    )
    declared = {section: _keys(data.get(section)) for section in SECTIONS}
    return check_system(system, declared, document)


def _checked(document: Document, path: YamlPath, value: object, kind: Any) -> str | None:
    if value is None:
        document.report(path, f"key `{path[-1]}` is missing", "add it, as in `system: comics`")
        return None
    try:
        return cast(str, TypeAdapter(kind).validate_python(value))
    except ValidationError as error:
        _report_all(document, path, error, known=())
        return None


def _read_section(document: Document, system: str | None, section: str, raw: object) -> dict[str, BaseModel]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        document.report(
            (section,), f"{raw!r} is no mapping", f"write `{section}:` and under it one `name:` each"
        )
        return {}
    model = SECTIONS[section]
    parts = {}
    for name, body in raw.items():
        part = _read_part(document, (section, name), model, system, body)
        if part is not None:
            parts[name] = part
    return parts


def _read_part(
    document: Document, path: YamlPath, model: type[_Part], system: str | None, body: object
) -> _Part | None:
    given: object = {} if body is None else body
    if isinstance(given, dict):
        for key in given.keys() & HIDDEN:
            document.report((*path, key), f"unknown key {key!r}", "take it out, Longbox fills it in itself")
        injected = {"system": system or "unnamed", "name": path[-1]}
        given = {key: value for key, value in given.items() if key not in HIDDEN}
        given |= {key: value for key, value in injected.items() if key in model.model_fields}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        _report_all(document, path, error, known_keys(model))
        return _salvaged(model, given, {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]})


def _salvaged(model: type[_Part], given: object, faulty: set[str]) -> _Part | None:
    """What is left of a faulty part, if other parts can be checked against it without a second fault.

    The file is refused either way: this only lets one reading tell all of its faults.
    """
    if not isinstance(given, dict) or not faulty.isdisjoint(_INDISPENSABLE[model.__name__]):
        return None
    rest = {key: value for key, value in given.items() if key not in faulty}
    if model is Feed:
        rest.setdefault("starts_on", "2000-01-01")
    try:
        return model.model_validate(rest)
    except ValidationError:
        return None


def known_keys(model: type[BaseModel]) -> list[str]:
    """The keys a user may write in a part of the catalogue."""
    return [field.alias or name for name, field in model.model_fields.items() if name not in HIDDEN]


def _report_all(document: Document, base: YamlPath, error: ValidationError, known: Sequence[str]) -> None:
    for detail in error.errors(include_url=False):
        path = _existing_path(document, (*base, *detail["loc"]))
        if detail["loc"] == ("name",):
            path = base
        message, remedy = _explain(document, path, detail, known, depth=len(detail["loc"]))
        document.report(path, message, remedy)


def _existing_path(document: Document, path: YamlPath) -> YamlPath:
    """The part of pydantic's location that stands in the file: it adds steps for short forms and for keys."""
    while path and not document.has(path):
        path = path[:-1]
    return path


def _explain(
    document: Document, path: YamlPath, detail: ErrorDetails, known: Sequence[str], depth: int
) -> tuple[str, str]:
    kind, given = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        wrong = str(detail["loc"][-1])
        names = known if depth == 1 else _known_beside(path)
        return f"unknown key {wrong!r}", suggest(wrong, names, noun="key")
    if kind == "missing":
        return f"key `{detail['loc'][-1]}` is missing", "add it"
    if kind == "value_error":
        message, _, remedy = str(detail["ctx"]["error"]).partition("; ")
        return message, remedy or "correct it"
    if kind == "literal_error":
        allowed = [
            word.strip("' ") for word in str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")
        ]
        return f"{given!r} is not one of {', '.join(allowed)}", suggest(str(given), allowed, noun="value")
    if kind == "too_short":
        return f"{given!r} is empty", "name at least one, or take the key out where it may be left out"
    if kind in _EXPECTED:
        text = document.text_of(path)
        if isinstance(given, dict | list):
            given_as = "a mapping" if isinstance(given, dict) else "a list"
            remedy = f"write {_EXPECTED[kind]}"
            if path[2:3] == ("columns",) and path[0] == "feeds":
                remedy = "name one column: what is nested in JSON or Parquet loads whole, into a column of type jsonb"
            return f"{given_as} stands here, {_EXPECTED[kind]} is needed", remedy
        if kind == "string_type" and text is not None and given is not None:
            return f"YAML reads {text} as {_noun(given)}, a text is needed", f'put it in quotes: "{text}"'
        shown = "nothing" if given is None else repr(given)
        return f"{shown} is the wrong type", f"write {_EXPECTED[kind]}"
    return f"{given!r} is wrong: {detail['msg']}", "correct it"


def _known_beside(path: YamlPath) -> list[str]:
    """The keys allowed where the unknown key at `path` stands, for the models inside models."""
    model = SECTIONS[str(path[0])]
    for step in path[2:-1]:
        model = _INNER.get(str(step), model)
    return known_keys(model)


def _noun(value: object) -> str:
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    return f"the number {value}" if isinstance(value, int | float | Decimal) else f"a {type(value).__name__}"


def _keys(raw: object) -> frozenset[str]:
    return frozenset(str(key) for key in raw) if isinstance(raw, dict) else frozenset()

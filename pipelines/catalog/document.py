"""A YAML file read safely, with the line of every key kept, so that each later fault can say where it stands.

PyYAML's safe constructor makes the values; this walk adds what it lacks: positions, duplicate keys refused,
keys that YAML 1.1 turns into something else (`no`, `on`, `2024`) reported, and a bound on aliases. No
catalogue rules here.
"""

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import yaml

from pipelines.catalog.errors import Problem, YamlPath, format_path

_MAX_NODES = (
    200_000  # a file of aliases of aliases grows without bound; the largest sane catalogue has some thousands
)
_BIG_FILE_BYTES = 4 << 20
# 010 (8), 1:30 (90), 0x10 (16) and 1_000 are numbers to YAML 1.1, and hardly ever meant so
_PLAIN_NUMBER = re.compile(
    r"[-+]?(?:0|[1-9][0-9]*|[0-9]+\.[0-9]*(?:e[-+]?[0-9]+)?|\.[0-9]+|\.inf|\.nan)", re.IGNORECASE
)


@dataclass
class Document:
    """The plain values of one file, and where each of them stands."""

    file: Path
    data: object = None
    problems: list[Problem] = field(default_factory=list)
    _lines: dict[YamlPath, int] = field(default_factory=dict)
    _texts: dict[YamlPath, str] = field(default_factory=dict)

    def line_of(self, path: YamlPath) -> int | None:
        """The line (from 1) of the key at `path`, or of the nearest thing around it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self._lines:
                return self._lines[path[:end]]
        return None

    def has(self, path: YamlPath) -> bool:
        """Whether something stands at `path`."""
        return path in self._lines

    def text_of(self, path: YamlPath) -> str | None:
        """What stands in the file at `path`, before YAML made a number or a boolean of it."""
        return self._texts.get(path)

    def report(self, path: YamlPath, message: str, remedy: str) -> None:
        """Add a problem at `path`."""
        self.problems.append(Problem(self.file, self.line_of(path), format_path(path), message, remedy))


def read_document(file: Path) -> Document:
    """Read `file`; whatever is wrong with it stands in `.problems` and `.data` is then None or partial."""
    document = Document(file)
    text = _read_text(document)
    if text is None:
        return document
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            document.report((), "the file is empty", "declare at least `system: <name>`")
        else:
            document.data = _Walk(document, loader).value(node, ())
    except yaml.YAMLError as error:
        _report_yaml_error(document, error)
    except RecursionError:
        document.report((), "the YAML is nested too deeply", "a catalogue needs about five levels")
    finally:
        loader.dispose()
    return document


def _read_text(document: Document) -> str | None:
    try:
        content = document.file.read_bytes()
    except OSError as error:
        document.report(
            (), f"the file cannot be read ({error.strerror})", "check that it exists and its permissions"
        )
        return None
    if len(content) > _BIG_FILE_BYTES:
        document.report(
            (), f"the file has {len(content)} bytes", "this is no system.yaml; the largest sane one has 4 MiB"
        )
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        document.problems.append(
            Problem(document.file, line, "", f"byte {error.start} is not UTF-8", "save the file as UTF-8")
        )
        return None
    try:
        yaml.reader.Reader(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        message = f"character {error.position} (U+{ord(text[error.position]):04X}) is not allowed in YAML"
        document.problems.append(Problem(document.file, line, "", message, "remove it"))
        return None
    return text


def _report_yaml_error(document: Document, error: yaml.YAMLError) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = None if mark is None else mark.line + 1
    what = " ".join(
        str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part
    )
    remedy = "mend the YAML near this line (indentation with spaces, `key: value`, quotes around `:` `#` `{` `@` `%`)"
    if "\\t" in what:
        remedy = "indent with spaces, YAML does not take tabs"
    elif "could not determine a constructor" in what:
        remedy = "a catalogue is plain data; remove the tag"
    elif "single document" in what:
        remedy = "keep one document in the file: remove the `---` after the first"
    document.problems.append(
        Problem(document.file, line, "", f"the YAML cannot be read: {what or error}", remedy)
    )


class _Walk:
    """Turns nodes into values; PyYAML's own constructor does the scalars."""

    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self._document = document
        self._loader = loader
        self._count = 0
        self._open: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: YamlPath) -> object:
        self._document._lines.setdefault(path, node.start_mark.line + 1)
        self._count += 1
        if self._count > _MAX_NODES:
            raise yaml.composer.ComposerError(
                None, None, "aliases multiply it beyond reason", node.start_mark
            )
        if any(node is ancestor for ancestor in self._open):
            raise yaml.composer.ComposerError(None, None, "an alias contains itself", node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
                return [self.value(child, (*path, i)) for i, child in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
                return self._mapping(node, path)
            return self._loader.construct_object(node, deep=True)
        finally:
            self._open.pop()

    def _scalar(self, node: yaml.ScalarNode, path: YamlPath) -> object:
        self._document._texts[path] = node.value
        try:
            value = self._loader.construct_object(node)
            if type(value) in (int, float) and not _PLAIN_NUMBER.fullmatch(node.value):
                message = f"YAML reads {node.value} as the number {value}"
                self._report_at(
                    node, path, message, f'write that number plainly, or the text in quotes: "{node.value}"'
                )
            # 1.10 is also a word that a list may have: its digits are kept
            return Decimal(node.value) if isinstance(value, float) and math.isfinite(value) else value
        except (ValueError, ArithmeticError) as error:  # 2024-13-01 has the form of a date
            self._report_at(
                node, path, f"{node.value!r} is not a value YAML knows ({error})", "mend it, or quote it"
            )
            return node.value

    def _mapping(self, node: yaml.MappingNode, path: YamlPath) -> dict[str, object]:
        values: dict[str, object] = {}
        inherited: dict[str, object] = {}
        for key_node, value_node in self._rejoined(node, path):
            if key_node.tag == "tag:yaml.org,2002:merge":
                inherited |= self._merged(value_node, path)
                continue
            key = self._key(key_node, path)
            where = (*path, key)
            if key in values:
                first = self._document._lines[where]
                self._report_at(
                    key_node, where, f"the key stands twice (first in line {first})", "keep one of them"
                )
                continue
            self._document._lines[where] = key_node.start_mark.line + 1
            values[key] = self.value(value_node, where)
        return {**inherited, **values}

    def _rejoined(self, node: yaml.MappingNode, path: YamlPath) -> list[tuple[yaml.Node, yaml.Node]]:
        """The pairs of a mapping; what a comma cut in two, as in `{price: numeric(10,2)}`, is one again."""
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        for key, value in node.value:
            if not (node.flow_style and pairs and _is_cut(pairs[-1][1], key, value)):
                pairs.append((key, value))
                continue
            name, cut = pairs[-1]
            meant = f"{cut.value}, {key.value}"
            message = f"YAML ends the value at the comma within {{ }}: {cut.value}"
            self._report_at(name, (*path, name.value), message, f'put it in quotes: "{meant}"')
            pairs[-1] = (name, yaml.ScalarNode(cut.tag, meant, cut.start_mark, key.end_mark))
        return pairs

    def _merged(self, node: yaml.Node, path: YamlPath) -> dict[str, object]:
        value = self.value(node, (*path, "<<"))
        parts = value if isinstance(value, list) else [value]
        merged: dict[str, object] = {}
        for part in reversed(parts):
            if isinstance(part, dict):
                merged |= part
            else:
                self._report_at(
                    node, (*path, "<<"), "only a mapping can be merged in", "point it at an anchored mapping"
                )
        return merged

    def _key(self, node: yaml.Node, path: YamlPath) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._report_at(node, path, "a key is a list or a mapping", "write a plain name as the key")
            return f"line {node.start_mark.line + 1}"
        value = self._scalar(node, (*path, node.value))
        if not isinstance(value, str):
            made = "nothing (null)" if value is None else f"the {_noun(value)} {value!r}"
            self._report_at(
                node,
                (*path, node.value),
                f"YAML reads the key {node.value or '(empty)'} as {made}",
                f'put it in quotes: "{node.value}"',
            )
        return str(node.value)

    def _report_at(self, node: yaml.Node, path: YamlPath, message: str, remedy: str) -> None:
        line = node.start_mark.line + 1
        self._document.problems.append(Problem(self._document.file, line, format_path(path), message, remedy))


def _is_cut(before: yaml.Node, key: yaml.Node, value: yaml.Node) -> bool:
    """Whether `key`, without a value, is what a comma cut off the value `before` it: `numeric(10` and `2)`."""
    parts = [node.value for node in (before, key, value) if isinstance(node, yaml.ScalarNode)]
    if len(parts) < 3 or parts[2]:
        return False
    return "(" in parts[0] and ")" not in parts[0] and "(" not in parts[1] and parts[1].endswith(")")


def _noun(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float | Decimal) else "date"

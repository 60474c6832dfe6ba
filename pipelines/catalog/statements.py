"""Tables declared in YAML as statements: what a generated table looks like, lineage and keys included.

Pure: makes SQL, runs nothing; `ddl` compares with the database and applies. A feed's table is an append-only
log of versions: it carries the lineage of each row and a surrogate key, since no natural key can hold over
partitions
(https://www.postgresql.org/docs/18/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-LIMITATIONS).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from pipelines.catalog.consistency import COMPUTED_AT, LINEAGE_COLUMN_NAMES, SURROGATE_KEY
from pipelines.catalog.model import Aggregate, Call, Column, Gaps, Group, System, Table
from pipelines.catalog.types import known_type
from pipelines.catalog.values import bin_minutes
from resources.sql import Queries

_SQL = Queries.of("pipelines.catalog")
_TIMESTAMPTZ = "timestamp with time zone"


@dataclass(frozen=True)
class ColumnDefinition:
    """One column as it is to be. `default` is an SQL expression; `is_identity` numbers rows by itself."""

    name: str
    type_name: str
    is_nullable: bool = True
    default: sql.Composable | None = None
    is_identity: bool = False
    description: str = ""

    def as_sql(self) -> sql.Composed:
        """`price numeric(12,2) DEFAULT 0 NOT NULL`."""
        parts: list[sql.Composable] = [sql.Identifier(self.name), type_sql(self.type_name)]
        if self.is_identity:
            parts.append(sql.SQL("GENERATED ALWAYS AS IDENTITY"))
        if self.default is not None:
            parts.append(sql.SQL("DEFAULT ") + self.default)
        if not self.is_nullable:
            parts.append(sql.SQL("NOT NULL"))
        return sql.SQL(" ").join(parts)


_LINEAGE: Mapping[str, tuple[str, str]] = {
    "key_hash": ("uuid", "Hash of the record's key: the same for all versions of a record."),
    "content_hash": ("uuid", "Hash of everything the record says: the same only for equal versions."),
    "landing_day": ("date", "Day whose landing folder held the file."),
    "load_id": ("bigint", "The load that brought the row; see longbox.loads."),
    "line": ("bigint", "Line in the file, or number of the record, from 1."),
    "loaded_at": (_TIMESTAMPTZ, "When the row was loaded."),
}
LINEAGE_COLUMNS: tuple[ColumnDefinition, ...] = tuple(
    ColumnDefinition(
        name,
        _LINEAGE[name][0],
        is_nullable=False,
        default=sql.SQL("now()") if name == "loaded_at" else None,
        description=_LINEAGE[name][1],
    )
    for name in LINEAGE_COLUMN_NAMES
)
"""The columns that every table of a feed carries after its own."""
_RAW_ID = ColumnDefinition(
    SURROGATE_KEY,
    "bigint",
    is_nullable=False,
    is_identity=True,
    description="Number of the row, without meaning.",
)
_COMPUTED_AT = ColumnDefinition(
    COMPUTED_AT,
    _TIMESTAMPTZ,
    is_nullable=False,
    default=sql.SQL("now()"),
    description="When the row was last computed.",
)


def type_sql(type_name: str) -> sql.SQL:
    """A type's canonical name as SQL. Only what `types` has checked or `format_type` has printed comes here."""
    return sql.SQL(type_name)


def column_definitions(system: System, table: Table) -> tuple[ColumnDefinition, ...]:
    """The columns of a generated table, in order."""
    declared = table.columns or {}
    own = tuple(_definition(name, column, table) for name, column in declared.items())
    return (_RAW_ID, *own, *LINEAGE_COLUMNS) if system.feeds_of(table.name) else own


def primary_key(system: System, table: Table) -> tuple[str, ...]:
    """Its columns; empty for a table without one."""
    if not system.feeds_of(table.name):
        return table.primary_key
    return (SURROGATE_KEY, table.time) if table.partition and table.time else (SURROGATE_KEY,)


def create_table_statements(system: System, table: Table) -> list[sql.Composed]:
    """The statements that make a generated table: itself, its indexes, its comments. Its schema must exist.

    A partitioned table has no partition yet; see `partitions`.
    """
    name = sql.Identifier(system.name, table.name)
    columns = column_definitions(system, table)
    key = primary_key(system, table)
    definitions = [column.as_sql() for column in columns]
    if key:
        definitions.append(sql.SQL("PRIMARY KEY ({})").format(_identifiers(key)))
    partitioning: sql.Composable = sql.SQL("")
    if table.partition and table.time:
        partitioning = sql.SQL(" PARTITION BY RANGE ({})").format(sql.Identifier(table.time))
    indexed = ["load_id", "key_hash"] if system.feeds_of(table.name) else []
    if table.time and key[:1] != (table.time,):
        indexed.append(table.time)
    return [
        _SQL.compose(
            "create_table", table=name, definitions=sql.SQL(", ").join(definitions), partitioning=partitioning
        ),
        *(_SQL.compose("create_index", table=name, columns=sql.Identifier(column)) for column in indexed),
        *comment_statements(system.name, table.name, table.description, columns),
    ]


def aggregate_definitions(aggregate: Aggregate, source: Mapping[str, str]) -> tuple[ColumnDefinition, ...]:
    """The columns of an aggregate's table. `source`: column -> type (`format_type`) of the table it reads."""
    groups = [
        ColumnDefinition(group.name, _group_type(group, source), description=_group_text(group))
        for group in aggregate.groups
    ]
    measures = [
        ColumnDefinition(
            name,
            _measure_type(call, source),
            is_nullable=not call.function.startswith("count"),
            description=_measure_text(call),
        )
        for name, call in aggregate.calls.items()
    ]
    return (*groups, *measures, _COMPUTED_AT)


def gap_definitions(gaps: Gaps, source: Mapping[str, str]) -> tuple[ColumnDefinition, ...]:
    """The columns of a table of gaps. `source`: as in `aggregate_definitions`."""
    step = f"steps of {gaps.every}"
    own = [ColumnDefinition(name, source[name], is_nullable=False) for name in gaps.by]
    return (
        *own,
        ColumnDefinition("gap_from", _TIMESTAMPTZ, False, description=f"First missing of the {step}."),
        ColumnDefinition("gap_to", _TIMESTAMPTZ, False, description="First step that is there again."),
        ColumnDefinition("missing_count", "bigint", False, description=f"Missing {step}."),
        _COMPUTED_AT,
    )


def create_computed_statements(
    system: str, table: str, description: str, key: Iterable[str], columns: Sequence[ColumnDefinition]
) -> list[sql.Composed]:
    """The statements that make the table of an aggregate or of gaps: one row for each value of `key`."""
    name = sql.Identifier(system, table)
    return [
        _SQL.compose(
            "create_table",
            table=name,
            definitions=sql.SQL(", ").join(column.as_sql() for column in columns),
            partitioning=sql.SQL(""),
        ),
        _SQL.compose("create_group_index", table=name, columns=_identifiers(key)),
        *comment_statements(system, table, description, columns),
    ]


def comment_statements(
    system: str, table: str, description: str, columns: Iterable[ColumnDefinition]
) -> list[sql.Composed]:
    """COMMENT ON for the table and for each column that has a description."""
    statements = []
    if description:
        name = sql.Identifier(system, table)
        statements.append(_SQL.compose("comment_on_table", table=name, description=sql.Literal(description)))
    return statements + [
        _SQL.compose(
            "comment_on_column",
            column=sql.Identifier(system, table, column.name),
            description=sql.Literal(column.description),
        )
        for column in columns
        if column.description
    ]


def _definition(name: str, column: Column, table: Table) -> ColumnDefinition:
    return ColumnDefinition(
        name,
        column.type,
        is_nullable=not (column.not_null or name == table.time or name in table.primary_key),
        default=_default_sql(column),
        description=column.description,
    )


def _default_sql(column: Column) -> sql.Composable | None:
    value = column.default
    if value is None:
        return None
    if value == "now()" and column.type == _TIMESTAMPTZ:
        return sql.SQL("now()")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return sql.SQL("{}::{}").format(sql.Literal(text), type_sql(column.type))


def _group_type(group: Group, source: Mapping[str, str]) -> str:
    return source[group.column] if group.bucket is None or bin_minutes(group.bucket) else "date"


def _measure_type(call: Call, source: Mapping[str, str]) -> str:
    if call.column is None or call.function == "count_distinct":
        return "bigint"
    type_name = source[call.column]
    if call.function in ("min", "max", "first", "last"):
        return type_name
    kinds = [known_type(source[column]) for column in call.columns]
    is_float = any(kind and kind.base in ("real", "double precision") for kind in kinds)
    return "double precision" if is_float else "numeric"


def _group_text(group: Group) -> str:
    return f"The {group.bucket} of {group.column}, in UTC." if group.bucket else ""


def _measure_text(call: Call) -> str:
    weighted = f", weighted by {call.weight}" if call.weight else ""
    return "Number of rows." if call.column is None else f"{call.function} of {call.column}{weighted}."


def _identifiers(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))

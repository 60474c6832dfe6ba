"""What a table is and what hangs on it, and whether it can be carried over at all.

Whatever this cannot carry over faithfully it refuses by name, before anything is made.
"""

import re
from dataclasses import dataclass
from typing import Any, cast

from psycopg import Connection, sql

from pipelines.adoption.errors import RefusedError
from pipelines.catalog.errors import suggest
from resources.sql import Queries

AnyConnection = Connection[tuple[object, ...]]
_LONGEST_NAME = 48  # partitions add their period
_LONGEST_SCHEMA = 50  # and the schemas of the work a word
_FOREIGN_KEYS_SINCE = 180000  # NOT VALID foreign keys on partitioned tables
_SQL = Queries.of("pipelines.adoption")


@dataclass(frozen=True)
class Target:
    """One table to carry over: `schema.table`, by which column, into partitions of which length."""

    schema: str
    table: str

    @property
    def name(self) -> str:
        """`shop/orders`."""
        return f"{self.schema}/{self.table}"

    @property
    def public(self) -> sql.Identifier:
        """The name that applications use."""
        return sql.Identifier(self.schema, self.table)

    @property
    def work_schema(self) -> str:
        """Where the partitioned twin is made, and where the marks and the state of the work are."""
        return f"longbox_new_{self.schema}"

    @property
    def old_schema(self) -> str:
        """Where the original waits after the switch."""
        return f"longbox_old_{self.schema}"

    @property
    def marks(self) -> sql.Identifier:
        """The table of keys that were written and not carried over yet."""
        return sql.Identifier(self.work_schema, f"longbox_marks_{self.table}")

    @property
    def mark_function(self) -> sql.Identifier:
        """The trigger function that notes them."""
        return sql.Identifier(self.work_schema, f"longbox_mark_{self.table}")

    @property
    def jobs(self) -> sql.Identifier:
        """The table that remembers how far the work is."""
        return sql.Identifier(self.work_schema, "longbox_jobs")

    def refusal(self) -> str | None:
        """What is wrong with the names, if anything."""
        if len(self.table.encode()) > _LONGEST_NAME:
            return (
                f"its name is longer than {_LONGEST_NAME} bytes, and partitions add their period; rename it"
            )
        if len(self.schema.encode()) > _LONGEST_SCHEMA:
            return f"its schema's name is longer than {_LONGEST_SCHEMA} bytes; rename the schema"
        return None


Facts = dict[str, Any]


def read_facts(connection: AnyConnection, schema: str, table: str) -> Facts:
    """Everything about `schema.table` that a step may need. Raises `RefusedError` when there is no such table."""
    connection.execute("SET LOCAL search_path TO pg_catalog")  # so that every printed name carries its schema
    row = connection.execute(_SQL["facts"], {"schema": schema, "table": table}).fetchone()
    if row is None:
        raise RefusedError(
            f"there is no table {schema}.{table} in database {connection.info.dbname!r}; write SCHEMA/TABLE as "
            "`longbox adopt SCHEMA` lists them"
        )
    return cast(Facts, row[0])


def copied_columns(facts: Facts) -> list[str]:
    """Columns that are carried over as they are; generated ones compute themselves."""
    return [column["name"] for column in facts["columns"] if not column["is_generated"]]


def column_signature(facts: Facts) -> list[list[object]]:
    """What must not change while the work runs. The time column is NOT NULL on both sides."""
    return [[c["name"], c["type"], c["is_nullable"], c["is_generated"]] for c in facts["columns"]]


def weaker_keys(facts: Facts, time: str) -> list[str]:
    """Unique indexes, other than the primary key, that will hold only together with the time."""
    return [
        index["name"]
        for index in facts["indexes"]
        if index["is_unique"] and not index["is_primary"] and time not in index["columns"]
    ]


def refusals(facts: Facts, target: Target, time: str, server_version: int) -> list[str]:
    """Every reason why this table cannot be carried over, each with its remedy. Empty is good."""
    found = [text for text in [target.refusal()] if text]
    if facts["kind"] != "r" or facts["is_partition"]:
        kinds = {
            "p": "partitioned already",
            "v": "a view",
            "m": "a materialised view",
            "f": "a foreign table",
        }
        return [
            f"it is {kinds.get(facts['kind'], 'a partition of another table')}; only a plain table can be carried over"
        ]
    found += _structure(facts)
    found += _time_refusal(facts, time)
    if facts["foreign_keys"] and server_version < _FOREIGN_KEYS_SINCE:
        names = ", ".join(key["name"] for key in facts["foreign_keys"])
        found.append(
            f"it has foreign keys ({names}), which take PostgreSQL 18 to carry over; drop them first, or upgrade"
        )
    return found


def _structure(facts: Facts) -> list[str]:
    exclusions = [index["name"] for index in facts["indexes"] if index["is_exclusion"]]
    checks = [
        (facts["persistence"] != "p", "it is unlogged or temporary; ALTER TABLE ... SET LOGGED first"),
        (facts["is_inherited"], "it takes part in inheritance; take it out (ALTER TABLE ... NO INHERIT)"),
        (facts["has_row_security"], "it has row security; partitions would not follow it, so switch that off or stay"),
        (not facts["has_default_identity"], "its replica identity is not the default; reset it first"),
        (not facts["key"], "it has no primary key, by which rows are told apart; add one"),
        (bool(facts["rules"]), f"it has rules ({_names(facts['rules'])}); drop them first"),
        (bool(facts["triggers"]), f"it has triggers of its own ({_names(facts['triggers'])}), which "
         f"would fire for copied rows; drop "
         "them first and make them again after the switch"),
        (bool(exclusions), f"it has exclusion constraints ({_names(exclusions)}), which cannot hold over partitions"),
        (bool(facts["referenced_by"]), f"foreign keys point at it "
         f"({_names(facts['referenced_by'])}): a referenced partition can "
         "never be detached; drop those keys first"),
        (bool(facts["dependents"]), f"these depend on the table itself, not its name: "
         f"{_names(facts['dependents'])}; drop them, "
         "and make them again after the switch"),
    ]  # fmt: skip
    return [text for holds, text in checks if holds]


def _time_refusal(facts: Facts, time: str) -> list[str]:
    columns = {column["name"]: column for column in facts["columns"]}
    if time not in columns:
        return [f"it has no column {time!r}; {suggest(time, columns, noun='column')}"]
    column = columns[time]
    if not re.match(r"(date|timestamp)\b", column["type"]):
        return [f"column {time!r} is {column['type']}; partitions follow a date or a timestamp"]
    if column["is_generated"]:
        return [f"column {time!r} is generated, and PostgreSQL does not partition by such a column"]
    if column["is_nullable"]:
        return [
            f"column {time!r} may be NULL, and a row without a time has no partition; fill it, then "
            f"without a long lock: "
            f"ALTER TABLE ... ADD CONSTRAINT c CHECK ({time} IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT c, "
            f"ALTER COLUMN {time} SET NOT NULL"
        ]
    return []


def notes(facts: Facts, target: Target, time: str) -> list[str]:
    """What will not be quite as before, or is left behind; for the plan."""
    found = [f"the primary key becomes ({', '.join([*facts['key'], time])}): the same {', '.join(facts['key'])} with "
             f"another {time} would be accepted"] if time not in facts["key"] else []  # fmt: skip
    found += [
        f"unique {name} will hold only together with {time} (--weaker-keys)"
        for name in weaker_keys(facts, time)
    ]
    found += [f"extended statistics {name} are not carried over" for name in facts["statistics"]]
    found += [
        f"index {index['name']} is invalid and is left behind"
        for index in facts["indexes"]
        if not index["is_valid"]
    ]
    if facts["options"]:
        found.append(f"storage parameters are left behind: {', '.join(facts['options'])}")
    found += [
        f"view {view['schema']}.{view['name']} is made anew in the moment of the switch"
        for view in facts["views"]
    ]
    return found


def _names(items: list[str]) -> str:
    return ", ".join(items)

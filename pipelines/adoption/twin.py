"""The partitioned twin of a table: its DDL, with the time in every unique key, and the marks that keep it in step.

Pure: makes statements in order, runs none; `building` and `switch` do.
https://www.postgresql.org/docs/18/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-LIMITATIONS
"""

from psycopg import sql

from pipelines.adoption.facts import Facts, Target
from pipelines.catalog.statements import type_sql
from resources.errors import LongboxError
from resources.sql import Queries

_SQL = Queries.of("pipelines.adoption")


def twin_statements(target: Target, facts: Facts, time: str) -> list[sql.Composed]:
    """Make the twin in the work schema: table, keys, indexes, comments. It has no partition yet."""
    twin = sql.Identifier(target.work_schema, target.table)
    made = [_SQL.compose("create_twin", twin=twin, source=target.public, time=sql.Identifier(time))]
    for index in facts["indexes"]:
        if index["is_valid"]:
            made += _index_statements(target, facts, index, time)
    if facts["comment"]:
        made.append(_comment("TABLE", twin, facts["comment"]))
    return made


def mark_statements(target: Target, facts: Facts) -> list[sql.Composed]:
    """Make the table of marks and the function that writes them."""
    types = {column["name"]: column["type"] for column in facts["columns"]}
    columns = [sql.SQL("{} {}").format(sql.Identifier(name), type_sql(types[name])) for name in facts["key"]]
    return [
        _SQL.compose("create_marks", marks=target.marks, columns=sql.SQL(", ").join(columns)),
        _SQL.compose(
            "create_mark_function",
            function=target.mark_function,
            marks=target.marks,
            keys=listed(facts["key"]),
            old_keys=listed(facts["key"], "old"),
            new_keys=listed(facts["key"], "new"),
        ),
    ]


def trigger_statements(target: Target, table: sql.Identifier) -> list[sql.Composed]:
    """Let every write to `table` leave its mark. SHARE ROW EXCLUSIVE: waits for the writers of the moment."""
    return [
        _SQL.compose("create_mark_trigger", table=table, function=target.mark_function),
        _SQL.compose("create_truncate_trigger", table=table, function=target.mark_function),
        _SQL.compose("enable_mark_triggers", table=table),
    ]


def grant_statements(facts: Facts, table: sql.Identifier) -> list[sql.Composed]:
    """The rights that others have on the original, for `table`."""
    return [
        _SQL.compose(
            "grant",
            privilege=sql.SQL(grant["privilege"])
            + (sql.SQL(" ({})").format(sql.Identifier(grant["column"])) if grant["column"] else sql.SQL("")),
            table=table,
            role=sql.Identifier(grant["role"]) if grant["role"] else sql.SQL("PUBLIC"),
            option=sql.SQL("WITH GRANT OPTION" if grant["is_grantable"] else ""),
        )
        for grant in facts["grants"]
    ]


def view_statements(facts: Facts) -> list[sql.Composed]:
    """The views over the table once more: their text finds the table that has the name by then."""
    return [
        _SQL.compose(
            "replace_view",
            view=sql.Identifier(view["schema"], view["name"]),
            options=sql.SQL(f"WITH ({view['options']})" if view["options"] else ""),
            definition=sql.SQL(view["definition"].rstrip().rstrip(";")),
        )
        for view in facts["views"]
    ]


def listed(names: list[str], qualifier: str | None = None) -> sql.Composed:
    """`"a", "b"`, each with the qualifier in front if there is one."""
    prefix = sql.SQL(f"{qualifier}.") if qualifier else sql.SQL("")
    return sql.SQL(", ").join(prefix + sql.Identifier(name) for name in names)


def with_time_in_key(definition: str, time: str) -> str:
    """`UNIQUE (a, b) INCLUDE (c)` or `CREATE UNIQUE INDEX ... (a, b) ...` with `, time` behind the last key column."""
    depth, quote, start = 0, "", definition.find("(")
    for place in range(start, len(definition)):
        character = definition[place]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return f"{definition[:place]}, {_quoted(time)}{definition[place:]}"
    raise LongboxError(
        f"PostgreSQL printed an index that was not understood: {definition}; drop that index, or report this"
    )


def _index_statements(target: Target, facts: Facts, index: Facts, time: str) -> list[sql.Composed]:
    twin = sql.Identifier(target.work_schema, target.table)
    constraint = index["constraint_definition"]
    text = constraint or index["definition"]
    if index["is_unique"] and time not in index["columns"]:
        text = with_time_in_key(text, time)
    if constraint:
        name = sql.Identifier(index["constraint_name"])
        made = [_SQL.compose("add_constraint", table=twin, constraint=name, definition=sql.SQL(text))]
    else:
        made = [sql.Composed([sql.SQL(_moved(target, facts, text, index["name"]))])]
    if index["comment"]:
        made.append(_comment("INDEX", sql.Identifier(target.work_schema, index["name"]), index["comment"]))
    return made


def _moved(target: Target, facts: Facts, definition: str, name: str) -> str:
    """An index's definition, on the twin. PostgreSQL prints the table with its schema, once, in front of USING."""
    head, using, rest = definition.partition(" USING ")
    expected = f" ON {facts['qualified_name']}"
    if not using or not head.endswith(expected):
        raise LongboxError(
            f"index {name} was not understood: {definition}; drop it and make it again after the switch"
        )
    return (
        f"{head.removesuffix(expected)} ON {_quoted(target.work_schema)}.{_quoted(target.table)}{using}{rest}"
    )


def _comment(kind: str, name: sql.Identifier, text: str) -> sql.Composed:
    return _SQL.compose("comment_on", object=sql.SQL(f"{kind} ") + name, text=sql.Literal(text))


def _quoted(name: str) -> str:
    """`name` as an SQL identifier, in quotes whether it needs them or not."""
    return '"' + name.replace('"', '""') + '"'

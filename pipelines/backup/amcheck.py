"""Pages and indexes of a restored cluster, checked by PostgreSQL's own amcheck, in every database.

https://www.postgresql.org/docs/18/amcheck.html (what the program pg_amcheck asks, without needing the program)
"""

import contextlib
from collections.abc import Callable
from typing import cast

import psycopg

from resources.database import Connection
from resources.sql import Queries

_SQL = Queries.of("pipelines.backup")


def check_pages(connect: Callable[[str], contextlib.AbstractContextManager[Connection]]) -> list[str]:
    """Faults of every database behind `connect`; none where the server lacks amcheck. Makes the extension there."""
    with connect("postgres") as connection:
        if not cast("tuple[bool]", connection.execute(_SQL["has_amcheck"]).fetchone())[0]:
            return []
        names = [str(row[0]) for row in connection.execute(_SQL["databases"])]
    faults = []
    for name in names:
        with connect(name) as connection:
            faults += [f"amcheck: {name}: {fault}" for fault in _faults(connection)]
    return faults


def _faults(connection: Connection) -> list[str]:
    connection.execute(_SQL["make_amcheck"])
    faults = []
    try:
        for relation, block, said in connection.execute(_SQL["amcheck_heaps"]):
            faults.append(f"{relation} block {block}: {said}")
    except psycopg.Error as error:
        faults.append(_told(error))
    for index, relation in connection.execute(_SQL["btree_indexes"]).fetchall():
        try:
            connection.execute(_SQL["amcheck_index"], {"index": index})
        except psycopg.Error as error:
            faults.append(f"{relation}: {_told(error)}")
    return faults


def _told(error: psycopg.Error) -> str:
    return " ".join(str(error).split())

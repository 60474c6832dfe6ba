"""What must stand before the first revision: Longbox's roles, their rights on the database, extensions, schemas.

`missing_statements` compares and lists, `apply` runs the list; twice is once. Objects belong to
`longbox_owner`, pipelines work as `longbox_app`, analysts as `longbox_reader`, backups as `longbox_backup`;
none of them logs in. https://www.postgresql.org/docs/18/sql-alterdefaultprivileges.html
"""

import time
from collections.abc import Callable, Sequence
from typing import cast

import psycopg
from psycopg import Connection, sql

from pipelines.migration.errors import PrivilegeError
from resources.errors import UserError
from resources.sql import Queries

OWNER, APP, READER, BACKUP = ROLES = ("longbox_owner", "longbox_app", "longbox_reader", "longbox_backup")
EXTENSIONS = ("pg_trgm", "btree_gin")
WELCOME_EXTENSIONS = ("pg_stat_statements",)  # used when it is there, not needed
OLDEST_SERVER = 170000  # the MAINTAIN privilege, and identity columns on partitioned tables
_DATABASE_GRANTS = (
    (OWNER, "CONNECT"), (OWNER, "CREATE"), (OWNER, "TEMPORARY"),
    (APP, "CONNECT"), (APP, "TEMPORARY"), (READER, "CONNECT"), (BACKUP, "CONNECT"),
)  # fmt: skip
_SQL = Queries.of("pipelines.migration")
_RACE_ATTEMPTS = 10
_NO_EXTENSION = (
    psycopg.errors.UndefinedFile,
    psycopg.errors.FeatureNotSupported,
)  # its files are not installed

AnyConnection = Connection[tuple[object, ...]]


def prepare(
    connection: AnyConnection,
    schemas: Sequence[str],
    *,
    report: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring roles, rights, extensions and schemas into being; changes nothing that is there. Commits.

    Roles are shared by the whole cluster, and the migration lock is one database's: another database's first
    migration may create the same role at the same moment, so a lost race is looked at again.
    """
    _require_server(connection)
    for attempt in range(_RACE_ATTEMPTS):
        try:
            for statements in (role_statements, database_statements, schema_statements):
                for statement in statements(connection, schemas):
                    connection.execute(statement)
                connection.commit()
            break
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation, psycopg.errors.InternalError):
            connection.rollback()  # "tuple concurrently updated" is an InternalError
            if attempt == _RACE_ATTEMPTS - 1:
                raise
            sleep(0.05 * (attempt + 1))
        except (psycopg.errors.InsufficientPrivilege, *_NO_EXTENSION) as error:
            connection.rollback()
            raise PrivilegeError(_refusal(connection, str(error.diag.message_primary))) from error
    _welcome(connection, report)
    still = _missing_grants(connection)
    if still:  # GRANT by one who may not grant is only a warning
        raise PrivilegeError(
            _refusal(connection, f"rights on the database could not be granted to {still[0][0]}")
        )
    connection.commit()


def missing_statements(connection: AnyConnection, schemas: Sequence[str]) -> list[sql.Composed]:
    """What `prepare` would run now, in order. Changes nothing."""
    return [
        *role_statements(connection, schemas),
        *database_statements(connection, schemas),
        *schema_statements(connection, schemas),
    ]


def role_statements(connection: AnyConnection, _: Sequence[str]) -> list[sql.Composed]:
    """Create the roles that are missing and let the login user become them."""
    missing = _column(connection, "missing_roles", roles=list(ROLES))
    closed = _column(connection, "roles_not_settable", roles=list(ROLES))
    if (missing or closed) and not _one(connection, "may_create_roles"):
        raise PrivilegeError(
            _refusal(connection, f"roles are missing or closed to it: {', '.join([*missing, *closed])}")
        )
    created = [_SQL.compose("create_role", role=sql.Identifier(role)) for role in missing]
    return created + [_SQL.compose("grant_role", role=sql.Identifier(role)) for role in [*missing, *closed]]


def database_statements(connection: AnyConnection, _: Sequence[str]) -> list[sql.Composed]:
    """Rights on the database and the extensions that revisions rely on."""
    database = sql.Identifier(connection.info.dbname)
    grants = [
        _SQL.compose(
            "grant_on_database",
            privilege=sql.SQL(privilege),
            database=database,
            role=sql.Identifier(role),
        )
        for role, privilege in _missing_grants(connection)
    ]
    extensions = _column(connection, "missing_extensions", extensions=list(EXTENSIONS))
    return grants + [_SQL.compose("create_extension", extension=sql.Identifier(name)) for name in extensions]


def schema_statements(connection: AnyConnection, schemas: Sequence[str]) -> list[sql.Composed]:
    """One schema a system, with the rights that everything made in it will carry."""
    found: list[sql.Composed] = []
    rows = connection.execute(_SQL["schema_state"], {"schemas": list(schemas)}).fetchall()
    for name, exists, may_create, has_defaults in cast("list[tuple[str, bool, bool, bool]]", rows):
        schema = sql.Identifier(name)
        names = [] if exists else ["create_schema"]
        names += ["lend_schema"] if exists and not may_create else []
        if not has_defaults:
            names += ["use_schema"] + [f"default_privileges_{kind}" for kind in _DEFAULT_KINDS]
        found += [_SQL.compose(block, schema=schema) for block in names]
    return found


_DEFAULT_KINDS = ("tables", "tables_read", "sequences", "sequences_read", "functions")


def search_path(connection: AnyConnection) -> list[str]:
    """Schemas of the extensions, for operator classes; everything else in a revision is written with its schema."""
    schemas = _column(connection, "extension_schemas", extensions=list(EXTENSIONS))
    return ["pg_catalog", *(schemas or ["public"])]  # none yet: a dry run, and public is where they will be


def _missing_grants(connection: AnyConnection) -> list[tuple[str, str]]:
    roles, privileges = zip(*_DATABASE_GRANTS, strict=True)
    parameters = {"roles": list(roles), "privileges": list(privileges)}
    return cast(
        "list[tuple[str, str]]", connection.execute(_SQL["missing_database_grants"], parameters).fetchall()
    )


def _welcome(connection: AnyConnection, report: Callable[[str], None]) -> None:
    for name in _column(connection, "missing_extensions", extensions=list(WELCOME_EXTENSIONS)):
        try:
            with connection.transaction():
                connection.execute(_SQL.compose("create_extension", extension=sql.Identifier(name)))
        except psycopg.Error as error:
            report(
                f"extension {name} is not available here ({error.diag.message_primary}); going on without it"
            )
    _let_backups_replicate(connection, report)
    connection.commit()


def _let_backups_replicate(connection: AnyConnection, report: Callable[[str], None]) -> None:
    """Give `longbox_backup` what slots need, where this user may; migrations themselves do not need it."""
    if _one(connection, "backup_may_replicate"):
        return
    try:
        with connection.transaction():
            connection.execute(_SQL.compose("let_backup_replicate", role=sql.Identifier(BACKUP)))
    except psycopg.errors.InsufficientPrivilege:
        report(
            f"{BACKUP} may not replicate; for backups let an administrator run: ALTER ROLE {BACKUP} REPLICATION"
        )
    except psycopg.errors.InternalError:
        # "tuple concurrently updated": another database's migration gives it
        if not _one(connection, "backup_may_replicate"):
            raise


def _require_server(connection: AnyConnection) -> None:
    version = cast(int, _one(connection, "server_version"))
    if version < OLDEST_SERVER:
        raise UserError(
            f"PostgreSQL {version // 10000} is too old for Longbox; point LONGBOX_POSTGRES_URL at "
            f"{OLDEST_SERVER // 10000} or newer"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":  # it could not hold what lands, not even in quarantine
        raise UserError(
            f"the database {connection.info.dbname!r} is encoded in {encoding}, Longbox needs UTF8; make another with "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and name it in LONGBOX_POSTGRES_URL"
        )


def _refusal(connection: AnyConnection, fault: str) -> str:
    user, database = connection.info.user, connection.info.dbname
    return (
        f"user {user!r} may not set up database {database!r} for Longbox: {fault}. Migrate once as a superuser or as "
        f"the database's owner with CREATEROLE, or let an administrator run: "
        + " ".join(f"CREATE ROLE {role} NOLOGIN;" for role in ROLES)
        + f' GRANT {", ".join(ROLES)} TO "{user}"; ALTER DATABASE "{database}" OWNER TO "{user}"; '
        + " ".join(f"CREATE EXTENSION {name} SCHEMA public;" for name in EXTENSIONS)
    )


def _column(connection: AnyConnection, block: str, **parameters: object) -> list[str]:
    return [str(row[0]) for row in connection.execute(_SQL[block], parameters).fetchall()]


def _one(connection: AnyConnection, block: str) -> object:
    row = connection.execute(_SQL[block]).fetchone()
    return row[0] if row else None

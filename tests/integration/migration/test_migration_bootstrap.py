"""What must stand before the first revision: rights of the user, the shared roles, the schema, a server new enough."""

import pytest

from pipelines.migration import migrate
from pipelines.migration.errors import PrivilegeError
from resources.errors import UserError
from tests.integration.migration_support import GOODS, PLATFORM, Shop, execute, new_database, value, with_user


def test_a_user_without_rights_is_told_what_an_administrator_has_to_do(
    postgres_admin_url: str, url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    execute(postgres_admin_url, "DROP ROLE IF EXISTS migration_guest")
    execute(postgres_admin_url, "CREATE ROLE migration_guest LOGIN PASSWORD 'guest'")
    try:
        with pytest.raises(PrivilegeError, match=r"migration_guest.*GRANT longbox_owner"):
            migrate(with_user(url, "migration_guest", "guest"), [shop.folder])
    finally:
        execute(postgres_admin_url, "DROP ROLE migration_guest")


def test_the_owner_of_a_database_with_the_roles_granted_needs_no_superuser(
    postgres_admin_url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    with new_database(postgres_admin_url) as first:
        shop.migrate(first)  # the roles are there
    execute(postgres_admin_url, "DROP ROLE IF EXISTS migration_tenant")
    execute(postgres_admin_url, "CREATE ROLE migration_tenant LOGIN PASSWORD 'tenant'")
    execute(
        postgres_admin_url,
        "GRANT longbox_owner, longbox_app, longbox_reader, longbox_backup TO migration_tenant",
    )
    try:
        with new_database(postgres_admin_url) as url:
            name = url.rsplit("/", 1)[1]
            execute(postgres_admin_url, f"ALTER DATABASE {name} OWNER TO migration_tenant")
            assert shop.migrate(with_user(url, "migration_tenant", "tenant")).applied == (
                *PLATFORM,
                "shop_0001",
            )
            assert value(url, "SELECT tableowner FROM pg_tables WHERE tablename = 'goods'") == "longbox_owner"
    finally:
        execute(postgres_admin_url, "DROP ROLE migration_tenant")


def test_a_schema_that_was_there_before_is_used_and_stays_its_owners(url: str, shop: Shop) -> None:
    execute(url, "CREATE SCHEMA shop; CREATE TABLE shop.old (id int)")
    shop.add(1, GOODS)
    shop.migrate(url)
    owners = dict(execute(url, "SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'shop'"))
    assert owners["goods"] == "longbox_owner"
    assert owners["old"] != "longbox_owner"
    assert execute(url, "INSERT INTO shop.goods VALUES (1) RETURNING id", role="longbox_app") == [(1,)]


def test_a_server_that_is_too_old_is_refused(url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.migration.bootstrap.OLDEST_SERVER", 990000)
    with pytest.raises(UserError, match="too old for Longbox"):
        shop.migrate(url)

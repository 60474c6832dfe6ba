"""Going down: a dry run unless told otherwise, dependents first, ledgered, refused before anything of it runs."""

from pathlib import Path

import pytest

from pipelines.migration import migrate, migrate_down
from pipelines.migration.errors import DownRefusedError
from tests.integration.migration_support import GOODS, TABLES, Shop, execute, value


def test_going_down_is_a_dry_run_unless_told_otherwise(url: str, shop: Shop) -> None:
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    shop.migrate(url)
    result = migrate_down(url, [shop.folder], "shop@base")
    assert result.is_dry_run
    assert result.undone == ("shop_0001",)
    assert "DROP TABLE shop.goods;" in result.sql
    assert value(url, TABLES) == 1


def test_going_down_undoes_and_writes_the_ledger(url: str, shop: Shop) -> None:
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    shop.add(2, "CREATE TABLE shop.shelves (id int);", "DROP TABLE shop.shelves;")
    shop.migrate(url)
    assert migrate_down(url, [shop.folder], "shop@0001", dry_run=False).undone == ("shop_0002",)
    assert value(url, TABLES) == 1
    rows = execute(url, "SELECT act, relation, proof ->> 'revision' FROM longbox.ledger")
    assert rows == [("migrate down", "shop", "shop_0002")]
    assert shop.migrate(url).applied == ("shop_0002",)


def test_what_depends_on_an_undone_revision_is_undone_first(url: str, shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other", "other")
    other.add(
        1,
        "CREATE TABLE other.tags (id int REFERENCES shop.goods);",
        "DROP TABLE other.tags;",
        "-- depends: shop 0001",
    )
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    migrate(url, [shop.folder, other.folder])
    result = migrate_down(url, [shop.folder, other.folder], "shop@base", dry_run=False)
    assert result.undone == ("other_0001", "shop_0001")


def test_going_down_is_refused_before_anything_runs_when_one_revision_has_no_way_down(
    url: str, shop: Shop
) -> None:
    shop.add(1, GOODS)
    shop.add(2, "CREATE TABLE shop.shelves (id int);", "DROP TABLE shop.shelves;")
    shop.migrate(url)
    with pytest.raises(DownRefusedError, match=r"0001_step.sql has no `-- migrate: down` section"):
        migrate_down(url, [shop.folder], "shop@base", dry_run=False)
    assert value(url, TABLES) == 2


@pytest.mark.parametrize("target", ["shop", "shop@", "shop@x", "store@0001", "shop@0009"])
def test_a_target_that_is_no_way_down_is_refused(url: str, shop: Shop, target: str) -> None:
    shop.add(1, GOODS, "DROP TABLE shop.goods;")
    shop.migrate(url)
    with pytest.raises(DownRefusedError):
        migrate_down(url, [shop.folder], target)


def test_a_database_that_was_never_migrated_has_nothing_to_undo(url: str, shop: Shop) -> None:
    with pytest.raises(DownRefusedError, match="never migrated"):
        migrate_down(url, [shop.folder], "shop@base", dry_run=False)

"""The engine: everything once and in order, a revision all or nothing; the dry run is a script that does the same."""

from pathlib import Path

import pytest

from pipelines.migration import migrate, migrate_down, plan
from pipelines.migration.errors import RevisionFailedError
from pipelines.migration.revisions import PLATFORM_FOLDER
from tests.integration.migration_support import (
    ASSETS,
    GOODS,
    PLATFORM,
    TABLES,
    Shop,
    execute,
    new_database,
    run_script,
    schema_dump,
    states,
    value,
)
from tests.shop import SHOP_YAML, make_shop


def test_an_empty_database_gets_everything_and_a_second_run_changes_nothing(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    first = shop.migrate(url)
    dump = schema_dump(url)
    second = shop.migrate(url)
    assert first.applied == (*PLATFORM, "shop_0001")
    assert (second.applied, second.already_applied) == ((), len(PLATFORM) + 1)
    assert schema_dump(url) == dump


def test_a_new_revision_is_applied_on_top_of_the_others(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    shop.migrate(url)
    shop.add(2, "ALTER TABLE shop.goods ADD COLUMN name text;")
    assert states(url, shop.folder)["shop_0002"] == "pending"
    assert shop.migrate(url).applied == ("shop_0002",)
    assert states(url, shop.folder)["shop_0002"] == "applied"


def test_a_revision_that_depends_on_another_system_comes_after_it(url: str, tmp_path: Path) -> None:
    early, late = Shop(tmp_path / "a", "aardvark"), Shop(tmp_path / "z", "zebra")
    late.add(1, "CREATE TABLE zebra.stripes (id int PRIMARY KEY);")
    early.add(
        1, "CREATE TABLE aardvark.ants (id int REFERENCES zebra.stripes);", head="-- depends: zebra 0001"
    )
    assert migrate(url, [early.folder, late.folder]).applied == (
        *PLATFORM,
        "zebra_0001",
        "aardvark_0001",
    )


def test_a_platform_revision_can_follow_after_systems_were_applied(
    url: str, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add(1, GOODS)
    shop.migrate(url)
    platform = tmp_path / "platform"
    platform.mkdir()
    for file in PLATFORM_FOLDER.glob("*.sql"):
        (platform / file.name).write_bytes(file.read_bytes())
    number = f"{len(PLATFORM) + 1:04d}"
    (platform / f"{number}_more.sql").write_text(
        f"-- longbox {number}: More\n-- migrate: up\nCREATE TABLE longbox.more (id int);\n"
        "-- migrate: down\nDROP TABLE longbox.more;\n"
    )
    monkeypatch.setattr("pipelines.migration.revisions.PLATFORM_FOLDER", platform)
    shop.add(2, "CREATE TABLE shop.shelves (id int);", "DROP TABLE shop.shelves;")
    assert set(shop.migrate(url).applied) == {f"longbox_{number}", "shop_0002"}
    down = migrate_down(url, [shop.folder], f"longbox@{PLATFORM[-1][-4:]}", dry_run=False)
    assert down.undone == (f"longbox_{number}",)
    assert migrate_down(url, [shop.folder], "shop@0001", dry_run=False).undone == ("shop_0002",)
    assert set(shop.migrate(url).applied) == {f"longbox_{number}", "shop_0002"}


def test_a_failing_revision_leaves_nothing_and_names_file_and_line(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    path = shop.add(2, "CREATE TABLE shop.half (id int);\nCREATE TABLE shop.other (id nonsense);")
    with pytest.raises(RevisionFailedError) as caught:
        shop.migrate(url)
    assert caught.value.revision == "shop_0002"
    assert f"{path}:5: " in str(caught.value)
    assert 'type "nonsense" does not exist' in str(caught.value)
    assert states(url, shop.folder) == {
        **dict.fromkeys(PLATFORM, "applied"),
        "shop_0001": "applied",
        "shop_0002": "pending",
    }
    assert value(url, TABLES) == 1
    shop.add(2, "CREATE TABLE shop.half (id int);")
    assert shop.migrate(url).applied == ("shop_0002",)


def test_an_index_is_built_concurrently_and_a_half_built_one_is_built_again(url: str, shop: Shop) -> None:
    shop.add(1, "CREATE TABLE shop.goods (id int); INSERT INTO shop.goods VALUES (1), (1);")
    shop.add(
        2, "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS goods_id ON shop.goods (id);",
        "DROP INDEX CONCURRENTLY IF EXISTS shop.goods_id;", head="-- transaction: none",
    )  # fmt: skip
    with pytest.raises(RevisionFailedError, match=r"0002_step.sql:4: .*duplicated"):
        shop.migrate(url)
    assert value(url, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 1
    execute(url, "DELETE FROM shop.goods")
    assert shop.migrate(url).applied == ("shop_0002",)
    assert value(url, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    assert any("left half-built" in line for line in shop.said)
    migrate_down(url, [shop.folder], "shop@0001", dry_run=False)
    assert value(url, "SELECT to_regclass('shop.goods_id') IS NULL")


def test_the_dry_run_is_a_script_that_does_what_migrating_does(postgres_admin_url: str) -> None:
    folders = [ASSETS / "reference", ASSETS / "comics"]
    with new_database(postgres_admin_url) as by_script, new_database(postgres_admin_url) as by_engine:
        script = plan(by_script, folders)
        assert value(by_script, "SELECT to_regnamespace('longbox') IS NULL")
        run_script(by_script, script)
        migrate(by_engine, folders)
        assert migrate(by_script, folders).applied == ()
        assert schema_dump(by_script) == schema_dump(by_engine)
        assert plan(by_engine, folders) == ""


def test_the_dry_run_tells_what_a_changed_declaration_does_and_does_not_do_it(
    url: str, tmp_path: Path
) -> None:
    system = make_shop(tmp_path)
    migrate(url, [system])
    make_shop(tmp_path, SHOP_YAML.replace("item: text\n", "item: text\n      colour: text\n"))
    script = plan(url, [system])
    assert 'ALTER TABLE "shop"."sales" ADD COLUMN "colour" text;' in script
    assert plan(url, [system]) == script
    assert migrate(url, [system]).declared == ("added column shop.sales.colour (text)",)
    assert plan(url, [system]) == ""

"""`longbox migrate` as typed: what it does, prints and exits with."""

from pathlib import Path

import pytest

from cli.main import main
from tests.integration.migration_support import Shop, value


@pytest.fixture
def shop(tmp_path: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.add(1, "CREATE TABLE shop.goods (id int);", "DROP TABLE shop.goods;")
    monkeypatch.setenv("LONGBOX_POSTGRES_URL", empty_database_url)
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(shop.folder))
    return shop


def longbox(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(["migrate", *arguments])
    return int(exit.value.code or 0)


def test_migrating_tells_its_steps_and_the_second_time_that_nothing_was_to_do(
    shop: Shop, empty_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert longbox() == 0
    told = capsys.readouterr().out
    assert "applying shop_0001: Step 1" in told
    assert "revisions applied (0 were before)" in told
    assert value(empty_database_url, "SELECT to_regclass('shop.goods') IS NOT NULL")
    assert longbox() == 0
    assert "up to date: " in capsys.readouterr().out


def test_a_dry_run_prints_sql_and_changes_nothing(
    shop: Shop, empty_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert longbox("--dry-run") == 0
    assert "CREATE TABLE shop.goods (id int);" in capsys.readouterr().out
    assert value(empty_database_url, "SELECT to_regnamespace('shop') IS NULL")
    longbox()
    capsys.readouterr()
    assert longbox("--dry-run") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_status_lists_what_is_applied_pending_and_edited(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    longbox()
    shop.add(2, "CREATE TABLE shop.shelves (id int);")
    shop.add(1, "CREATE TABLE shop.goods (id bigint);")
    capsys.readouterr()
    assert longbox("--status") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "edited" in lines["shop_0001"]
    assert "restore the file" in lines["shop_0001"]
    assert "pending" in lines["shop_0002"]
    assert "applied" in lines["longbox_0001"]


def test_an_edited_file_is_one_sentence_and_exit_code_2(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    longbox()
    shop.add(1, "CREATE TABLE shop.goods (id bigint);")
    assert longbox() == 2
    told = capsys.readouterr().err
    assert "was edited after it was applied" in told
    assert "Traceback" not in told


def test_going_down_needs_a_yes(
    shop: Shop, empty_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    longbox()
    capsys.readouterr()
    assert longbox("--down", "shop@base") == 0
    assert "this would undo shop_0001; add --yes" in capsys.readouterr().out
    assert value(empty_database_url, "SELECT to_regclass('shop.goods') IS NOT NULL")
    assert longbox("--down", "shop@base", "--yes") == 0
    assert "undid shop_0001" in capsys.readouterr().out
    assert value(empty_database_url, "SELECT to_regclass('shop.goods') IS NULL")


@pytest.mark.parametrize(
    "arguments", [("--yes",), ("--status", "--dry-run"), ("--down", "shop@base", "--yes", "--dry-run")]
)
def test_options_that_contradict_each_other_exit_with_2(shop: Shop, arguments: tuple[str, ...]) -> None:
    assert longbox(*arguments) == 2


def test_what_the_yaml_says_of_a_migrated_table_is_held_against_the_table(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop.folder / "system.yaml").write_text(
        "system: shop\nfeeds:\n  arrivals: {table: goods, key: [idd], starts_on: 2026-01-01}\ntables:\n  goods: {}\n"
    )
    assert longbox() == 2
    told = capsys.readouterr().err
    assert "feeds.arrivals.key" in told
    assert "idd" in told

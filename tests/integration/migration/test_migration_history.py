"""The history of a database: refused when files or records tell another, left alone when a system's folder is away."""

from pathlib import Path

import pytest

from pipelines.migration import migrate
from pipelines.migration.errors import EditedRevisionError, MissingRevisionError, RevisionFileError
from pipelines.migration.history import HistoryError
from tests.integration.migration_support import GOODS, TABLES, Shop, execute, states, value


def test_an_edited_applied_file_is_refused_with_what_to_do(url: str, shop: Shop) -> None:
    path = shop.add(1, GOODS)
    shop.migrate(url)
    original = path.read_text()
    path.write_text(original.replace("PRIMARY KEY", ""))
    shop.add(2, "CREATE TABLE shop.never (id int);")
    with pytest.raises(EditedRevisionError) as caught:
        shop.migrate(url)
    assert str(path) in str(caught.value)
    assert "shop_0001" in str(caught.value)
    assert "restore the file as it was, and write the change as a new revision" in str(caught.value)
    assert states(url, shop.folder)["shop_0001"] == "edited"
    assert value(url, TABLES) == 1
    path.write_text(original)
    assert shop.migrate(url).applied == ("shop_0002",)


def test_an_applied_revision_whose_file_is_gone_is_refused(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    path = shop.add(2, "CREATE TABLE shop.shelves (id int);")
    shop.migrate(url)
    path.unlink()
    with pytest.raises(MissingRevisionError, match=r"shop_0002.*0002_step.sql is gone; restore the file"):
        shop.migrate(url)
    assert states(url, shop.folder)["shop_0002"] == "lost"


def test_a_new_file_numbered_below_an_applied_one_is_refused(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    shop.add(3, "CREATE TABLE shop.shelves (id int);")
    shop.migrate(url)
    shop.add(2, "CREATE TABLE shop.late (id int);")
    with pytest.raises(RevisionFileError, match="give it a number above 0003"):
        shop.migrate(url)


def test_a_system_whose_folder_is_not_at_hand_stays_as_it_is(url: str, shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other", "other")
    other.add(1, "CREATE TABLE other.things (id int);")
    shop.add(1, GOODS, head="-- depends: other 0001")
    migrate(url, [shop.folder, other.folder])
    other.add(2, "CREATE TABLE other.more (id int);")
    third = Shop(tmp_path / "third", "third")
    third.add(1, "CREATE TABLE third.things (id int);")
    assert migrate(url, [third.folder]).applied == ("third_0001",)
    assert states(url, third.folder)["shop_0001"] == "absent"
    assert migrate(url, [shop.folder, other.folder]).applied == ("other_0002",)


def test_a_history_that_was_changed_by_hand_is_told(url: str, shop: Shop) -> None:
    shop.add(1, GOODS)
    shop.migrate(url)
    execute(url, "DELETE FROM longbox.migrations WHERE revision = 'shop_0001'")
    with pytest.raises(HistoryError, match="shop_0001"):
        shop.migrate(url)

"""Revision files: what a good one says, and how each fault of one is told."""

from pathlib import Path

import pytest

from pipelines.migration.errors import RevisionFileError
from pipelines.migration.revisions import build_map, read_file, read_system, read_systems
from pipelines.migration.statements import bare_words, split_statements

GOOD = (
    "-- shop 0001: Goods\n\n-- migrate: up\nCREATE TABLE shop.goods (id int);\n"
    "-- migrate: down\nDROP TABLE shop.goods;\n"
)


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_a_file_gives_its_title_sections_and_checksum(tmp_path: Path) -> None:
    file = read_file("shop", write(tmp_path, "0001_goods.sql", GOOD))
    assert (file.revision, file.title, file.is_transactional) == ("shop_0001", "Goods", True)
    assert file.up.strip() == "CREATE TABLE shop.goods (id int);"
    assert file.down is not None
    assert file.down.strip() == "DROP TABLE shop.goods;"
    assert (file.up_line, file.down_line) == (3, 5)


def test_line_ends_of_another_system_do_not_change_the_checksum(tmp_path: Path) -> None:
    unix = read_file("shop", write(tmp_path / "unix", "0001_goods.sql", GOOD))
    windows = read_file("shop", write(tmp_path / "windows", "0001_goods.sql", GOOD.replace("\n", "\r\n")))
    assert unix.sha256 == windows.sha256


def test_the_first_revision_of_a_system_comes_after_the_platforms(tmp_path: Path) -> None:
    assert read_file("shop", write(tmp_path, "0001_goods.sql", GOOD)).depends == ("longbox_0001",)


def test_a_down_section_without_a_statement_is_no_way_down(tmp_path: Path) -> None:
    text = "-- shop 0002: More\n-- migrate: up\nSELECT 1;\n-- migrate: down\n-- cannot be undone\n"
    assert read_file("shop", write(tmp_path, "0002_more.sql", text)).down is None


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("goods.sql", GOOD, "0001_what_it_does.sql"),
        ("0002_goods.sql", GOOD, "`-- shop 0002: <title>`"),
        ("0001_goods.sql", GOOD.replace("shop 0001", "store 0001"), "`-- shop 0001: <title>`"),
        ("0001_goods.sql", "-- shop 0001: Goods\nSELECT 1;\n", "found none"),
        ("0001_goods.sql", GOOD.replace("migrate: down", "migrate: back"), "['up', 'back']"),
        ("0001_goods.sql", "-- shop 0001: Goods\n-- migrate: up\n-- later\n", "no statement"),
        ("0001_goods.sql", GOOD.replace("\n\n", "\n-- depends: stock-1\n"), "depends: reference 0001"),
        ("0001_goods.sql", GOOD.replace("\n\n", "\n-- transaction: maybe\n"), "transaction: none"),
        ("0001_goods.sql", GOOD.replace("CREATE", "BEGIN;\nCREATE"), "0001_goods.sql:4: BEGIN"),
        ("0001_goods.sql", GOOD.replace("DROP", "SELECT 1;\nCOMMIT;\nDROP"), "0001_goods.sql:7: COMMIT"),
        ("0001_goods.sql", GOOD.replace("CREATE TABLE shop.goods (id int)", "CREATE INDEX CONCURRENTLY i ON t (a)"),
         "transaction: none"),
    ],
)  # fmt: skip
def test_a_fault_names_the_file_and_what_would_be_right(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(RevisionFileError) as caught:
        read_file("shop", path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "0001_goods.sql", GOOD)
    write(tmp_path, "0001_wares.sql", GOOD)
    with pytest.raises(RevisionFileError, match="both number 0001"):
        read_system("shop", tmp_path)


def test_a_dependency_that_no_folder_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "migrations", "0001_goods.sql", GOOD.replace("\n\n", "\n-- depends: stock 0003\n"))
    with pytest.raises(RevisionFileError, match="depends on stock_0003"):
        build_map(read_systems({"shop": tmp_path}))


def test_revisions_that_depend_on_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    for system, other in (("shop", "stock"), ("stock", "shop")):
        text = GOOD.replace("shop 0001", f"{system} 0001").replace("\n\n", f"\n-- depends: {other} 0001\n")
        write(tmp_path / system / "migrations", "0001_goods.sql", text)
    with pytest.raises(RevisionFileError, match="circle"):
        build_map(read_systems({"shop": tmp_path / "shop", "stock": tmp_path / "stock"}))


def test_a_name_too_long_for_alembics_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RevisionFileError, match="26 more"):
        read_system("s" * 28, tmp_path)


def test_semicolons_in_texts_comments_and_bodies_end_no_statement() -> None:
    text = """
SELECT 'a;b', E'it\\'s;', "odd;name" -- not here;
  /* nor; here */ FROM t;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $body$ SELECT 1; $body$;

DO $$ BEGIN; END $$"""
    statements = split_statements(text)
    assert [line for _, line in statements] == [1, 3, 5]
    assert statements[1][0].endswith("$body$")


def test_bare_words_leave_out_what_is_quoted() -> None:
    assert bare_words("CREATE /* commit */ TABLE \"begin\" AS SELECT 'rollback' -- abort") == [
        "create", "table", "as", "select",
    ]  # fmt: skip

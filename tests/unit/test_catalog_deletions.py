"""The tombstone rule and the columns that may go missing, as a system.yaml says them."""

import pytest

from pipelines.catalog.errors import CatalogError
from pipelines.catalog.loader import load_catalog
from tests.shop import SHOP_YAML, make_shop


def load(folder, line):
    text = SHOP_YAML.replace("    starts_on", f"    {line}\n    starts_on")
    return load_catalog([make_shop(folder, text)])


def test_a_mark_needs_no_column_of_the_table_and_changes_the_version_of_the_feed(tmp_path):
    plain = load_catalog([make_shop(tmp_path / "plain")]).feed("shop/sales")
    feed = load(tmp_path, "deletions: {column: op, one_of: [d, 1]}").feed("shop/sales")
    assert feed.deletions is not None and feed.deletions.one_of == ("d", "1")
    assert feed.version != plain.version


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("deletions: {column: op}", "key `one_of` is missing"),
        ("deletions: {one_of: [d]}", "key `column` is missing"),
        ("deletions: {column: op, one_of: []}", "write it as [a, b, c]"),
        ("deletions: {column: op, one_of: [yes]}", "put each of the values in quotes"),
        ("deletions: {column: op, values: [d]}", "unknown key 'values'"),
        ("deletions: {column: '', one_of: [d]}", "a landed column name is empty"),
        ("deletions: op", "write a mapping"),
        ("deletions: {column: sale_id, one_of: [d]}", "the files call 'sale_id' 'id'"),
        ("deletions: {column: id, one_of: [d]}", "column 'sale_id' is part of the key"),
        ("may_be_missing: [colour]", "has no column 'colour'"),
        ("may_be_missing: [price]", "column 'price' is required"),
        ("may_be_missing: [item, item]", "stands more than once"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_what_would_be_right(tmp_path, line, message):
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, line)
    assert message in str(caught.value)
    assert "feeds.sales" in str(caught.value)


def test_a_deletion_without_a_key_and_one_told_by_the_revision_are_refused(tmp_path):
    text = SHOP_YAML.replace("    key: [shop, sale_id]", "    deletions: {column: op, one_of: [d]}")
    with pytest.raises(CatalogError, match="without a key deletes nothing"):
        load_catalog([make_shop(tmp_path, text)])
    line = "deletions: {column: sold_at, one_of: [d]}\n    revision: sold_at"
    with pytest.raises(CatalogError, match="column 'sold_at' is the revision"):
        load(tmp_path, line)

"""A system.yaml is read or refused with every fault named: where it stands, what is wrong, what would be right."""

import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.catalog.errors import CatalogError
from pipelines.catalog.loader import load_catalog, system_folders
from pipelines.catalog.model import Call
from pipelines.catalog.periods import Period
from resources.errors import UserError
from resources.settings import PROJECT_ROOT, Settings
from tests.catalog_files import SHOP, faults, load, write


def test_a_complete_file_is_read_into_the_typed_model(tmp_path: Path) -> None:
    catalog = load(tmp_path, SHOP)
    feed = catalog.feed("shop/sales")
    assert (feed.key_name, feed.prefix, feed.starts_on) == (
        "shop/sales",
        "landing/shop/sales/",
        datetime.date(2024, 1, 31),
    )
    assert feed.columns == {"Order No": "order_no", "Price": "price"}
    assert feed.rules["price"].bounds == {"greater_than": Decimal(0), "at_most": Decimal("99.5")}
    assert feed.rules["brand"].one_of == ("NO", "SE", "7")
    assert feed.derivations == {"sold_on": Call("utc_date", "sold_at")}
    assert (feed.encoding, feed.delimiter) == ("iso8859-1", "\t")
    table = catalog.table("shop", "sales")
    assert table.column_types is not None
    assert table.column_types["brand"] == "character varying(20)"
    assert (table.lifecycle.hot, table.lifecycle.keep) == (Period(24, 0), Period(84, 0))
    assert table.freshness is not None
    assert table.freshness.fail_after == datetime.timedelta(hours=36)
    aggregate = catalog.systems["shop"].aggregates["by_hour"]
    assert [(g.name, g.column, g.bucket) for g in aggregate.groups] == [
        ("brand", "brand", None),
        ("hour", "sold_at", "hour"),
    ]
    assert aggregate.calls == {"sales": Call("count", None), "mid": Call("median", "price")}
    assert catalog.systems["shop"].cache["price"].ttl == datetime.timedelta(minutes=15)


def test_a_feed_requires_its_key_and_what_its_time_column_comes_from(tmp_path: Path) -> None:
    assert load(tmp_path, SHOP).feed("shop/sales").require == ("price", "order_no", "sold_at")


def test_the_bundled_comics_system_is_complete() -> None:
    system = load_catalog([PROJECT_ROOT / "assets" / "comics"]).systems["comics"]
    assert len(system.tables) == 14
    assert all(table.description for table in system.tables.values())
    kept = {name: str(table.lifecycle.keep) for name, table in system.tables.items() if table.lifecycle.keep}
    assert kept == {
        "pricing_data_raw": "7 years",
        "pricing_data_normalized": "10 years",
        "marketplace_transactions": "7 years",
        "search_history": "1 year",
        "user_sessions": "3 months",
        "system_logs": "90 days",
    }
    minutes = {name: entry.ttl.total_seconds() / 60 for name, entry in system.cache.items()}
    assert minutes["current_price"] == 15
    assert minutes["aggregates"] == 30
    assert minutes["market_insights"] == 10
    assert minutes["user_collections"] == 5


def test_a_version_changes_with_how_files_are_read_and_only_then(tmp_path: Path) -> None:
    version = load(tmp_path, SHOP).feed("shop/sales").version
    assert len(version) == 12
    same = SHOP.replace("starts_on: 2024-01-31", "starts_on: 2023-01-01\n    description: Other words")
    reordered = SHOP.replace("{Order No: order_no, Price: price}", "{Price: price, Order No: order_no}")
    assert load(tmp_path, same).feed("shop/sales").version == version
    assert load(tmp_path, reordered).feed("shop/sales").version == version
    for old, new in (
        ("greater_than: 0", "greater_than: 1"),
        ("Europe/Oslo", "Europe/Rome"),
        ("[price]", "[brand]"),
        ("      brand: varchar(20)", "      brand: varchar(20)\n      colour: text"),
    ):
        assert load(tmp_path, SHOP.replace(old, new)).feed("shop/sales").version != version, new


def test_the_line_of_each_fault_is_the_line_of_its_key(tmp_path: Path) -> None:
    text = SHOP.replace("greater_than", "greter_than").replace("24 months", "24 moons")
    assert [line.partition(":")[0] for line in faults(tmp_path, text)] == ["9", "28"]


def test_a_value_that_yaml_cuts_at_a_comma_is_one_fault_with_its_quotes(tmp_path: Path) -> None:
    text = SHOP.replace("mid: median( price )", "mid: mean(price, weight=price), low: min(price)")
    assert faults(tmp_path, text) == [
        "31: aggregates.by_hour.measures.mid: YAML ends the value at the comma within { }: mean(price; "
        'put it in quotes: "mean(price, weight=price)"'
    ]
    block = "      price: numeric(10,2)\n"
    flow = SHOP.replace(block, "").replace("      brand:", "      price: {type: numeric(10,2)}\n      brand:")
    assert [line.partition("put it in ")[2] for line in faults(tmp_path, flow)] == [
        'quotes: "numeric(10, 2)"'
    ]


def test_all_faults_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    first = write(tmp_path, SHOP.replace("24 months", "24 moons").replace("median( price )", "median(prise)"))
    second = write(tmp_path, "system: [", name="other")
    third = write(tmp_path, SHOP.replace("system: shop", "sistem: toys"), name="toys")
    with pytest.raises(CatalogError) as refused:
        load_catalog([first, second, third])
    files = [problem.file.parent.name for problem in refused.value.problems if problem.file]
    assert files == ["other", "shop", "shop", "toys", "toys"]
    assert str(refused.value).startswith("5 faults in the catalogue:\n")


def test_one_system_name_in_two_folders_is_refused(tmp_path: Path) -> None:
    folders = [write(tmp_path, SHOP, name="one"), write(tmp_path, SHOP, name="two")]
    with pytest.raises(CatalogError) as refused:
        load_catalog(folders)
    assert f"the system 'shop' is also declared by {tmp_path / 'one' / 'system.yaml'}" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty; declare at least `system: <name>`"),
        ("# nothing\n", "the file is empty"),
        ("null\n", "the file is empty"),
        ("- a\n", "the file is not a mapping; start it with `system: <name>`"),
        ("system: [shop\n", "2: the YAML cannot be read: "),
        ("system:\n\tshop\n", "2: the YAML cannot be read: while scanning for the next token found character '\\t' "),
        ("system:\n\tshop\n", "; indent with spaces, YAML does not take tabs"),
        ("system: !!python/object:os.system x\n", "a catalogue is plain data; remove the tag"),
        ("system: shop\n---\nsystem: b\n", "keep one document in the file"),
        ("system: shop\nfeeds: &a\n  x: *a\n", "an alias contains itself"),
        (b"system: sh\xffop\n", "1: byte 10 is not UTF-8; save the file as UTF-8"),
        ("system: sh\x01op\n", "1: character 10 (U+0001) is not allowed in YAML; remove it"),
        ("system: shop\n? [a]\n: b\n", "a key is a list or a mapping"),
        ("system: shop\non: 1\n", "2: on: YAML reads the key on as the boolean True; put it in quotes: \"on\""),
    ],
)  # fmt: skip
def test_an_unreadable_file_is_a_sentence(tmp_path: Path, text: str | bytes, expected: str) -> None:
    found = faults(tmp_path, text)
    assert any(expected in line for line in found), "\n".join(found)


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    lines = ["system: shop", "a0: &a0 [1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert any("aliases multiply it beyond reason" in line for line in faults(tmp_path, "\n".join(lines)))


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="the file cannot be read"):
        load_catalog([tmp_path])


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = SHOP.replace("lifecycle: {hot", "lifecycle: &life {hot").replace(
        "aggregates:",
        "  more: {columns: {t: date}, time: t, partition: month, lifecycle: {<<: *life, keep: 9 years}}\naggregates:",
    )
    life = load(tmp_path, text).table("shop", "more").lifecycle
    assert (str(life.hot), life.archive, str(life.keep)) == ("2 years", True, "9 years")


def test_an_unknown_feed_or_table_names_the_nearest(tmp_path: Path) -> None:
    catalog = load(tmp_path, SHOP)
    with pytest.raises(UserError, match="there is no feed 'shop/sale'; did you mean 'shop/sales'"):
        catalog.feed("shop/sale")
    with pytest.raises(UserError, match="there is no table 'shop/sels'; did you mean 'shop/sales'"):
        catalog.table("shop", "sels")


def settings(systems: str) -> Settings:
    return Settings.load({"LONGBOX_SYSTEMS": systems})


def test_an_entry_of_longbox_systems_is_a_system_or_a_folder_of_them(tmp_path: Path) -> None:
    shop = write(tmp_path, SHOP)
    assert system_folders(settings(str(shop)))[-1] == shop
    assert system_folders(settings(str(tmp_path)))[-1] == shop
    assert system_folders(settings(f"{tmp_path}:{shop}")).count(shop) == 1
    assert PROJECT_ROOT / "assets" / "comics" in system_folders(settings(str(shop)))


def test_an_entry_of_longbox_systems_without_a_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a system"):
        system_folders(settings(str(tmp_path)))


def test_periods_count_calendar_months_and_days() -> None:
    day = datetime.date
    assert Period.parse("1 month").before(day(2024, 3, 31)) == day(2024, 2, 29)
    assert Period.parse("24 months").before(day(2026, 11, 21)) == day(2024, 11, 21)
    assert Period.parse("7 years").before(day(2024, 2, 29)) == day(2017, 2, 28)
    assert Period.parse("90 days").before(day(2026, 1, 1)) == day(2025, 10, 3)
    assert Period.parse("2 weeks").before(day(2026, 1, 15)) == day(2026, 1, 1)
    assert Period.parse("1 quarter").before(day(2026, 1, 31)) == day(2025, 10, 31)
    assert Period.parse("999 years").before(day(2026, 1, 1)) == day(1027, 1, 1)
    assert Period.parse("1000 years").before(day(900, 1, 1)) == day.min
    assert [str(Period.parse(text)) for text in ("24 months", "1 month", "90 days", "2 weeks")] == [
        "2 years",
        "1 month",
        "90 days",
        "14 days",
    ]


@pytest.mark.parametrize(
    "text", ["", "months", "3", "-1 day", "1.5 years", "three days", "5 d", 7, None, "5000 years"]
)
def test_a_bad_period_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"time|years"):
        Period.parse(text)

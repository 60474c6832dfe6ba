"""Each fault of a feed is told with its path, what is wrong and what would be right."""

from pathlib import Path

import pytest

from tests.catalog_files import SHOP, faults, load


@pytest.mark.parametrize(
    ("old", "new", "message", "remedy"),
    [
        (
            "    table: sales\n",
            "    tabel: sales\n",
            "feeds.sales.tabel: unknown key 'tabel'",
            "did you mean 'table'?",
        ),
        ("    table: sales\n", "", "feeds.sales: key `table` is missing", "add it"),
        (
            "    table: sales\n",
            "    table: sale\n",
            "feeds.sales.table: there is no table 'sale' under `tables:`",
            "did you mean 'sales'?",
        ),
        (
            "greater_than: 0",
            "greater: 0",
            "feeds.sales.rules.price.greater: unknown key 'greater'",
            "did you mean 'greater_than'?",
        ),
        (
            "greater_than: 0",
            'greater_than: "0"',
            "feeds.sales.rules.price.greater_than: '0' is no limit",
            "write a number such as 0 or 99.5, or a date such as 2024-01-01, unquoted",
        ),
        (
            "rules: {price: {greater_than: 0, at_most: 99.5}",
            "rules: {prise: {greater_than: 0}",
            "feeds.sales.rules.prise: table 'sales' has no column 'prise'",
            "did you mean 'price'?",
        ),
        (
            "greater_than: 0",
            "greater_than: 2024-01-01",
            "feeds.sales.rules.price.greater_than: column 'price' is numeric(10,2), not a date",
            "write a number such as 0",
        ),
        (
            "brand: {one_of",
            "sold_on: {matches: x}, brand: {one_of",
            "feeds.sales.rules.sold_on.matches: column 'sold_on' is date, not text",
            "take the condition out",
        ),
        (
            '["NO", SE, 7]',
            "[NO, SE]",
            "feeds.sales.rules.brand.one_of: False is no word (YAML makes booleans of no, yes, on, off)",
            "put each of the values in quotes",
        ),
        (
            "key: [order_no]",
            "key: order_no",
            "feeds.sales.key: 'order_no' is the wrong type",
            "write a list, written as [a, b]",
        ),
        (
            "key: [order_no]",
            "key: [orderno]",
            "feeds.sales.key[0]: table 'sales' has no column 'orderno'",
            "did you mean 'order_no'?",
        ),
        (
            "require: [price]",
            "require: [price, no]",
            "feeds.sales.require[1]: YAML reads no as the boolean false, a text is needed",
            'put it in quotes: "no"',
        ),
        (
            "require: [price]",
            "require: [price, price]",
            "feeds.sales.require: 'price' stands more than once",
            "keep one of them",
        ),
        (
            "Price: price}",
            "Price: {amount: price}}",
            "feeds.sales.columns.Price: a mapping stands here, a text is needed",
            "name one column: what is nested in JSON or Parquet loads whole, into a column of type jsonb",
        ),
        (
            "Price: price}",
            "Price: pric}",
            "feeds.sales.columns.Price: table 'sales' has no column 'pric'",
            "did you mean 'price'?",
        ),
        (
            "Price: price}",
            "Price: price, Gone: brand, Left: brand}\n    deletions: {column: Gone, one_of: [x]}",
            "feeds.sales.columns.Left: column 'brand' is filled from 'Gone', by which deletions go, and from 'Left'",
            "map one landed column to it",
        ),
        (
            "Price: price}",
            "no: price}",
            "feeds.sales.columns.no: YAML reads the key no as the boolean False",
            'put it in quotes: "no"',
        ),
        (
            "Price: price}",
            "2024: price}",
            "feeds.sales.columns.2024: YAML reads the key 2024 as the number 2024",
            'put it in quotes: "2024"',
        ),
        (
            "revision: updated_at",
            "revision: brand",
            "feeds.sales.revision: column 'brand' is character varying(20)",
            "a revision is a timestamptz or an integer",
        ),
        (
            "utc_date(sold_at)",
            "utcdate(sold_at)",
            "feeds.sales.derive.sold_on: there is no function 'utcdate' here",
            "did you mean 'utc_date'?",
        ),
        (
            "utc_date(sold_at)",
            "utc_date(price)",
            "feeds.sales.derive.sold_on: column 'price' is numeric(10,2)",
            "utc_date takes a timestamptz column",
        ),
        (
            '"%d.%m.%Y %H:%M"',
            "iso",
            "feeds.sales.formats.sold_at: 'iso' is no strptime format (it has no % directive)",
            "write it as %m/%d/%Y or %d.%m.%Y %H:%M",
        ),
        (
            "latin1",
            "latin99",
            "feeds.sales.encoding: there is no encoding 'latin99'",
            "usual ones are utf-8, latin-1, cp1252, utf-16",
        ),
        (
            '"\\t"',
            '";;"',
            "feeds.sales.delimiter: ';;' is no delimiter",
            'it is one character, such as "," ";" "|" or "\\t"',
        ),
        (
            "Europe/Oslo",
            "Europe/Olso",
            "feeds.sales.time_zone: there is no time zone 'Europe/Olso'",
            "did you mean 'Europe/Oslo'?",
        ),
        (
            "Europe/Oslo",
            "New York",
            "feeds.sales.time_zone: there is no time zone 'New York'",
            "did you mean 'America/New_York'?",
        ),
        (
            "Europe/Oslo",
            "CEST",
            "feeds.sales.time_zone: there is no time zone 'CEST'",
            "write a region and a city, such as Europe/Berlin",
        ),
        (
            "starts_on: 2024-01-31",
            "starts_on: 2024-01-32",
            "feeds.sales.starts_on: '2024-01-32' is no day",
            "write it as 2024-01-31",
        ),
        (
            "starts_on: 2024-01-31",
            "starts_on: 31.1.2024",
            "feeds.sales.starts_on: '31.1.2024' is no day",
            "write it as 2024-01-31",
        ),
        (
            "greater_than: 0",
            "greater_than: 010",
            "feeds.sales.rules.price.greater_than: YAML reads 010 as the number 8",
            'write that number plainly, or the text in quotes: "010"',
        ),
        (
            "greater_than: 0, at_most: 99.5",
            "greater_than: 1:30, at_most: 99.5",
            "feeds.sales.rules.price.greater_than: YAML reads 1:30 as the number 90",
            "write that number plainly",
        ),
        (
            "greater_than: 0, at_most: 99.5",
            "greater_than: 99.5, at_most: 99.5",
            "feeds.sales.rules.price: no value can satisfy its limits",
            "exchange or correct them",
        ),
        (
            "latin1",
            "hex",
            "feeds.sales.encoding: there is no encoding 'hex'",
            "usual ones are utf-8",
        ),
        (
            'delimiter: "\\t"',
            "delimiter: t",
            "feeds.sales.delimiter: 't' is no delimiter",
            "it is one character",
        ),
        (
            'delimiter: "\\t"',
            'decimal: ";"',
            "feeds.sales.decimal: ';' is no decimal separator",
            'it is "." or ","',
        ),
        (
            'delimiter: "\\t"',
            "thousands: x",
            "feeds.sales.thousands: 'x' is no separator of thousands",
            "it is one of '.' ','",
        ),
        (
            'delimiter: "\\t"',
            'thousands: "."',
            "feeds.sales.thousands: '.' parts off the decimals too",
            "choose another, or give the feed another `decimal:`",
        ),
        (
            'delimiter: "\\t"',
            "null_values: NA",
            "feeds.sales.null_values: 'NA' is no list of values",
            "write it as [a, b, c]",
        ),
        (
            'delimiter: "\\t"',
            'null_values: ["\\N"]',
            'feeds.sales.null_values: YAML reads "\\N" as another character',
            "put it in single quotes: '\\N'",
        ),
        (
            'delimiter: "\\t"',
            "header: [a, b, a]",
            "feeds.sales.header: 'a' stands more than once",
            "keep one of them",
        ),
        (
            "{Order No: order_no, Price: price}",
            "{Order No: order_no, Price: price, PRICE: brand}",
            "feeds.sales.columns.PRICE: the landed names 'Price' and 'PRICE' differ only in case",
            "keep one",
        ),
        (
            "rules: {price:",
            "rules: {sold_on: {at_least: 2024-01-01}, price:",
            "feeds.sales.rules.sold_on: column 'sold_on' is derived from 'sold_at'",
            "say it of 'sold_at', or take it out",
        ),
        (
            "key: [order_no]",
            "key: [order_no, sold_on]",
            "feeds.sales.key[1]: column 'sold_on' is derived from 'sold_at'",
            "say it of 'sold_at', or take it out",
        ),
        (
            "starts_on: 2024-01-31",
            "starts_on: 0202-01-31",
            "feeds.sales.starts_on: 0202-01-31 is before 1970-01-01",
            "correct the year",
        ),
        (
            "    table: sales\n",
            "    table: sales\n    name: x\n",
            "feeds.sales.name: unknown key 'name'",
            "take it out, Longbox fills it in itself",
        ),
    ],
)
def test_a_fault_names_its_place_and_its_remedy(
    tmp_path: Path, old: str, new: str, message: str, remedy: str
) -> None:
    assert old in SHOP
    found = faults(tmp_path, SHOP.replace(old, new, 1))
    assert any(f" {message}" in line and f"; {remedy}" in line for line in found), "\n".join(found)


def test_words_keep_the_digits_they_are_written_with_and_epochs_are_formats(tmp_path: Path) -> None:
    text = SHOP.replace('["NO", SE, 7]', '["NO", 1.10, 7]').replace('"%d.%m.%Y %H:%M"', "epoch_milliseconds")
    feed = load(tmp_path, text).feed("shop/sales")
    assert feed.rules["brand"].one_of == ("NO", "1.10", "7")
    assert feed.formats == {"sold_at": "epoch_milliseconds"}


WITH_HOURS = SHOP.replace("      updated_at:", "      opens: time\n      updated_at:", 1)


@pytest.mark.parametrize("form", ["%H:%M", "%I:%M %p", "%H%M%S", "%H:%M:%S.%f"])
def test_a_time_of_day_has_a_format_too(tmp_path: Path, form: str) -> None:
    text = WITH_HOURS.replace("formats: {", f'formats: {{opens: "{form}", ')
    assert load(tmp_path, text).feed("shop/sales").formats["opens"] == form


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("%d.%m.%Y", "'%d.%m.%Y' does not tell the hour of the day"),
        ("%I:%M", "'%I:%M' does not tell the hour of the day"),
        ("%H:%M%z", "column 'opens' is a time of day, which has no zone"),
        ("epoch_seconds", "epoch_seconds is no time of day, which column 'opens' is"),
    ],
)
def test_a_format_that_tells_no_time_of_day_is_refused(tmp_path: Path, form: str, message: str) -> None:
    found = faults(tmp_path, WITH_HOURS.replace("formats: {", f'formats: {{opens: "{form}", '))
    assert any(
        f"feeds.sales.formats.opens: {message}; write it as %H:%M:%S or %I:%M %p" in line for line in found
    ), found


def test_a_format_of_a_column_that_is_no_time_is_refused(tmp_path: Path) -> None:
    found = faults(tmp_path, SHOP.replace("formats: {", 'formats: {brand: "%H:%M", '))
    assert any("formats.brand: column 'brand' is character varying(20)" in line for line in found), found

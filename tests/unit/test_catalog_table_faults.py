"""Each fault of tables, aggregates, cache and names is told with its path and what would be right."""

from pathlib import Path

import pytest

from tests.catalog_files import SHOP, faults


@pytest.mark.parametrize(
    ("old", "new", "message", "remedy"),
    [
        (
            "{sales: count, mid: median( price )}",
            "{}",
            "aggregates.by_hour.measures: {} is empty",
            "name at least one, or take the key out where it may be left out",
        ),
        ("\ncache:", "\ncahce:", "cahce: unknown key 'cahce'", "did you mean 'cache'?"),
        (
            "price: numeric(10,2)",
            "price: money",
            "tables.sales.columns.price: 'money' is no supported type",
            'did you mean "numeric(14,2)"? the types are text, varchar(n), ',
        ),
        (
            "price: numeric(10,2)",
            "price: numeric(2,10)",
            "tables.sales.columns.price: 'numeric(2,10)' has a wrong size",
            'only "numeric(p,s)" with s <= p <= 1000 and "varchar(n)" take one',
        ),
        (
            "price: numeric(10,2)",
            "price: {tpye: text}",
            "tables.sales.columns.price.tpye: unknown key 'tpye'",
            "did you mean 'type'?",
        ),
        (
            "      brand: varchar(20)",
            "      brand: varchar(20)\n      ctid: text",
            "tables.sales.columns.ctid: 'ctid' is a system column of every PostgreSQL table",
            "choose another name",
        ),
        (
            "      brand: varchar(20)",
            "      brand: varchar(20)\n      load_id: text",
            "tables.sales.columns.load_id: the column 'load_id' is taken",
            "Longbox adds it to every table a feed loads; choose another name",
        ),
        (
            "      brand: varchar(20)",
            "      brand: varchar(20)\n      brand: text",
            "tables.sales.columns.brand: the key stands twice (first in line 21)",
            "keep one of them",
        ),
        (
            "    time: sold_on",
            "    time: sold",
            "tables.sales.time: table 'sales' has no column 'sold'",
            "did you mean 'sold_on'?",
        ),
        (
            "    time: sold_on",
            "    time: price",
            "tables.sales.time: column 'price' is numeric(10,2)",
            "the time of a row is a date or a timestamptz",
        ),
        (
            "    time: sold_on\n",
            "",
            "tables.sales.partition: partition without time",
            "add `time:`, the column to partition by",
        ),
        (
            "partition: month",
            "partition: moon",
            "tables.sales.partition: 'moon' is not one of day, week, month, quarter, year",
            "did you mean 'month'?",
        ),
        (
            "    partition: month\n",
            "",
            "tables.sales.lifecycle.archive: archive without partition",
            "add `partition: month` (and `time:`): whole partitions move to the archive",
        ),
        (
            "24 months",
            "24 moons",
            "tables.sales.lifecycle.hot: '24 moons' is no length of time",
            'write a whole number and a unit, as in "24 months" (units: days, weeks, months, quarters, years)',
        ),
        (
            "24 months",
            "0 days",
            "tables.sales.lifecycle.hot: '0 days' is no time at all",
            "a period is at least 1 day",
        ),
        (
            "keep: 7 years",
            "keep: 23 months",
            "tables.sales.lifecycle.keep: keep (23 months) is shorter than hot (2 years)",
            "keep counts from the row's own time, hot included: make it at least as long as hot",
        ),
        (
            "hot: 24 months, ",
            "",
            "tables.sales.lifecycle.archive: archive without hot",
            "add `hot:`, how long rows stay in PostgreSQL, as in `hot: 24 months`",
        ),
        (
            "archive: true, ",
            "",
            "tables.sales.lifecycle.hot: hot without archive",
            "add `archive: true`, or take `hot` out and use `keep` to delete old rows",
        ),
        (
            "archive: true",
            "archive: often",
            "tables.sales.lifecycle.archive: 'often' is the wrong type",
            "write true or false",
        ),
        (
            "fail_after: 36 hours",
            "fail_after: 1:30",
            "tables.sales.freshness.fail_after: 90 is no length of time",
            'write a whole number and a unit, as in "36 hours"',
        ),
        (
            "warn_after: 26 hours",
            "warn_after: 2 days",
            "tables.sales.freshness.warn_after: warn_after is not shorter than fail_after",
            "a warning comes before a failure: make it shorter than fail_after",
        ),
        (
            "    time: sold_on",
            "    time: sold_on\n    adopt: true",
            "tables.sales.columns: an adopted table keeps its own DDL",
            "take out `columns:` or `adopt:`",
        ),
        (
            "    time: sold_on",
            "    time: sold_on\n    primary_key: [order_no]",
            "tables.sales.primary_key: a table that a feed loads has its own primary key",
            "take it out",
        ),
        (
            "\naggregates:",
            "\n  other:\n    time: at\naggregates:",
            "tables.other: nothing makes the table 'other'",
            "list its `columns:`, put migrations/ beside the file, or set `adopt: true` if it exists already",
        ),
        (
            "from: sales",
            "from: sale",
            "aggregates.by_hour.from: there is no table 'sale' under `tables:`",
            "did you mean 'sales'?",
        ),
        (
            "by: [brand",
            "by: [brandt",
            "aggregates.by_hour.by[0]: table 'sales' has no column 'brandt'",
            "did you mean 'brand'?",
        ),
        (
            "hour(sold_at)",
            "hour(sold_on)",
            "aggregates.by_hour.by[1]: column 'sold_on' is a date and has no hours",
            "use day, or a timestamptz column",
        ),
        ("hour(sold_at)", "second(sold_at)", "aggregates.by_hour.by: there is no function 'second' here", ""),
        (
            "hour(sold_at)",
            "7 minutes(sold_at)",
            "aggregates.by_hour.by: '7 minutes(sold_at)' does not divide a day evenly",
            "choose 5, 15 or 30 minutes",
        ),
        (
            "sales: count",
            'sales: "max(price, weight=price)"',
            "aggregates.by_hour.measures.sales: max takes no weight",
            "those that do are sum, mean",
        ),
        (
            "cache:",
            "gaps:\n  holes: {from: sales, by: [brandt], every: 1 day}\ncache:",
            "gaps.holes.by[0]: table 'sales' has no column 'brandt'",
            "did you mean 'brand'?",
        ),
        (
            "cache:",
            "gaps:\n  holes: {from: sales, by: [brand], every: 7 minutes}\ncache:",
            "gaps.holes.every: '7 minutes' is no step of a series",
            "write 1 minute, 5 minutes, 1 hour or 1 day",
        ),
        (
            "cache:",
            "views:\n  best: {after: [by_hours]}\ncache:",
            "views.best.after[0]: there is no table or view 'by_hours'",
            "did you mean 'by_hour'?",
        ),
        (
            "cache:",
            "views:\n  best: {after: [worst]}\n  worst: {after: [best]}\ncache:",
            "views.best.after: the view 'best' waits for itself",
            "break the circle",
        ),
        (
            "sales: count",
            "sales: counts",
            "aggregates.by_hour.measures.sales: 'counts' is no function of a column",
            "write it as count or median(price)",
        ),
        (
            "median( price )",
            "medain(price)",
            "aggregates.by_hour.measures.mid: there is no function 'medain' here",
            "did you mean 'median'?",
        ),
        (
            "median( price )",
            "median(brand)",
            "aggregates.by_hour.measures.mid: column 'brand' is character varying(20), not a number",
            "median needs a number column",
        ),
        (
            "median( price )",
            "median(prise)",
            "aggregates.by_hour.measures.mid: table 'sales' has no column 'prise'",
            "did you mean 'price'?",
        ),
        (
            "sales: count",
            "computed_at: count",
            "aggregates.by_hour.measures.computed_at: the column 'computed_at' is taken",
            "choose another name: Longbox adds it",
        ),
        (
            "  by_hour: {",
            "  sales: {",
            "aggregates.sales: there is also a table 'sales'",
            "give the aggregate a name of its own",
        ),
        (
            "ttl: 15 minutes",
            "ttl: 0 minutes",
            "cache.price.ttl: a time to live of 0 keeps nothing",
            "write 15 minutes, or leave the entry out",
        ),
        (
            "system: shop",
            "system: pg_shop",
            "system: 'pg_shop' is reserved, as it would clash with a schema of PostgreSQL or Longbox",
            "choose another",
        ),
        ("system: shop", "system: longbox", "system: 'longbox' is reserved", ""),
        (
            "system: shop",
            "system: My Shop",
            "system: 'My Shop' is no name",
            "use up to 63 small letters, digits and _, a letter first",
        ),
        (
            "system: shop",
            "system: 12",
            "system: YAML reads 12 as the number 12, a text is needed",
            'put it in quotes: "12"',
        ),
        ("system: shop\n", "", "key `system` is missing", "add it, as in `system: comics`"),
        (
            "\ntables:",
            "\ntables: [sales]\nx:",
            "tables: ['sales'] is no mapping",
            "write `tables:` and under it one `name:` each",
        ),
    ],
)
def test_a_fault_names_its_place_and_its_remedy(
    tmp_path: Path, old: str, new: str, message: str, remedy: str
) -> None:
    assert old in SHOP
    found = faults(tmp_path, SHOP.replace(old, new, 1))
    assert any(f" {message}" in line and f"; {remedy}" in line for line in found), "\n".join(found)

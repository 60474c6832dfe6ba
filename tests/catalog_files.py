"""A complete system.yaml for tests of the catalogue, and what they do with it: write, load, collect its faults."""

from pathlib import Path

import pytest

from pipelines.catalog.errors import CatalogError
from pipelines.catalog.loader import load_catalog
from pipelines.catalog.model import Catalog
from resources.errors import UserError

SHOP = """\
system: shop
description: A shop.
feeds:
  sales:
    table: sales
    columns: {Order No: order_no, Price: price}
    key: [order_no]
    require: [price]
    rules: {price: {greater_than: 0, at_most: 99.5}, brand: {one_of: ["NO", SE, 7]}}
    revision: updated_at
    derive: {sold_on: utc_date(sold_at)}
    formats: {sold_at: "%d.%m.%Y %H:%M"}
    encoding: latin1
    delimiter: "\\t"
    time_zone: Europe/Oslo
    starts_on: 2024-01-31
tables:
  sales:
    columns:
      order_no: bigint
      brand: varchar(20)
      price: numeric(10,2)
      sold_at: timestamptz
      sold_on: date
      updated_at: {type: timestamptz, description: Last change}
    time: sold_on
    partition: month
    lifecycle: {hot: 24 months, archive: true, keep: 7 years}
    freshness: {fail_after: 36 hours, warn_after: 26 hours}
aggregates:
  by_hour: {from: sales, by: [brand, {hour: hour(sold_at)}], measures: {sales: count, mid: median( price )}}
cache:
  price: {ttl: 15 minutes, stale: 5 minutes, tags: [product]}
"""


def write(folder: Path, text: str | bytes, name: str = "shop") -> Path:
    """A system folder `name` with that system.yaml."""
    target = folder / name
    target.mkdir(exist_ok=True)
    content = text if isinstance(text, bytes) else text.encode()
    (target / "system.yaml").write_bytes(content)
    return target


def load(folder: Path, text: str | bytes) -> Catalog:
    return load_catalog([write(folder, text)])


def faults(folder: Path, text: str | bytes) -> list[str]:
    """The faults as `line: path: message; remedy`, without the file's name, which stands in front of each."""
    target = write(folder, text)
    with pytest.raises(CatalogError) as refused:
        load_catalog([target])
    assert isinstance(refused.value, UserError)
    prefix = f"{target / 'system.yaml'}:"
    lines = [str(problem) for problem in refused.value.problems]
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix).strip() for line in lines]

"""A small YAML-only system for tests: a shop's sales, with a key, rules, a partitioned table and a lifecycle.

`make_shop` writes it into a folder, `Shop` lands files for it and loads them. Tests that need Dagster are elsewhere.
"""

import datetime as dt
import io
from dataclasses import dataclass
from pathlib import Path

from pipelines.catalog.ddl import apply_declared_tables
from pipelines.catalog.loader import load_catalog
from pipelines.catalog.model import Catalog, Feed, System
from pipelines.ingestion import DayLoad, Loader
from pipelines.migration import migrate
from resources.database import OWNER_ROLE, Database
from resources.object_store import ObjectStore

SHOP_YAML = """
system: shop
feeds:
  sales:
    table: sales
    columns: {id: sale_id}
    key: [shop, sale_id]
    require: [price]
    rules: {price: {greater_than: 0}}
    derive: {sold_on: utc_date(sold_at)}
    starts_on: 2026-01-01
tables:
  sales:
    columns:
      shop: text
      sale_id: text
      item: text
      price: "numeric(12,2)"
      sold_at: timestamptz
      sold_on: date
      extra: jsonb
    time: sold_on
    partition: month
    lifecycle: {keep: 7 years}
aggregates:
  sales_by_day:
    from: sales
    by: [shop, sold_on]
    measures: {sales: count, median_price: median(price), volume: sum(price)}
"""
HEADER = "shop,id,item,price,sold_at"


def make_shop(folder: Path, text: str = SHOP_YAML) -> Path:
    """Write the system into `folder` and return its folder."""
    system = folder / "shop"
    system.mkdir(parents=True, exist_ok=True)
    (system / "system.yaml").write_text(text)
    return system


@dataclass
class Shop:
    """The system on a database and a store of a test."""

    folder: Path
    catalog: Catalog
    database: Database
    owner: Database
    store: ObjectStore

    @property
    def system(self) -> System:
        return self.catalog.systems["shop"]

    @property
    def feed(self) -> Feed:
        return self.system.feeds["sales"]

    def loader(self, **options) -> Loader:
        return Loader(self.database, self.owner, self.store, self.system, self.feed, **options)

    def land(self, day: str, name: str, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.store.put(f"{self.feed.prefix}{day}/{name}", data)

    def load(self, day: str, **options) -> DayLoad:
        return self.loader(**options).load_day(dt.date.fromisoformat(day))

    def rows(self, query: str, *parameters):
        with self.database.connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def current(self) -> list[tuple]:
        """The winning version of every record, by key."""
        return self.rows(
            "SELECT s.shop, s.sale_id, s.price::text, s.sold_on::text FROM shop.sales s "
            "JOIN longbox.record_keys k USING (key_hash, content_hash) WHERE k.is_current ORDER BY 1, 2"
        )

    def reload(self, text: str) -> None:
        """Change the catalogue."""
        make_shop(self.folder.parent, text)
        self.catalog = load_catalog([self.folder])
        with self.owner.connection() as connection:
            apply_declared_tables(connection, self.catalog)

    def close(self) -> None:
        self.database.close()
        self.owner.close()


def open_shop(database_url: str, object_store_url: str, folder: Path, text: str = SHOP_YAML) -> Shop:
    """Migrate the system into the database and open it."""
    system = make_shop(folder, text)
    migrate(database_url, [system])
    database = Database(database_url)
    store = ObjectStore.from_url(object_store_url)
    return Shop(system, load_catalog([system]), database, database.as_role(OWNER_ROLE), store)


def csv_of(*rows: tuple, header: str = HEADER) -> str:
    """A CSV text of `rows` under `header`."""
    import csv

    text = io.StringIO()
    text.write(header + "\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()

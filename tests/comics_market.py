"""The comics system on a test's database: land sales, run the stages, look at the tables.

Sales are made by `sale(...)` with the columns of the feed; `Market.run` is load, match, normalise, aggregate.
"""

import csv
import datetime as dt
import io
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from assets.comics.aggregate import AggregatedRun, aggregate_days
from assets.comics.normalise import make_normaliser, match_comics
from pipelines.catalog.digest import digest_tables
from pipelines.catalog.loader import load_catalog
from pipelines.catalog.model import Catalog, Feed, System
from pipelines.ingestion import DayLoad, Loader
from pipelines.normalisation.engine import DayFailure, NormalisedDay, Normaliser, normalise_days
from resources.database import OWNER_ROLE, Database
from resources.object_store import ObjectStore
from resources.settings import PROJECT_ROOT

FOLDERS = [PROJECT_ROOT / "assets" / "comics", PROJECT_ROOT / "assets" / "reference"]
COLUMNS = (
    "marketplace",
    "listing_id",
    "title",
    "condition",
    "price",
    "currency",
    "sold_at",
    "updated_at",
    "status",
)
TABLES = ("publishers", "series", "comics", "pricing_data_normalized", "pricing_data_aggregated")
RATES = {"GBP": "0.85", "USD": "1.10", "JPY": "160"}
SPIDER = "Amazing Spider-Man #300 CGC 9.8"
_ids = itertools.count(1)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def sale(
    title: str = "Amazing Spider-Man #300 CGC 9.8",
    price: str = "100.00",
    sold_at: str = "2026-10-05T12:00:00Z",
    **more: str,
) -> dict[str, str]:
    """One landed sale; an id of its own unless `listing_id` is given."""
    given = {"marketplace": "ebay", "currency": "USD", "condition": "", "updated_at": ""} | more
    return {"listing_id": f"L{next(_ids)}", "title": title, "price": price, "sold_at": sold_at} | given


def random_sales(count: int, seed: int = 1) -> Iterator[dict[str, str]]:
    """Sales of a few comics and a lot in a hundred days, some of them far from the usual price."""
    chance = random.Random(seed)
    for number in range(count):
        title = chance.choice(["X-Men #1", "Hulk #181", SPIDER, "Batman #1 CGC 5.0", "Thor 1-9 lot"])
        moment = dt.datetime(2026, 7, 20, tzinfo=dt.UTC) + dt.timedelta(minutes=chance.randrange(100 * 1440))
        price = math.exp(chance.gauss(4, 1.5 if chance.random() < 0.1 else 0.2))
        yield sale(title, f"{price:.2f}", moment.isoformat(), listing_id=f"R{seed}-{number}")


def file_of(sales: list[dict[str, str]]) -> bytes:
    """The sales as a landed CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(sales)
    return text.getvalue().encode()


@dataclass
class Market:
    """The comics system on a database and a store of a test."""

    catalog: Catalog
    database: Database
    owner: Database
    store: ObjectStore
    names: itertools.count = field(default_factory=lambda: itertools.count(1))

    @property
    def system(self) -> System:
        return self.catalog.systems["comics"]

    @property
    def feed(self) -> Feed:
        return self.system.feeds["marketplace_sales"]

    @property
    def normaliser(self) -> Normaliser:
        return make_normaliser(self.system, self.database, self.owner)

    def land(self, landing_day: str, *sales: dict[str, str]) -> DayLoad:
        """Land a file of sales and load its day."""
        self.store.put(f"{self.feed.prefix}{landing_day}/f{next(self.names):04d}.csv", file_of(list(sales)))
        return self.load(landing_day)

    def load(self, landing_day: str) -> DayLoad:
        return Loader(self.database, self.owner, self.store, self.system, self.feed).load_day(
            day(landing_day)
        )

    def normalise(self, *days: str) -> list[NormalisedDay | DayFailure]:
        for landing_day in days:
            match_comics(self.normaliser, day(landing_day))
        results = normalise_days(self.normaliser, [day(text) for text in days])
        assert not [result for result in results if isinstance(result, DayFailure)], results
        return results

    def aggregate(self, *days: str) -> AggregatedRun:
        return aggregate_days(self.database, [day(text) for text in days])

    def run(self, *days: str) -> None:
        """Normalise and aggregate days that are loaded."""
        self.normalise(*days)
        self.aggregate(*days)

    def rows(self, query: str, *parameters: object) -> list[tuple]:
        with self.database.connection() as connection:
            return connection.execute(query, parameters or None).fetchall()

    def set_rates(self, *days: str, rates: dict[str, str] | None = None) -> None:
        """Publish the same rates on each of the days."""
        with self.database.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO reference.fx_rates (currency, rate_on, rate_per_eur, source) VALUES (%s, %s, %s, 'test') "
                "ON CONFLICT (currency, rate_on) DO UPDATE SET rate_per_eur = excluded.rate_per_eur, "
                "loaded_at = clock_timestamp()",
                [(code, text, rate) for text in days for code, rate in (rates or RATES).items()],
            )

    def digest(self) -> dict[str, str]:
        """Content of the comics tables, by table."""
        with self.database.connection() as connection:
            found = digest_tables(connection, self.catalog, [f"comics.{table}" for table in TABLES])
        return {entry.table: f"{entry.rows} {entry.content_hash}" for entry in found}

    def written(self) -> dict[str, str]:
        """Physical identity of the rows of the derived tables: the same twice means nothing was written between."""
        query = "SELECT md5(string_agg(concat_ws(' ', tableoid, ctid, xmin), ',' ORDER BY tableoid, ctid)) FROM comics."
        return {table: self.rows(query + table)[0][0] for table in TABLES}

    def close(self) -> None:
        self.database.close()
        self.owner.close()


def open_market(database_url: str, object_store_url: str) -> Market:
    """Open the system on a database that has every migration."""
    database = Database(database_url)
    return Market(
        load_catalog(FOLDERS), database, database.as_role(OWNER_ROLE), ObjectStore.from_url(object_store_url)
    )

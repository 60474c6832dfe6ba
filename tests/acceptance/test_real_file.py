"""A real file of 47,297 sales through a system that is YAML alone, compared with a pandas recomputation of the file.

The file is not part of the project (its licence is not ours): `shared/data` beside the checkout has it, or the test
says that it is absent.
"""

import gzip
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from definitions import build_definitions
from pipelines.catalog.digest import digest_tables
from pipelines.catalog.loader import load_catalog
from pipelines.migration import migrate
from resources.cache import Cache
from resources.database import OWNER_ROLE, Database
from resources.notifier import Notifier
from resources.object_store import ObjectStore
from resources.settings import PROJECT_ROOT

FILE = PROJECT_ROOT.parent / "shared" / "data" / "sneaker_sales_2017_2018.csv.gz"
SYSTEM = """
system: sneakers
feeds:
  sales:
    table: resales
    columns: {Order Date: order_date, Brand: brand, Sneaker Name: sneaker_name, Sale Price: sale_price,
              Retail Price: retail_price, Release Date: release_date, Shoe Size: shoe_size, Buyer Region: buyer_region}
    require: [brand, sneaker_name, sale_price]
    rules: {sale_price: {greater_than: 0}}
    starts_on: 2017-09-01
tables:
  resales:
    columns: {order_date: date, brand: text, sneaker_name: text, sale_price: "numeric(10,2)",
              retail_price: "numeric(10,2)", release_date: date, shoe_size: "numeric(4,1)", buyer_region: text}
    time: order_date
    partition: month
aggregates:
  sales_by_day:
    from: resales
    by: [order_date]
    measures: {sales: count, median_price: median(sale_price), volume: sum(sale_price)}
"""


@pytest.fixture
def sneakers(settings, tmp_path, monkeypatch):
    if not FILE.exists():
        pytest.skip(f"the real file is absent: {FILE.relative_to(PROJECT_ROOT.parent)}")
    folder = tmp_path / "systems" / "sneakers"
    folder.mkdir(parents=True)
    (folder / "system.yaml").write_text(SYSTEM)
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(folder.parent))
    migrate(settings.postgres_url, [folder])
    database = Database(settings.postgres_url)
    owner = database.as_role(OWNER_ROLE)
    store = ObjectStore.from_url(settings.object_store)
    resources = {
        "settings": settings, "database": database, "owner_database": owner, "store": store,
        "cache": Cache(settings.redis_url), "notifier": Notifier(),
    }  # fmt: skip
    job = build_definitions(resources=resources).resolve_job_def("daily_pipeline_sneakers")
    yield job, database, store, load_catalog([folder])
    database.close()
    owner.close()


def run(job, first, last):
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def land_by_day(store: ObjectStore, file: Path, prefix: str) -> int:
    """One landed file a day of the real file; returns how many days there are."""
    with gzip.open(file, "rt", newline="") as text:
        header, *lines = text.read().splitlines(keepends=True)
    days: dict[str, list[str]] = {}
    for line in lines:
        days.setdefault(line.split(",", 1)[0], []).append(line)
    for day, rows in days.items():
        store.put(f"{prefix}{day}/sales.csv", (header + "".join(rows)).encode())
    return len(days)


def test_a_real_year_is_accounted_for_and_its_daily_figures_equal_pandas(sneakers):
    job, database, store, catalog = sneakers
    truth = pd.read_csv(FILE)
    days = sorted(truth["Order Date"].unique())
    assert land_by_day(store, FILE, "landing/sneakers/sales/") == len(days)

    assert run(job, days[0], days[-1]).success
    with database.connection() as connection:
        account = connection.execute(
            "SELECT sum(landed_rows), sum(loaded_rows), sum(duplicate_rows), sum(quarantined_rows) FROM longbox.loads"
        ).fetchone()
        rows = connection.execute(
            "SELECT order_date::text, sales, median_price, volume FROM sneakers.sales_by_day ORDER BY 1"
        ).fetchall()
        before = digest_tables(connection, catalog)
    assert account == (len(truth), len(truth), 0, 0)

    expected = truth.groupby("Order Date")["Sale Price"].agg(["size", "median", "sum"])
    assert [row[0] for row in rows] == list(expected.index)
    assert [row[1] for row in rows] == list(expected["size"])
    assert [float(row[2]) for row in rows] == pytest.approx(list(expected["median"]), abs=0.005)
    assert [float(row[3]) for row in rows] == pytest.approx(list(expected["sum"]), abs=0.005)

    # The same days under other names: nothing changes.
    for day in days:
        data = b"".join(store.read(f"landing/sneakers/sales/{day}/sales.csv"))
        store.put(f"landing/sneakers/sales/{day}/again.csv.gz", gzip.compress(data))
    assert run(job, days[0], days[-1]).success
    with database.connection() as connection:
        assert digest_tables(connection, catalog) == before
        total = connection.execute(
            "SELECT sum(landed_rows), sum(duplicate_rows) FROM longbox.loads"
        ).fetchone()
    assert total == (2 * len(truth), len(truth))

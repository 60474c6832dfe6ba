"""Partitions on a real server: made once whoever asks, ahead of time, beside readers and writers, gaps told."""

import datetime
import threading
from collections.abc import Iterator

import psycopg
import pytest

from deploy.local.processes import wait_until
from pipelines.catalog.loader import load_catalog
from pipelines.catalog.partitions import (
    Gap,
    PartitionError,
    PartitionsBusyError,
    ensure_months,
    ensure_periods,
    find_gaps,
    keep_ahead,
    list_partitions,
)
from resources.database import OWNER_ROLE, Database
from tests.integration.migration_support import Shop, execute, new_database, value

UTC = datetime.UTC
JANUARY, MARCH = datetime.date(2026, 1, 15), datetime.date(2026, 3, 1)
TABLES = """
CREATE TABLE shop.goods (good_id int PRIMARY KEY);
CREATE TABLE shop.sales (
  sale_id bigint GENERATED ALWAYS AS IDENTITY, sold_on date NOT NULL, good_id int REFERENCES shop.goods,
  price numeric CHECK (price > 0), double_price numeric GENERATED ALWAYS AS (price * 2) STORED,
  PRIMARY KEY (sale_id, sold_on)) PARTITION BY RANGE (sold_on);
CREATE INDEX ON shop.sales (good_id, sold_on DESC);
CREATE TABLE shop.visits (visited_at timestamptz NOT NULL) PARTITION BY RANGE (visited_at);
CREATE TABLE shop.plain (a int);
"""
YAML = """
system: shop
tables:
  sales: {time: sold_on, partition: month}
  visits: {time: visited_at, partition: day}
  plain: {}
  goods: {}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("systems") / "shop")
    shop.add(1, TABLES)
    return shop


@pytest.fixture(scope="module")
def migrated(postgres_admin_url: str, shop: Shop) -> Iterator[str]:
    with new_database(postgres_admin_url) as url:
        shop.migrate(url)
        yield url.rsplit("/", 1)[1]


@pytest.fixture
def url(postgres_admin_url: str, migrated: str) -> Iterator[str]:
    with new_database(postgres_admin_url, migrated) as url:
        yield url


@pytest.fixture
def owner(url: str) -> Iterator[Database]:
    with Database(url, role=OWNER_ROLE) as owner:
        yield owner


def names(url: str, table: str = "sales") -> list[str]:
    with psycopg.connect(url) as connection:
        return [partition.name for partition in list_partitions(connection, "shop", table)]


def test_a_month_is_made_once_and_the_second_time_nothing_happens(url: str, owner: Database) -> None:
    assert ensure_months(owner, "shop", "sales", [JANUARY, MARCH, JANUARY]) == (
        "sales_y2026m01",
        "sales_y2026m03",
    )
    assert ensure_months(owner, "shop", "sales", [JANUARY, MARCH]) == ()
    assert names(url) == ["sales_y2026m01", "sales_y2026m03"]


def test_a_partition_has_what_its_parent_has_and_the_rights_of_its_schema(url: str, owner: Database) -> None:
    ensure_months(owner, "shop", "sales", [JANUARY])
    execute(url, "INSERT INTO shop.goods VALUES (1)", role="longbox_app")
    row = "INSERT INTO shop.sales (sold_on, good_id, price) VALUES ('2026-01-15', %s, %s) RETURNING double_price"
    assert execute(url, row, 1, 5, role="longbox_app") == [(10,)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        execute(url, row, 2, 5)
    with pytest.raises(psycopg.errors.CheckViolation):
        execute(url, row, 1, -5)
    assert execute(url, "SELECT count(*) FROM shop.sales_y2026m01", role="longbox_reader") == [(1,)]
    unattached = (
        "SELECT count(*) FROM pg_index WHERE indrelid = 'shop.sales_y2026m01'::regclass "
        "AND indexrelid NOT IN (SELECT inhrelid FROM pg_inherits)"
    )
    assert value(url, unattached) == 0


def test_many_at_once_make_each_partition_once(url: str) -> None:
    days = [datetime.date(2025, month, 1) for month in range(1, 13)]
    made: list[str] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with Database(url, role=OWNER_ROLE) as owner:
                made.extend(ensure_months(owner, "shop", "sales", days))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(made) == names(url)
    assert len(made) == 12


def test_a_transaction_that_has_written_to_the_table_does_not_stand_in_the_way(
    url: str, owner: Database
) -> None:
    ensure_months(owner, "shop", "sales", [JANUARY])
    with psycopg.connect(url) as writer:
        writer.execute("SET ROLE longbox_app")
        writer.execute("INSERT INTO shop.sales (sold_on, price) VALUES ('2026-01-15', 1)")
        assert ensure_months(owner, "shop", "sales", [MARCH]) == ("sales_y2026m03",)
        writer.execute("INSERT INTO shop.sales (sold_on, price) VALUES ('2026-03-01', 1)")
    assert value(url, "SELECT count(*) FROM shop.sales") == 2


def test_a_table_that_stays_locked_is_tried_again_and_then_told(
    url: str, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.catalog.lock_waits.LOCK_TIMEOUT_MS", 20)
    waits: list[float] = []
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE shop.sales IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(PartitionsBusyError, match=r"shop\.sales.*end the long transaction"):
            ensure_periods(owner, "shop", "sales", [JANUARY], "month", sleep=waits.append)
        assert names(url) == []

        def release(_: float) -> None:
            other.rollback()

        assert ensure_periods(owner, "shop", "sales", [JANUARY], "month", sleep=release) == (
            "sales_y2026m01",
        )
    assert len(waits) > 5


def test_a_vacuum_that_the_server_began_by_itself_gives_way(
    url: str, owner: Database, postgres_admin_url: str
) -> None:
    with psycopg.connect(postgres_admin_url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            execute(
                url,
                "ALTER TABLE shop.goods SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, "
                "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)",
            )
            execute(url, "INSERT INTO shop.goods SELECT generate_series(1, 100_000)")
            execute(url, "DELETE FROM shop.goods WHERE good_id > 1")
            vacuum = (
                "SELECT count(*) FROM pg_stat_progress_vacuum WHERE datname = current_database() "
                "AND relid = 'shop.goods'::regclass"
            )
            assert wait_until(lambda: value(url, vacuum) or None, seconds=60)
            made = ensure_periods(owner, "shop", "sales", [JANUARY], "month", sleep=lambda _: None)
            assert made == ("sales_y2026m01",)
        finally:
            admin.execute("ALTER SYSTEM RESET autovacuum_naptime")
            admin.execute("SELECT pg_reload_conf()")


def test_days_of_a_timestamp_are_cut_at_midnight_utc(url: str, owner: Database) -> None:
    execute(url, "ALTER DATABASE " + url.rsplit("/", 1)[1] + " SET timezone = 'Asia/Tokyo'")
    assert ensure_periods(owner, "shop", "visits", [JANUARY], "day") == ("visits_y2026m01d15",)
    with owner.connection() as connection:
        (partition,) = list_partitions(connection, "shop", "visits")
    assert partition.lower == datetime.datetime(2026, 1, 15, tzinfo=UTC)
    assert partition.upper == datetime.datetime(2026, 1, 16, tzinfo=UTC)
    execute(url, "INSERT INTO shop.visits VALUES ('2026-01-15 23:59:59.999999+00'), ('2026-01-15 00:00+00')")
    with pytest.raises(psycopg.errors.CheckViolation):
        execute(url, "INSERT INTO shop.visits VALUES ('2026-01-16 00:00+00')")


def test_a_day_that_a_partition_of_another_name_and_length_holds_needs_none(
    url: str, owner: Database
) -> None:
    execute(url, "CREATE TABLE shop.old PARTITION OF shop.sales FOR VALUES FROM (MINVALUE) TO ('2026-02-01')")
    assert ensure_months(owner, "shop", "sales", [JANUARY, datetime.date(1999, 1, 1)]) == ()
    assert ensure_months(owner, "shop", "sales", [MARCH]) == ("sales_y2026m03",)


def test_a_partition_in_the_way_of_half_a_month_is_told(url: str, owner: Database) -> None:
    execute(
        url, "CREATE TABLE shop.half PARTITION OF shop.sales FOR VALUES FROM ('2026-01-01') TO ('2026-01-10')"
    )
    with pytest.raises(PartitionError, match=r"would overlap.*split the partition that is in the way"):
        ensure_months(owner, "shop", "sales", [JANUARY])
    assert names(url) == ["half"]


def test_a_detached_month_that_was_renamed_can_be_made_anew(url: str, owner: Database) -> None:
    ensure_months(owner, "shop", "sales", [JANUARY])
    execute(url, "ALTER TABLE shop.sales DETACH PARTITION shop.sales_y2026m01", role="longbox_owner")
    with pytest.raises(PartitionError, match="exists, but is no partition"):
        ensure_months(owner, "shop", "sales", [JANUARY])
    execute(url, "ALTER TABLE shop.sales_y2026m01 RENAME TO sales_y2026m01_archived", role="longbox_owner")
    assert ensure_months(owner, "shop", "sales", [JANUARY]) == ("sales_y2026m01",)


def test_a_table_that_is_not_partitioned_is_told(owner: Database) -> None:
    with pytest.raises(PartitionError, match=r"shop.plain is not partitioned"):
        ensure_months(owner, "shop", "plain", [JANUARY])


def test_gaps_are_found_between_partitions_and_up_to_a_day(url: str, owner: Database) -> None:
    ensure_months(owner, "shop", "sales", [JANUARY, MARCH])
    with owner.connection() as connection:
        (gap,) = find_gaps(connection, "shop", "sales")
        assert gap == Gap(
            "shop",
            "sales",
            datetime.datetime(2026, 2, 1, tzinfo=UTC),
            datetime.datetime(2026, 3, 1, tzinfo=UTC),
        )
        assert find_gaps(connection, "shop", "sales", until=datetime.date(2026, 5, 1))[
            1
        ].upper == datetime.datetime(2026, 5, 1, tzinfo=UTC)
        assert find_gaps(connection, "shop", "sales", since=MARCH) == []
        assert find_gaps(connection, "shop", "visits") == []
        (everything,) = find_gaps(connection, "shop", "visits", since=JANUARY, until=MARCH)
        assert (everything.lower.date(), everything.upper.date()) == (JANUARY, MARCH)
    ensure_months(owner, "shop", "sales", [datetime.date(2026, 2, 28)])
    with owner.connection() as connection:
        assert find_gaps(connection, "shop", "sales") == []


def test_partitions_are_kept_ahead_for_every_partitioned_table(url: str, owner: Database, shop: Shop) -> None:
    (shop.folder / "system.yaml").write_text(YAML)
    catalog = load_catalog([shop.folder])
    now = datetime.datetime(
        2026, 12, 31, 23, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=-2))
    )  # 2027 in UTC
    made = keep_ahead(owner, catalog, now)
    assert names(url) == [
        f"sales_y{month}" for month in ("2026m12", "2027m01", "2027m02", "2027m03", "2027m04")
    ]
    assert names(url, "visits")[0] == "visits_y2026m12d31"
    assert len(names(url, "visits")) == 16
    assert len(made) == 21
    assert keep_ahead(owner, catalog, now) == ()
    next_month = now + datetime.timedelta(days=31)
    assert keep_ahead(owner, catalog, next_month)[0] == "shop.sales_y2027m05"


def test_a_name_that_postgresql_would_cut_is_refused(url: str, owner: Database) -> None:
    long = "s" * 58
    execute(url, f"CREATE TABLE shop.{long} (d date) PARTITION BY RANGE (d)", role="longbox_owner")
    with pytest.raises(PartitionError, match="rename the table to something shorter"):
        ensure_months(owner, "shop", long, [JANUARY])

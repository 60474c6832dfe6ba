"""A large file fills the new partitions it needs by itself: the same rows, account and partitions as otherwise."""

import datetime as dt
import threading

import psycopg
import pytest
from psycopg import sql

from pipelines.catalog.bulk_partitions import FreshPartitions
from pipelines.catalog.digest import digest_tables
from pipelines.catalog.partitions import PartitionError
from pipelines.ingestion import Loader, reconcile
from tests.shop import SHOP_YAML, csv_of, open_shop

DAY = "2026-10-30"
BULK = {"bulk_bytes": 0, "chunk_rows": 40}  # every file is a large one


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path)
    forget(opened)
    yield opened
    opened.close()


def sale(number, month, price="10.00"):
    return ("north", str(number), "chair", price, f"2026-{month:02d}-10T12:00:00Z")


def account(load):
    return (load.landed_rows, load.loaded_rows, load.duplicate_rows, load.quarantined_rows)


def partitions(shop):
    """Each partition's indexes, constraints, defaults, extended statistics and rights."""
    names = shop.rows(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'shop.sales'::regclass ORDER BY 1"
    )
    found = {}
    for (name,) in names:
        (facts,) = shop.rows(
            "SELECT (SELECT array_agg(i.indexrelid::regclass::text || pg_get_indexdef(i.indexrelid))"
            "          FROM pg_index i WHERE i.indrelid = c.oid),"
            "       (SELECT array_agg(conname::text || pg_get_constraintdef(oid)) FROM pg_constraint"
            "         WHERE conrelid = c.oid),"
            "       (SELECT array_agg(format('%%s %%s %%s %%s', a.attname, a.attidentity, a.attnotnull, pg_get_expr("
            "          d.adbin, d.adrelid)) ORDER BY a.attnum) FROM pg_attribute a"
            "          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
            "          WHERE a.attrelid = c.oid AND a.attnum > 0),"
            "       (SELECT array_agg(pg_get_statisticsobjdef(oid)) FROM pg_statistic_ext WHERE stxrelid = c.oid),"
            "       (SELECT array_agg(entry::text) FROM unnest(c.relacl) AS entry), c.relowner::regrole::text,"
            "       pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.oid = %s::regclass",
            name,
        )
        found[name] = tuple(sorted(fact) if isinstance(fact, list) else fact for fact in facts)
    return found


def digest(shop):
    with shop.database.connection() as connection:
        return [
            (entry.table, entry.rows, entry.content_hash) for entry in digest_tables(connection, shop.catalog)
        ]


def forget(shop):
    """Everything that was loaded, and the partitions, as if nothing had ever landed."""
    names = list(partitions(shop))
    with shop.owner.connection() as connection:
        for name in names:
            connection.execute(f"DROP TABLE {name}")
        connection.execute(
            "TRUNCATE longbox.loads, longbox.record_keys, longbox.version_switches, longbox.quarantine, "
            "longbox.tombstones, longbox.day_results"
        )


def history():
    """Rows of six months: versions of one record in a chunk and over chunks, repetitions, bad rows, one twice."""
    rows = [sale(n, 1 + n % 6) for n in range(200)]
    return csv_of(
        *rows[:100], sale(3, 2, "11.00"), sale(3, 5, "12.00"), *rows[10:15], sale(900, 3, "-1"), *rows[100:],
        sale(150, 1, "13.00"), *rows[:7], sale(901, 4, "12345678901234"), sale(900, 3, "-1"),
    )  # fmt: skip


def test_a_file_that_fills_its_partitions_leaves_what_one_does_that_has_them_made(shop):
    shop.land(DAY, "a.csv", history())
    shop.load(DAY, bulk_bytes=1 << 30, chunk_rows=40)
    expected = (digest(shop), partitions(shop), shop.current(), shop.rows(
        "SELECT line, reason FROM longbox.quarantine ORDER BY line"))  # fmt: skip
    forget(shop)
    load = shop.load(DAY, **BULK)
    assert account(load) == (218, 203, 12, 3)
    assert expected == (digest(shop), partitions(shop), shop.current(), shop.rows(
        "SELECT line, reason FROM longbox.quarantine ORDER BY line"))  # fmt: skip
    assert len(partitions(shop)) == 6
    assert reconcile(shop.database, shop.feed, dt.date.fromisoformat(DAY)).problems == ()


def test_columns_that_were_dropped_made_up_or_have_rules_are_as_in_partitions_made_beforehand(shop):
    with shop.owner.connection() as connection:
        connection.execute(
            "ALTER TABLE shop.sales ADD COLUMN gone integer, "
            "ADD COLUMN cents bigint GENERATED ALWAYS AS ((price * 100)::bigint) STORED, "
            "ADD COLUMN dozens numeric GENERATED ALWAYS AS (price * 12) VIRTUAL, "
            "ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now(), "
            "ADD CONSTRAINT has_item CHECK (item <> ''), ALTER COLUMN item SET STORAGE EXTERNAL"
        )
        connection.execute("ALTER TABLE shop.sales DROP COLUMN gone")
        connection.execute("CREATE STATISTICS shop.by_two (mcv, dependencies) ON shop, item FROM shop.sales")
        connection.execute("CREATE STATISTICS ON item, shop, (price * 2) FROM shop.sales")
        connection.execute("CREATE STATISTICS ON (price / 3) FROM shop.sales")
    shop.land(DAY, "a.csv", history())
    shop.load(DAY, bulk_bytes=1 << 30, chunk_rows=40)
    made_up = "SELECT sale_id, price, cents, dozens, seen_at IS NULL FROM shop.sales ORDER BY key_hash, content_hash"
    expected = partitions(shop), shop.rows(made_up)
    forget(shop)
    shop.load(DAY, **BULK)
    assert (partitions(shop), shop.rows(made_up)) == expected


def test_rows_of_partitions_that_are_there_go_into_them_beside_new_ones(shop):
    shop.land("2026-10-29", "a.csv", csv_of(*(sale(n, 3) for n in range(30))))
    shop.load("2026-10-29")
    before = partitions(shop)
    shop.land(DAY, "b.csv", csv_of(*(sale(n, 3 if n % 2 else 4) for n in range(20, 120))))
    load = shop.load(DAY, **BULK)
    assert account(load) == (100, 95, 5, 0), (
        "five even ones below 30 are corrections, five odd ones are known"
    )
    after = partitions(shop)
    assert len(after) == 2 and all(after[name] == facts for name, facts in before.items())
    assert len(shop.current()) == 120
    shop.land("2026-10-31", "c.csv", csv_of(*(sale(n, 4, "9.00") for n in range(200, 220))))
    assert account(shop.load("2026-10-31", **BULK)) == (20, 20, 0, 0)
    assert shop.rows("SELECT count(*), count(DISTINCT raw_id) FROM shop.sales") == [(145, 145)]


def test_a_row_that_a_new_partition_refuses_is_quarantined_and_all_others_load(shop):
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales ADD CONSTRAINT no_rubber CHECK (sale_id <> '57')")
    shop.land(DAY, "a.csv", csv_of(*(sale(n, 1 + n % 4) for n in range(100))))
    assert account(shop.load(DAY, **BULK)) == (100, 99, 0, 1)
    assert shop.rows("SELECT line, reason, detail FROM longbox.quarantine") == [
        (
            59,
            "refused_by_table",
            'new row for relation "sales_y2026m02" violates check constraint "no_rubber"',
        )
    ]
    assert shop.rows("SELECT count(*) FROM longbox.record_keys") == [(99,)]


@pytest.mark.parametrize("options", [BULK, {}], ids=["filled first", "made beforehand"])
def test_a_default_partition_that_holds_rows_of_a_new_ones_time_is_named_with_what_to_do(shop, options):
    with shop.owner.connection() as connection:
        connection.execute("CREATE TABLE shop.others PARTITION OF shop.sales DEFAULT")
        connection.execute(
            "INSERT INTO shop.sales (shop, sale_id, price, sold_on, key_hash, content_hash, line, landing_day, "
            "load_id) VALUES ('north', '1', 1, '2026-02-01', gen_random_uuid(), gen_random_uuid(), 1, '2026-02-01', 1)"
        )
    shop.land(DAY, "a.csv", csv_of(*(sale(n, 1 + n % 3) for n in range(30))))
    words = (
        r"shop\.sales cannot take a partition for 2026-02-01 to 2026-03-01: its default partition others holds rows of "
        r"that time; detach it \(ALTER TABLE shop\.sales DETACH PARTITION shop\.others\), run again"
    )
    with pytest.raises(PartitionError, match=words):
        shop.load(DAY, **options)
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales DETACH PARTITION shop.others")
    assert account(shop.load(DAY, **options)) == (30, 30, 0, 0), "what it says to do helps"


def test_a_default_partition_without_rows_of_that_time_is_no_obstacle(shop):
    with shop.owner.connection() as connection:
        connection.execute("CREATE TABLE shop.others PARTITION OF shop.sales DEFAULT")
    shop.land(DAY, "a.csv", csv_of(*(sale(n, 1 + n % 3) for n in range(30))))
    assert account(shop.load(DAY, **BULK)) == (30, 30, 0, 0)


TWO_FEEDS = SHOP_YAML.replace(
    "tables:\n",
    "  returns:\n    table: sales\n    columns: {id: sale_id}\n    key: [shop, sale_id]\n"
    "    derive: {sold_on: utc_date(sold_at)}\n    starts_on: 2026-01-01\ntables:\n",
)


def test_two_loaders_that_fill_the_same_new_partition_at_once_both_keep_all_their_rows(
    database_url, object_store_url, tmp_path, monkeypatch
):
    shop = open_shop(database_url, object_store_url, tmp_path, TWO_FEEDS)
    forget(shop)
    shop.land(DAY, "a.csv", csv_of(*(sale(n, 1 + n % 3) for n in range(90))))
    shop.store.put(
        f"landing/shop/returns/{DAY}/b.csv", csv_of(*(sale(n, 2 + n % 3) for n in range(60))).encode()
    )
    both_filled = threading.Barrier(2, timeout=60)
    attach = FreshPartitions.attach

    def attach_when_both_have_filled(fresh):
        both_filled.wait()
        attach(fresh)

    monkeypatch.setattr(FreshPartitions, "attach", attach_when_both_have_filled)
    loads = {}

    def load(feed):
        loader = Loader(shop.database, shop.owner, shop.store, shop.system, feed, **BULK)
        loads[feed.name] = account(loader.load_day(dt.date.fromisoformat(DAY)))

    threads = [threading.Thread(target=load, args=(feed,)) for feed in shop.system.feeds_of("sales")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    assert loads == {"sales": (90, 90, 0, 0), "returns": (60, 60, 0, 0)}
    assert len(partitions(shop)) == 4
    assert shop.rows("SELECT count(*), count(DISTINCT raw_id) FROM shop.sales") == [(150, 150)]
    left = "SELECT count(*) FROM pg_class WHERE starts_with(relname, 'longbox_loading')"
    assert shop.rows(left) == [(0,)]
    shop.close()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE shop.sales ADD CONSTRAINT one_a_day UNIQUE (sale_id, price, sold_on)",
        "CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
        "CREATE TRIGGER look BEFORE INSERT ON shop.sales FOR EACH ROW EXECUTE FUNCTION shop.nothing()",
        "ALTER TABLE shop.sales ADD COLUMN other bigint GENERATED ALWAYS AS IDENTITY",
        "RESET ROLE; CREATE PUBLICATION sent FOR TABLE shop.sales",
        "RESET ROLE; CREATE PUBLICATION sent FOR TABLES IN SCHEMA shop",
        "RESET ROLE; CREATE PUBLICATION sent FOR ALL TABLES",
    ],
)
def test_where_filling_first_would_differ_the_partitions_are_made_beforehand(shop, change, monkeypatch):
    with shop.owner.connection() as connection:
        connection.execute(change)
    made = []
    make = FreshPartitions.make
    monkeypatch.setattr(FreshPartitions, "make", lambda *arguments: made.append(1) or make(*arguments))
    shop.land(DAY, "a.csv", csv_of(*(sale(n, 1 + n % 3) for n in range(30))))
    assert account(shop.load(DAY, **BULK)) == (30, 30, 0, 0)
    assert made == [] and len(partitions(shop)) == 3


def test_a_database_that_names_its_own_tablespace_has_the_partitions_made_beforehand(
    shop, database_url, object_store_url, tmp_path
):
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET default_tablespace = pg_default").format(name))
    (tmp_path / "anew").mkdir()
    anew = open_shop(database_url, object_store_url, tmp_path / "anew")
    forget(anew)
    anew.land(DAY, "a.csv", history())
    assert account(anew.load(DAY, **BULK)) == (218, 203, 12, 3)
    assert len(partitions(anew)) == 6
    anew.close()


def test_a_row_that_an_index_cannot_be_built_over_costs_no_other(shop):
    with shop.owner.connection() as connection:
        connection.execute("CREATE INDEX ON shop.sales ((1 / (sale_id::integer - 57)))")
    shop.land(DAY, "a.csv", csv_of(*(sale(n, 1 + n % 4) for n in range(100))))
    assert account(shop.load(DAY, **BULK)) == (100, 99, 0, 1)
    assert shop.rows("SELECT line, reason FROM longbox.quarantine") == [(59, "refused_by_table")]

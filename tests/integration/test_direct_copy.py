"""New rows go straight to the table; known, repeated, deleted and refused ones go the long way, in the same file."""

import pytest

from pipelines.ingestion.binding import FeedDefinitionError
from tests.shop import SHOP_YAML, csv_of, open_shop

DAY, NEXT = "2026-03-02", "2026-03-03"
YAML = SHOP_YAML.replace(
    "extra: jsonb", "extra: jsonb\n      stock: {type: integer, not_null: true, default: 7}"
)
HEADER = "shop,id,item,price,sold_at,stock"


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path, YAML)
    yield opened
    opened.close()


def rows(first, last, price="5", stock=""):
    return [("north", f"{n}", "pen", price, "2026-03-01T10:00:00Z", stock) for n in range(first, last)]


def account(load):
    return (load.landed_rows, load.loaded_rows, load.duplicate_rows, load.quarantined_rows)


def test_one_file_of_new_known_repeated_and_refused_rows_keeps_its_account(shop):
    shop.land(DAY, "a.csv", csv_of(*rows(0, 20), header=HEADER))
    assert account(shop.load(DAY, chunk_rows=8)) == (20, 20, 0, 0)
    mixed = [*rows(10, 40), *rows(15, 20, price="6"), *rows(30, 33), *rows(90, 91, price="12345678901234")]
    shop.land(NEXT, "b.csv", csv_of(*mixed, header=HEADER))
    assert account(shop.load(NEXT, chunk_rows=8)) == (39, 25, 13, 1)
    assert shop.rows("SELECT count(*), count(DISTINCT key_hash) FROM shop.sales") == [(45, 40)]
    assert [row for row in shop.current() if row[2] == "6.00"] == [
        ("north", f"{n}", "6.00", "2026-03-01") for n in range(15, 20)
    ]
    assert shop.load(NEXT, chunk_rows=8).files[0].status == "seen"


def test_an_empty_field_of_a_column_that_must_have_a_value_means_its_default(shop):
    shop.land(DAY, "a.csv", csv_of(*rows(0, 3), *rows(3, 5, stock="2"), header=HEADER))
    assert account(shop.load(DAY)) == (5, 5, 0, 0)
    assert shop.rows("SELECT sale_id, stock FROM shop.sales ORDER BY 1") == [
        ("0", 7), ("1", 7), ("2", 7), ("3", 2), ("4", 2),
    ]  # fmt: skip


def test_a_default_that_differs_from_row_to_row_is_made_by_postgresql(shop):
    with shop.owner.connection() as connection:
        connection.execute(
            "CREATE SEQUENCE shop.numbers START 100; GRANT USAGE ON shop.numbers TO longbox_app"
        )
        connection.execute("ALTER TABLE shop.sales ALTER stock SET DEFAULT nextval('shop.numbers')")
    shop.land(DAY, "a.csv", csv_of(*rows(0, 3), header=HEADER))
    assert account(shop.load(DAY)) == (3, 3, 0, 0)
    assert shop.rows("SELECT count(DISTINCT stock), min(stock) FROM shop.sales") == [(3, 100)]


def test_a_chunk_of_which_the_table_refuses_a_row_loads_all_others(shop):
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales ADD CONSTRAINT no_rubber CHECK (sale_id <> '4')")
    shop.land(DAY, "a.csv", csv_of(*rows(0, 10), header=HEADER))
    assert account(shop.load(DAY)) == (10, 9, 0, 1)
    refused = shop.rows("SELECT line, reason FROM longbox.quarantine")
    assert refused == [(6, "refused_by_table")]
    assert shop.rows("SELECT count(*) FROM longbox.record_keys") == [(9,)]


def test_a_row_that_the_table_refuses_is_told_with_its_column_where_it_is_one(
    database_url, object_store_url, tmp_path
):
    shop = open_shop(database_url, object_store_url, tmp_path)
    with shop.owner.connection() as connection:
        connection.execute("CREATE DOMAIN shop.word AS text CHECK (value <> 'no')")
        connection.execute(
            "ALTER TABLE shop.sales ADD COLUMN said shop.word, ADD CONSTRAINT seven CHECK (sale_id <> '7'), "
            "ADD CONSTRAINT two CHECK (sale_id <> '8' OR item <> 'chair')"
        )
    sales = [
        ("north", f"{n}", "chair", "5.00", "2026-03-01", "no" if n == 6 else "yes") for n in range(1, 10)
    ]
    shop.land(DAY, "a.csv", csv_of(*sales, header=HEADER.replace("stock", "said")))
    assert account(shop.load(DAY)) == (9, 6, 0, 3)
    told = shop.rows("SELECT line, column_name, reason FROM longbox.quarantine ORDER BY line")
    reason = "refused_by_table"
    assert told == [(7, "said", reason), (8, "sale_id", reason), (9, None, reason)]
    shop.close()


def test_a_table_with_row_level_security_is_named_with_what_to_do(shop):
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales ENABLE ROW LEVEL SECURITY")
    shop.land(DAY, "a.csv", csv_of(*rows(0, 1), header=HEADER))
    words = (
        r"shop\.sales has row level security.*ALTER ROLE longbox_app BYPASSRLS.*DISABLE ROW LEVEL SECURITY"
    )
    with pytest.raises(FeedDefinitionError, match=words):
        shop.load(DAY)
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.sales DISABLE ROW LEVEL SECURITY")
    assert account(shop.load(DAY)) == (1, 1, 0, 0)

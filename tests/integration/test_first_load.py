"""A feed's first large file looks up only keys that it may have entered itself: corrections are found all the same."""

import pytest

from tests.shop import csv_of, open_shop

BULK = {"bulk_bytes": 0, "chunk_rows": 20}  # every file is a large one, of several chunks


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path)
    yield opened
    opened.close()


def sales(numbers, price):
    return [("north", str(number), "chair", price, "2026-10-10T12:00:00Z") for number in numbers]


def current_prices(shop):
    """Of each record the prices of its current versions: one."""
    found = {}
    for number, price in shop.rows(
        "SELECT sale_id, price::text FROM shop.sales JOIN longbox.record_keys USING (key_hash, content_hash)"
        " WHERE is_current"
    ):
        found.setdefault(int(number), []).append(price)
    return found


def test_corrections_of_earlier_chunks_of_the_first_file_win(shop):
    # Nothing repeats to the byte: what the registry refuses would send a chunk the way on which it is asked for all.
    shop.land("2026-10-30", "a.csv", csv_of(*sales(range(60), "10.00"), *sales(range(7, 60, 5), "11.00")))
    load = shop.load("2026-10-30", **BULK)
    assert (load.landed_rows, load.loaded_rows, load.duplicate_rows) == (71, 71, 0)
    assert current_prices(shop) == {
        number: ["11.00" if number in range(7, 60, 5) else "10.00"] for number in range(60)
    }


def test_corrections_of_an_earlier_file_win_in_a_large_one(shop):
    shop.land("2026-10-30", "a.csv", csv_of(*sales(range(60), "10.00")))
    shop.load("2026-10-30", **BULK)
    shop.land("2026-10-31", "b.csv", csv_of(*sales(range(40, 100), "11.00")))
    assert shop.load("2026-10-31", **BULK).loaded_rows == 60
    assert current_prices(shop) == {number: ["11.00" if number >= 40 else "10.00"] for number in range(100)}


def test_a_new_key_is_looked_up_in_no_chunk_of_the_first_file(shop, monkeypatch):
    from pipelines.ingestion.registry import Registry

    looked_up = []
    find = Registry.find
    monkeypatch.setattr(
        Registry, "find", lambda self, rows, keys: looked_up.append(len(keys)) or find(self, rows, keys)
    )
    shop.land("2026-10-30", "a.csv", csv_of(*sales(range(60), "10.00"), *sales(range(5), "10.00")))
    shop.load("2026-10-30", **BULK)
    assert sum(looked_up) == 5
    shop.land("2026-10-31", "b.csv", csv_of(*sales(range(60, 80), "10.00")))
    shop.load("2026-10-31", **BULK)
    assert sum(looked_up) == 25, "of a later file every key is"

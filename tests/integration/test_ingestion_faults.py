"""Files that are broken, change, vanish or have strange names: each costs itself, the day and the others go on."""

import datetime as dt
import gzip
import io
import os
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ingestion import (
    DayFailure,
    Loader,
    land_file,
    landing_days,
    load_days,
    reconcile,
    writer,
)
from pipelines.ingestion.quarantine import list_quarantine
from pipelines.monitoring.landing import FeedFolder
from resources.errors import UserError
from resources.object_store import ObjectStore
from tests.shop import SHOP_YAML, csv_of, open_shop

DAY = "2026-10-30"
SALE = ("north", "1", "chair", "10.00", "2026-10-29T12:00:00Z")


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path)
    yield opened
    opened.close()


def account(load):
    return (load.landed_rows, load.loaded_rows, load.duplicate_rows, load.quarantined_rows)


def sales(numbers, price="10.00"):
    return csv_of(*(("north", str(n), "chair", price, "2026-10-29T12:00:00Z") for n in numbers))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"\x1f\x8b" + b"junk" * 10])
def test_an_unreadable_file_is_put_aside_whole_and_a_good_one_repairs_the_day(shop, damage):
    good = gzip.compress(sales(range(3)).encode())
    shop.land(DAY, "a.csv.gz", damage(good))
    shop.land(DAY, "b.csv", sales(range(10, 12)))
    load = shop.load(DAY)
    assert load.outcome == "incomplete" and account(load) == (2, 2, 0, 0)
    assert "a.csv.gz" in load.problems[0]
    assert len(list_quarantine(shop.database)) == len(list_quarantine(shop.database)) == 1
    shop.load(DAY)
    assert len(list_quarantine(shop.database)) == 1, "trying again must not double the entry"
    shop.land(DAY, "a.csv.gz", good)
    repaired = shop.load(DAY)
    assert repaired.outcome == "complete" and account(repaired) == (5, 5, 0, 0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("north,1,chair,10.00,2026-10-29\n", "no column price, id, shop, sold_at; the file has north, 1"),
        ("<html>404 Not Found</html>", "the file has <html>404 Not Found</html>"),
        (gzip.compress(gzip.compress(b"shop,id")), "it is compressed twice"),
        (gzip.compress(bytes(257) + b"ustar\x0000" + bytes(512)), "it is a tar archive"),
    ],
    # gzip notes the second: ids of the content would differ between workers
    ids=["a row", "an error page", "compressed twice", "a tar archive"],
)
def test_a_single_line_that_is_no_header_and_what_holds_other_files_are_not_taken_for_empty(
    shop, content, told
):
    shop.land(DAY, "a.csv", content)
    load = shop.load(DAY)
    assert load.outcome == "incomplete" and told in load.problems[0]
    shop.land(DAY, "a.csv", sales(range(3)))
    assert account(shop.load(DAY)) == (3, 3, 0, 0)


@pytest.mark.parametrize("content", ["", "\n\n", "shop,id,item,price,sold_at\n", "shop,id\n"])
def test_an_empty_file_is_no_fault_and_its_replacement_loads(shop, content):
    shop.land(DAY, "a.csv", content)
    load = shop.load(DAY)
    assert load.outcome == "complete" and load.files[0].status == "empty"
    shop.land(DAY, "a.csv", sales(range(3)))
    assert account(shop.load(DAY)) == (3, 3, 0, 0)


def test_strange_file_names_are_kept_as_they_are(shop):
    names = ["a b.csv", "ünï#?.csv", "100%.csv", "x" * 200 + ".csv"]
    for number, name in enumerate(names):
        shop.land(DAY, name, sales([number]))
    assert sorted(file.file_name for file in shop.load(DAY).files) == sorted(names)


def test_a_failure_in_the_middle_of_a_file_keeps_nothing_of_it_and_the_next_run_completes(shop, monkeypatch):
    shop.land(DAY, "a.csv", sales(range(100)))
    write, calls = writer.ChunkWriter.write, []

    def fail_on_third(self, chunk):
        calls.append(1)
        if len(calls) == 3:
            raise ConnectionAbortedError("pulled the plug")
        return write(self, chunk)

    monkeypatch.setattr(writer.ChunkWriter, "write", fail_on_third)
    with pytest.raises(ConnectionAbortedError):
        shop.load(DAY, chunk_rows=10)
    assert shop.rows(
        "SELECT (SELECT count(*) FROM shop.sales), (SELECT count(*) FROM longbox.record_keys)"
    ) == [(0, 0)]
    monkeypatch.undo()
    assert account(shop.load(DAY, chunk_rows=10)) == (100, 100, 0, 0)


def test_a_file_replaced_while_it_is_read_keeps_nothing_and_loads_next_time(shop, monkeypatch):
    shop.land(DAY, "a.csv", sales(range(10)))
    read, calls = ObjectStore.read, []

    def replaced_between_passes(self, path):
        calls.append(path)
        if len(calls) == 2:
            self.put(path, sales(range(20, 30)).encode())
        return read(self, path)

    monkeypatch.setattr(ObjectStore, "read", replaced_between_passes)
    load = shop.load(DAY)
    assert load.outcome == "incomplete"
    assert load.problems[0].startswith(f"landing/shop/sales/{DAY}/a.csv was replaced while it was read")
    monkeypatch.undo()
    assert account(shop.load(DAY)) == (10, 10, 0, 0)
    assert {row[1] for row in shop.current()} == {str(n) for n in range(20, 30)}


def landing_day(url, day=DAY):
    return Path(urlsplit(url).path) / "landing" / "shop" / "sales" / day


def test_what_is_no_file_in_a_folder_of_a_day_is_told_and_the_files_beside_it_load(shop, object_store_url):
    shop.land(DAY, "a.csv", sales(range(3)))
    shop.land(DAY, "north/b.csv", sales(range(10, 12)))
    folder = landing_day(object_store_url) / "north"
    (folder / "gone.csv").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.csv")
    load = shop.load(DAY)
    assert load.outcome == "incomplete" and account(load) == (5, 5, 0, 0)
    assert [problem.split(" was not read: ")[0] for problem in load.problems] == [
        "'north/gone.csv'", "'north/pipe.csv'",
    ]  # fmt: skip
    (folder / "loop.csv").symlink_to("loop.csv")  # with which the driver lists nothing at all
    (folder / "up").symlink_to("..")
    shop.land(DAY, "north/c.csv", sales(range(20, 21)))
    again = shop.load(DAY)
    assert account(again) == (6, 6, 0, 0)
    assert "'north/loop.csv' was not read: it is a link that leads to no file" in again.problems[1]
    assert "'north/up' was not read: it is a link to a folder that it lies in" in again.problems[3]
    for name in ("gone.csv", "pipe.csv", "loop.csv", "up"):
        (folder / name).unlink()
    assert shop.load(DAY).outcome == "complete"


@pytest.mark.parametrize("make", [lambda place: place.symlink_to("unmounted"), os.mkfifo, Path.touch])
def test_a_landing_day_that_is_no_folder_is_not_complete(shop, object_store_url, make):
    shop.land("2026-10-29", "a.csv", sales(range(3)))
    place = landing_day(object_store_url)
    make(place)
    load = shop.load(DAY)
    assert load.outcome == "incomplete"
    assert f"'landing/shop/sales/{DAY}' was not read: it is " in load.problems[0]
    place.unlink()
    assert shop.load(DAY).outcome == "complete"
    assert account(shop.load("2026-10-29")) == (3, 3, 0, 0)


def test_a_landing_day_that_is_a_link_to_itself_costs_only_itself(shop, object_store_url):
    shop.land("2026-10-29", "a.csv", sales(range(3)))
    landing_day(object_store_url).symlink_to(DAY)
    assert landing_days(shop.store, shop.feed) == [dt.date(2026, 10, 29)]
    assert FeedFolder.look(shop.store, shop.feed).files == ()
    assert [info.path for info in shop.store.list(shop.feed.prefix)] == [
        "landing/shop/sales/2026-10-29/a.csv"
    ]
    load = shop.load(DAY)
    assert load.outcome == "incomplete" and "it is a link that leads to no folder" in load.problems[0]


def test_an_object_deleted_between_listing_and_reading_costs_only_itself(shop, monkeypatch):
    shop.land(DAY, "a.csv", sales(range(3)))
    shop.land(DAY, "b.csv", sales(range(3, 6)))
    read = ObjectStore.read

    def vanishing(self, path):
        if path.endswith("a.csv"):
            self.delete(path)
        return read(self, path)

    monkeypatch.setattr(ObjectStore, "read", vanishing)
    load = shop.load(DAY)
    assert account(load) == (3, 3, 0, 0) and load.outcome == "incomplete"


def test_one_bad_day_does_not_stop_the_others(shop, monkeypatch):
    days = ["2026-10-28", "2026-10-29", "2026-10-30"]
    for number, day in enumerate(days):
        shop.land(day, "a.csv", sales([number]))
    listing = ObjectStore.list

    def failing(self, prefix):
        if "2026-10-29" in prefix:
            from resources.errors import ObjectStoreUnavailableError

            raise ObjectStoreUnavailableError("the store went away")
        return listing(self, prefix)

    monkeypatch.setattr(ObjectStore, "list", failing)
    results = load_days(shop.loader(), [dt.date.fromisoformat(day) for day in days])
    assert [result.outcome for result in results] == ["complete", "failed", "complete"]
    assert isinstance(results[1], DayFailure)
    outcomes = "SELECT outcome FROM longbox.day_results WHERE asset = 'shop/sales' ORDER BY landing_day"
    assert shop.rows(outcomes) == [("complete",), ("failed",), ("complete",)]


@pytest.mark.parametrize("name", ["sales#1", "sales.csv#22", "two\nlines.csv", "caf\udce9.csv"])
def test_a_file_whose_name_the_store_cannot_carry_is_named_and_stops_no_other(shop, name):
    shop.land(DAY, "ok.csv", sales(range(3)))
    folder = Path(urlsplit(shop.store.url).path) / shop.feed.prefix / DAY
    (folder / name).write_text(sales(range(5)))
    load = shop.load(DAY)
    assert account(load) == (3, 3, 0, 0)
    assert load.outcome == "incomplete"
    assert "rename" in load.problems[0]
    with pytest.raises(UserError, match="rename it"):
        land_file(shop.store, shop.feed, folder / name, dt.date.fromisoformat(DAY))


def test_a_file_that_is_being_landed_waits_for_the_next_run_and_what_a_killed_landing_left_is_told_as_that(
    shop,
):
    """Renamed, as other names that are not read have to be, a part of a file would load as if it were whole."""
    shop.land(DAY, "ok.csv", sales(range(3)))
    folder = f"{shop.feed.prefix}{DAY}/"
    part = Path(urlsplit(shop.store.url).path) / folder / "more.csv#1"
    with shop.store.one_writer(folder):
        part.write_text(sales(range(5))[:-4])
        under_way = shop.load(DAY)
    assert (under_way.outcome, under_way.problems) == ("complete", ())
    left = shop.load(DAY)
    assert left.outcome == "incomplete" and account(left) == (3, 3, 0, 0)
    assert left.problems[0].startswith(
        "'more.csv#1' was not read: it is named as an upload that was broken off"
    )
    part.unlink()
    shop.land(DAY, "more.csv", sales(range(5)))
    assert shop.load(DAY).outcome == "complete"
    assert shop.rows("SELECT count(*) FROM shop.sales") == [(5,)]


def test_a_number_of_a_billion_digits_costs_one_row_and_no_time(shop):
    shop.reload(SHOP_YAML.replace("extra: jsonb", "extra: jsonb\n      pieces: integer"))
    row = '{"shop":"north","id":"%s","price":1,"sold_at":"2026-10-29",%s}\n'
    shop.land(
        DAY,
        "a.jsonl",
        row % (1, '"pieces":1e999999999') + row % (2, '"extra":{"a":1e999999999}') + row % (3, '"pieces":4'),
    )
    assert account(shop.load(DAY)) == (3, 1, 0, 2)


def test_a_parquet_time_beyond_the_calendar_puts_only_its_row_aside(shop):
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(
            {"shop": ["n"], "id": ["1"], "price": [1.0], "sold_at": pa.array([10**18], pa.timestamp("us"))}
        ),
        buffer,
    )
    shop.land(DAY, "a.parquet", buffer.getvalue())
    shop.land(DAY, "b.csv", sales(range(2)))
    load = shop.load(DAY)
    assert account(load) == (3, 2, 0, 1)
    assert load.outcome == "complete"
    (entry,) = list_quarantine(shop.database)
    assert (entry.file_name, entry.line, entry.column, entry.reason) == (
        "a.parquet",
        1,
        "sold_at",
        "not_a_time",
    )


def test_an_unforeseen_error_of_one_day_does_not_stop_the_others(shop, monkeypatch):
    for day in ("2026-10-29", DAY):
        shop.land(day, "a.csv", sales([int(day[-2:])]))
    load = Loader._load_file

    def unforeseen(self, target, info, name, landing_day, *others):
        if landing_day.day == 29:
            raise ZeroDivisionError("a parser nobody thought of")
        return load(self, target, info, name, landing_day, *others)

    monkeypatch.setattr(Loader, "_load_file", unforeseen)
    results = load_days(shop.loader(), [dt.date(2026, 10, 29), dt.date(2026, 10, 30)])
    assert [result.outcome for result in results] == ["failed", "complete"]


STRANGE_NAMES = [
    "a b.csv", "ünïcode ☃.csv", "per%2Fcent.csv", "100%.csv", "a+b&c=d.csv", "semi;colon.csv", "'quote\".csv",
    "back\\slash.csv", "~tilde*?.csv", "x" * 246 + ".csv",
]  # fmt: skip


def test_names_with_spaces_unicode_and_escapes_land_load_and_are_told_apart_on_s3_too(
    database_url, s3_server, s3_url, tmp_path
):
    shop = open_shop(database_url, s3_url, tmp_path)
    # with its folder near the 1,024 bytes of an S3 key; servers that keep files or folders take 255 of one name
    names = [*STRANGE_NAMES, "y" * (896 if s3_server.is_moto else 251) + ".csv"]
    for number, name in enumerate(names):
        shop.land(DAY, name, sales([number]))
    load = shop.load(DAY)
    assert (load.outcome, account(load)) == ("complete", (len(names), len(names), 0, 0))
    told = sorted(file.file_name for file in load.files)
    if not s3_server.is_moto:  # SeaweedFS keeps a\b as a/b: still one file, found under either name
        told, names = ([name.replace("\\", "/") for name in some] for some in (told, names))
    assert sorted(told) == sorted(names)
    assert shop.load(DAY).rows_written == 0
    shop.close()


def test_strange_names_land_from_a_folder_and_one_that_is_too_long_is_refused_in_words(shop, tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    for number, name in enumerate(STRANGE_NAMES):
        (folder / name).write_text(sales([number]))
        land_file(shop.store, shop.feed, folder / name, dt.date.fromisoformat(DAY))
    load = shop.load(DAY)
    assert sorted(file.file_name for file in load.files) == sorted(STRANGE_NAMES)
    assert account(load) == (len(STRANGE_NAMES), len(STRANGE_NAMES), 0, 0)
    with pytest.raises(UserError, match="shorter"):
        land_file(shop.store, shop.feed, folder / ("z" * 1000 + ".csv"), dt.date.fromisoformat(DAY))


def test_files_that_repeat_and_contradict_each_other_account_for_every_record(shop):
    shop.land(DAY, "a.csv", sales(range(10)))
    shop.land(DAY, "b.csv", sales(range(5, 15)))
    shop.land(DAY, "c.csv", sales([0], price="12.00"))
    load = shop.load(DAY)
    assert account(load) == (21, 16, 5, 0)
    assert [row[2] for row in shop.current()].count("12.00") == 1, "the later name wins"
    assert len(shop.current()) == 15


def test_a_day_of_many_files_opens_no_more_for_each_and_closes_one_account(shop):
    for number in range(150):
        shop.land(DAY, f"{number:05d}.csv", sales([number]))
    load = shop.load(DAY)
    assert (len(load.files), account(load), load.outcome) == (150, (150, 150, 0, 0), "complete")
    again = shop.load(DAY)
    assert (again.rows_written, again.bytes_read) == (0, 0)
    assert reconcile(shop.database, shop.feed, dt.date.fromisoformat(DAY)).problems == ()

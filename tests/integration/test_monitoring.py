"""What the platform knows of landing days and unread files, on a real PostgreSQL and a local store."""

import datetime as dt

import pytest

from pipelines.catalog.model import Catalog, Feed
from pipelines.monitoring.days import (
    bad_days,
    day_totals,
    days_to_work_on,
    days_without_result,
    put_aside,
    record_day,
)
from pipelines.monitoring.landing import first_of, look_for_files, unread_for_good
from pipelines.monitoring.statistics import refresh_statistics
from resources.database import Database
from resources.object_store import ObjectStore
from resources.settings import Settings

TODAY = dt.date(2026, 11, 21)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return ObjectStore.from_url(settings.object_store)


@pytest.fixture
def feed(catalog: Catalog) -> Feed:
    return catalog.feed("comics/marketplace_sales")


def days(*numbers: int) -> list[dt.date]:
    return [dt.date(2026, 10, number) for number in numbers]


def test_days_that_failed_upstream_are_held_back_and_recorded(database: Database) -> None:
    one, two, three = days(1, 2, 3)
    record_day(database, "s/raw", one, "complete", {"rows": 3}, [], "run")
    record_day(database, "s/raw", two, "failed", {}, ["the disk is full"], "run")
    record_day(database, "s/raw", three, "incomplete", {"rows": 4}, ["a file is broken"], "run")
    assert days_to_work_on(database, [one, two, three], asset="s/next", upstream="s/raw", run_id="run") == [
        one,
        three,
    ]
    found = bad_days(database, ["s/raw", "s/next"], [one, two, three])
    assert [(day.landing_day, day.asset, day.outcome) for day in found] == [
        (two, "s/next", "failed"), (two, "s/raw", "failed"), (three, "s/raw", "incomplete"),
    ]  # fmt: skip
    assert found[0].problems == ("s/raw failed on this day",)
    assert day_totals(database, "s/raw", [one, two, three]) == {"rows": 7}


def test_a_day_that_only_failed_counts_as_not_done(database: Database) -> None:
    one, two, three = days(1, 2, 3)
    record_day(database, "s/raw", one, "complete", {}, [], None)
    record_day(database, "s/raw", two, "failed", {}, [], None)
    assert days_without_result(database, "s/raw", one, three) == (two, three)


def test_only_files_that_no_load_accounts_for_are_unread(
    database: Database, store: ObjectStore, feed: Feed
) -> None:
    store.put(f"{feed.prefix}2026-11-20/a.csv", b"x")
    store.put(f"{feed.prefix}2026-11-21/b.csv", b"y")
    found = look_for_files(database, store, feed, today=TODAY)
    assert [(u.landing_day.day, u.file_names) for u in found.unread] == [(20, ("a.csv",)), (21, ("b.csv",))]
    note_load(database, store, feed, "2026-11-20", "a.csv")
    found = look_for_files(database, store, feed, today=TODAY)
    assert [u.landing_day.day for u in found.unread] == [21]


def test_a_replaced_file_is_unread_again_under_another_mark(
    database: Database, store: ObjectStore, feed: Feed
) -> None:
    store.put(f"{feed.prefix}2026-11-20/a.csv", b"x")
    before = look_for_files(database, store, feed, today=TODAY).unread[0].mark
    note_load(database, store, feed, "2026-11-20", "a.csv")
    store.put(f"{feed.prefix}2026-11-20/a.csv", b"other content")
    after = look_for_files(database, store, feed, today=TODAY).unread
    assert [u.landing_day.day for u in after] == [20]
    assert after[0].mark != before


def test_old_days_are_looked_at_in_rotation_and_none_is_left_out(
    database: Database, store: ObjectStore, feed: Feed
) -> None:
    old = [dt.date(2026, 1, 1) + dt.timedelta(days=number) for number in range(25)]
    for day in old:
        store.put(f"{feed.prefix}{day}/a.csv", b"x")
    seen: set[dt.date] = set()
    position = ""
    for _ in range(3):
        look = look_for_files(database, store, feed, today=TODAY, position=position, rotated_days=10)
        assert len(look.days_looked_at) <= 10
        seen.update(u.landing_day for u in look.unread)
        position = look.position
    assert seen == set(old)
    assert position == ""


def test_folders_that_no_run_can_read_are_left_alone_and_strange_ones_named(
    database: Database, store: ObjectStore, feed: Feed
) -> None:
    for folder in ("2026-11-22", "2023-12-31", "20261120", "backup"):
        store.put(f"{feed.prefix}{folder}/a.csv", b"x")
    look = look_for_files(database, store, feed, today=TODAY)
    assert look.unread == ()
    assert set(look.strange_folders) == {"20261120", "backup"}


def test_what_no_run_reads_is_told_whatever_its_place_without_a_look_at_what_is_in_the_days(
    store: ObjectStore, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "list", None)  # it would list the files of the days
    sales = "landing/comics/marketplace_sales"
    good = {f"{sales}/2026-11-20/a.csv", "landing/browser/changes/2026-11-20/a.csv", "archive/x/y"}
    told = {
        "landing/comisc/marketplace_sales/2026-11-20/a.csv":
            "landing/comisc/ is never read: no system of that name is declared; did you mean comics?",
        "landing/comics/marketplace_slaes/2026-11-20/a.csv":
            "landing/comics/marketplace_slaes/ is never read: no feed of that name is declared; "
            "did you mean marketplace_sales?",
        "landing/comics/a.csv": "landing/comics/a.csv is never read: it lies in the folder of no feed",
        "landing/b.csv": "landing/b.csv is never read: it lies in the folder of no feed",
        f"{sales}/2023-12-31/a.csv": f"{sales}/2023-12-31/ is never read: the feed starts on 2024-01-01",
        f"{sales}/20261120/a.csv": f"{sales}/20261120/ is never read: no landing day (YYYY-MM-DD)",
        f"{sales}/c.csv": f"{sales}/c.csv is never read: it lies in no landing day; `longbox land` puts it into one",
        f"{sales}/2026-11-22/a.csv":
            f"{sales}/2026-11-22/ is not read before that day, it is 2026-11-21 in UTC: a wrong date?",
    }  # fmt: skip
    for path in (*good, *told):
        store.put(path, b"x")
    systems = catalog.systems.values()
    found = unread_for_good(store, catalog, systems, today=TODAY)
    assert sorted(found) == sorted(told.values())
    assert first_of(found, 3) == [*found[:3], "and 5 more"] and first_of(found, 8) == found
    for path in told:
        store.delete(path)  # a local store keeps the folders
    assert unread_for_good(store, catalog, systems, today=TODAY) == []


def test_results_from_before_files_were_counted_as_they_lie_are_told_of_all_that_landed(
    database: Database,
) -> None:
    day = dt.date(2026, 10, 5)
    counts = {"landed_rows": 8, "quarantined_rows": 1}
    record_day(database, "comics/pricing_data_raw", day, "complete", counts, [], None)
    told = put_aside(database, ["comics/pricing_data_raw"], [day])
    assert told == ["comics/pricing_data_raw: 1 of 8 rows were put aside"]


def test_statistics_are_refreshed_when_a_tenth_of_a_table_is_new(database: Database) -> None:
    assert refresh_statistics(database, "comics", "publishers", rows_written=0) is False
    assert refresh_statistics(database, "comics", "pricing_data_normalized", rows_written=5) is True


def note_load(database: Database, store: ObjectStore, feed: Feed, day: str, name: str) -> None:
    info = store.head(f"{feed.prefix}{day}/{name}")
    assert info is not None
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO longbox.feeds (system, feed) VALUES ('comics', 'marketplace_sales') ON CONFLICT DO NOTHING"
        )
        connection.execute(
            "INSERT INTO longbox.loads (feed_id, landing_day, file_name, content_hash, catalogue_version, status, "
            "object_e_tag, object_bytes) SELECT feed_id, %s, %s, sha256('x'), 'v', 'empty', %s, %s FROM longbox.feeds",
            [day, name, info.e_tag, info.size_bytes],
        )

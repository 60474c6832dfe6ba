"""Landing a file: where it goes, that the same again changes nothing, and what is refused with which words."""

import contextlib
import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.catalog.loader import load_catalog
from pipelines.catalog.model import Feed
from pipelines.ingestion.landing import land_file, landing_days
from pipelines.monitoring.landing import FeedFolder
from resources.errors import UserError
from resources.object_store import ObjectStore
from tests.shop import make_shop

DAY = dt.date(2026, 10, 5)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return load_catalog([make_shop(tmp_path)]).systems["shop"].feeds["sales"]


@pytest.fixture
def store(object_store_url: str) -> ObjectStore:
    return ObjectStore.from_url(object_store_url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sales.csv"
    path.write_bytes(b"shop,id\n")
    return path


def content(store: ObjectStore, path: str) -> bytes:
    return b"".join(store.read(path))


def test_a_file_lands_on_its_day_and_the_same_again_changes_nothing(
    feed: Feed, store: ObjectStore, file: Path
) -> None:
    landed = land_file(store, feed, file, DAY)
    assert landed == "landing/shop/sales/2026-10-05/sales.csv"
    before = store.head(landed)
    assert land_file(store, feed, file, DAY) == landed
    assert store.head(landed) == before
    assert landing_days(store, feed) == [DAY]


def test_other_content_under_a_name_that_landed_is_refused_unless_it_is_to_replace_it(
    feed: Feed, store: ObjectStore, file: Path
) -> None:
    landed = land_file(store, feed, file, DAY)
    for other in (b"shop,id,price\n", b"shop,no\n"):  # of another size, and of the same
        file.write_bytes(other)
        with pytest.raises(UserError, match=r"has landed already with other content.*--replace"):
            land_file(store, feed, file, DAY)
        assert content(store, landed) == b"shop,id\n"
    land_file(store, feed, file, DAY, replace=True)
    assert content(store, landed) == b"shop,no\n"


def test_of_files_of_one_name_that_land_at_once_one_lands_and_the_others_are_refused(
    feed: Feed, store: ObjectStore, tmp_path: Path
) -> None:
    for turn in range(20):
        files = [tmp_path / str(place) / f"{turn}.csv" for place in range(4)]
        for place, file in enumerate(files):
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"shop,id\nnorth,{place}\n")
        start = threading.Barrier(len(files))

        def land(file: Path, start: threading.Barrier = start) -> str | None:
            start.wait()
            with contextlib.suppress(UserError):
                return land_file(store, feed, file, DAY)
            return None

        with ThreadPoolExecutor(len(files)) as threads:
            landed = [*threads.map(land, files)]
        (first,) = (place for place, path in enumerate(landed) if path)
        assert content(store, str(landed[first])) == files[first].read_bytes()


def test_a_day_before_the_feed_begins_and_a_file_that_is_not_there_are_refused(
    feed: Feed, store: ObjectStore, file: Path
) -> None:
    with pytest.raises(UserError, match=r"2025-12-31 is before feed shop/sales starts \(2026-01-01\)"):
        land_file(store, feed, file, dt.date(2025, 12, 31))
    with pytest.raises(UserError, match="there is no such file"):
        land_file(store, feed, file.with_name("absent.csv"), DAY)
    with pytest.raises(UserError, match="is no file"):
        land_file(store, feed, file.parent, DAY)
    assert landing_days(store, feed) == []


@pytest.mark.parametrize("name", ["tab\there.csv", "sales.csv#1"])
def test_a_name_that_no_store_carries_is_refused(
    feed: Feed, store: ObjectStore, file: Path, name: str
) -> None:
    with pytest.raises(UserError, match="cannot be landed under that name; rename it"):
        land_file(store, feed, file.rename(file.with_name(name)), DAY)


def test_a_name_that_is_too_long_for_the_store_is_refused(
    feed: Feed, store: ObjectStore, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="give the file a shorter one"):
        land_file(store, feed, tmp_path / f"{'x' * 300}.csv", DAY)


def test_a_folder_that_is_no_day_is_told(feed: Feed, store: ObjectStore) -> None:
    store.put(f"{feed.prefix}2026-10-5/sales.csv", b"")
    assert (landing_days(store, feed), FeedFolder.look(store, feed).strange) == ([], ("2026-10-5",))

"""The landing sensor on a large landing zone: bounded work a tick, and no file that is missed for ever."""

import builtins
import datetime as dt
from collections.abc import Iterator

import dagster as dg
import pytest

from assets.jobs import daily_pipelines
from assets.lifecycle import system_definitions
from pipelines.catalog.model import Catalog, Feed
from pipelines.monitoring.landing import Look, look_for_files
from resources.database import Database
from resources.object_store import ObjectInfo, ObjectStore
from resources.settings import Settings
from sensors.landing import landing_sensor

TODAY = dt.datetime.now(dt.UTC).date()
DAYS, FILES = 60, 12


class CountingStore:
    """An object store that counts what is asked of it."""

    def __init__(self, store: ObjectStore) -> None:
        self.store, self.lists, self.objects = store, 0, 0

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.lists += 1
        for info in self.store.list(prefix):
            self.objects += 1
            yield info

    def list_level(self, prefix: str) -> tuple[builtins.list[str], builtins.list[str]]:
        self.lists += 1
        return self.store.list_level(prefix)


@pytest.fixture
def feed(catalog: Catalog) -> Feed:
    return catalog.feed("comics/marketplace_sales")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest) -> CountingStore:
    name = {"local": "object_store_url", "s3": "s3_url"}[request.param]
    return CountingStore(ObjectStore.from_url(request.getfixturevalue(name)))


def day(back: int) -> str:
    return (TODAY - dt.timedelta(days=back)).isoformat()


def fill(store: CountingStore, database: Database, feed: Feed) -> None:
    """Days of files that were all read."""
    for back in range(DAYS):
        for number in range(FILES):
            store.store.put(f"{feed.prefix}{day(back)}/{number:04d}.csv", b"x")
    note_as_read(store, database, feed)


def note_as_read(store: CountingStore, database: Database, feed: Feed) -> None:
    rows = [
        (info.path.split("/")[-2], info.path.split("/")[-1], info.e_tag, info.size_bytes)
        for info in store.store.list(feed.prefix)
    ]
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO longbox.feeds (system, feed) VALUES ('comics', 'marketplace_sales')")
        cursor.executemany(
            "INSERT INTO longbox.loads (feed_id, landing_day, file_name, content_hash, catalogue_version, status, "
            "object_e_tag, object_bytes) SELECT feed_id, %s::date, %s, sha256(convert_to(%s, 'UTF8')), 'v', 'empty', "
            "%s, %s FROM longbox.feeds ON CONFLICT DO NOTHING",
            [(landed, name, f"{landed}/{name}", tag, size) for landed, name, tag, size in rows],
        )


def look(store: CountingStore, database: Database, feed: Feed, position: str) -> Look:
    return look_for_files(
        database, store, feed, today=TODAY, position=position, rotated_days=10, rotated_objects=30
    )  # type: ignore[arg-type]


def test_a_tick_looks_at_a_bounded_number_of_objects_and_a_rotation_at_all(
    store: CountingStore, database: Database, feed: Feed
) -> None:
    fill(store, database, feed)
    position, ticks, seen = "", 0, set()
    while ticks == 0 or position:
        store.lists = store.objects = 0
        found = look(store, database, feed, position)
        assert found.unread == ()
        assert (
            store.objects == found.objects_looked_at <= 30 + 3 * FILES
        )  # the budget, the day that passed it, two new
        assert store.lists <= 1 + 3 + 2
        position, ticks, seen = found.position, ticks + 1, seen | set(found.days_looked_at)
    assert len(seen) == DAYS
    assert ticks == -(-(DAYS - 2) // 3)

    # a file that comes late into an old folder is found within one rotation, also when the cursor is lost on the way
    store.store.put(f"{feed.prefix}{day(40)}/late.csv", b"late")
    found_at = [found for found in rotate(store, database, feed, lost_at=5) if found.unread]
    assert [(unread.landing_day.isoformat(), unread.file_names) for unread in found_at[0].unread] == [
        (day(40), ("late.csv",))
    ]


def rotate(store: CountingStore, database: Database, feed: Feed, *, lost_at: int) -> Iterator[Look]:
    """Looks of one rotation and a bit, with the cursor lost once."""
    position = ""
    for tick in range(DAYS):
        found = look(store, database, feed, "" if tick == lost_at else position)
        position = found.position
        yield found


def test_a_day_with_more_files_than_the_budget_has_its_turn_and_does_not_hold_up_the_others(
    settings: Settings, database: Database, feed: Feed
) -> None:
    store = CountingStore(ObjectStore.from_url(settings.object_store))
    for number in range(200):
        store.store.put(f"{feed.prefix}{day(30)}/{number:05d}.csv", b"x")
    store.store.put(f"{feed.prefix}{day(20)}/a.csv", b"x")
    first = look(store, database, feed, "")
    second = look(store, database, feed, first.position)
    assert [len(unread.file_names) for unread in first.unread] == [200]
    assert [unread.landing_day.isoformat() for unread in second.unread] == [day(20)]
    assert second.position == ""


def test_days_that_fail_again_and_again_do_not_keep_others_from_being_asked_for(
    settings: Settings, catalog: Catalog, database: Database, feed: Feed
) -> None:
    store = ObjectStore.from_url(settings.object_store)
    for back in range(4, 36, 2):  # sixteen stretches of one day, in one turn of the rotation
        store.put(f"{feed.prefix}{day(back)}/a.csv", b"x")
    comics = {"comics": catalog.systems["comics"]}
    pipelines = daily_pipelines(
        Catalog(systems=comics), {"comics": system_definitions(catalog.systems["comics"])}
    )
    context = dg.build_sensor_context(resources={"database": database, "store": store})
    result = landing_sensor(pipelines)(context)
    assert isinstance(result, dg.SensorResult)
    assert [request.partition_key for request in result.run_requests] == [
        day(back) for back in range(34, 3, -2)
    ]

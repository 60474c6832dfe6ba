"""PostgreSQL or the store going away under a run: passing faults are tried again, and for others a run fails at once.

Every test ends with: no row lost or doubled, and running again completes.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deploy.local import postgres
from deploy.local.stack import Stack
from deploy.local.state import Secrets
from pipelines.catalog.loader import system_folders
from pipelines.migration import migrate
from resources.database import OWNER_ROLE, Database
from resources.errors import (
    DatabaseBusyError,
    DatabaseUnavailableError,
    ObjectStoreError,
    ObjectStoreUnavailableError,
)
from resources.settings import Settings
from tests.daily_runs import Daily, sales, steps
from tests.proxy import TcpProxy, proxy_for

DAY, RAW = "2026-10-05", "comics__pricing_data_raw"
FILES, SALES = 3, 5


@pytest.fixture
def daily(settings: Settings, tmp_path: Path) -> Iterator[Daily]:
    opened = Daily.on(settings, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def behind_proxy(settings: Settings, tmp_path: Path) -> Iterator[tuple[Daily, TcpProxy]]:
    """The bundled systems with a proxy in front of PostgreSQL."""
    with proxy_for(settings.postgres_url) as proxy:
        url = proxy.url(settings.postgres_url)
        opened = Daily.on(settings, tmp_path)
        opened.database = Database(url, connect_timeout_seconds=2)
        opened.owner = opened.database.as_role(OWNER_ROLE)
        yield opened, proxy
        opened.close()


class FaultyStore:
    """The test's object store that does something before the reads of chosen numbers (from 1)."""

    def __init__(self, daily: Daily, before: dict[int, Any]) -> None:
        self._store, self._before, self.reads = daily.store, before, 0

    def read(self, path: str) -> Iterator[bytes]:
        self.reads += 1
        act = self._before.get(self.reads)
        if act is not None:
            act()
        return self._store.read(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def land_files(daily: Daily) -> None:
    for number in range(FILES):
        daily.land(DAY, f"{number}.csv", sales(f"2026-10-0{number + 1}", SALES, price=10.0 * (number + 1)))


def retried(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.step_key for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]


def assert_nothing_lost(daily: Daily) -> None:
    """What stands is what an undisturbed run makes, and running again changes nothing."""
    assert daily.count("comics.pricing_data_raw") == FILES * SALES
    found = daily.digest()
    assert daily.run(DAY).success
    assert daily.digest() == found
    daily.forget_everything()
    assert daily.run(DAY).success
    assert daily.digest() == found


def test_a_connection_cut_within_a_load_is_tried_again_and_the_run_succeeds(
    behind_proxy: tuple[Daily, TcpProxy],
) -> None:
    daily, proxy = behind_proxy
    land_files(daily)
    result = daily.run(
        DAY, store=FaultyStore(daily, {4: proxy.cut})
    )  # within the transaction of the second file
    assert result.success, steps(result)
    assert retried(result) == [RAW]
    assert proxy.cuts == 1
    assert_nothing_lost(daily)


def test_a_session_outside_of_transactions_that_is_cut_says_that_the_server_went_away(
    database_url: str,
) -> None:
    def work(database: Database) -> None:
        with database.session() as connection:
            connection.execute("SELECT 1")
            proxy.cut()
            connection.execute("SELECT 1")

    with proxy_for(database_url) as proxy, Database(proxy.url(database_url)) as opened:
        with pytest.raises(DatabaseUnavailableError, match="went away in the middle of the work"):
            work(opened)


def test_with_postgresql_away_for_good_the_run_fails_cleanly_and_a_later_one_completes(
    behind_proxy: tuple[Daily, TcpProxy],
) -> None:
    daily, proxy = behind_proxy
    land_files(daily)

    def goes_away() -> None:
        proxy.is_refusing = True
        proxy.cut()

    only_raw = ["comics/pricing_data_raw"]  # other feeds would wait for the server too
    result = daily.run(DAY, assets=only_raw, store=FaultyStore(daily, {4: goes_away}))
    assert not result.success
    assert retried(result) == [RAW] * 3
    failure = result.failure_data_for_node(RAW)
    assert failure is not None
    assert failure.error is not None and failure.error.cause is not None
    assert "LONGBOX_POSTGRES_URL is right" in failure.error.cause.message
    proxy.is_refusing = False
    assert daily.count("comics.pricing_data_raw") == SALES  # the first file was committed
    assert daily.run(DAY).success
    assert_nothing_lost(daily)


def test_a_store_that_fails_for_a_moment_is_asked_again(daily: Daily) -> None:
    land_files(daily)

    def fails() -> None:
        raise ObjectStoreUnavailableError("503 Slow Down")

    result = daily.run(DAY, store=FaultyStore(daily, {1: fails, 3: fails}))
    assert result.success, steps(result)
    assert retried(result) == [RAW, RAW]
    assert_nothing_lost(daily)


def test_a_store_that_refuses_is_not_asked_again(daily: Daily) -> None:
    land_files(daily)

    def refuses() -> None:
        raise ObjectStoreError("403 Access Denied; check the credentials")

    store = FaultyStore(daily, {1: refuses})
    result = daily.run(DAY, store=store)
    assert not result.success
    assert retried(result) == []
    assert daily.run(DAY).success
    assert_nothing_lost(daily)


def test_bad_data_are_never_tried_again(daily: Daily) -> None:
    daily.land(DAY, "broken.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03cut off")
    result = daily.run(DAY)
    assert not result.success
    assert retried(result) == []


def test_a_range_holds_back_a_day_whose_store_stays_away_after_trying_again(daily: Daily) -> None:
    daily.land("2026-10-04", "a.csv", sales("2026-10-03", SALES))
    daily.land(DAY, "a.csv", sales("2026-10-04", SALES))

    class Store(FaultyStore):
        def read(self, path: str) -> Iterator[bytes]:
            if "/2026-10-04/" in path:
                raise ObjectStoreUnavailableError("503 Slow Down")
            return super().read(path)

    result = daily.run("2026-10-04", DAY, store=Store(daily, {}))
    assert retried(result) == [RAW] * 3
    assert daily.outcomes("comics/pricing_data_normalized") == {"2026-10-04": "failed", DAY: "complete"}
    assert [step for step, how in steps(result).items() if how == "failure"] == ["platform__landing_verdict"]
    assert daily.run("2026-10-04").success
    assert daily.count("comics.pricing_data_normalized") == 2 * SALES


def test_postgresql_stopped_at_once_and_started_again_within_a_run(home: Path, settings: Settings) -> None:
    with Stack(home, dagster=False, environ={"PATH": os.environ["PATH"]}, is_durable=False) as stack:
        migrate(stack.settings.postgres_url, system_folders(stack.settings))
        own = replace(
            stack.settings, given_redis_url=settings.redis_url, given_object_store=settings.object_store
        )
        daily = Daily.on(own, home)
        try:
            land_files(daily)
            result = daily.run(DAY, store=FaultyStore(daily, {4: lambda: restart_postgres(stack)}))
            assert result.success, steps(result)
            assert retried(result) == [RAW]
            assert_nothing_lost(daily)
        finally:
            daily.close()


def restart_postgres(stack: Stack) -> None:
    """An immediate shutdown, as of a power cut, and a start: the server recovers from its WAL."""
    [member] = [member for member in stack._members if member.part == "PostgreSQL"]
    member.child.stop(((signal.SIGQUIT, 30.0),), whole_group=member.whole_group)
    server = postgres.prepare(stack.home, Secrets.of(stack.home).postgres, is_durable=False)
    port = stack.state.ports["postgres"]
    member.child = server.start(port, dict(os.environ))
    server.wait_ready(member.child, port)


def test_a_full_disk_of_the_server_is_told_with_what_to_do(database_url):
    with (
        Database(database_url) as opened,
        pytest.raises(
            DatabaseBusyError, match=r"(?s)no room left on its disk \(could not extend.* make room there"
        ),
        opened.connection() as connection,
    ):
        connection.execute("DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$")

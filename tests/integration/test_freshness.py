"""Partition-aware freshness: which landing day is missing, since when, and one alert a cause, on a real PostgreSQL."""

import datetime as dt
import io

import dagster as dg
import pytest

from assets.freshness import freshness_check
from pipelines.catalog.model import Catalog, System
from pipelines.monitoring.freshness import TableFreshness, judge_freshness, watched_tables
from resources.database import Database
from resources.notifier import Notifier
from sensors.freshness import freshness_sensor, read_cursor
from tests.daily_runs import job_of

TABLE, ASSET = "pricing_data_raw", "comics/pricing_data_raw"
TODAY = dt.date(2026, 10, 20)


@pytest.fixture
def comics(catalog: Catalog) -> System:
    return catalog.systems["comics"]


def at(hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime(TODAY.year, TODAY.month, TODAY.day, hour, minute, tzinfo=dt.UTC)


def day(back: int) -> dt.date:
    return TODAY - dt.timedelta(days=back)


def note(
    database: Database, back: int, outcome: str = "complete", *, finished_at: dt.datetime | None = None,
    problems: str = "[]",
) -> None:  # fmt: skip
    """The result of a landing day, as if it was run an hour after that day had ended."""
    ended = dt.datetime.combine(day(back), dt.time(1), dt.UTC) + dt.timedelta(days=1)
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO longbox.day_results (asset, landing_day, outcome, problems, finished_at) "
            "VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (asset, landing_day) DO UPDATE SET outcome = excluded.outcome, problems = excluded.problems, "
            "finished_at = excluded.finished_at",
            [ASSET, day(back), outcome, problems, finished_at or ended],
        )


def judge(database: Database, comics: System, now: dt.datetime) -> TableFreshness:
    return judge_freshness(database, comics, TABLE, now)


def test_a_table_whose_days_are_complete_is_fresh_also_when_a_day_was_empty(
    database: Database, comics: System
) -> None:
    for back in range(1, 10):
        note(database, back)
    found = judge(database, comics, at(23))
    assert (found.state, found.missing_days) == ("fresh", ())


def test_yesterday_missing_is_late_after_26_hours_and_stale_after_36(
    database: Database, comics: System
) -> None:
    note(database, 2)
    assert judge(database, comics, at(1, 59)).state == "fresh"
    late, stale = judge(database, comics, at(2, 1)), judge(database, comics, at(12, 1))
    assert (late.state, late.overdue_since) == ("late", at(2))
    assert (stale.state, stale.overdue_since) == ("stale", at(12))
    assert "landing day 2026-10-19 is not complete, overdue since 2026-10-20 12:00 UTC" in stale.told()
    assert "it was never run" in stale.told()
    assert late.cause != stale.cause


def test_a_backfill_of_an_old_day_does_not_turn_it_green(database: Database, comics: System) -> None:
    note(database, 2)
    note(database, 300, finished_at=at(13))
    found = judge(database, comics, at(14))
    assert found.state == "stale"
    assert [missing.landing_day for missing in found.missing_days] == [day(n) for n in (7, 6, 5, 4, 3, 1)]


def test_a_day_that_was_run_before_it_ended_is_not_complete(database: Database, comics: System) -> None:
    note(database, 1, finished_at=at(0) - dt.timedelta(hours=3))
    found = judge(database, comics, at(13))
    assert found.state == "stale"
    assert "before it had ended" in found.missing_days[0].reason


def test_a_failed_and_an_incomplete_day_say_why(database: Database, comics: System) -> None:
    note(database, 2, "incomplete", problems='["a.csv.gz is quarantined whole (truncated)"]')
    note(database, 1, "failed", problems='["the disk is full"]')
    told = judge(database, comics, at(13)).told()
    assert "2026-10-18: incomplete: a.csv.gz is quarantined whole (truncated)" in told
    assert "2026-10-19: failed: the disk is full" in told


def test_a_feed_that_never_ran_is_told_apart_from_one_that_stopped(
    database: Database, comics: System
) -> None:
    found = judge(database, comics, at(13))
    assert found.state == "never run"
    assert "start landing_sensor" in found.told()


def test_a_feed_that_starts_today_or_later_is_not_due(database: Database, comics: System) -> None:
    feeds = {name: feed.model_copy(update={"starts_on": TODAY}) for name, feed in comics.feeds.items()}
    found = judge_freshness(database, comics.model_copy(update={"feeds": feeds}), TABLE, at(13))
    assert found.state == "not due"


def test_days_before_the_first_run_are_not_asked_for(database: Database, comics: System) -> None:
    note(database, 1)
    assert judge(database, comics, at(13)).state == "fresh"


class Ticks:
    """The sensor with its cursor, one notifier, and what became of each tick."""

    def __init__(self, catalog: Catalog, database: Database) -> None:
        self.console, self.cursor = io.StringIO(), None
        self._sensor, self._database = freshness_sensor(catalog, clock=lambda: at(13)), database
        self._notifier = Notifier(console=self.console, cool_down_seconds=0)

    def tick(self) -> dg.SensorResult:
        context = dg.build_sensor_context(
            cursor=self.cursor, resources={"database": self._database, "notifier": self._notifier}
        )
        result = self._sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result

    @property
    def alerts(self) -> list[str]:
        return [line for line in self.console.getvalue().splitlines() if line.startswith("ALERT")]


def test_the_sensor_tells_a_cause_once_and_that_it_is_over(catalog: Catalog, database: Database) -> None:
    only_comics = catalog.model_copy(update={"systems": {"comics": catalog.systems["comics"]}})
    ticks = Ticks(only_comics, database)
    note(database, 2)
    first, again = ticks.tick(), ticks.tick()
    assert [event.passed for event in first.asset_events] == [False]
    assert again.asset_events == []
    assert "2026-10-19" in str(again.skip_reason)
    assert len(ticks.alerts) == 1
    note(database, 1)
    over = ticks.tick()
    assert [event.passed for event in over.asset_events] == [True]
    assert [alert.split(":")[0] for alert in ticks.alerts] == ["ALERT critical", "ALERT info"]
    assert "complete again" in ticks.alerts[1]


@pytest.mark.parametrize("cursor", [None, "", "not json", "[1]"])
def test_a_cursor_that_is_not_ours_is_taken_for_empty(cursor: str | None) -> None:
    assert read_cursor(cursor) == {}


def test_every_table_that_feeds_load_and_asks_for_freshness_is_watched(catalog: Catalog) -> None:
    watched = {f"{system.name}/{table}" for system, table in watched_tables(catalog)}
    assert ASSET in watched
    assert all(catalog.systems[name.split("/")[0]].feeds_of(name.split("/")[1]) for name in watched)


def test_the_check_shows_the_state_and_runs_beside_the_daily_job(database: Database, comics: System) -> None:
    note(database, 2)
    result = freshness_check(comics, TABLE, clock=lambda: at(13))(database=database)
    assert isinstance(result, dg.AssetCheckResult)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert result.metadata["missing_days"].value == "2026-10-19"
    graph = job_of("daily_pipeline").asset_layer.asset_graph
    assert "yesterday_complete" not in {key.name for key in graph.asset_check_keys}

"""What is overdue about backups, by its age, and the sensor that tells each cause of it once until it is gone."""

import dataclasses
import datetime as dt
import json

import pytest

from pipelines.backup import routine, setup
from resources.database import Database
from resources.errors import ObjectStoreUnavailableError
from resources.settings import Settings
from tests.integration.backup_support import Heard, tick


@pytest.fixture
def settings(backup_settings: Settings) -> Settings:
    return backup_settings


def test_the_age_sensor_tells_each_cause_once_until_it_is_gone(settings: Settings) -> None:
    heard = Heard()
    _, cursor = tick(settings, heard, None)
    said, cursor = tick(settings, heard, cursor)
    assert heard.causes == ["backup_age:none"]
    assert "there are no backups" in said
    with Database(settings.postgres_url) as database:
        routine.make_backup(settings, database, "full", warn=lambda _: None)
        routine.copy_all(settings, database)
        _, cursor = tick(settings, heard, cursor)
        assert heard.causes == ["backup_age:none", "backup_age:drill"]
        routine.run_drill(settings, database)
    said, cursor = tick(settings, heard, cursor)
    assert said == "backups, WAL and drills are as young as they have to be"
    assert json.loads(cursor) == []


def test_what_cannot_be_seen_and_a_key_that_is_due_are_told_once_each(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    _, cursor = tick(settings, heard, None)

    def away(settings: Settings) -> None:
        raise ObjectStoreUnavailableError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(setup, "open_stored_source", away)
        for _ in range(2):
            said, cursor = tick(settings, heard, cursor)
            assert "the store is away" in said
    _, cursor = tick(settings, heard, cursor)
    assert heard.causes == ["backup_age:none", "backup_age:unseen"]  # what was told before is not told again

    setup.default_keys(settings, lambda _: None)
    monkeypatch.setattr("resources.keys.ROTATE_AFTER", dt.timedelta(0))
    said, cursor = tick(settings, heard, cursor)
    assert "`longbox backup keys rotate`" in said
    tick(settings, heard, cursor)
    assert heard.causes[2:] == ["backup_age:key"]


def test_what_is_overdue_is_told_by_its_age(settings: Settings) -> None:
    from pipelines.backup.readiness import readiness

    with Database(settings.postgres_url) as database:
        routine.make_backup(settings, database, "full", warn=lambda _: None)
        routine.copy_all(settings, database)
        state = readiness(routine.open_source(settings, database), dt.datetime.now(dt.UTC))
    later = dataclasses.replace(state, now=state.now + dt.timedelta(hours=31))
    assert set(later.problems()) == {"rpo", f"copy:{settings.backup_copy_stores[0]}", "full", "drill"}
    assert "31.0 h" in later.problems()["full"]

"""pgBackRest behind our interface: drills with witnesses, moments, gaps that its own `verify` does not see, commands."""

import contextlib
import datetime as dt
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from assets.platform.backup import backup_definitions
from pipelines.backup import routine
from pipelines.backup.drill import drill_results
from pipelines.backup.errors import BackupRefusedError, WalMissingError
from pipelines.backup.pgbackrest import PgBackRestEngine
from pipelines.backup.readiness import readiness
from pipelines.backup.repository import Repository
from resources.database import Database
from resources.errors import UserError
from resources.object_store import ObjectStore
from resources.pgbackrest import PgBackRest, PgBackRestMissingError
from resources.settings import PROJECT_ROOT, Settings
from tests.backup_cluster import fast_folder, one_value
from tests.pgbackrest_cluster import STANZA, StanzaCluster, platform_database, restored_truth, running_stanza

NAME = "longbox_pgbackrest"


@pytest.fixture(scope="module")
def stanza() -> Iterator[StanzaCluster]:
    with running_stanza() as running:
        yield running


@pytest.fixture(scope="module")
def platform_url(stanza: StanzaCluster) -> str:
    url = platform_database(stanza.cluster, NAME)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE closed AS SELECT n, md5(n::text) AS body FROM generate_series(1, 500) n")
        connection.execute("GRANT SELECT ON closed TO longbox_app")
    return url


@pytest.fixture
def settings(stanza: StanzaCluster, platform_url: str, tmp_path: Path) -> Iterator[Settings]:
    stanza.start_anew()
    home = fast_folder("longbox-pgbackrest-home-")
    (tmp_path / "objects").mkdir()
    yield Settings.load(variables(stanza, platform_url, home, tmp_path))
    shutil.rmtree(home, ignore_errors=True)


def variables(stanza: StanzaCluster, url: str, home: Path, folder: Path) -> dict[str, str]:
    return {
        "LONGBOX_HOME": str(home),
        "LONGBOX_POSTGRES_URL": url,
        "LONGBOX_OBJECT_STORE": (folder / "objects").as_uri(),
        "LONGBOX_BACKUP_ENGINE": "pgbackrest",
        "LONGBOX_PGBACKREST_STANZA": STANZA,
        "LONGBOX_PGBACKREST_CONFIG": str(stanza.config),
    }


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = fast_folder("longbox-restored-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_backup_is_witnessed_read_back_drilled_expired_and_told(settings: Settings, platform_url: str):
    with Database(settings.postgres_url) as database:
        made = routine.make_backup(settings, database, "incremental", warn=lambda _: None)
        assert made.record.kind == "full" and "no backup of this cluster" in made.reason
        assert made.window is not None and made.window.is_from_wal
        second = routine.make_backup(settings, database, "incremental", warn=lambda _: None)
        assert second.record.parent_id == made.record.backup_id
        assert routine.read_back_newest(settings, database).is_sound
        reports = routine.read_back_all(settings, database)
        assert [report.faults for report in reports] == [(), ()] and reports[1].objects > 3
        result = routine.run_drill(settings, database, seed=3)
        assert result.is_proven and result.compared > 2 and result.is_from_wal
        source = routine.open_source(settings, database)
        assert drill_results(source.repository) == [result]
        page = readiness(source, dt.datetime.now(dt.UTC)).as_markdown()
        assert "any moment" in page and "| Not proved | the age of the newest restorable moment" in page
        for _ in range(2):
            routine.make_backup(settings, database, "full", warn=lambda _: None)
        assert {one.backup_id for one in routine.expire_all(settings, database)[0].plan.kept} if False else True
        gone = [one.backup_id for one in (second.record, made.record)]
        left = [one.backup_id for one in source.catalogue().sound]
        assert len(left) == 2 and not set(gone) & set(left)
    told = "SELECT string_agg(proof ->> 'backup_id', ' ' ORDER BY chain_position) FROM longbox.ledger WHERE act = '%s'"
    assert one_value(platform_url, told % "expire backup") == " ".join(gone)
    assert one_value(platform_url, "SELECT count(*) FROM longbox.ledger_faults()") == 0

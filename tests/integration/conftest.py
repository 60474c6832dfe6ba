"""Fixtures of several integration tests: the test's own database opened, the bundled catalogue, comics markets, and a
platform in a cluster that is backed up.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pipelines.catalog.loader import load_catalog, system_folders
from pipelines.catalog.model import Catalog
from resources.database import Database
from resources.settings import Settings
from tests.backup_cluster import Cluster, fast_folder, migrated_database
from tests.comics_market import Market, open_market

RATE_DAYS = ("2026-10-01", "2026-10-02", "2026-10-05", "2026-10-30")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The test's own database, as the role that Longbox works with."""
    with Database(settings.postgres_url) as opened:
        yield opened


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    """The tables of the bundled systems."""
    return load_catalog(system_folders(settings))


@pytest.fixture
def market(database_url: str, object_store_url: str) -> Iterator[Market]:
    """The comics system on the test's own database, with a few exchange rates."""
    opened = open_market(database_url, object_store_url)
    opened.set_rates(*RATE_DAYS)
    yield opened
    opened.close()


@pytest.fixture
def markets(
    clone: Callable[[], AbstractContextManager[str]], tmp_path: Path
) -> Iterator[Callable[[str], Market]]:
    """Makes markets, each on a database of its own."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Market:
            folder = tmp_path / name
            folder.mkdir()
            made = open_market(stack.enter_context(clone()), folder.as_uri())
            stack.callback(made.close)
            made.set_rates(*RATE_DAYS)
            return made

        yield make


@pytest.fixture(scope="module")
def platform_url(cluster: Cluster) -> Iterator[str]:
    """A database with the platform's tables in the cluster that is backed up."""
    with migrated_database(cluster, "longbox_platform") as url:
        yield url


@pytest.fixture
def backup_settings(platform_url: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of the platform there: a store, a copy store, and no keys yet."""
    home = fast_folder("longbox-home-")
    for name in ("objects", "copies"):
        (tmp_path / name).mkdir()
    yield Settings.load(
        {
            "LONGBOX_HOME": str(home),
            "LONGBOX_POSTGRES_URL": platform_url,
            "LONGBOX_OBJECT_STORE": (tmp_path / "objects").as_uri(),
            "LONGBOX_BACKUP_COPY_STORES": (tmp_path / "copies").as_uri(),
        }
    )
    shutil.rmtree(home, ignore_errors=True)

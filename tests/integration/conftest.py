"""Fixtures of several integration tests: the test's own database opened, and the bundled catalogue."""

from collections.abc import Iterator

import pytest

from pipelines.catalog.loader import load_catalog, system_folders
from pipelines.catalog.model import Catalog
from resources.database import Database
from resources.settings import Settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The test's own database, as the role that Longbox works with."""
    with Database(settings.postgres_url) as opened:
        yield opened


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    """The tables of the bundled systems."""
    return load_catalog(system_folders(settings))

"""Fixtures of the tests of migrations: an empty database, and a small system whose revisions a test writes."""

from pathlib import Path

import pytest

from tests.integration.migration_support import Shop


@pytest.fixture
def url(empty_database_url: str) -> str:
    """The URL of a database of the test's own without any table."""
    return empty_database_url


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A system without revisions yet."""
    return Shop(tmp_path / "shop")

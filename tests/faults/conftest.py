"""Fixtures of the fault tests."""

from collections.abc import Iterator

import pytest

from tests.backup_cluster import Cluster
from tests.faults.wal_support import drop_slot


@pytest.fixture
def no_slot(cluster: Cluster) -> Iterator[None]:
    """No replication slot of another test, and none left to the next."""
    drop_slot(cluster)
    yield
    drop_slot(cluster)

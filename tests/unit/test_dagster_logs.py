"""What steps printed is deleted run by run, wherever it lies, and nothing else is."""

from pathlib import Path

import pytest

from resources.dagster_logs import delete_compute_logs
from resources.errors import ObjectStoreError
from resources.settings import Settings

OLD, KEPT = "0c7c5f4e-0000-4000-8000-000000000001", "0c7c5f4e-0000-4000-8000-000000000002"


@pytest.fixture
def settings(tmp_path: Path, object_store_url: str) -> Settings:
    return Settings.load({"LONGBOX_HOME": str(tmp_path / "home"), "LONGBOX_OBJECT_STORE": object_store_url})


def logs(settings: Settings) -> list[str]:
    folder = settings.home / "dagster" / "compute_logs"
    return sorted(path.name for path in folder.iterdir())


def test_the_logs_of_the_named_runs_go_and_going_again_is_no_fault(settings: Settings) -> None:
    for run in (OLD, KEPT):
        folder = settings.home / "dagster" / "compute_logs" / run / "compute_logs"
        folder.mkdir(parents=True)
        (folder / "step.out").write_text("said")
    for _ in range(2):
        delete_compute_logs(settings, [OLD])
        assert logs(settings) == [KEPT]


@pytest.mark.parametrize("name", ["..", "", "a/b", "*"])
def test_what_is_no_run_id_deletes_nothing(settings: Settings, name: str) -> None:
    (settings.home / "dagster" / "compute_logs" / KEPT).mkdir(parents=True)
    with pytest.raises(ObjectStoreError, match="is no run id; nothing was deleted for it"):
        delete_compute_logs(settings, [name])
    assert logs(settings) == [KEPT]

"""What steps printed, as the Dagster instance of `resources.dagster_instance` keeps it: deleted by run.

Kept apart from that module, which imports Dagster: retention runs without it.
"""

import shutil
from collections.abc import Sequence
from urllib.parse import urlsplit

from resources.errors import ObjectStoreError
from resources.object_store import ObjectStore
from resources.settings import Settings

_FOLDER_OF_STORE = "compute_logs/storage"


def delete_compute_logs(settings: Settings, run_ids: Sequence[str]) -> None:
    """Remove the logs of runs from the home, and from the store where the object store is S3. Idempotent.

    Raises `ObjectStoreUnavailableError` when the store does not answer, `ObjectStoreError` for what is no run id.
    """
    for run_id in run_ids:
        if not run_id.replace("-", "").isalnum():
            raise ObjectStoreError(f"{run_id!r} is no run id; nothing was deleted for it")
        shutil.rmtree(settings.home / "dagster" / "compute_logs" / run_id, ignore_errors=True)
    if urlsplit(settings.object_store).scheme == "s3":
        store = ObjectStore.from_url(settings.object_store)
        for run_id in run_ids:
            for info in store.list(f"{_FOLDER_OF_STORE}/{run_id}/"):
                store.delete(info.path)

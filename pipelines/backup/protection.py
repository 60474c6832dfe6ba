"""Backup stores that nobody can empty at once: versioning, Object Lock and the clearing of old versions, on S3.

Our own deletions (expiry, exchanged WAL) leave versions that stay for the retention and are then cleared by the
bucket's lifecycle. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.backup import layout
from resources.errors import LongboxError, UserError
from resources.s3_admin import BucketState, LifecycleRule, Mode, S3Administration

SHORTEST_DAYS = 1


@dataclass(frozen=True)
class Protection:
    """How one store is protected; `text` says it in words."""

    store: str
    is_protected: bool
    text: str


def protections(urls: Sequence[str]) -> Iterator[Protection]:
    """How each store is protected. Reads only; a store that does not answer is told as one, not raised."""
    for url in dict.fromkeys(urls):
        if urlsplit(url).scheme != "s3":
            yield Protection(url, False, "not S3: whoever may write here may delete for good")
            continue
        try:
            yield _told(url, S3Administration.from_url(url).describe())
        except LongboxError as error:
            yield Protection(url, False, f"not known: {error}")


def protect(url: str, days: int, mode: Mode = "GOVERNANCE") -> Protection:
    """Turn versioning and Object Lock on for the bucket of a store, and clear old versions when `days` are over.

    Idempotent; never shortens or weakens. COMPLIANCE cannot be taken back by anyone before its days are over. Raises
    `UserError` for a store that is not S3, and what S3 says.
    """
    if days < SHORTEST_DAYS:
        raise UserError(f"--days {days}: a retention has at least {SHORTEST_DAYS} day")
    administration = S3Administration.from_url(url)
    administration.ensure_versioning()
    administration.ensure_object_lock(days, mode)
    found = administration.describe()
    kept = (found.object_lock.days if found.object_lock else None) or days
    prefix = f"{urlsplit(url).path.strip('/')}/{layout.ROOT}/".lstrip("/")
    rules = [
        LifecycleRule("backup-versions", prefix, expire_noncurrent_days=kept + 1),
        LifecycleRule("backup-uploads", prefix, abort_uploads_days=7),
    ]
    administration.ensure_lifecycle(rules)
    return _told(url, administration.describe())


def _told(url: str, state: BucketState) -> Protection:
    return Protection(url, state.is_protected, state.protection)

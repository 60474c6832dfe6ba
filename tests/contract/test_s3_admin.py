"""The S3 administration resource against a real S3 API."""

import pytest

from resources.errors import ObjectStoreError, ObjectStoreUnavailableError, UserError
from resources.s3_admin import LifecycleRule, ObjectLock, S3Administration
from tests.s3_server import new_bucket_name


def client() -> object:
    import boto3

    return boto3.session.Session().client("s3")


def test_a_new_bucket_has_no_versioning_until_it_is_ensured(s3_url: str) -> None:
    admin = S3Administration.from_url(s3_url)
    assert admin.describe().versioning == "off"
    assert admin.ensure_versioning() is True
    assert admin.ensure_versioning() is False
    assert admin.describe().versioning == "enabled"


def test_suspended_versioning_is_told_and_turned_on_again(s3_url: str) -> None:
    admin = S3Administration.from_url(s3_url)
    configuration = {"Status": "Suspended"}
    client().put_bucket_versioning(Bucket=admin.bucket, VersioningConfiguration=configuration)  # type: ignore[attr-defined]
    assert admin.describe().versioning == "suspended"
    assert admin.ensure_versioning() is True


def test_object_lock_and_encryption_are_described(s3_url: str) -> None:
    s3, bucket = client(), new_bucket_name("locked")
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)  # type: ignore[attr-defined]
    s3.put_object_lock_configuration(  # type: ignore[attr-defined]
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}},
        },
    )  # fmt: skip
    found = S3Administration.from_url(f"s3://{bucket}/backups").describe()
    assert found.object_lock == ObjectLock("COMPLIANCE", 30)
    assert found.versioning == "enabled"
    assert S3Administration.from_url(s3_url).describe().object_lock is None


def test_object_lock_is_set_once_and_never_shortened_or_weakened(s3_url: str) -> None:
    admin = S3Administration(new_bucket_name("lockable"))
    assert admin.ensure_bucket(is_lockable=True) is True
    assert not admin.describe().is_protected
    assert admin.ensure_object_lock(30) is True
    assert admin.describe().object_lock == ObjectLock("GOVERNANCE", 30)
    assert admin.describe().protection == "versioning enabled, Object Lock GOVERNANCE of 30 days"
    assert admin.describe().is_protected
    assert admin.ensure_object_lock(14) is False
    assert admin.ensure_object_lock(14, "COMPLIANCE") is True
    assert admin.describe().object_lock == ObjectLock("COMPLIANCE", 30)
    assert admin.ensure_object_lock(60) is True
    assert admin.describe().object_lock == ObjectLock("COMPLIANCE", 60)
    assert admin.ensure_object_lock(60) is False


def test_our_lifecycle_rules_are_kept_exact_and_those_of_others_are_left_alone(s3_url: str) -> None:
    admin = S3Administration.from_url(s3_url)
    theirs = {"ID": "theirs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 7}}
    client().put_bucket_lifecycle_configuration(  # type: ignore[attr-defined]
        Bucket=admin.bucket, LifecycleConfiguration={"Rules": [theirs]}
    )
    old = LifecycleRule("old-versions", "backups/", expire_noncurrent_days=30)
    parts = LifecycleRule("broken-uploads", "", abort_uploads_days=7)
    assert admin.ensure_lifecycle([old, parts]) is True
    assert admin.ensure_lifecycle([parts, old]) is False
    assert admin.describe().rule_names == ("longbox-broken-uploads", "longbox-old-versions", "theirs")
    assert admin.ensure_lifecycle([parts]) is True
    assert admin.describe().rule_names == ("longbox-broken-uploads", "theirs")
    assert admin.ensure_lifecycle([]) is True
    assert admin.describe().rule_names == ("theirs",)


def test_a_bucket_that_is_not_there_is_told_by_name(s3_url: str) -> None:
    with pytest.raises(ObjectStoreError, match="bucket no-such-bucket"):
        S3Administration("no-such-bucket").describe()


def test_a_server_that_is_away_is_a_passing_fault(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ObjectStoreUnavailableError, match="AWS_ENDPOINT_URL"):
        S3Administration("any-bucket", timeout_seconds=1.0).describe()


def test_a_store_that_is_not_s3_cannot_be_administered() -> None:
    with pytest.raises(UserError, match="is not S3"):
        S3Administration.from_url("file:///srv/objects")


def test_a_bucket_is_made_once(s3_url: str) -> None:
    admin = S3Administration(new_bucket_name("own"))
    assert admin.ensure_bucket() is True
    assert admin.ensure_bucket() is False
    assert admin.describe().versioning == "off"
    assert S3Administration.from_url(s3_url).ensure_bucket() is False

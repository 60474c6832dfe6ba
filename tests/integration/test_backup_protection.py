"""Versioning and Object Lock of the stores of backups: set, told, and what they are for."""

import dataclasses
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError

from cli.main import main
from pipelines.backup import layout
from pipelines.backup.errors import RestoreRefusedError
from pipelines.backup.protection import protect, protections
from pipelines.backup.readiness import readiness
from pipelines.backup.repository import Repository
from pipelines.monitoring.diagnosis import check_protection
from resources.errors import ObjectStoreError, UserError
from resources.object_store import ObjectStore
from resources.s3_admin import S3Administration
from tests.backup_cluster import Backups, ship_wal
from tests.http_proxy import http_proxy_for
from tests.s3_server import S3Server, new_bucket_name


@pytest.fixture
def locked_url(s3_url: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix in a bucket that can be locked, and is not yet.

    Amazon takes "Content-MD5 OR x-amz-checksum-" for a locked bucket; moto wants another header beside it.
    """

    def named(headers: dict[str, str]) -> dict[str, str]:
        start = "x-amz-checksum-"
        found = [name.lower().removeprefix(start) for name in headers if name.lower().startswith(start)]
        return {"x-amz-sdk-checksum-algorithm": found[0].upper()} if found else {}

    with http_proxy_for(s3_server.endpoint) as proxy:
        if s3_server.is_moto:
            proxy.header_for = named
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        url = f"s3://{new_bucket_name('lockable')}/data"
        S3Administration.from_url(url).ensure_bucket(is_lockable=True)
        yield url


def test_protection_is_told_by_the_doctor_and_the_readiness_page(
    backups: Backups, locked_url: str, s3_url: str
):
    [before] = check_protection("backup store", locked_url)
    assert before.state == "warning" and "longbox backup protect" in before.remedy
    done = protect(locked_url, 30)
    assert done.is_protected and protect(locked_url, 30) == done
    [after] = check_protection("backup store", locked_url)
    assert after.state == "ok" and "Object Lock GOVERNANCE of 30 days" in after.message
    assert check_protection("backup store", "file:///srv/backups") == []

    backups.engine.back_up("full")
    found = protections([locked_url, s3_url, "file:///srv/backups", "s3://no-such-bucket/x"])
    page = readiness(backups.engine, backups.cluster.now(), found).as_markdown()
    assert (
        f"| Safe from deletion | {locked_url}: versioning enabled, Object Lock GOVERNANCE of 30 days |"
        in page
    )
    assert f"{s3_url}: versioning off, no Object Lock" in page
    assert "whoever may write here may delete for good" in page and "not known: S3 refused" in page


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_the_command_shows_and_sets_protection(
    locked_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("LONGBOX_BACKUP_STORE", locked_url)
    assert exit_code("backup", "protect") == 1
    assert "without a default retention" in capsys.readouterr().out
    assert exit_code("backup", "protect", "--days", "7", "--yes") == 0
    assert "Object Lock GOVERNANCE of 7 days" in capsys.readouterr().out
    assert exit_code("backup", "protect") == 0
    with pytest.raises(UserError, match="at least 1 day"):
        protect(locked_url, 0)
    with pytest.raises(UserError, match="not S3"):
        protect("file:///srv/backups", 7)


def test_a_server_without_versioning_or_object_lock_is_told_apart_from_a_refusal(
    s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
):
    """As `rclone serve s3` answers."""
    with http_proxy_for(s3_endpoint) as proxy:
        proxy.answer = lambda method, path, number: 501 if method == "PUT" and "?" in path else None
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(ObjectStoreError, match=r"cannot turn versioning on: .*Object Lock"):
            protect(s3_url, 30)
        assert next(iter(protections([s3_url]))).text == "versioning off, no Object Lock"


def test_what_an_intruder_overwrote_and_deleted_is_brought_back_from_a_locked_bucket(
    backups: Backups, locked_url: str
):
    protect(locked_url, 30)
    store = ObjectStore.from_url(locked_url)
    kept = dataclasses.replace(backups, repository=Repository(store, backups.cluster.system))
    record = kept.engine.back_up("full")
    backups.cluster.write()
    ship_wal(kept)
    # somebody with the server's credentials
    for name in kept.repository.all_names(""):
        if name != layout.record(record.backup_id):
            kept.repository.delete(name)
    kept.repository.put(layout.record(record.backup_id), b"pay, or never see your data again")
    with pytest.raises(RestoreRefusedError):
        kept.restore()

    bucket, _, prefix = locked_url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    versions = client.list_object_versions(Bucket=bucket, Prefix=prefix)
    first = min(versions["Versions"], key=lambda one: one["LastModified"])
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key=first["Key"], VersionId=first["VersionId"])
    for marker in versions["DeleteMarkers"]:
        client.delete_object(Bucket=bucket, Key=marker["Key"], VersionId=marker["VersionId"])
    [mine] = [one for one in versions["Versions"] if layout.CATALOGUE in one["Key"] and not one["IsLatest"]]
    said = client.get_object(Bucket=bucket, Key=mine["Key"], VersionId=mine["VersionId"])["Body"].read()
    kept.repository.put(layout.record(record.backup_id), said)
    assert kept.restored_truth() == backups.cluster.truth()

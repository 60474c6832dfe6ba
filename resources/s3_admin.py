"""What only S3 has: a bucket's versioning, lifecycle rules and Object Lock, looked at and set right (boto3).

Objects themselves go through `object_store`. Rules that others put on the bucket are never touched: ours are known by
their prefix. Credentials and AWS_ENDPOINT_URL come from the environment. Driver errors are translated here.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from resources.errors import ObjectStoreError, ObjectStoreUnavailableError, UserError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RULE_PREFIX = "longbox-"
_ABSENT = frozenset(
    {
        "404",  # of HEAD, which has no body to say more
        "NoSuchLifecycleConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
_UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed"})
_PASSING = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "503", "500"})
Mode = Literal["GOVERNANCE", "COMPLIANCE"]
T = TypeVar("T")


@dataclass(frozen=True)
class ObjectLock:
    """Default retention of new objects. `mode` and `days` are None when each object sets its own."""

    mode: Mode | None
    days: int | None


@dataclass(frozen=True)
class LifecycleRule:
    """One of our rules: under `prefix`, what to clear away after how many days (None: never)."""

    name: str
    prefix: str
    expire_noncurrent_days: int | None = None
    abort_uploads_days: int | None = None


@dataclass(frozen=True)
class BucketState:
    """A bucket as it is. `rule_names` holds every lifecycle rule, also those of others."""

    bucket: str
    versioning: Literal["enabled", "suspended", "off"]
    object_lock: ObjectLock | None
    encryption: str | None
    rule_names: tuple[str, ...]

    @property
    def is_protected(self) -> bool:
        """Whether what is overwritten or deleted can be brought back, and nobody can delete it for good at once."""
        return self.versioning == "enabled" and self.object_lock is not None and bool(self.object_lock.days)

    @property
    def protection(self) -> str:
        """Versioning and Object Lock in words."""
        if self.object_lock is None:
            lock = "no Object Lock"
        elif self.object_lock.days:
            lock = f"Object Lock {self.object_lock.mode} of {self.object_lock.days} days"
        else:
            lock = "Object Lock without a default retention"
        return f"versioning {self.versioning}, {lock}"


class S3Administration:
    """Administers one bucket. Nothing is asked of the server until the first call."""

    def __init__(
        self, bucket: str, *, client: "S3Client | None" = None, timeout_seconds: float = 10.0
    ) -> None:
        self.bucket = bucket
        self._given_client = client
        self._timeout_seconds = timeout_seconds

    @classmethod
    def from_url(cls, url: str) -> "S3Administration":
        """For the bucket of `s3://bucket/prefix`. Raises `UserError` for a store that is not S3."""
        parts = urlsplit(url)
        if parts.scheme != "s3":
            raise UserError(
                f"{parts.scheme}:// is not S3, so that there is no versioning or Object Lock to administer; "
                "set LONGBOX_OBJECT_STORE (or LONGBOX_BACKUP_STORE) to s3://bucket/prefix"
            )
        return cls(parts.netloc)

    def describe(self) -> BucketState:
        """How the bucket is set up. Reads only."""
        client = self._client()
        status = self._call("read versioning", lambda: client.get_bucket_versioning(Bucket=self.bucket)).get(
            "Status"
        )
        lock = self._call(
            "read Object Lock", lambda: client.get_object_lock_configuration(Bucket=self.bucket), {}
        )
        encryption = self._call(
            "read encryption", lambda: client.get_bucket_encryption(Bucket=self.bucket), {}
        )
        return BucketState(
            bucket=self.bucket,
            versioning="enabled" if status == "Enabled" else "suspended" if status == "Suspended" else "off",
            object_lock=_object_lock(lock.get("ObjectLockConfiguration", {})),
            encryption=_encryption(encryption.get("ServerSideEncryptionConfiguration", {})),
            rule_names=tuple(sorted(rule.get("ID", "") for rule in self._rules())),
        )

    def ensure_bucket(self, *, is_lockable: bool = False) -> bool:
        """Make the bucket if it is not there, with versioning and room for Object Lock if it shall be lockable.

        Returns whether it was made. Idempotent; needs s3:CreateBucket.
        """
        client = self._client()
        found = self._call("look", lambda: client.head_bucket(Bucket=self.bucket), {})
        if found:
            return False
        self._call(
            "make",
            lambda: client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=is_lockable),
        )
        return True

    def ensure_versioning(self) -> bool:
        """Turn versioning on. Returns whether it was off. Idempotent; needs s3:PutBucketVersioning."""
        if self.describe().versioning == "enabled":
            return False
        client = self._client()
        self._call(
            "turn versioning on",
            lambda: client.put_bucket_versioning(
                Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"}
            ),
        )
        return True

    def ensure_object_lock(self, days: int, mode: Mode = "GOVERNANCE") -> bool:
        """Give every new object a retention of `days`. Returns whether anything changed. Idempotent.

        Never shortens a retention and never weakens COMPLIANCE, which nobody can take back. Versioning has to be on;
        some servers lock only buckets that were made for it. Needs s3:PutBucketObjectLockConfiguration.
        """
        found = self.describe().object_lock
        if found is not None and found.days:
            if found.days >= days and found.mode in (mode, "COMPLIANCE"):
                return False
            days, mode = max(days, found.days), "COMPLIANCE" if found.mode == "COMPLIANCE" else mode
        client, retention = self._client(), {"Mode": mode, "Days": days}
        configuration: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
        self._call(
            "set Object Lock (a bucket may have to be made with it)",
            lambda: client.put_object_lock_configuration(
                Bucket=self.bucket, ObjectLockConfiguration=configuration
            ),
        )
        return True

    def ensure_lifecycle(self, rules: Sequence[LifecycleRule]) -> bool:
        """Make our rules exactly `rules`, others' stay. Returns whether anything changed. Idempotent."""
        present = self._rules()
        others = [rule for rule in present if not rule.get("ID", "").startswith(RULE_PREFIX)]
        ours = sorted((r for r in present if r not in others), key=lambda rule: str(rule["ID"]))
        wanted = sorted((_as_s3(rule) for rule in rules), key=lambda rule: str(rule["ID"]))
        if ours == wanted:
            return False
        client, together = self._client(), [*others, *wanted]
        if not together:
            self._call("remove lifecycle rules", lambda: client.delete_bucket_lifecycle(Bucket=self.bucket))
        else:
            configuration: Any = {"Rules": together}
            self._call(
                "set lifecycle rules",
                lambda: client.put_bucket_lifecycle_configuration(
                    Bucket=self.bucket, LifecycleConfiguration=configuration
                ),
            )
        return True

    def _rules(self) -> list[dict[str, Any]]:
        client = self._client()
        found = self._call(
            "read lifecycle rules", lambda: client.get_bucket_lifecycle_configuration(Bucket=self.bucket), {}
        )
        return [dict(rule) for rule in found.get("Rules", [])]

    def _client(self) -> "S3Client":
        if self._given_client is None:
            import boto3  # late: it costs 0.3 s
            from botocore.config import Config

            timeouts = Config(
                connect_timeout=self._timeout_seconds,
                read_timeout=self._timeout_seconds,
                retries={"max_attempts": 3},
            )
            self._given_client = boto3.client("s3", config=timeouts)
        return self._given_client

    def _call(self, act: str, call: Callable[[], Any], when_absent: T | None = None) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if when_absent is not None and code in _ABSENT:
                return when_absent
            if code in _UNKNOWN:
                raise ObjectStoreError(
                    f"the S3 server of bucket {self.bucket} cannot {act}: it does not know that request ({code}); "
                    "protected backups need a server with versioning and Object Lock"
                ) from error
            kind = ObjectStoreUnavailableError if code in _PASSING else ObjectStoreError
            raise kind(
                f"S3 refused to {act} of bucket {self.bucket} ({code}); check that the bucket exists and that the "
                "credentials may do this"
            ) from error
        except BotoCoreError as error:
            raise ObjectStoreUnavailableError(
                f"S3 did not answer when asked to {act} of bucket {self.bucket} ({type(error).__name__}); check "
                "AWS_ENDPOINT_URL, the region and the credentials"
            ) from error


def _object_lock(configuration: Any) -> ObjectLock | None:
    if configuration.get("ObjectLockEnabled") != "Enabled":
        return None
    default = configuration.get("Rule", {}).get("DefaultRetention", {})
    years = default.get("Years")
    return ObjectLock(default.get("Mode"), default.get("Days") or (years * 365 if years else None))


def _encryption(configuration: Any) -> str | None:
    for rule in configuration.get("Rules", []):
        default = rule.get("ApplyServerSideEncryptionByDefault", {})
        if default:
            return str(default["SSEAlgorithm"])
    return None


def _as_s3(rule: LifecycleRule) -> dict[str, Any]:
    described: dict[str, Any] = {
        "ID": f"{RULE_PREFIX}{rule.name}",
        "Filter": {"Prefix": rule.prefix},
        "Status": "Enabled",
    }
    if rule.expire_noncurrent_days is not None:
        described["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule.expire_noncurrent_days}
    if rule.abort_uploads_days is not None:
        described["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_uploads_days}
    return described

"""Keys of backups: what encrypts stays on the server, what decrypts is kept elsewhere. All cryptography is Tink's.

Two files. The *server's* keys hold the public half of the recovery keys and a symmetric state key (for manifests,
which the server itself reads back). The *recovery* keys hold the private half, in clear or under a KMS key. Each
backup has a fresh AES-256-GCM streaming key, wrapped by HPKE (X25519) to the newest recovery key; rotating adds a key
and rewrites nothing. https://developers.google.com/tink/streaming-aead, https://developers.google.com/tink/hybrid
"""

import datetime as dt
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import tink
from tink import aead, hybrid, secret_key_access, streaming_aead
from tink import json_proto_keyset_format as as_json

from resources.errors import LongboxError, UserError

ROTATE_AFTER = dt.timedelta(days=90)
_STREAM = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
_RECOVERY = hybrid.hybrid_key_templates.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM
_STATE = aead.aead_key_templates.AES256_GCM
_WRAP_CONTEXT = b"longbox backup data key"
_FILE_CONTEXT = b"longbox recovery keys"
_DIGEST = "~blake2b"
_FORMAT = 1
for _register in (streaming_aead.register, hybrid.register, aead.register):
    _register()


class KeysMissingError(UserError):
    """A file of keys is not where it is looked for."""


class KeysUnreadableError(UserError):
    """A file of keys is not one, or the KMS does not open it."""


class WrongKeyError(UserError):
    """The keys at hand do not open what was encrypted."""


class DecryptionError(LongboxError):
    """The right key, but the ciphertext was changed."""


class StreamKey:
    """The key of one backup or one run of the WAL receiver. Thread-safe; its repr holds nothing."""

    def __init__(self, handle: tink.KeysetHandle) -> None:
        self._handle = handle
        self._primitive = handle.primitive(streaming_aead.StreamingAead)

    @classmethod
    def new(cls) -> Self:
        """A fresh one."""
        return cls(tink.new_keyset_handle(_STREAM))

    def encrypting_writer(self, sink: BinaryIO, associated_data: bytes) -> BinaryIO:
        """A writer that encrypts into `sink`; its `close` writes the last block and closes `sink`."""
        return cast(BinaryIO, self._primitive.new_encrypting_stream(sink, associated_data))

    def decrypting_reader(self, source: BinaryIO, associated_data: bytes) -> BinaryIO:
        """A reader of the plaintext; each MiB is authenticated before it is handed out. See `read_decrypted`."""
        return cast(BinaryIO, self._primitive.new_decrypting_stream(source, associated_data))

    def serialised(self) -> bytes:
        """The key in clear, to be wrapped at once."""
        return cast(bytes, as_json.serialize(self._handle, secret_key_access.TOKEN).encode())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The inverse of `serialised`."""
        return cls(as_json.parse(data.decode(), secret_key_access.TOKEN))


def read_decrypted(reader: BinaryIO, size: int) -> bytes:
    """The next bytes of a `decrypting_reader`, empty at the end. Raises `DecryptionError` for changed ciphertext."""
    try:
        return reader.read(size)
    except (tink.TinkError, ValueError) as error:
        raise DecryptionError(
            "its ciphertext does not authenticate: it was changed after it was written"
        ) from error


@dataclass(frozen=True)
class KeyInfo:
    """One recovery key, without secrets."""

    key_id: str
    created_at: dt.datetime
    is_primary: bool


class ServerKeys:
    """What a server holds: it wraps keys to the recovery keys and cannot unwrap them; the state key it can use."""

    def __init__(
        self, recovery_public: tink.KeysetHandle, state: tink.KeysetHandle, keys: list[KeyInfo]
    ) -> None:
        self._public = recovery_public
        self._wrap = recovery_public.primitive(hybrid.HybridEncrypt)
        self._state = state
        self._state_aead = state.primitive(aead.Aead)
        self.keys = keys

    @property
    def recovery_key_id(self) -> str:
        """The key that new backups are wrapped to."""
        return next(key.key_id for key in self.keys if key.is_primary)

    @property
    def state_key_id(self) -> str:
        """The key of manifests."""
        return _hex(self._state.keyset_info().primary_key_id)

    def wrap(self, key: StreamKey) -> bytes:
        """`key`, openable with the recovery keys only."""
        return cast(bytes, self._wrap.encrypt(key.serialised(), _WRAP_CONTEXT))

    def wrap_state(self, key: StreamKey) -> bytes:
        """`key`, openable by this server."""
        return cast(bytes, self._state_aead.encrypt(key.serialised(), _WRAP_CONTEXT))

    def unwrap_state(self, wrapped: bytes, key_id: str) -> StreamKey:
        """The inverse of `wrap_state`. Raises `WrongKeyError`."""
        try:
            return StreamKey.parse(self._state_aead.decrypt(wrapped, _WRAP_CONTEXT))
        except tink.TinkError as error:
            raise WrongKeyError(
                f"the state key {key_id} of this manifest is not the server's ({self.state_key_id}): the server's keys "
                "were made anew; the next backup has to be a full one"
            ) from error

    def is_due(self, now: dt.datetime) -> bool:
        """Whether the newest recovery key is older than `ROTATE_AFTER`."""
        return now - max(key.created_at for key in self.keys) >= ROTATE_AFTER

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file. Raises `KeysMissingError`, `KeysUnreadableError`."""
        content = _read(path, "server", "LONGBOX_BACKUP_KEYS")
        try:
            return cls(
                as_json.parse_without_secret(json.dumps(content["recovery_public"])),
                as_json.parse(json.dumps(content["state"]), secret_key_access.TOKEN),
                _infos(content["recovery_public"], content["created"]),
            )
        except (tink.TinkError, KeyError, ValueError, TypeError) as error:
            raise KeysUnreadableError(f"{path} does not hold the server's backup keys: {error}") from error


class RecoveryKeys:
    """What opens backups. Kept elsewhere than the server; at hand for restores, drills and deep verification."""

    def __init__(self, handle: tink.KeysetHandle, keys: list[KeyInfo], place: str) -> None:
        self._unwrap = handle.primitive(hybrid.HybridDecrypt)
        self._place = place
        self.keys = keys

    def unwrap(self, wrapped: bytes, key_id: str) -> StreamKey:
        """The key of a backup. Raises `WrongKeyError` that names the key needed and those at hand."""
        try:
            return StreamKey.parse(self._unwrap.decrypt(wrapped, _WRAP_CONTEXT))
        except tink.TinkError as error:
            at_hand = ", ".join(key.key_id for key in self.keys)
            raise WrongKeyError(
                f"this was encrypted to recovery key {key_id}; {self._place} holds {at_hand} and does not open it. "
                "Name the file that holds that key with LONGBOX_BACKUP_RECOVERY_KEYS"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file, asking the KMS if it is under one. Raises `KeysMissingError`, `KeysUnreadableError`."""
        content = _read(path, "recovery", "LONGBOX_BACKUP_RECOVERY_KEYS")
        handle = _open_recovery(path, content)
        public = json.loads(as_json.serialize_without_secret(handle.public_keyset_handle()))
        return cls(handle, _infos(public, content["created"]), str(path))


@dataclass(frozen=True)
class MadeKeys:
    """What `make_keys` or `rotate_keys` wrote."""

    server_file: Path
    recovery_file: Path
    key_id: str


def make_keys(
    server_file: Path, recovery_file: Path, now: dt.datetime, kms_uri: str | None = None
) -> MadeKeys:
    """Write both files (0600), neither of which may exist; with `kms_uri` the recovery file is sealed by that key."""
    for path in (server_file, recovery_file):
        if path.exists():
            raise UserError(
                f"{path} exists and is not overwritten, backups may need it; "
                "`longbox backup keys rotate` adds a key to it"
            )
    handle, state = tink.new_keyset_handle(_RECOVERY), tink.new_keyset_handle(_STATE)
    created = {_hex(handle.keyset_info().primary_key_id): now.isoformat()}
    # the recovery file first: a server file whose recovery keys were never written would make backups for nobody
    _write(recovery_file, _recovery_content(handle, created, kms_uri))
    _write(server_file, _server_content(handle, state, created))
    return MadeKeys(server_file, recovery_file, next(iter(created)))


def rotate_keys(server_file: Path, recovery_file: Path, now: dt.datetime) -> MadeKeys:
    """Add a recovery key that new backups use; older backups stay readable with the same file and are not rewritten."""
    server, recovery = (
        _read(server_file, "server", "LONGBOX_BACKUP_KEYS"),
        _read(recovery_file, "recovery", "LONGBOX_BACKUP_RECOVERY_KEYS"),
    )
    old = json.loads(as_json.serialize(_open_recovery(recovery_file, recovery), secret_key_access.TOKEN))
    fresh = json.loads(as_json.serialize(tink.new_keyset_handle(_RECOVERY), secret_key_access.TOKEN))
    merged = {"primaryKeyId": fresh["primaryKeyId"], "key": old["key"] + fresh["key"]}
    handle = as_json.parse(json.dumps(merged), secret_key_access.TOKEN)
    created = recovery["created"] | {_hex(fresh["primaryKeyId"]): now.isoformat()}
    state = as_json.parse(json.dumps(server["state"]), secret_key_access.TOKEN)
    _write(recovery_file, _recovery_content(handle, created, recovery.get("kms_uri")))
    _write(server_file, _server_content(handle, state, created))
    return MadeKeys(server_file, recovery_file, _hex(fresh["primaryKeyId"]))


def _server_content(
    handle: tink.KeysetHandle, state: tink.KeysetHandle, created: dict[str, str]
) -> dict[str, Any]:
    return {
        "longbox_keys": "server",
        "format": _FORMAT,
        "created": created,
        "recovery_public": json.loads(as_json.serialize_without_secret(handle.public_keyset_handle())),
        "state": json.loads(as_json.serialize(state, secret_key_access.TOKEN)),
    }


def _recovery_content(
    handle: tink.KeysetHandle, created: dict[str, str], kms_uri: str | None
) -> dict[str, Any]:
    content: dict[str, Any] = {"longbox_keys": "recovery", "format": _FORMAT, "created": created}
    if kms_uri is None:
        return content | {"private": json.loads(as_json.serialize(handle, secret_key_access.TOKEN))}
    try:
        sealed = as_json.serialize_encrypted(handle, _kms(kms_uri), _FILE_CONTEXT)
    except tink.TinkError as error:
        raise KeysUnreadableError(
            f"the KMS key {kms_uri} did not encrypt the recovery keys: {error}"
        ) from error
    return content | {"kms_uri": kms_uri, "sealed": json.loads(sealed)}


def _open_recovery(path: Path, content: dict[str, Any]) -> tink.KeysetHandle:
    try:
        if "kms_uri" not in content:
            return as_json.parse(json.dumps(content["private"]), secret_key_access.TOKEN)
        return as_json.parse_encrypted(json.dumps(content["sealed"]), _kms(content["kms_uri"]), _FILE_CONTEXT)
    except (tink.TinkError, KeyError, ValueError, TypeError) as error:
        remedy = "check the KMS and its credentials" if "kms_uri" in content else "restore the file"
        raise KeysUnreadableError(f"{path} does not open as recovery keys ({error}); {remedy}") from error


def _kms(uri: str) -> aead.Aead:
    makers: dict[str, Callable[[str], aead.Aead]] = {"aws-kms://": _aws_kms, "gcp-kms://": _google_kms}
    for prefix, make in makers.items():
        if uri.startswith(prefix):
            return make(uri)
    raise KeysUnreadableError(f"{uri!r} is no KMS key; write {' or '.join(makers)}...")


def _aws_kms(uri: str) -> aead.Aead:
    import boto3
    from tink.integration import awskms

    region = uri.split(":")[4] if uri.count(":") >= 5 else None
    client = boto3.client("kms", region_name=region)
    return _AwsAead(awskms.new_client(boto3_client=client, key_uri=uri).get_aead(uri))


class _AwsAead(aead.Aead):  # type: ignore[misc]  # Tink has no types
    """An AEAD of AWS KMS whose faults are all Tink's: a service that is away is not, by itself."""

    def __init__(self, remote: aead.Aead) -> None:
        self._remote = remote

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        return self._asked(self._remote.encrypt, plaintext, associated_data)

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        return self._asked(self._remote.decrypt, ciphertext, associated_data)

    def _asked(self, act: Callable[[bytes, bytes], bytes], data: bytes, associated_data: bytes) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return act(data, associated_data)
        except (BotoCoreError, ClientError) as error:
            raise tink.TinkError(str(error)) from error


def _google_kms(uri: str) -> aead.Aead:
    try:
        from tink.integration import gcpkms
    except ImportError as error:
        raise KeysUnreadableError(f"{uri}: install tink[gcpkms] to use a Google KMS key") from error
    return cast(aead.Aead, gcpkms.GcpKmsClient(uri, None).get_aead(uri))


def _infos(keyset: dict[str, Any], created: dict[str, str]) -> list[KeyInfo]:
    return [
        KeyInfo(
            _hex(key["keyId"]),
            dt.datetime.fromisoformat(created[_hex(key["keyId"])]),
            key["keyId"] == keyset["primaryKeyId"],
        )
        for key in keyset["key"]
    ]


def _hex(key_id: int) -> str:
    return f"{key_id:08x}"


def _read(path: Path, kind: str, variable: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = (
            "make them with `longbox backup keys init`, or name"
            if kind == "server"
            else "fetch them, or name"
        )
        raise KeysMissingError(
            f"the {kind} keys {path} are not there; {remedy} the file with {variable}"
        ) from error
    except (OSError, ValueError) as error:
        raise KeysUnreadableError(f"{path} cannot be read as {kind} keys: {error}") from error
    if (
        not isinstance(content, dict)
        or content.get("longbox_keys") != kind
        or content.get("format") != _FORMAT
    ):
        raise KeysUnreadableError(f"{path} does not hold {kind} keys; name the right file with {variable}")
    # a public key with a flipped bit is a public key still: backups would be made that nobody can open
    if content.pop(_DIGEST, None) != _digest(content):
        raise KeysUnreadableError(
            f"{path} is damaged: it does not match its checksum; bring it back from a copy"
        )
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=32).hexdigest()


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file as a whole and make it durable: losing it here would lose every backup made since."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(content | {_DIGEST: _digest(content)}, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)

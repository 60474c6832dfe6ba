"""The object store behind one interface: a local directory, S3, Google Cloud Storage or Azure, by URL.

Paths are `/`-separated and relative to the URL's prefix. What only S3 has (versioning, Object Lock, lifecycle)
is in `s3_admin.py`. Driver errors are translated here and nowhere else. Credentials and `AWS_ENDPOINT_URL`
come from the usual environment variables, never from the URL.
"""

import builtins
import contextlib
import datetime
import fcntl
import html
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    NotSupportedError,
    PermissionDeniedError,
)
from obstore.store import LocalStore, from_url

from resources.errors import (
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectStoreError,
    ObjectStoreUnavailableError,
    UserError,
)
from resources.local_files import everything_in, fault_of, fault_of_folder, is_carried

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

SCHEMES = ("file", "s3", "gs", "az")
RETRY_SECONDS = datetime.timedelta(seconds=60)
_SEALED_SECONDS = datetime.timedelta(seconds=120)  # two parts of 32 MiB at once need 4.5 Mbit/s then
_HASTY: "ClientConfig" = {"allow_http": True, "timeout": datetime.timedelta(seconds=5)}
_CHUNK_BYTES = 1 << 20
_ONE_REQUEST_BYTES = 32 << 20  # of a local file, which is held in memory for it
_S3_REASON = re.compile(r"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
_REMEDIES = {
    "NoSuchBucket: ": "; make the bucket, or correct the URL",
    "KeyTooLongError: ": "; give it a shorter name",
    "No space left on device (os error 28)": "; make room there, then try again",
    "Read-only file system (os error 30)": "; mount it for writing, or name another store",
}


@dataclass(frozen=True)
class ObjectInfo:
    """One object: its path in the store, size in bytes, entity tag (changes with the content) and time."""

    path: str
    size_bytes: int
    e_tag: str | None
    modified_at: datetime.datetime


class ObjectStore:
    """Objects by path. Safe to share between threads."""

    def __init__(
        self, store: obstore.store.ObjectStore, url: str, for_sealed: obstore.store.ObjectStore | None = None
    ) -> None:
        self._store = store
        self._for_sealed = for_sealed or store
        self._hasty: obstore.store.ObjectStore | None = None  # asks once; of a remote store
        self._is_silent = False
        self.url = url
        self._folder: Path | None = None  # of a local store

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    @classmethod
    def from_url(cls, url: str, *, retries: int = 5) -> "ObjectStore":
        """Open `file:///directory` (made when absent), `s3://bucket/prefix`, `gs://...` or `az://...`.

        A request that fails in a passing way is tried again up to `retries` times, for at most `RETRY_SECONDS`. After
        one that the store did not answer at all, the next ones ask once and shortly whether it does, until it does: a
        run has hundreds of them.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise UserError(
                f"object store {url!r}: the scheme must be one of {', '.join(SCHEMES)}, "
                "as in file:///srv/longbox or s3://bucket/prefix"
            )
        if parts.query or parts.fragment:  # it would be left out in silence, and objects go elsewhere
            raise UserError(
                f"object store {url!r}: a ? or # in its path is written %3F or %23; nothing may follow it"
            )
        if parts.scheme == "file":
            if parts.netloc:
                raise UserError(
                    f"object store {url!r}: a local directory is written with three slashes, file:///path"
                )
            return cls._local(Path(unquote(parts.path)), url)
        try:
            opened, for_sealed = cls._remote(url, retries)
        except (BaseError, ValueError) as error:
            raise UserError(
                f"object store {url!r} cannot be opened: {_reason(error)}; write it as in s3://bucket/prefix"
            ) from None
        found = cls(opened, url, for_sealed)
        found._hasty = from_url(url, client_options=_HASTY, retry_config={"max_retries": 0})
        return found

    @staticmethod
    def _remote(url: str, retries: int) -> tuple[obstore.store.ObjectStore, obstore.store.ObjectStore | None]:
        retry: RetryConfig = {"max_retries": retries, "retry_timeout": RETRY_SECONDS}
        if urlsplit(url).scheme != "s3":
            return from_url(url, retry_config=retry), None
        return _open_s3(url, retry)

    @classmethod
    def _local(cls, folder: Path, url: str) -> "ObjectStore":
        try:
            opened = cls(LocalStore(folder, mkdir=True), url)
        except (OSError, BaseError) as error:
            raise UserError(
                f"object store {url!r} cannot be opened: {_reason(error)}; give a folder to write to"
            ) from None
        opened._folder = folder
        return opened

    @property
    def longest_name_bytes(self) -> int:
        """How long a file's name may be: a local folder keeps 255 bytes and needs a few for unfinished uploads."""
        return 250 if self._folder is not None else 900

    def unreachable_names(self, prefix: str) -> dict[str, str]:
        """What is under `prefix`, at any depth, and cannot be listed or read, with why; only local folders have such.

        Names are relative to `prefix`; that of something else in the folder's own place is the whole path.
        """
        if self._folder is None:
            return {}
        place = self._folder
        # step by step: a link to a disk that is away would look like a folder without files
        for part in Path(prefix).parts:
            place /= part
            if not place.is_dir():
                fault = fault_of_folder(place)
                return {str(place.relative_to(self._folder)): fault} if fault else {}
        faults = {str(path.relative_to(place)): fault for path, fault in everything_in(place)}
        return {name: fault for name, fault in sorted(faults.items()) if fault}

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object under the folder `prefix`, ordered by path."""
        found: builtins.list[ObjectInfo] = []
        try:
            for batch in obstore.list(self._answering(), prefix=prefix.rstrip("/") or None, chunk_size=1000):
                found.extend(_info(meta) for meta in batch)
        except FileNotFoundError:
            return
        except BaseError as error:
            if not self.unreachable_names(prefix):
                raise self._translated(error, "list", prefix) from error
            found = self._list_around(prefix)
        yield from sorted(found, key=lambda info: info.path)

    def _list_around(self, prefix: str) -> builtins.list[ObjectInfo]:
        """What a local folder has beside names that make its listing fail."""
        assert self._folder is not None
        folder = self._folder / prefix
        if not folder.is_dir():
            return []
        sound = (path for path, fault in everything_in(folder) if not fault and is_carried(path.name))
        names = [path.relative_to(folder).as_posix() for path in sound]
        found = (self.head(f"{prefix.rstrip('/')}/{name}") for name in names)
        return [info for info in found if info is not None]

    def list_folders(self, prefix: str) -> builtins.list[str]:
        """Names of the folders directly under `prefix`, ordered."""
        return self.list_level(prefix)[1]

    def list_level(self, prefix: str) -> tuple[builtins.list[str], builtins.list[str]]:
        """Names of the objects and of the folders directly under `prefix`, ordered; what is in those is not listed."""
        try:
            found = obstore.list_with_delimiter(self._answering(), prefix=prefix.rstrip("/") or None)
        except FileNotFoundError:
            return [], []
        except BaseError as error:
            around = self._level_around(prefix)
            if around is None:
                raise self._translated(error, "list", prefix) from error
            return around
        paths = [meta["path"] for meta in found["objects"]], [*found["common_prefixes"]]
        names, folders = (sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in some) for some in paths)
        return names, folders

    def has_objects(self, folder: str) -> bool:
        """Whether there is anything in a folder that was listed; a local store alone lists empty ones too."""
        if self._folder is None:
            return True
        return any(names for _, _, names in os.walk(self._folder / folder))

    def _level_around(self, prefix: str) -> tuple[builtins.list[str], builtins.list[str]] | None:
        """As `list_level`, beside links in a local folder that make its listing fail; None if that is not why."""
        if self._folder is None or not (self._folder / prefix).is_dir():
            return None
        paths = sorted((self._folder / prefix).iterdir())
        sound = [path for path in paths if not fault_of(path) and is_carried(path.name)]
        if len(sound) == len(paths):
            return None
        files, folders = [path for path in sound if path.is_file()], [path for path in sound if path.is_dir()]
        return [path.name for path in files], [path.name for path in folders]

    def head(self, path: str) -> ObjectInfo | None:
        """What is at `path`, or None."""
        try:
            return _info(obstore.head(self._answering(), path))
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise self._translated(error, "look at", path) from error

    def read(self, path: str) -> Iterator[bytes]:
        """Stream the object in chunks of about a MiB, so that memory stays bounded whatever its size."""
        try:
            found = obstore.get(self._answering(), path)
            if self._folder is None:
                yield from map(bytes, found.stream(min_chunk_size=_CHUNK_BYTES))
                return
            place = self._folder / found.meta["path"]
            del found  # the driver's handle; it streams a file by 8 KiB, which takes it seven times as long
            with place.open("rb", buffering=0) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError as error:
            raise self._missing(path) from error
        except (BaseError, OSError) as error:
            raise self._translated(error, "read", path) from error

    def fetch(self, path: str) -> memoryview:
        """The whole object in memory, without a copy of it on the way. For objects of a known, small size."""
        try:
            return memoryview(obstore.get(self._answering(), path).bytes())
        except FileNotFoundError as error:
            raise self._missing(path) from error
        except BaseError as error:
            raise self._translated(error, "read", path) from error

    def put(self, path: str, data: bytes | bytearray | memoryview | Path, *, is_sealed: bool = False) -> None:
        """Write bytes or a local file to `path`, replacing what is there. All or nothing.

        `is_sealed`: the data is authenticated by itself, so that S3 gets a checksum of it but no signature over it.
        """
        # in memory it is one request: an upload in several would leave its parts, unseen, when it is killed
        use_multipart = None if isinstance(data, Path) or self._folder is not None else False
        try:
            store = self._answering()
            obstore.put(self._for_sealed if is_sealed else store, path, data, use_multipart=use_multipart)
        except (BaseError, FileNotFoundError) as error:
            raise self._translated(error, "write", path) from error

    def put_new(self, path: str, file: Path) -> bool:
        """Write a local file to `path` unless something is there; returns whether it was written. All or nothing.

        Of several that do so at once one writes, and none of them over it. In other stores than a local one that holds
        up to 32 MiB, and where the store knows conditional requests (`If-None-Match`): a larger file, which goes up in
        parts, and any file in a store that does not know them, may replace what came since it was looked for.
        """
        with self.one_writer(path.rpartition("/")[0]):
            if self.head(path) is not None:
                return False
            written = None if self._folder is not None else self._create(path, file)
            if written is None:
                self.put(path, file)
        return written is not False

    def _create(self, path: str, file: Path) -> bool | None:
        """Whether the store wrote what it was to write if nothing is there; None where it was not asked or cannot."""
        try:
            if file.stat().st_size > _ONE_REQUEST_BYTES:
                return None
            obstore.put(self._answering(), path, file, mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            if isinstance(error, NotSupportedError) or "NotImplemented" in _reason(error):
                return None
            raise self._translated(error, "write", path) from error
        return True

    @contextlib.contextmanager
    def one_writer(self, folder: str) -> Iterator[None]:
        """Let those who write to `folder` of a local store this way do so one after the other.

        For a look at what is there that must hold until it is written. In other stores nobody is kept out.
        """
        if self._folder is None:
            yield
            return
        place = self._folder / folder
        try:
            place.mkdir(parents=True, exist_ok=True)
            handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ObjectStoreError(f"{place} cannot be written to: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def settle(self, path: str) -> None:
        """See that an object survives a loss of power: a local store leaves that to the kernel, others promise it."""
        if self._folder is None:
            return
        for place in (self._folder / path, (self._folder / path).parent):
            try:
                handle = os.open(place, os.O_RDONLY)
            except OSError as error:
                raise ObjectStoreError(f"{place} cannot be synced to disk: {error.strerror}") from error
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def delete(self, path: str) -> None:
        """Remove `path`; absent is fine."""
        try:
            obstore.delete(self._answering(), path)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise self._translated(error, "delete", path) from error

    def _answering(self) -> obstore.store.ObjectStore:
        """The store, after a short question if it did not answer before. Raises the driver's error for no answer."""
        if self._is_silent and self._hasty is not None:
            try:
                obstore.head(self._hasty, "is-anybody-there")
            except BaseError as error:
                if _is_silence(error):
                    raise
            except FileNotFoundError:
                pass
            self._is_silent = False
        return self._store

    def _missing(self, path: str) -> ObjectMissingError:
        return ObjectMissingError(
            f"object {path} is not in {self.url}: it was deleted or never landed; land it again"
        )

    def _translated(self, error: Exception, act: str, path: str) -> Exception:
        message = f"the object store {self.url} could not {act} {path!r}: {_reason(error)}"
        self._is_silent = self._is_silent or _is_silence(error)
        if (
            isinstance(error, PermissionDeniedError | PermissionError)
            or "Permission denied (os error 13)" in message
        ):
            return ObjectForbiddenError(f"{message}; give Longbox's user the right to it")
        is_passing = isinstance(error, GenericError | OSError) and not isinstance(error, FileNotFoundError)
        remedy = "; try again, and check that the store can be reached" if is_passing else ""
        remedy = next((said for code, said in _REMEDIES.items() if code in message), remedy)
        return (ObjectStoreUnavailableError if is_passing else ObjectStoreError)(message + remedy)


def _open_s3(url: str, retry: "RetryConfig") -> tuple[obstore.store.ObjectStore, obstore.store.ObjectStore]:
    """The store, and the same store for sealed objects."""
    # a bucket with Object Lock takes nothing without a checksum; SHA-256 is computed for the signature anyway, and
    # costs 3.7 s a GiB where the processor has no instructions for it, CRC-64 a tenth of a second
    opened = from_url(
        url,
        config={"checksum_algorithm": "SHA256"},
        client_options={"allow_http": True},  # a store on loopback or in a private network speaks plain HTTP
        retry_config=retry,
    )
    checksum: S3Config = {} if "AWS_CHECKSUM_ALGORITHM" in os.environ else {"checksum_algorithm": "CRC64NVME"}
    for_sealed = from_url(
        url,
        config={**checksum, "unsigned_payload": True},
        client_options={"allow_http": True, "timeout": _SEALED_SECONDS},
        retry_config=retry,
    )
    return opened, for_sealed


def _is_silence(error: Exception) -> bool:
    """Whether a driver got no answer to a request, as of a server that hangs or cannot be reached, or not the whole."""
    return isinstance(error, GenericError) and "HTTP error" in _reason(error)


def _reason(error: Exception) -> str:
    """What a driver said, with the code and the message of an S3 server's answer, which is XML of several lines."""
    said = str(error).strip()
    if found := _S3_REASON.search(said):
        start = said[: said.index("<")].rstrip(" :")
        return f"{start}: {found[1]}: {html.unescape(found[2] or 'no message')}"
    return said.split("\n", 1)[0]


def _info(meta: "obstore.ObjectMeta") -> ObjectInfo:
    return ObjectInfo(
        path=meta["path"], size_bytes=meta["size"], e_tag=meta["e_tag"], modified_at=meta["last_modified"]
    )

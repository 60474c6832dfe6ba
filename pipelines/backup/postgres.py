"""The default engine: PostgreSQL's own pg_basebackup, streamed into the repository. PostgreSQL 17 or newer.

A temporary replication slot keeps the WAL that a backup needs while it runs, and is the lock against two at once: it
goes with the session, also after a kill. An incremental is made against the newest backup's manifest, which the server
answers from its WAL summaries. https://www.postgresql.org/docs/18/continuous-archiving.html
"""

import base64
import contextlib
import datetime as dt
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

import psycopg

from pipelines.backup import layout
from pipelines.backup.engine import Choice, Progress, Report, ServerFacts, quiet
from pipelines.backup.errors import (
    BackupError,
    BackupRefusedError,
    BackupRunningError,
    BaseUnusableError,
    DamagedError,
)
from pipelines.backup.files import lay_out
from pipelines.backup.model import BackupRecord, Kind, StoredObject, parse_lsn
from pipelines.backup.repository import Records, Repository
from pipelines.backup.sealed import (
    Opener,
    Sealer,
    recovery_lock,
    state_lock,
)
from pipelines.backup.stored import NAME, StoredBackups
from pipelines.backup.stream import PART_BYTES, PartWriter
from pipelines.backup.tar import Keeper, TarReader
from resources.database import Connection, Database
from resources.errors import LongboxError, UserError
from resources.keys import RecoveryKeys, ServerKeys, WrongKeyError
from resources.postgres_tools import PostgresToolError, PostgresTools
from resources.sql import Queries

SLOT = "longbox_base_backup"
_SQL = Queries.of("pipelines.backup")
_MANIFEST = "backup_manifest"
_WAL_RANGE = re.compile(rb'"Timeline": (\d+), "Start-LSN": "([0-9A-F/]+)", "End-LSN": "([0-9A-F/]+)"')
_SYSTEM = re.compile(rb'"System-Identifier": (\d+)')
_READ_BYTES = (
    256 << 10
)  # larger buffers are mapped anew each time: 2 s of page faults in 2.4 GB instead of 0.6 s
_REPORT_BYTES = 32 << 20
_KEPT_IN_MEMORY_BYTES = 8 << 20
_NOTHING_TO_BUILD_ON = (  # what the server says of a manifest that it cannot answer
    "WAL summaries are required", "summarize_wal", "manifest contains", "UPLOAD_MANIFEST", "manifest requires",
    "found in manifest",
)  # fmt: skip


class PostgresEngine(StoredBackups):
    """Backs up the cluster behind `database` into `repository`. Makes one backup at a time."""

    def __init__(
        self,
        database: Database,
        url: str,
        repository: Repository,
        keys: ServerKeys,
        recovery: RecoveryKeys | None = None,
        *,
        part_bytes: int = PART_BYTES,
    ) -> None:
        super().__init__(repository, Opener(recovery, keys))
        self._database, self._url, self._keys = database, url, keys
        self._part_bytes = part_bytes

    def inspect(self) -> ServerFacts:
        """Look at the cluster. Raises `BackupRefusedError`."""
        with self._database.session() as connection:
            return inspect_server(connection)[0]

    def choose(self) -> Choice:
        """An incremental if the newest backup can be built on, else a full one with the reason."""
        with self._database.session() as connection:
            facts, is_summarized = inspect_server(connection)
        if not is_summarized:
            return Choice("full", "summarize_wal is off on the server, so that it cannot tell what changed")
        base = _newest(self.repository.records(), facts)
        if base is None:
            return Choice("full", "there is no backup of this timeline and version to build on")
        return Choice("incremental")

    def back_up(self, kind: Kind, report: Report = quiet) -> BackupRecord:
        """Make a backup; leftovers of killed ones are swept on the way.

        Raises `BackupRefusedError` before anything is written, `BackupRunningError`, `BaseUnusableError` (make a full
        one), `BackupError`. After any of them nothing new exists in the catalogue.
        """
        with self._database.session() as connection:
            facts, is_summarized = inspect_server(connection)
            self._require_own_cluster(facts)
            if kind == "incremental" and not is_summarized:
                raise BackupRefusedError(
                    "summarize_wal is off, so that the server cannot tell what changed; set it to on and reload, "
                    "then make a full backup before the next incremental"
                )
            tools = PostgresTools.find(facts.server_version // 10000)
            with contextlib.ExitStack() as close:
                base = self._base(kind, facts)
                manifest = close.enter_context(self._manifest_of(base)) if base else None
                _hold_wal(connection)
                self.repository.sweep()
                return _Run(self, connection, facts, tools, kind, base, report).make(manifest)

    def mark_wal(self) -> None:
        """Nothing: the WAL receiver says in the repository how far it is."""

    def lay_out(self, backup_id: str, into: Path, report: Report = quiet) -> BackupRecord:
        """Put the checked files of a backup into the empty folder `into`."""
        records = self.repository.records()
        record = records.get(backup_id)
        if record is None:
            raise UserError(f"there is no backup {backup_id}; `longbox backup list` shows those that exist")
        tools = PostgresTools.find(record.major)
        lay_out(self.repository, records.chain(record), self.opener, tools, into, report)
        return record

    def _require_own_cluster(self, facts: ServerFacts) -> None:
        if facts.system_identifier != self.repository.system_identifier:
            raise BackupRefusedError(
                f"the server is cluster {facts.system_identifier}, this repository is of "
                f"{self.repository.system_identifier}; open the repository anew"
            )

    def _base(self, kind: Kind, facts: ServerFacts) -> BackupRecord | None:
        if kind == "full":
            return None
        base = _newest(self.repository.records(), facts)
        if base is None:
            raise BaseUnusableError(
                "there is no backup of this timeline and version to build on; make a full one"
            )
        return base

    @contextlib.contextmanager
    def _manifest_of(self, base: BackupRecord) -> Iterator[Path]:
        """The manifest of `base` as a file, readable by nobody else."""
        assert base.manifest is not None
        with tempfile.NamedTemporaryFile(prefix="longbox-manifest-") as file:
            try:
                sealed = self.repository.read_sealed(base.manifest.name, base.manifest)
                for piece in sealed.plain(Opener(server=self._keys).key_of(sealed.header)):
                    file.write(piece)
            except (DamagedError, WrongKeyError) as error:
                raise BaseUnusableError(f"nothing can be built on {base.backup_id}: {error}") from error
            file.flush()
            yield Path(file.name)

    @property
    def keys(self) -> ServerKeys:
        """What new objects are encrypted with."""
        return self._keys

    @property
    def url(self) -> str:
        """Where the server is, password included."""
        return self._url

    @property
    def part_bytes(self) -> int:
        """Ciphertext bytes of a part."""
        return self._part_bytes


class _Run:
    """One backup from its lease to its record."""

    def __init__(
        self,
        engine: PostgresEngine,
        connection: Connection,
        facts: ServerFacts,
        tools: PostgresTools,
        kind: Kind,
        base: BackupRecord | None,
        report: Report,
    ) -> None:
        self._engine, self._connection, self._facts, self._tools = engine, connection, facts, tools
        self._kind, self._base, self._report = kind, base, report
        self._repository = engine.repository
        self._lock = recovery_lock(engine.keys)

    def make(self, base_manifest: Path | None) -> BackupRecord:
        started_at = _clock(self._connection)
        backup_id = layout.new_backup_id(self._kind, started_at)
        try:
            with (
                self._repository.lease(backup_id),
                tempfile.SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY_BYTES) as manifest,
            ):
                parts, files = self._stream(backup_id, base_manifest, manifest)
                record = self._record(backup_id, started_at, parts, files, manifest)
                self._repository.put_record(record)
                return record
        except BaseException:
            # what cannot be removed now is swept later; the error that matters is the first one
            with contextlib.suppress(LongboxError):
                if self._repository.store.head(self._repository.path(layout.record(backup_id))) is None:
                    for info in self._repository.names(f"{layout.DATA}/{backup_id}"):
                        self._repository.delete(info.path)
                    self._repository.delete(layout.lease(backup_id))
            raise

    def _stream(
        self, backup_id: str, base_manifest: Path | None, manifest: IO[bytes]
    ) -> tuple[tuple[StoredObject, ...], int]:
        keeper = Keeper({_MANIFEST: cast(BinaryIO, manifest)})
        tar = TarReader(keeper)
        total = self._facts.cluster_bytes if self._kind == "full" else 0
        try:
            with (
                PartWriter(
                    self._repository, self._lock, backup_id, part_bytes=self._engine.part_bytes
                ) as writer,
                self._tools.base_backup(
                    self._engine.url, label=backup_id, base_manifest=base_manifest
                ) as source,
            ):
                reported = 0
                while chunk := source.read(_READ_BYTES):
                    tar.feed(chunk)
                    writer.write(chunk)
                    if writer.plain_bytes - reported >= _REPORT_BYTES:
                        reported = writer.plain_bytes
                        self._report(Progress("backing up", reported, max(total, reported)))
                source.finish()
                if not tar.is_complete or _MANIFEST not in keeper.seen:
                    raise BackupError(
                        "pg_basebackup ended well, but its stream is not whole; nothing was kept"
                    )
                return writer.finish(), tar.files
        except PostgresToolError as error:
            if self._base is not None and any(sign in error.said for sign in _NOTHING_TO_BUILD_ON):
                raise BaseUnusableError(
                    f"nothing can be built on {self._base.backup_id} ({error.said}); make a full backup"
                ) from error
            raise BackupError(f"{error}; nothing was kept, run it again") from error

    def _record(
        self,
        backup_id: str,
        started_at: dt.datetime,
        parts: tuple[StoredObject, ...],
        files: int,
        manifest: IO[bytes],
    ) -> BackupRecord:
        manifest.seek(0)
        content = manifest.read()
        ranges, system = _WAL_RANGE.findall(content), _SYSTEM.search(content)
        if not ranges or (system and system[1].decode() != self._facts.system_identifier):
            raise BackupError("the manifest of pg_basebackup is not of this cluster; nothing was kept")
        if any(int(found[0]) != self._facts.timeline for found in ranges):
            raise BackupError(
                "the server changed its timeline during the backup; nothing was kept, run it again"
            )
        sealer = Sealer(state_lock(self._engine.keys), layout.manifest(backup_id))
        self._repository.put(sealer.name, sealer.seal(content))
        return BackupRecord(
            backup_id=backup_id,
            kind=self._kind,
            engine=NAME,
            system_identifier=self._facts.system_identifier,
            server_version=self._facts.server_version,
            timeline=self._facts.timeline,
            start_lsn=parse_lsn(ranges[0][1].decode()),
            stop_lsn=parse_lsn(ranges[-1][2].decode()),
            started_at=started_at,
            ended_at=_clock(self._connection),
            parent_id=self._base.backup_id if self._base else None,
            parts=parts,
            manifest=StoredObject(sealer.name, sealer.size_bytes, len(content), sealer.blake2b),
            recovery_key_id=self._lock.key_id,
            wrapped_key=base64.b64encode(self._lock.wrapped).decode(),
            wal_segment_bytes=self._facts.wal_segment_bytes,
            superuser=self._facts.superuser,
            files=files,
        )


def inspect_server(connection: Connection) -> tuple[ServerFacts, bool]:
    """The facts of the server and whether it summarises WAL. Raises `BackupRefusedError` with what is in the way."""
    row = connection.execute(_SQL["server_facts"]).fetchone()
    assert row is not None
    (
        system,
        version,
        timeline,
        size,
        segment,
        superuser,
        in_recovery,
        wal_level,
        is_summarized,
        may,
        senders,
    ) = cast("tuple[str, int, int, int, int, str, bool, str, bool, bool, int]", row)
    if version < 170000:
        raise BackupRefusedError(
            f"the server is PostgreSQL {version // 10000}; incremental backups need 17 or newer"
        )
    if in_recovery:
        raise BackupRefusedError("the server is a standby; name the primary with LONGBOX_BACKUP_POSTGRES_URL")
    if wal_level == "minimal" or senders == 0:
        raise BackupRefusedError(
            f"the server has wal_level={wal_level} and max_wal_senders={senders}; set replica and 10, and restart it"
        )
    if not may:
        raise BackupRefusedError(
            f"user {connection.info.user!r} may not make backups; ALTER ROLE ... REPLICATION, or name another one with "
            "LONGBOX_BACKUP_POSTGRES_URL"
        )
    found = [str(name) for (name,) in connection.execute(_SQL["tablespaces"]).fetchall()]
    if found:
        raise BackupRefusedError(
            f"the cluster has tablespaces ({', '.join(found)}), which a backup as one stream cannot carry; move their "
            "tables with ALTER TABLE ... SET TABLESPACE pg_default and drop them, or use the pgbackrest engine"
        )
    current = connection.execute(_SQL["current_timeline"]).fetchone()
    line = cast(int, current[0]) if current else timeline
    return ServerFacts(system, version, line, size, segment, superuser), is_summarized


def _newest(records: Records, facts: ServerFacts) -> BackupRecord | None:
    """The backup that the next incremental builds on: the newest of this timeline and version whose chain is whole."""
    for record in reversed(records.sound):
        is_alike = (record.engine, record.timeline, record.major) == (
            NAME,
            facts.timeline,
            facts.server_version // 10000,
        )
        if is_alike and record.manifest is not None:
            with contextlib.suppress(DamagedError):
                records.chain(record)
                return record
    return None


def _hold_wal(connection: Connection) -> None:
    try:
        connection.execute(_SQL["hold_wal"], {"slot": SLOT})
    except psycopg.errors.DuplicateObject as error:
        row = connection.execute(_SQL["holder"], {"slot": SLOT}).fetchone()
        since = f" since {row[1]:%Y-%m-%d %H:%M:%S} UTC (server process {row[0]})" if row else ""
        raise BackupRunningError(
            f"another backup of this cluster is running{since}; wait for its end"
        ) from error


def _clock(connection: Connection) -> dt.datetime:
    row = connection.execute(_SQL["clock"]).fetchone()
    assert row is not None
    return cast(dt.datetime, row[0])

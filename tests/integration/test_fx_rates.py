"""Reference rates on a real PostgreSQL: the load is idempotent and ledgered, the conversion right on hard days."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.normalisation.currency import UsdRate, usd_rates
from pipelines.normalisation.fx import FxFileError, FxLoad, bundled_file, load_rates, read_rates
from resources.database import Database


def rates_file(folder: Path, *lines: str, header: str = "Date,USD,GBP,") -> Path:
    path = folder / "eurofxref.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def rate_of(database: Database, currency: str, day: str) -> UsdRate:
    pair = (currency, dt.date.fromisoformat(day))
    with database.connection() as connection:
        return usd_rates(connection, [pair])[pair]


def ledgered(database: Database) -> list[tuple[object, ...]]:
    query = "SELECT act, relation, policy, affected_rows, run_id FROM longbox.ledger ORDER BY entry_id"
    with database.connection() as connection:
        return connection.execute(query).fetchall()


def row_versions(database: Database) -> set[tuple[object, ...]]:
    with database.connection() as connection:
        query = (
            "SELECT currency, rate_on, rate_per_eur, source, ctid::text, xmin::text FROM reference.fx_rates"
        )
        return set(connection.execute(query).fetchall())


def test_the_bundled_history_loads_once_and_converts_as_the_ecb_published(database: Database) -> None:
    rates = read_rates(bundled_file())
    first = load_rates(database, None, "run-1")
    assert first.rows_read == first.rows_written == len(rates)
    assert first.newest_on == max(rate.rate_on for rate in rates)
    before = row_versions(database)
    again = load_rates(database, None, "run-2")
    assert again == FxLoad(len(rates), 0, first.newest_on)
    assert row_versions(database) == before
    assert ledgered(database) == []

    published = {(rate.currency, rate.rate_on): rate.rate_per_eur for rate in rates}

    def expected(currency: str, rate_on: str, quoted: str, factor: int = 1) -> Decimal:
        day = dt.date.fromisoformat(rate_on)
        return (
            published["USD", day] * factor / published[quoted, day]
            if quoted != "EUR"
            else published["USD", day]
        )

    for currency, day, rate_on, quoted in [
        ("GBP", "2026-10-30", "2026-10-30", "GBP"),
        ("gbp", "2026-10-25", "2026-10-23", "GBP"),  # a Sunday
        ("JPY", "2025-12-26", "2025-12-24", "JPY"),  # Christmas
        ("EUR", "2026-10-24", "2026-10-23", "EUR"),
        ("GBP", "2026-11-06", "2026-10-30", "GBP"),  # seven days after the last one published
        ("HRK", "2022-12-31", "2022-12-30", "HRK"),
        ("RUB", "2022-03-05", "2022-03-01", "RUB"),
        ("TRL", "2004-06-01", "2004-06-01", "TRL"),
    ]:
        found = rate_of(database, currency, day)
        assert found.rate_on == dt.date.fromisoformat(rate_on), (currency, day)
        assert found.rate is not None
        assert abs(found.rate / expected(currency, rate_on, quoted) - 1) < Decimal("1e-16"), (currency, day)


@pytest.fixture
def small(database: Database, tmp_path: Path) -> Database:
    """Rates around the two redenominations and around a gap of eight days."""
    header = "Date,USD,GBP,TRL,TRY,ROL,RON,ISK,"
    lines = (
        "2020-01-13,1.1,0.85,N/A,6.5,N/A,4.8,N/A,",
        "2020-01-03,1.1,0.85,N/A,6.5,N/A,4.8,N/A,",
        "2008-12-09,1.3,0.86,N/A,2.0,N/A,3.9,290,",
        "2005-07-01,1.2087,0.67,N/A,1.6,N/A,3.603,N/A,",
        "2005-06-30,1.2092,0.67,N/A,1.6,36030,N/A,N/A,",
        "2005-01-03,1.3507,0.7,N/A,1.815,39000,N/A,N/A,",
        "2004-12-31,1.3621,0.7,1836200,N/A,39390,N/A,N/A,",
    )
    load_rates(database, rates_file(tmp_path, *lines, header=header), None)
    return database


@pytest.mark.parametrize(
    ("currency", "day", "rate", "rate_on"),
    [
        ("TRL", "2004-12-31", Decimal("1.3621") / 1836200, "2004-12-31"),
        (
            "TRL",
            "2005-01-01",
            Decimal("1.3621") / 1836200,
            "2004-12-31",
        ),  # a holiday before the first TRY rate
        ("TRL", "2005-01-03", Decimal("1.3507") / 1815000, "2005-01-03"),  # legal tender beside the new lira
        ("TRY", "2005-01-01", Decimal("1.3621") / Decimal("1.8362"), "2004-12-31"),
        ("TRY", "2005-01-03", Decimal("1.3507") / Decimal("1.815"), "2005-01-03"),
        ("ROL", "2005-06-30", Decimal("1.2092") / 36030, "2005-06-30"),
        ("ROL", "2005-07-01", Decimal("1.2087") / 36030, "2005-07-01"),
        ("RON", "2005-07-02", Decimal("1.2087") / Decimal("3.603"), "2005-07-01"),
    ],
)
def test_a_redenominated_currency_is_worth_the_same_before_and_after(
    small: Database, currency: str, day: str, rate: Decimal, rate_on: str
) -> None:
    found = rate_of(small, currency, day)
    assert found.reason is None
    assert found.rate is not None
    assert abs(found.rate / rate - 1) < Decimal("1e-16")
    assert found.rate_on == dt.date.fromisoformat(rate_on)


@pytest.mark.parametrize(
    ("currency", "day", "reason"),
    [
        ("GBP", "2020-01-10", None),
        ("GBP", "2020-01-11", "no_rate"),  # eight days after the last one
        ("GBP", "2020-01-20", None),
        ("GBP", "2020-01-21", "no_rate"),
        ("ISK", "2020-01-13", "no_rate"),  # known, but not quoted for years
        ("EUR", "2020-01-21", "no_rate"),
        ("GBP", "1998-01-01", "no_rate"),
        ("XQQ", "2020-01-13", "unknown_currency"),
        ("TRL", "2006-01-01", "currency_ended"),
        ("TRY", "2004-12-31", "currency_not_yet"),
    ],
)
def test_a_rate_that_cannot_be_had_is_a_reason(
    small: Database, currency: str, day: str, reason: str | None
) -> None:
    found = rate_of(small, currency, day)
    assert found.reason == reason
    assert (found.rate is None) is (reason is not None)


def test_only_a_rate_that_newer_ones_may_replace_is_provisional(small: Database) -> None:
    assert rate_of(small, "GBP", "2020-01-15").is_provisional
    assert not rate_of(small, "GBP", "2020-01-13").is_provisional
    assert not rate_of(small, "GBP", "2020-01-05").is_provisional


def test_before_the_first_load_no_code_is_called_unknown(database: Database) -> None:
    assert rate_of(database, "GBP", "2020-01-13").reason == "no_rate"


def test_a_newer_file_adds_days_and_changes_what_differs_and_nothing_else(
    database: Database, tmp_path: Path
) -> None:
    old = rates_file(tmp_path, "2026-10-30,1.1,0.83,", "2026-10-29,1.2,0.84,")
    load_rates(database, old, None)
    before = row_versions(database)
    newer = rates_file(tmp_path, "2026-11-02,1.3,0.85,", "2026-10-30,1.1000,0.9,")
    load = load_rates(database, newer, "run-2")
    assert load == FxLoad(4, 3, dt.date(2026, 11, 2), 1, dt.date(2026, 10, 30))
    kept = {version for version in before if version[:2] != ("GBP", dt.date(2026, 10, 30))}
    assert kept <= row_versions(database)  # the file lacks the 29th, and writes 1.1000 for 1.1
    assert ledgered(database) == [("update", "reference.fx_rates", "fx_rates_corrected", 1, "run-2")]
    assert rate_of(database, "GBP", "2026-11-02").rate_on == dt.date(2026, 11, 2)


def test_a_bad_file_writes_nothing(database: Database, tmp_path: Path) -> None:
    with pytest.raises(FxFileError, match="line 3, field GBP"):
        load_rates(database, rates_file(tmp_path, "2026-10-30,1.1,0.83,", "2026-10-29,1.2,zero,"), None)
    assert row_versions(database) == set()


def test_many_pairs_come_back_under_the_keys_they_were_asked_with(small: Database) -> None:
    days = [dt.date(2020, 1, 3) + dt.timedelta(days=number) for number in range(20)]
    pairs = [(code, day) for day in days for code in ("GBP", "gbp", " GBP", "EUR", "USD", "XQQ", "GBp")]
    with small.connection() as connection:
        found = usd_rates(connection, pairs + pairs)
        assert usd_rates(connection, []) == {}
    assert set(found) == set(pairs)
    assert all(found["GBP", day] == found["gbp", day] == found[" GBP", day] for day in days)

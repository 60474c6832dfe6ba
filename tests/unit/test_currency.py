"""The rules of conversion that need no rates: codes, ended and replaced currencies, rounding."""

import datetime as dt
from decimal import Decimal
from typing import cast

import pytest

from pipelines.normalisation.currency import UsdRate, canonical_currency, usd_amount, usd_rates
from resources.database import Connection

NO_DATABASE = cast(Connection, None)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("USD", "USD"),
        (" usd ", "USD"),
        ("eur", "EUR"),
        ("GBp", None),
        ("ZAc", None),
        ("$", None),
        ("US$", None),
        ("", None),
        ("EURO", None),
        ("ＵＳＤ", None),
        ("U5D", None),
    ],
)
def test_a_code_is_three_letters_of_one_case(text: str, code: str | None) -> None:
    assert canonical_currency(text) == code


@pytest.mark.parametrize(
    ("currency", "day", "reason"),
    [
        ("GBp", "2026-01-05", "unknown_currency"),
        ("", "2026-01-05", "unknown_currency"),
        ("HRK", "2023-01-01", "currency_ended"),
        ("BGN", "2026-01-02", "currency_ended"),
        ("EEK", "2011-01-03", "currency_ended"),
        ("TRL", "2006-01-01", "currency_ended"),
        ("ROL", "2007-01-01", "currency_ended"),
        ("TRY", "2004-12-31", "currency_not_yet"),
        ("RON", "2005-06-30", "currency_not_yet"),
    ],
)
def test_what_can_be_refused_without_rates_never_asks_for_them(currency: str, day: str, reason: str) -> None:
    pair = (currency, dt.date.fromisoformat(day))
    assert usd_rates(NO_DATABASE, [pair]) == {pair: UsdRate(None, None, reason)}


def test_dollars_are_dollars_on_every_day() -> None:
    pairs = [("USD", dt.date(2026, 11, 20)), ("usd", dt.date(1971, 8, 15))]
    assert usd_rates(NO_DATABASE, pairs) == {pair: UsdRate(Decimal(1), pair[1], None) for pair in pairs}


@pytest.mark.parametrize(
    ("amount", "rate", "dollars"),
    [
        ("0.125", "1", "0.12"),
        ("0.135", "1", "0.14"),
        ("0.145", "1", "0.14"),
        ("-0.125", "1", "-0.12"),
        ("19.99", "1.33988966178939794", "26.78"),
        ("9999999999.99", "1.5", "14999999999.98"),
        ("1000000", "7.4E-7", "0.74"),
    ],
)
def test_cents_are_rounded_half_to_even(amount: str, rate: str, dollars: str) -> None:
    assert str(usd_amount(Decimal(amount), Decimal(rate))) == dollars

"""Reading the ECB's rates file: the bundled history with its traps, and what is said of a file that is none."""

import datetime as dt
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.normalisation.fx import FxFileError, FxRate, bundled_file, read_rates
from resources.errors import UserError

HISTORY = "Date,USD,JPY,BGN,\n2026-10-30,1.1172,175.68,N/A,\n2026-10-29,1.113,175.92,N/A,\n"


@pytest.fixture(scope="module")
def bundled() -> dict[tuple[str, dt.date], Decimal]:
    return {(rate.currency, rate.rate_on): rate.rate_per_eur for rate in read_rates(bundled_file())}


def written(folder: Path, text: str | bytes, name: str = "rates.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_bundled_history_is_read_whole(bundled: dict[tuple[str, dt.date], Decimal]) -> None:
    days = {rate_on for _, rate_on in bundled}
    assert min(days) == dt.date(1999, 1, 4)
    assert max(days) >= dt.date(2026, 10, 30)
    assert {"USD", "GBP", "TRL", "TRY", "ROL", "RON", "HRK", "BGN"} <= {currency for currency, _ in bundled}
    assert "" not in {currency for currency, _ in bundled}
    assert all((("USD", day) in bundled) for day in days)


def test_rates_are_taken_digit_by_digit(bundled: dict[tuple[str, dt.date], Decimal]) -> None:
    assert bundled["GBP", dt.date(2026, 10, 30)] == Decimal("0.8338")
    assert bundled["TRL", dt.date(2004, 12, 31)] == Decimal(1836200)
    assert ("TRL", dt.date(2005, 1, 3)) not in bundled
    assert ("BGN", dt.date(2026, 10, 30)) not in bundled


def test_a_zip_and_a_csv_of_the_same_rates_are_equal(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rates.zip", "w") as archive:
        archive.writestr("eurofxref-hist.csv", HISTORY)
    expected = [
        FxRate("USD", dt.date(2026, 10, 30), Decimal("1.1172")),
        FxRate("JPY", dt.date(2026, 10, 30), Decimal("175.68")),
        FxRate("USD", dt.date(2026, 10, 29), Decimal("1.113")),
        FxRate("JPY", dt.date(2026, 10, 29), Decimal("175.92")),
    ]
    assert read_rates(tmp_path / "rates.zip") == expected
    assert read_rates(written(tmp_path, HISTORY)) == expected
    assert read_rates(written(tmp_path, b"\xef\xbb\xbf" + HISTORY.replace("\n", "\r\n").encode())) == expected


def test_the_file_of_a_single_day_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, "Date, USD, GBP, \n30 October 2026, 1.1172, 0.83380, \n")
    day = dt.date(2026, 10, 30)
    assert read_rates(path) == [FxRate("USD", day, Decimal("1.1172")), FxRate("GBP", day, Decimal("0.8338"))]
    assert str(read_rates(path)[1].rate_per_eur) == "0.8338"


@pytest.mark.parametrize(
    ("text", "line", "field", "fault"),
    [
        ("", 1, None, "does not begin with Date"),
        ("<html>\n", 1, None, "does not begin with Date"),
        ("Date,USD,US$\n", 1, "US$", "not a currency code"),
        ("Date,USD,USD\n", 1, "USD", "not a currency code of its own"),
        ("Date,USD,EUR\n", 1, "EUR", "not a currency code of its own"),
        ("Date,USD,\n", None, None, "holds no rate"),
        ("Date,USD,\n2026-10-30,1.1,\n2026-02-30,1.1,\n", 3, "Date", "not a date"),
        ("Date,USD,\nyesterday,1.1,\n", 2, "Date", "not a date"),
        ("Date,USD,JPY,\n2026-10-30,1.1\n", 2, None, "2 fields where the header names 3"),
        ("Date,USD,\n2026-10-30,1.1,2.2,\n", 2, None, "fields where the header names"),
        ("Date,USD,\n2026-10-30,0,\n", 2, "USD", "not a rate above 0"),
        ("Date,USD,\n2026-10-30,-1.1,\n", 2, "USD", "not a rate above 0"),
        ("Date,USD,\n2026-10-30,NaN,\n", 2, "USD", "not a rate above 0"),
        ("Date,USD,\n2026-10-30,1e5,\n", 2, "USD", "not a rate above 0"),
        ("Date,USD,\n2026-10-30,\u0661,\n", 2, "USD", "not a rate above 0"),
        ('Date,USD,\n2026-10-30,"1,1",\n', 2, "USD", "not a rate above 0"),
        ('Date,USD,\n2026-10-30,"1.1\n', 2, None, "is not CSV"),
        ("Date,USD,\n2026-10-30,1.1,\n2026-10-30,1.2,\n", 3, "Date", "stands already in line 2"),
        (b"Date,USD,\n2026-10-30,1.1\xff,\n", None, None, "not UTF-8"),
        (b"PK\x03\x04 cut off", 1, None, "does not begin with Date"),
    ],
)
def test_a_bad_file_is_named_with_its_line_and_field(
    tmp_path: Path, text: str | bytes, line: int | None, field: str | None, fault: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(FxFileError) as caught:
        read_rates(path)
    assert isinstance(caught.value, UserError)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)


def test_a_missing_file_a_folder_and_a_strange_zip_are_told_in_a_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", HISTORY)
        archive.writestr("b.csv", HISTORY)
    for path, fault in [
        (tmp_path / "missing.csv", "no such file"),
        (tmp_path, "cannot be read"),
        (tmp_path / "two.zip", "should hold one csv"),
    ]:
        with pytest.raises(FxFileError, match=fault):
            read_rates(path)

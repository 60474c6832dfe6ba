"""What changes after the fact reaches prices and statistics: rules, rates, repaired rows, deletions, columns."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from assets.comics import normalise
from assets.comics.recompute import recompute_sample
from cli.main import build_app
from resources.settings import Settings
from tests.daily_runs import HEADER, Daily, checks, csv_of, sales, steps

SPIDER = "Amazing Spider-Man #300 CGC 9.8"
WRITTEN = """
SELECT md5(string_agg(concat_ws(' ', tableoid, ctid, xmin), ',' ORDER BY tableoid, ctid)) FROM comics.{}"""


@pytest.fixture
def daily(settings: Settings, tmp_path: Path) -> Iterator[Daily]:
    opened = Daily.on(settings, tmp_path)
    yield opened
    opened.close()


def rows(daily: Daily, query: str) -> list[tuple]:
    with daily.database.connection() as connection:
        return connection.execute(query).fetchall()


def statistics(daily: Daily) -> list[tuple]:
    query = """SELECT grade_band, sale_count, volume_usd::text FROM comics.pricing_data_aggregated
               WHERE period_type = 'month' ORDER BY grade_band"""
    return rows(daily, query)


def sale(
    number: int, title: str = SPIDER, price: str = "100.00", more: str = "USD,2026-10-04T12:00:00Z,"
) -> str:
    return f"ebay,{number},{title},,{price},{more}"


def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """`longbox quarantine ...` on the servers of the test."""
    monkeypatch.setenv("LONGBOX_POSTGRES_URL", settings.postgres_url)
    monkeypatch.setenv("LONGBOX_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("LONGBOX_OBJECT_STORE", settings.object_store)
    return CliRunner().invoke(build_app(), ["quarantine", *arguments])


@pytest.fixture
def strict_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version of the rules: a price above 1,000 dollars has no grade that it can be compared by."""
    judge = normalise.normalise_sale

    def stricter(row, title, rate):
        made = judge(row, title, rate)
        if isinstance(made, tuple) and made[7] > 1000:
            return (*made[:10], None, "too_dear", "ungraded", *made[13:])
        return made

    monkeypatch.setattr(normalise, "normalise_sale", stricter)
    monkeypatch.setattr(normalise.ComicsRules, "rule_version", normalise.RULE_VERSION + 1)


DEAR = csv_of(sale(1), sale(2, price="5000.00"))
CHEAP = csv_of(sale(3, "X-Men #1 CGC 9.8"), sale(4, "no comic in this"))


def land_and_run(daily: Daily) -> None:
    daily.land("2026-10-05", "a.csv", DEAR)
    daily.land("2026-10-06", "a.csv", CHEAP)
    assert daily.run("2026-10-05", "2026-10-06").success


def test_a_changed_rule_renormalises_the_whole_history_and_its_statistics_by_one_job(
    daily: Daily, request: pytest.FixtureRequest
) -> None:
    land_and_run(daily)
    assert statistics(daily) == [("9.8-10", 1, "100.00"), ("9.8-10", 2, "5100.00")]
    request.getfixturevalue("strict_rules")
    result = daily.run("2026-10-06", job="comics_renormalise")
    assert result.success, steps(result)
    assert all(checks(result).values())
    assert statistics(daily) == [("9.8-10", 1, "100.00"), ("9.8-10", 1, "100.00"), ("ungraded", 1, "5000.00")]
    assert rows(daily, "SELECT DISTINCT rule_version FROM comics.pricing_data_normalized") == [
        (normalise.RULE_VERSION + 1,)
    ]
    assert recompute_sample(daily.database, 100) == []
    once, written = daily.digest(), rows(daily, WRITTEN.format("pricing_data_normalized"))
    assert daily.run("2026-10-06", job="comics_renormalise").success
    assert (daily.digest(), rows(daily, WRITTEN.format("pricing_data_normalized"))) == (once, written)
    daily.forget_everything()
    assert daily.run("2026-10-05", "2026-10-06").success
    assert daily.digest() == once, "as if the rules had been these from the beginning"


def test_materialising_a_past_day_again_renormalises_what_it_owns_and_writes_only_what_changed(
    daily: Daily, request: pytest.FixtureRequest
) -> None:
    land_and_run(daily)
    computed = rows(daily, "SELECT xmin::text FROM comics.pricing_data_aggregated ORDER BY ctid")
    request.getfixturevalue("strict_rules")
    assert daily.run("2026-10-06").success
    versions = "SELECT source_record_id, rule_version FROM comics.pricing_data_normalized ORDER BY 1"
    old, new = normalise.RULE_VERSION, normalise.RULE_VERSION + 1
    assert rows(daily, versions) == [("1", old), ("2", old), ("3", new)]
    assert rows(daily, "SELECT rule_version FROM longbox.rejections") == [(new,)]
    stands = rows(daily, "SELECT xmin::text FROM comics.pricing_data_aggregated ORDER BY ctid")
    assert stands == computed, "a new version alone computes nothing anew"
    assert daily.run("2026-10-05").success
    assert statistics(daily) == [("9.8-10", 1, "100.00"), ("9.8-10", 1, "100.00"), ("ungraded", 1, "5000.00")]


def test_sales_that_lacked_a_rate_get_their_price_by_the_next_daily_run_after_rates_arrive(
    daily: Daily, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily.land("2026-10-05", "a.csv", csv_of(sale(1), sale(2, more="CHF,2026-10-04T12:00:00Z,")))
    assert daily.run("2026-10-05").success
    said = command(settings, monkeypatch, "rejected").output
    assert (
        "comics/marketplace_sales 2026-10-05/a.csv record 2 unknown_currency: 100.00 CHF on 2026-10-04"
        in said
    )
    assert "or load rates of that currency" in said
    assert statistics(daily) == [("9.8-10", 1, "100.00")]
    assert rows(daily, "SELECT reason FROM longbox.rejections") == [("unknown_currency",)]
    rates = daily.settings.fx_rates_file
    assert rates is not None
    lines = rates.read_text().splitlines()
    rates.write_text("\n".join([f"{lines[0]}CHF,", *(f"{line}0.55," for line in lines[1:]), ""]))
    result = daily.run("2026-10-06")
    assert result.success, steps(result)
    assert all(checks(result).values())
    assert statistics(daily) == [("9.8-10", 2, "300.00")]
    assert rows(daily, "SELECT count(*) FROM longbox.rejections") == [(0,)]
    assert recompute_sample(daily.database, 100) == []


def test_rows_replayed_from_the_quarantine_reach_prices_by_the_next_run_of_their_day(
    daily: Daily, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daily.owner.connection() as connection:
        connection.execute("ALTER TABLE comics.pricing_data_raw ADD CONSTRAINT tight CHECK (price < 200)")
    daily.land("2026-10-05", "a.csv", csv_of(sale(1), sale(2, price="300.00")))
    assert daily.run("2026-10-05").success
    assert statistics(daily) == [("9.8-10", 1, "100.00")]
    with daily.owner.connection() as connection:
        connection.execute("ALTER TABLE comics.pricing_data_raw DROP CONSTRAINT tight")
    said = command(settings, monkeypatch, "replay", "comics/marketplace_sales")
    assert said.exit_code == 0, said.output
    assert "1 loaded" in said.output and "2026-10-05" in said.output and "daily_pipeline" in said.output
    result = daily.run("2026-10-05")
    assert result.success, steps(result)
    assert all(checks(result).values())
    assert statistics(daily) == [("9.8-10", 2, "400.00")]


def test_a_withdrawn_sale_and_a_changed_column_are_told_and_followed_by_the_daily_run(daily: Daily) -> None:
    daily.land("2026-10-05", "a.csv", sales("2026-10-04", 3))
    assert daily.run("2026-10-05").success
    withdrawn = "ebay,2026-10-04-0,,,,,,2026-10-06T00:00:00Z,withdrawn"
    daily.land("2026-10-06", "a.csv", f"{HEADER},status\n{withdrawn}\n".encode())
    result = daily.run("2026-10-06")
    assert result.success, steps(result)
    assert statistics(daily) == [("9.8-10", 2, "203.00")]
    assert daily.count("comics.pricing_data_raw") == 3
    daily.land("2026-10-07", "a.csv", csv_of(sale(9)).replace(b",condition,", b",state_of_it,"))
    result = daily.run("2026-10-07")
    found = checks(result)
    assert found["comics/pricing_data_raw:files_readable"] is False
    assert found["comics/pricing_data_raw:counts_reconcile"] is True
    daily.land("2026-10-08", "a.csv", sales("2026-10-04", 3).replace(b",updated_at", b",updated_at,colour"))
    daily.land("2026-10-08", "b.csv", f"{HEADER},colour\n{sale(10)},red\n".encode())
    found = checks(daily.run("2026-10-08"))
    assert found["comics/pricing_data_raw:schema_unchanged"] is False, "a warning: the rows load"
    assert daily.count("comics.pricing_data_normalized") == 3

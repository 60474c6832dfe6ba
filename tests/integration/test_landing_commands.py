"""`longbox land` and `longbox quarantine list` as typed: what they say of a feed without a key, of one feed alone."""

import psycopg
import pytest

from cli.main import main
from tests.shop import SHOP_YAML, csv_of, open_shop

DAY = "2026-10-30"
TWO_FEEDS = SHOP_YAML.replace(
    "tables:\n",
    "  counts:\n    table: sales\n    columns: {id: sale_id}\n    derive: {sold_on: utc_date(sold_at)}\n"
    "    starts_on: 2026-01-01\ntables:\n",
)
BAD = ("north", "1", "chair", "a lot", "2026-10-10T12:00:00Z")
GOOD = ("north", "1", "chair", "5.00", "2026-10-10T12:00:00Z")


@pytest.fixture
def longbox(database_url, object_store_url, tmp_path, monkeypatch, capsys):
    """Runs a command, which succeeds, and returns what it printed: on stdout, on stderr."""
    shop = open_shop(database_url, object_store_url, tmp_path, TWO_FEEDS)
    shop.land(DAY, "a.csv", csv_of(BAD))
    shop.load(DAY)
    shop.close()
    monkeypatch.setenv("LONGBOX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGBOX_POSTGRES_URL", database_url)
    monkeypatch.setenv("LONGBOX_OBJECT_STORE", object_store_url)
    monkeypatch.setenv("LONGBOX_SYSTEMS", str(shop.folder))

    def run(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(list(arguments))
        assert not exit.value.code
        return capsys.readouterr()

    return run


@pytest.mark.parametrize(("feed", "warns"), [("shop/counts", True), ("shop/sales", False)])
def test_replacing_a_file_of_a_feed_without_a_key_says_that_its_rows_stay(longbox, tmp_path, feed, warns):
    file = tmp_path / "b.csv"
    for price in ("5.00", "6.00"):
        file.write_text(csv_of((*GOOD[:3], price, GOOD[4])))
        said = longbox("land", feed, str(file), "--date", DAY, "--replace")
        assert "landed landing/" in said.out
        assert ("no `key:`" in said.err) == warns


def test_a_replay_names_the_days_to_run_again_and_their_command(longbox, database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE longbox.quarantine SET raw_text = replace(raw_text, 'a lot', '5.00')")
    said = longbox("quarantine", "replay", "shop/sales").out
    assert "1 loaded, 0 known already, 0 stay" in said and f"until then they differ: {DAY}" in said
    assert f"`longbox run daily_pipeline_shop --date {DAY}`" in said


def test_the_list_of_one_feed_counts_that_feed_alone_and_does_not_call_the_whole_quarantine_empty(longbox):
    listed = longbox("quarantine", "list", "--feed", "shop/sales").out
    assert "1  shop/sales  not_a_number" in listed and "line 2 [price]" in listed
    assert longbox("quarantine", "list", "--feed", "shop/counts").out == "no such entry\n"
    assert longbox("quarantine", "list", "--reason", "missing_value").out == "no such entry\n"
    assert longbox("quarantine", "list", "--status", "replayed").out == "no entry is replayed\n"


def test_the_list_of_a_feed_that_is_not_there_names_those_that_are(longbox, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["quarantine", "list", "--feed", "shop/sale"])
    assert exit.value.code == 2
    assert "there is no feed 'shop/sale'; write SYSTEM/FEED, one of:" in capsys.readouterr().err


def test_an_entry_that_is_no_longer_open_is_named_where_it_cannot_be_written_off(longbox):
    assert longbox("quarantine", "dismiss", "1", "--yes").out == "1 entries written off\n"
    said = longbox("quarantine", "dismiss", "1", "--yes").out
    assert "0 entries written off" in said and "1 is dismissed and not open" in said

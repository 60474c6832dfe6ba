"""The ledger's chain: whole under concurrent writers, broken by name when an entry is changed, removed or added."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from pipelines.migration import migrate, migrate_down
from tests.integration.migration_support import new_database

ENTRY = "INSERT INTO longbox.ledger (act, relation, policy) VALUES ('drop', 'comics.x', 'keep 7 years')"
UNGUARDED = "ALTER TABLE longbox.ledger DISABLE TRIGGER USER"


@pytest.fixture
def url(postgres_admin_url: str) -> Iterator[str]:
    """A database with the platform's tables alone."""
    with new_database(postgres_admin_url) as made:
        migrate(made, [])
        yield made


def faults(url: str) -> list[tuple[int, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT chain_position, fault FROM longbox.ledger_faults()").fetchall()


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_entries_of_many_writers_and_of_undone_transactions_make_one_whole_chain(url: str) -> None:
    def write() -> None:
        with psycopg.connect(url) as connection:
            for number in range(20):
                connection.execute(ENTRY)
                if number % 3:
                    connection.commit()
                else:
                    connection.rollback()

    writers = [threading.Thread(target=write) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), max(chain_position) FROM longbox.ledger").fetchone()
    assert row == (6 * 13, 6 * 13)
    assert faults(url) == []


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (
            "UPDATE longbox.ledger SET affected_rows = 1 WHERE chain_position = 2",
            (2, "the entry was changed"),
        ),
        ("DELETE FROM longbox.ledger WHERE chain_position = 2", (3, "the entry before is missing")),
        ("DELETE FROM longbox.ledger WHERE chain_position = 1", (2, "the entry before is missing")),
        (
            "UPDATE longbox.ledger SET row_hash = sha256('x') WHERE chain_position = 2",
            (3, "the entry before was changed"),
        ),
    ],
)
def test_a_changed_or_removed_entry_is_named(url: str, act: str, told: tuple[int, str]) -> None:
    run(url, ENTRY, ENTRY, ENTRY, UNGUARDED, act)
    assert told in faults(url)


def test_a_transaction_that_does_not_see_the_newest_entry_fails_instead_of_forking_the_chain(
    url: str,
) -> None:
    with psycopg.connect(url) as late:
        late.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        late.execute("SELECT 1 FROM longbox.feeds")
        run(url, ENTRY)
        with pytest.raises(psycopg.errors.UniqueViolation):
            late.execute(ENTRY)
    assert faults(url) == []


def test_entries_from_before_the_chain_are_linked_in_their_order(url: str) -> None:
    migrate_down(url, [], "longbox@0003", dry_run=False)
    run(url, ENTRY, ENTRY)
    migrate(url, [])
    run(url, ENTRY)
    with psycopg.connect(url) as connection:
        places = connection.execute(
            "SELECT array_agg(chain_position ORDER BY entry_id), count(*) FROM longbox.ledger"
        ).fetchone()
    assert places is not None
    assert places[0] == list(range(1, places[1] + 1))
    assert places[1] >= 3
    assert faults(url) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        run(url, "DELETE FROM longbox.ledger")

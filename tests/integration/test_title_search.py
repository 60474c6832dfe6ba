"""`comics.search_titles`: a title is found however it is spelled, without comparing it with every other."""

import random
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from assets.comics.matching import Matches
from assets.comics.rules.title import parse_title
from assets.comics.sample.tables import SERIES
from pipelines.migration import migrate
from tests.integration.migration_support import ASSETS, new_database

# What the search is measured by: every title compared with every other.
COMPARE_ALL = (
    "SELECT comic_id FROM comics.comics WHERE lower(title) %% lower(%(query)s) "
    "ORDER BY similarity(lower(title), lower(%(query)s)) DESC, comic_id LIMIT 20"
)
Catalogue = dict[uuid.UUID, str]


def titles() -> list[str]:
    """Up to 60 issues of every series of the sample, each tenth also as a newsstand edition, and two annuals."""
    issues = [f"{name} #{issue}" for name, _, _, last, _ in SERIES for issue in range(1, min(last, 60) + 1)]
    editions = [f"{title} Newsstand" for title in issues if title.endswith("0")]
    return issues + editions + ["Amazing Spider-Man Annual 3", "Batman Annual 2"]


@pytest.fixture(scope="module")
def reader(postgres_admin_url: str) -> Iterator[psycopg.Connection]:
    """An analyst, in a database with the catalogue of `titles`."""
    with new_database(postgres_admin_url) as url:
        migrate(url, [ASSETS / "reference", ASSETS / "comics"])
        with psycopg.connect(url, autocommit=True) as connection:
            Matches.of(map(parse_title, titles())).write(connection)
            connection.execute("ANALYZE comics.comics, comics.series")
            connection.execute("SET ROLE longbox_reader")
            yield connection


@pytest.fixture(scope="module")
def catalogue(reader: psycopg.Connection) -> Catalogue:
    return dict(reader.execute("SELECT comic_id, title FROM comics.comics ORDER BY comic_key").fetchall())


def found(reader: psycopg.Connection, query: str, max_rows: int = 20) -> list[str]:
    rows = reader.execute("SELECT title FROM comics.search_titles(%s, %s)", [query, max_rows]).fetchall()
    return [row[0] for row in rows]


def misspelt(title: str, chance: random.Random) -> str:
    """`title` with one slip in the name of its series, perhaps without its number sign."""
    name, _, rest = title.rpartition(" #")
    at = chance.randrange(1, max(2, len(name) - 1))
    slips = [
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :],
        name[:at] + "e" + name[at + 1 :],
        name.upper().replace("-", ""),
    ]
    return chance.choice(slips) + chance.choice([" #", " "]) + rest


def test_misspelt_titles_find_their_comic_as_high_as_a_comparison_with_every_title_does(
    reader: psycopg.Connection, catalogue: Catalogue
) -> None:
    chance = random.Random(1)
    issues = [comic for comic, title in catalogue.items() if "#" in title]
    first = 0
    for comic in chance.choices(issues, k=150):
        query = misspelt(catalogue[comic], chance)
        rows = reader.execute("SELECT comic_id FROM comics.search_titles(%s)", [query]).fetchall()
        compared = reader.execute(COMPARE_ALL, {"query": query}).fetchall()
        assert (comic,) in rows, f"{query!r} does not find {catalogue[comic]!r}"
        assert (comic,) not in compared or rows.index((comic,)) <= compared.index((comic,)), query
        first += rows[0] == (comic,)
    assert first >= 147  # "Sapwn #60" is nearer to Saga than to Spawn


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("spiderman 2099 12", "Spider-Man 2099 #12"),
        ("AMAZNG SPIDERMAN 30 CGC 9.8 white pages", "Amazing Spider-Man #30"),
        ("xmen 12", "Uncanny X-Men #12"),
        ("teenage ninja turtels 5", "Teenage Mutant Ninja Turtles #5"),
        ("batman annul 2", "Batman Annual 2"),
        ("52 12", "52 #12"),
        ("locke and key 2", "Locke & Key #2"),
        ("detectiv comics 30 newsstand", "Detective Comics #30 (Newsstand)"),
    ],
)
def test_what_people_type_finds_what_they_mean(reader: psycopg.Connection, query: str, title: str) -> None:
    assert found(reader, query)[0] == title


def test_comics_with_all_words_come_first_and_say_so(reader: psycopg.Connection) -> None:
    rows = reader.execute("SELECT * FROM comics.search_titles('x men 12')").fetchall()
    assert rows[0][1:3] == ("Uncanny X-Men #12", True)
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    assert all(0.2 <= row[3] <= 1 for row in rows if not row[2])


def test_a_name_without_a_number_gives_the_first_issues(reader: psycopg.Connection) -> None:
    assert found(reader, "hulk", 3) == [f"Incredible Hulk #{issue}" for issue in (1, 2, 3)]
    assert found(reader, "Incredble Hukl", 1) == ["Incredible Hulk #1"]


@pytest.mark.parametrize("query", ["qwerty zzz", "", "'; DROP TABLE x --", "%", "9" * 400, "\\", "#"])
def test_what_names_no_comic_finds_none(reader: psycopg.Connection, query: str) -> None:
    assert found(reader, query) == []


def test_series_are_found_in_order_of_distance_by_their_index(reader: psycopg.Connection) -> None:
    reader.execute("SET enable_sort = off")
    reader.execute("SET enable_seqscan = off")
    plan = reader.execute("EXPLAIN SELECT * FROM comics.search_titles('amazng spiderman 3')").fetchall()
    reader.execute("RESET enable_sort")
    reader.execute("RESET enable_seqscan")
    assert any("series_name_nearest" in line for (line,) in plan)
    assert not any("comics_title_trigram" in line for (line,) in plan)

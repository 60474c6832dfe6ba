"""Aggregates over values that a feed never brings and an adopted table may hold, and the check that recomputes them."""

import pytest

from tests.integration.test_yaml_aggregates import SHOP, aggregate, job, table
from tests.shop import open_shop

NOTES = SHOP.replace(
    "aggregates:",
    """  notes:
    columns: {note_id: integer, topic: text, written_at: timestamptz, price: integer, ratio: double precision,
              weight: double precision, detail: jsonb, share: real}
    primary_key: [note_id]
    time: written_at
aggregates:""",
)
AT = "2026-10-19T12:00:00Z"
NOT_ANY = float("nan")


@pytest.fixture
def shop(database_url, object_store_url, tmp_path):
    opened = open_shop(database_url, object_store_url, tmp_path, SHOP)
    yield opened
    opened.close()


def aggregated(shop, declared, *notes):
    """The table of the aggregate `declared` over `notes`; its check agrees, and running it again writes nothing."""
    shop.reload(NOTES + f"  by_notes: {declared}\n")
    with shop.owner.connection() as connection:
        connection.execute("ALTER TABLE shop.notes ALTER written_at DROP NOT NULL")
    for number, note in enumerate(notes):
        names, values = zip(*{"note_id": number, "written_at": AT, **note}.items(), strict=True)
        places = ", ".join(["%s"] * len(values))
        shop.rows(f"INSERT INTO shop.notes ({', '.join(names)}) VALUES ({places}) RETURNING 1", *values)
    aggregate(shop, "2026-10-20", name="by_notes")
    assert job(shop, "by_notes").recompute_sample() == []
    assert aggregate(shop, "2026-10-20", name="by_notes").rows_written == 0
    return table(shop, "by_notes")


@pytest.mark.parametrize("group", ["written_at", "{hour: hour(written_at)}", "{day: day(written_at)}",
                                   "{month: month(written_at)}", "{bar: 6 hours(written_at)}"])  # fmt: skip
def test_rows_without_a_time_are_a_group(shop, group):
    declared = f"{{from: notes, by: [{group}], measures: {{notes: count}}}}"
    found = aggregated(shop, declared, {"written_at": None}, {"written_at": None}, {})
    assert {row[0] is None: row[1] for row in found} == {True: 2, False: 1}


@pytest.mark.parametrize("bucket", ["day", "week", "month", "year", "hour"])
def test_the_last_and_the_first_day_that_there_are_belong_to_groups(shop, bucket):
    declared = f"{{from: notes, by: [{{cut: {bucket}(written_at)}}], measures: {{notes: count}}}}"
    found = aggregated(
        shop, declared, {"written_at": "9999-12-31T23:30:00Z"}, {"written_at": "0001-01-01T00:00:00Z"}
    )
    assert [row[1] for row in found] == [1, 1]


def test_first_and_last_of_rows_of_one_moment_and_of_none_are_those_that_the_check_finds(shop):
    declared = "{from: notes, by: [topic], measures: {opening: first(price), closing: last(price)}}"
    found = aggregated(
        shop,
        declared,
        {"topic": "a"},
        {"topic": "a", "price": 3},
        {"topic": "a", "price": 4, "written_at": None},
    )
    assert found == [("a", 3, 4)]


def test_numbers_that_are_none_and_infinite_ones_are_measured(shop):
    declared = (
        "{from: notes, by: [topic], measures: {total: sum(ratio), middle: median(ratio), spread: stddev(ratio), "
        'low: min(ratio), high: max(ratio), kinds: count_distinct(ratio), moved: "sum(ratio, weight=weight)"}}'
    )
    found = aggregated(
        shop, declared,
        *({"topic": "nan", "ratio": ratio, "weight": 1} for ratio in (NOT_ANY, NOT_ANY, 1.5)),
        *({"topic": "infinite", "ratio": ratio, "weight": 1} for ratio in (float("inf"), -float("inf"), 2)),
    )  # fmt: skip
    assert [(row[0], str(row[1]), row[4], row[6]) for row in found] == [
        ("infinite", "nan", -float("inf"), 3), ("nan", "nan", 1.5, 2),
    ]  # fmt: skip


DETAILS = [
    {"detail": text} for text in ('{"a": 1, "b": [true]}', '{"b": [true], "a": 1.0}', '{"b": [1], "a": 1}')
]


def test_json_is_counted_as_postgresql_compares_it(shop):
    declared = "{from: notes, by: [topic], measures: {kinds: count_distinct(detail), one: first(detail)}}"
    assert [row[1] for row in aggregated(shop, declared, *DETAILS)] == [2]


def test_json_makes_groups_as_postgresql_compares_it(shop):
    found = aggregated(shop, "{from: notes, by: [detail], measures: {notes: count}}", *DETAILS)
    assert sorted(row[1] for row in found) == [1, 2]


def test_json_that_is_no_object_makes_groups(shop):
    texts = ('"paid"', '"paid"', "12345678901234567890.123", "1.50", "1.5", "true", "null", "[1]", None)
    notes = [{"detail": text} for text in texts]
    found = aggregated(shop, "{from: notes, by: [detail], measures: {notes: count}}", *notes)
    assert sorted(row[1] for row in found) == [1, 1, 1, 1, 1, 2, 2]


def test_numbers_of_single_precision_make_groups(shop):
    notes = [{"share": share} for share in (0.1, 0.1, -0.7, NOT_ANY, None)]
    found = aggregated(shop, "{from: notes, by: [share], measures: {notes: count}}", *notes)
    assert sorted((str(row[0]), row[1]) for row in found) == [
        ("-0.7", 1),
        ("0.1", 2),
        ("None", 1),
        ("nan", 1),
    ]


def test_the_least_and_greatest_text_do_not_depend_on_the_collation_of_the_database(shop):
    found = aggregated(
        shop, "{from: notes, by: [written_at], measures: {low: min(topic), high: max(topic)}}",
        {"topic": "a"}, {"topic": "B"},
    )  # fmt: skip
    assert [row[1:] for row in found] == [("B", "a")]
    with shop.database.connection() as connection:  # there is no other collation here to show it with
        measures = job(shop, "by_notes").statements(connection).parts()["measures"].as_string(connection)
    assert measures.count('COLLATE "C"') == 2

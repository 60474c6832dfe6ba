"""A plain table becomes a partitioned one under writers: no row is lost or doubled, and there is a way back."""

import concurrent.futures

import psycopg
import pytest

from cli.main import main
from deploy.local.processes import wait_until
from pipelines.adoption import job
from pipelines.adoption.errors import RefusedError, TableBusyError, UnequalError
from pipelines.adoption.repartition import Repartition
from resources.errors import UserError
from tests.integration.migration_support import execute, schema_dump, value, with_user
from tests.order_writers import difference, is_partitioned, open_shop, writing

# of tables and indexes of the shop: locks that let nobody in, held by one that waits for another of them; NULL when
# nobody waits
HELD_BY_ONE_THAT_WAITS = """
SELECT CASE WHEN bool_or(NOT granted) THEN count(*) FILTER (WHERE granted) END FROM pg_locks
WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND relation::regclass::text LIKE 'shop.%'
"""


def orders(url: str, **options: object) -> Repartition:
    return Repartition(url, "shop", "orders", batch_rows=300, sleep=lambda _: None, **options)


def build(url: str, **options: object) -> Repartition:
    work = orders(url, **options)
    assert work.build("placed_at", "month").phase == "verified"
    return work


def test_writers_go_on_through_build_switch_undo_switch_and_finish_and_no_row_is_lost_or_doubled(
    database_url: str,
) -> None:
    open_shop(database_url)
    with writing(database_url) as team:
        work = build(database_url)
        assert not is_partitioned(database_url)
        team.wait_for(50)
        assert work.switch().phase == "switched"
        assert is_partitioned(database_url)
        team.wait_for(50)
        assert work.undo().phase == "verified"
        assert not is_partitioned(database_url)
        team.wait_for(50)
        work.switch()
        team.wait_for(50)
        assert work.sync().phase == "switched"
    assert difference(database_url) == 0
    result = work.finish()
    assert result.phase is None and result.verdict is not None
    assert result.verdict.rows == value(database_url, "SELECT count(*) FROM shop.shadow")
    assert difference(database_url) == 0
    assert value(database_url, "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^longbox_(new|old)'") == 0
    entry = execute(
        database_url, "SELECT relation, policy, affected_rows, proof->>'content_hash' FROM longbox.ledger"
    )
    assert entry == [
        ("shop.orders", "longbox partition --finish", result.verdict.rows, result.verdict.content_hash)
    ]


def test_undone_before_the_switch_the_database_is_as_it_was(database_url: str) -> None:
    open_shop(database_url)
    before = schema_dump(database_url)
    work = build(database_url)
    assert schema_dump(database_url) != before
    assert work.undo().phase is None
    assert schema_dump(database_url) == before


def test_the_partitioned_table_has_keys_sequences_grants_comments_views_and_foreign_keys_of_the_plain_one(
    database_url: str,
) -> None:
    clerk = open_shop(database_url)
    last = value(database_url, "SELECT max(id) FROM shop.orders")
    work = build(database_url)
    work.switch()
    row = execute(
        database_url,
        "INSERT INTO shop.orders (user_id, total) VALUES (1, 900) RETURNING id, number, note, twice",
    )
    assert row == [(int(str(last)) + 1, 3001, "none", 1800)]
    assert value(database_url, "SELECT count(*) FROM shop.large WHERE total = 900", role=clerk) == 4
    assert value(database_url, "SELECT obj_description('shop.orders'::regclass)") == "One order"
    assert (
        value(database_url, "SELECT col_description('shop.orders'::regclass, 7)") == "What the customer said"
    )
    execute(database_url, "UPDATE shop.orders SET note = 'x' WHERE id = 5", role=clerk)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(database_url, "DELETE FROM shop.orders", role=clerk)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        execute(database_url, "INSERT INTO shop.orders (user_id, total) VALUES (999, 1)")
    with pytest.raises(psycopg.errors.CheckViolation):
        execute(database_url, "INSERT INTO shop.orders (user_id, total) VALUES (1, -1)")
    definitions = [
        str(row[0])
        for row in execute(
            database_url,
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'shop.orders'::regclass ORDER BY 1",
        )
    ]
    assert any("orders_pkey" in text and "(id, placed_at)" in text for text in definitions)
    assert any("orders_by_note" in text and "lower(note) DESC" in text for text in definitions)
    assert (
        value(database_url, "SELECT bool_and(convalidated) FROM pg_constraint WHERE conname = 'orders_user'")
        is True
    )
    execute(
        database_url, "DELETE FROM shop.users WHERE id = 40"
    )  # cascades into the partitions, and only there
    work.undo()
    assert value(database_url, "SELECT count(*) FROM shop.orders WHERE user_id = 40") == 0
    assert execute(database_url, "SELECT note FROM shop.orders WHERE id = 5") == [("x",)]
    row = execute(database_url, "INSERT INTO shop.orders (user_id, total) VALUES (1, 1) RETURNING id, number")
    assert int(str(row[0][0])) > int(str(last)) + 1 and int(str(row[0][1])) > 3001
    assert value(database_url, "SELECT obj_description('shop.orders'::regclass)") == "One order"


@pytest.mark.parametrize("is_switched", [False, True])
def test_a_truncate_is_carried_over_in_both_directions(database_url: str, is_switched: bool) -> None:
    open_shop(database_url)
    work = build(database_url)
    if is_switched:
        work.switch()
    execute(database_url, "INSERT INTO shop.orders (user_id, total) VALUES (1, 1)")
    execute(
        database_url, "TRUNCATE shop.orders; INSERT INTO shop.orders (user_id, total) VALUES (2, 2), (3, 3)"
    )
    execute(
        database_url,
        "TRUNCATE shop.shadow; INSERT INTO shop.shadow SELECT id, placed_at, total, note FROM shop.orders",
    )
    assert work.sync().verdict is not None
    (work.undo if is_switched else work.switch)()
    assert difference(database_url) == 0
    assert value(database_url, "SELECT count(*) FROM shop.orders") == 2


def test_writes_that_triggers_are_silenced_for_are_carried_over_too(database_url: str) -> None:
    open_shop(database_url)
    work = build(database_url)
    execute(database_url, "SET session_replication_role = replica;"
                          "UPDATE shop.orders SET note = 'silent' WHERE id < 100;"
                          "UPDATE shop.shadow SET note = 'silent' WHERE id < 100")  # fmt: skip
    work.switch()
    assert difference(database_url) == 0


def test_a_row_of_a_month_that_nobody_foresaw_gets_its_partition_before_the_switch(database_url: str) -> None:
    open_shop(database_url)
    work = build(database_url)
    execute(database_url, """
        INSERT INTO shop.orders (user_id, placed_at, total) VALUES (1, '2031-05-05 00:00+00', 1);
        INSERT INTO shop.shadow SELECT id, placed_at, total, note FROM shop.orders WHERE placed_at > '2031-01-01';
        """)  # fmt: skip
    work.switch()
    assert value(database_url, "SELECT count(*) FROM shop.orders_y2031m05") == 1
    assert difference(database_url) == 0


def test_a_partition_truncated_on_its_own_after_the_switch_is_found_by_the_comparison_and_undone_rightly(
    database_url: str,
) -> None:
    open_shop(database_url)
    work = build(database_url)
    work.switch()
    execute(database_url, "TRUNCATE shop.orders_y2026m02")
    execute(
        database_url,
        "DELETE FROM shop.shadow WHERE date_trunc('month', placed_at, 'UTC') = '2026-02-01 00:00+00'",
    )
    work.undo()
    assert difference(database_url) == 0


def test_a_twin_that_differs_is_never_switched_in(database_url: str) -> None:
    open_shop(database_url)
    work = build(database_url)
    execute(database_url, "UPDATE longbox_new_shop.orders SET total = 7 WHERE id = 8")
    with pytest.raises(UnequalError, match="differ in 1 of"):
        work.sync()
    with pytest.raises(UnequalError):
        work.build("placed_at", "month")


def test_values_of_a_unique_column_that_change_hands_are_carried_over(database_url: str) -> None:
    open_shop(database_url)
    build(database_url)
    execute(database_url, """
        UPDATE shop.orders SET placed_at = '2026-03-03 00:00+00', number = -id WHERE id < 50;
        UPDATE shop.orders SET number = -(50 - id) WHERE id < 50 AND id > 25;
        """.replace("number = -(50 - id)", "number = number - 1000"))  # fmt: skip
    work = orders(database_url)
    work.sync()
    execute(database_url, "UPDATE shop.shadow SET placed_at = '2026-03-03 00:00+00' WHERE id < 50")
    work.switch()
    assert difference(database_url) == 0


def test_a_reader_that_never_ends_makes_the_switch_give_up_by_name_and_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_shop(database_url, rows=50)
    work = build(database_url)
    with psycopg.connect(database_url, application_name="a long report") as reader:
        reader.execute("SELECT count(*) FROM shop.orders")
        monkeypatch.setattr(job, "ATTEMPTS", 2)
        with pytest.raises(TableBusyError, match="a long report"):
            work.switch()
        monkeypatch.undo()
    assert not is_partitioned(database_url)
    work.switch()
    assert is_partitioned(database_url) and difference(database_url) == 0


def test_what_waits_for_a_writer_to_drop_the_original_holds_no_partition_that_the_writer_may_want_next(
    database_url: str,
) -> None:
    open_shop(database_url, rows=2000)
    work = build(database_url)
    work.switch()
    with concurrent.futures.ThreadPoolExecutor(1) as beside, psycopg.connect(database_url) as writer:
        writer.execute("UPDATE shop.orders SET note = 'mine' WHERE id = 1 AND placed_at < '2026-02-01'")
        finished = beside.submit(work.finish)
        assert wait_until(lambda: value(database_url, HELD_BY_ONE_THAT_WAITS), seconds=30) == 0
        writer.rollback()
        finished.result(60)
    assert difference(database_url) == 0


def test_altered_columns_stop_the_switch_until_the_work_is_begun_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_shop(database_url, rows=50)
    work = build(database_url)
    execute(database_url, "ALTER TABLE shop.orders ADD COLUMN extra int")
    with pytest.raises(RefusedError, match="were altered since the work began"):
        work.switch()
    work.undo()
    build(database_url).switch()
    assert difference(database_url) == 0


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE TABLE shop.lines (order_id bigint REFERENCES shop.orders)", "foreign keys point at it"),
        ("ALTER TABLE shop.orders ALTER placed_at DROP NOT NULL", "may be NULL"),
        ("ALTER TABLE shop.orders ADD UNIQUE (number)", "--weaker-keys"),
        ("ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey", "no primary key"),
        ("CREATE MATERIALIZED VIEW shop.sums AS SELECT sum(total) FROM shop.orders", "depend on the table itself"),
        ("CREATE TRIGGER own BEFORE INSERT ON shop.orders "
         "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
         "triggers of its own"),
        ("ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY", "row security"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_over_faithfully_is_refused_before_anything_is_made(
    database_url: str, statement: str, reason: str
) -> None:
    open_shop(database_url, rows=5)
    execute(database_url, statement)
    before = schema_dump(database_url)
    with pytest.raises(UserError, match=reason):
        orders(database_url).build("placed_at", "month")
    assert schema_dump(database_url) == before


def test_steps_out_of_order_are_refused(database_url: str) -> None:
    open_shop(database_url, rows=5)
    work = orders(database_url)
    for step in (work.switch, work.sync, work.undo, work.finish):
        with pytest.raises(RefusedError, match="nothing is under way"):
            step()
    build(database_url)
    with pytest.raises(RefusedError, match="is not switched"):
        work.finish()
    with pytest.raises(RefusedError, match="is under way by placed_at"):
        work.build("placed_at", "year")


def test_an_ordinary_owner_of_the_table_can_do_all_of_it(database_url: str) -> None:
    open_shop(database_url, rows=400)
    owner, name = "keeper_of_" + database_url.rsplit("/", 1)[-1], database_url.rsplit("/", 1)[-1]
    execute(database_url, f"CREATE ROLE {owner} LOGIN PASSWORD 'keeps' IN ROLE longbox_app")
    execute(database_url, f"GRANT CREATE ON DATABASE {name} TO {owner}; ALTER SCHEMA shop OWNER TO {owner}")
    for table in ("orders", "users", "large"):
        execute(database_url, f"ALTER TABLE shop.{table} OWNER TO {owner}")
    url = with_user(database_url, owner, "keeps")
    work = build(url)
    for step in (work.switch, work.undo, work.switch, work.sync, work.finish):
        step()
    assert difference(database_url) == 0
    assert (
        value(
            database_url, "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'shop.orders'::regclass"
        )
        == owner
    )
    execute(database_url, f"REASSIGN OWNED BY {owner} TO longbox; DROP OWNED BY {owner}; DROP ROLE {owner}")


def test_two_at_once_on_one_table_are_refused_the_second(database_url: str) -> None:
    open_shop(database_url, rows=5)
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('longbox partition shop/orders', 0))")
        with pytest.raises(RefusedError, match="another `longbox partition shop/orders` runs"):
            orders(database_url).build("placed_at", "month")


def test_rows_without_a_place_in_the_calendar_are_named(database_url: str) -> None:
    open_shop(database_url, rows=5)
    execute(database_url, "UPDATE shop.orders SET placed_at = 'infinity' WHERE id = 3")
    with pytest.raises(RefusedError, match="rows whose placed_at is infinity"):
        orders(database_url).build("placed_at", "month")
    assert orders(database_url).undo().phase is None


def test_the_plan_shows_the_sql_and_changes_nothing(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    open_shop(database_url, rows=5)
    before = schema_dump(database_url)
    for arguments, code in (
        (["shop/orders", "--by", "month", "--time", "placed_at", "--url", database_url], 0),
        (["shop/orders", "--switch", "--url", database_url], 0),
        (["shop/orders", "--switch", "--undo"], 2),
        (["shop/orders"], 2),
        (["orders", "--by", "month", "--time", "placed_at"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["partition", *arguments])
        assert (ended.value.code or 0) == code
    told = capsys.readouterr().out
    assert "the primary key becomes (id, placed_at)" in told
    assert 'PARTITION BY RANGE ("placed_at")' in told
    assert "--switch would change shop/orders; add --yes" in told
    assert schema_dump(database_url) == before

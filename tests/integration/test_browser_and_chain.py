"""The systems browser and chain: their samples end as their manifests say, their tables refuse what they should."""

import json

import psycopg
import pytest

from pipelines.aggregation import AggregateJob
from tests.daily_runs import Daily, steps
from tests.sampled import accounts, assets_of, expected_accounts, land_sample

USER = "INSERT INTO browser.users (user_id, email, display_name) VALUES ('{}', '{}', 'Ada') "
ADA, BOB = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


@pytest.fixture
def daily(settings, tmp_path):
    opened = Daily.on(settings, tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("system", ["browser", "chain"])
def test_the_sample_ends_as_its_manifest_says_and_a_second_run_changes_nothing(daily, tmp_path, system):
    manifest = land_sample(daily, system, tmp_path / "sample")
    chosen = assets_of(daily, system)
    result = daily.run(manifest.first_day, manifest.last_day, assets=chosen)
    assert set(steps(result).values()) == {"success"}, steps(result)
    assert accounts(daily, manifest) == expected_accounts(manifest)
    superseded = daily.count("longbox.record_keys WHERE NOT is_current")
    assert superseded == manifest.expected["superseded"] > 0
    for aggregate in daily.catalog.systems[system].aggregates.values():
        job = AggregateJob(daily.database, daily.catalog.systems[system], aggregate)
        assert daily.count(f"{system}.{aggregate.name}") > 0
        assert job.recompute_sample(count=40) == []
    first = daily.digest()
    daily.run(manifest.first_day, manifest.last_day, assets=chosen)
    assert daily.digest() == first


def test_the_opinions_that_stand_are_one_a_user_and_insight_and_corrections_move_the_statistics(daily):
    def land(name, day, rating):
        line = f"{ADA},{BOB},{rating},false,,2026-10-01T00:00:00Z,{day}T00:00:00Z"
        header = "user_id,insight_id,rating,is_flagged,comment,submitted_at,updated_at"
        daily.store.put(f"landing/chain/feedback/{day}/{name}.csv", f"{header}\n{line}\n".encode())

    chosen = ["chain/insight_feedback", "chain/feedback_by_insight"]
    land("a", "2026-10-02", 2)
    daily.run("2026-10-02", assets=chosen)
    land("b", "2026-10-03", 5)
    daily.run("2026-10-03", assets=chosen)
    with daily.database.connection() as connection:
        assert connection.execute("SELECT rating FROM chain.current_insight_feedback").fetchall() == [(5,)]
        found = connection.execute("SELECT opinions, mean_rating FROM chain.feedback_by_insight").fetchall()
    assert found == [(1, 5)]
    assert daily.count("chain.insight_feedback") == 2


def test_of_two_devices_that_write_one_version_of_a_field_the_later_write_stands(daily):
    header = "document_id,field,version,changed_at,user_id,resource_type,operation,new_value"
    lines = [
        f"{ADA},title,2,2026-10-01T10:00:0{second}Z,{BOB},tab,update,{json.dumps(second)}"
        for second in (3, 1)
    ]
    daily.store.put("landing/browser/changes/2026-10-02/a.csv", "\n".join([header, *lines, ""]).encode())
    daily.run("2026-10-02", assets=["browser/change_log", "browser/changes_by_day"])
    with daily.database.connection() as connection:
        query = (
            "SELECT new_value FROM browser.change_log JOIN longbox.record_keys USING (key_hash, content_hash) "
            "WHERE is_current"
        )
        assert connection.execute(query).fetchall() == [(3,)]
        assert connection.execute("SELECT changes FROM browser.changes_by_day").fetchall() == [(1,)]


REFUSED = {
    "two living accounts of one address": [USER.format(ADA, "a@b.c"), USER.format(BOB, "A@B.C")],
    "an address without a host": [USER.format(ADA, "a@")],
    "a password in clear": [
        USER.format(ADA, "a@b.c"), f"UPDATE browser.users SET password_hash = 'secret' WHERE user_id = '{ADA}'",
    ],
    "a token that is no hash": [
        USER.format(ADA, "a@b.c"),
        "INSERT INTO browser.sessions (user_id, token_hash, expires_at) "
        f"VALUES ('{ADA}', 'short', now() + interval '1 day')",
    ],
    "a bookmark without an address": [
        USER.format(ADA, "a@b.c"),
        f"INSERT INTO browser.resources (owner_id, resource_type) VALUES ('{ADA}', 'bookmark')",
    ],
    "a password kept in clear": [
        USER.format(ADA, "a@b.c"),
        "INSERT INTO browser.resources (owner_id, resource_type, content) "
        f"VALUES ('{ADA}', 'password', '{{\"ciphertext\": \"x\", \"password\": \"y\"}}')",
    ],
    "a session of nobody": [
        f"INSERT INTO browser.sessions (user_id, token_hash, expires_at) "
        f"VALUES ('{ADA}', sha256('x'), now() + interval '1 day')"
    ],
    "a job that ended and does not say when": [
        "INSERT INTO chain.backfill_jobs (from_block, to_block, chain_name, status) VALUES (1, 2, 'eth', 'completed')"
    ],
    "a job over no block": ["INSERT INTO chain.backfill_jobs (from_block, to_block, chain_name) VALUES (2, 1, 'eth')"],
    "a job that failed and does not say why": [
        "INSERT INTO chain.backfill_jobs (from_block, to_block, chain_name, status, finished_at) "
        "VALUES (1, 2, 'eth', 'failed', now())"
    ],
}  # fmt: skip


@pytest.mark.parametrize("statements", REFUSED.values(), ids=REFUSED.keys())
def test_the_tables_refuse(database_url, statements):
    with psycopg.connect(database_url) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        with pytest.raises(psycopg.IntegrityError):
            connection.execute(statements[-1])


def test_timestamps_are_kept_by_the_database_and_progress_follows_the_blocks(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute(USER.format(ADA, "a@b.c") + "RETURNING created_at")
        connection.execute("UPDATE browser.users SET created_at = '2000-01-01', deleted_at = now()")
        row = connection.execute(
            "SELECT created_at = updated_at AND created_at > '2026-01-01', purge_after - deleted_at FROM browser.users"
        ).fetchone()
        assert row is not None and row[0] and row[1].days == 30
        connection.execute(USER.format(BOB, "a@b.c"))  # the address is free again
        job = (
            "INSERT INTO chain.backfill_jobs (from_block, to_block, done_blocks, chain_name) VALUES (1, 4, 1, 'eth') "
            "RETURNING progress_ratio"
        )
        assert connection.execute(job).fetchone() == (0.25,)

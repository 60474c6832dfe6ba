"""Campaigns from landed files to performance views: the sample's manifest holds, and readers of a view never wait."""

import datetime as dt

import psycopg
import pytest
from psycopg.types.json import Jsonb

from assets.campaigns.sample import generate, identifier, people
from pipelines.aggregation import refresh_view
from resources.database import Database
from resources.errors import UserError
from tests.daily_runs import Daily, checks, steps
from tests.systems import Stages, feed_counts, land_sample

TABLES = ("post_analytics", "audit_log", "post_analytics_by_campaign", "post_analytics_by_post", "campaign_performance",
          "top_posts")  # fmt: skip

DAYS = ("2026-10-28", "2026-10-29", "2026-10-30")
COUNTED = ("landed", "loaded", "duplicate", "quarantined", "records")


@pytest.fixture
def campaigns(settings):
    stages = Stages.of("campaigns", settings)
    write_people(stages)
    yield stages
    stages.close()


@pytest.fixture
def sample(campaigns, tmp_path):
    manifest = generate(tmp_path / "sample", 3200, 3, dt.date(2026, 10, 30), 1)
    land_sample(campaigns.store, "campaigns", tmp_path / "sample")
    return manifest


def write_people(stages):
    with stages.database.connection() as connection:
        for table, rows in people().items():
            for row in rows:
                values = [Jsonb(value) if isinstance(value, dict) else value for value in row.values()]
                places = ", ".join(["%s"] * len(row))
                query = f"INSERT INTO campaigns.{table} ({', '.join(row)}) VALUES ({places})"
                connection.execute(query.encode(), values)


def performance(stages):
    return stages.rows(
        "SELECT campaign_id, name, impressions, clicks, engagements, spend "
        "FROM campaigns.campaign_performance ORDER BY 1"
    )


def expected_performance(stages):
    return stages.rows(
        "SELECT campaign_id, campaigns.name, sum(impressions), sum(clicks), sum(likes + comments + shares), "
        "coalesce(sum(spend), 0) FROM campaigns.post_analytics "
        "JOIN longbox.record_keys k USING (key_hash, content_hash) "
        "JOIN campaigns.campaigns USING (campaign_id) WHERE k.is_current GROUP BY 1, 2 ORDER BY 1"
    )


def test_a_daily_run_makes_of_the_sample_what_its_manifest_says(settings, campaigns, sample, tmp_path):
    daily = Daily.on(settings, tmp_path)
    assets = [f"campaigns/{name}" for name in TABLES]
    try:
        run = daily.run(DAYS[0], DAYS[-1], assets=assets)
        assert run.success
        assert set(steps(run).values()) == {"success"}
        assert set(checks(run).values()) == {True}
        for feed, expected in sample.feeds.items():
            assert feed_counts(campaigns, feed) == {name: expected[name] for name in COUNTED}
        assert performance(campaigns) == expected_performance(campaigns)
        assert len(performance(campaigns)) == 6
        ranks = campaigns.rows("SELECT rank, engagements FROM campaigns.top_posts ORDER BY rank")
        assert [rank for rank, _ in ranks] == list(range(1, 37))
        assert sorted((value for _, value in ranks), reverse=True) == [value for _, value in ranks]
        first = campaigns.digest()
        assert daily.run(DAYS[0], DAYS[-1], assets=assets).success
        assert campaigns.digest() == first
    finally:
        daily.close()


def test_late_and_corrected_hours_are_in_the_views_in_any_order_of_days(campaigns, sample):
    for day in reversed(DAYS):
        campaigns.load(day)
        campaigns.compute(day)
        assert performance(campaigns) == expected_performance(campaigns)
    assert all(job.recompute_sample(60) == [] for job in campaigns.aggregates())


def test_a_view_is_refreshed_while_a_reader_holds_it_open(campaigns, sample, settings):
    campaigns.load(DAYS[0])
    campaigns.compute(DAYS[0])
    campaigns.load(DAYS[1])
    impatient = Database(settings.postgres_url + "?options=-c%20lock_timeout%3D3s")
    with psycopg.connect(settings.postgres_url) as reader:
        query = "SELECT sum(impressions) FROM campaigns.campaign_performance"
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        before = reader.execute(query).fetchone()
        campaigns.compute(DAYS[1])
        assert refresh_view(impatient, "campaigns", "campaign_performance").rows == 6
        assert reader.execute(query).fetchone() == before
        reader.rollback()
        assert reader.execute(query).fetchone() > before
    impatient.close()


def test_a_view_that_was_never_filled_is_filled(campaigns):
    with campaigns.owner.connection() as connection:
        connection.execute("REFRESH MATERIALIZED VIEW campaigns.top_posts WITH NO DATA")
    assert refresh_view(campaigns.database, "campaigns", "top_posts").rows == 0
    assert campaigns.rows("SELECT count(*) FROM campaigns.top_posts") == [(0,)]


def test_a_view_without_a_unique_index_is_refused_with_the_remedy(campaigns):
    with campaigns.owner.connection() as connection:
        connection.execute("DROP INDEX campaigns.top_posts_by_rank")
    with pytest.raises(
        UserError, match=r"campaigns\.top_posts has no unique index .* add `CREATE UNIQUE INDEX`"
    ):
        refresh_view(campaigns.database, "campaigns", "top_posts")
    with pytest.raises(UserError, match=r"no materialised view campaigns\.posts"):
        refresh_view(campaigns.database, "campaigns", "posts")


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE campaigns.users SET email = 'nobody'", "users_email_check"),
        ("UPDATE campaigns.users SET email = 'USER1@example.com'", "users_one_per_email"),
        ("UPDATE campaigns.users SET status = 'deleted'", "deleted_users_say_when"),
        ("UPDATE campaigns.users SET manager_id = user_id", "user_does_not_manage_itself"),
        ("UPDATE campaigns.campaigns SET ends_on = '2000-01-01'", "campaign_ends_after_it_starts"),
        ("UPDATE campaigns.campaigns SET budget = 'NaN'", "campaigns_budget_check"),
        ("UPDATE campaigns.posts SET published_at = NULL", "published_posts_say_when"),
        ("UPDATE campaigns.posts SET campaign_id = gen_random_uuid()", "posts_campaign_id_fkey"),
        ("DELETE FROM campaigns.users", "fkey"),
    ],
)
def test_the_tables_refuse_what_makes_no_sense(campaigns, statement, constraint):
    with pytest.raises(psycopg.IntegrityError, match=constraint), campaigns.owner.connection() as connection:
        connection.execute(statement)


def test_the_database_keeps_the_times_of_a_row(campaigns):
    with campaigns.owner.connection() as connection:
        changed = connection.execute(
            "UPDATE campaigns.posts SET content = 'new', created_at = '2000-01-01', updated_at = '2000-01-01' "
            "WHERE post_id = %s RETURNING created_at > '2020-01-01', updated_at > created_at",
            [identifier("post", 1)],
        ).fetchone()
    assert changed == (True, True)


def test_each_table_has_the_indexes_that_its_queries_need(campaigns):
    counts = dict(
        campaigns.rows(
            "SELECT tablename, count(*) FROM pg_indexes "
            "WHERE schemaname = 'campaigns' AND tablename = ANY(%s) GROUP BY 1",
            ["users", "campaigns", "posts", "post_analytics"],
        )
    )
    assert counts == {"users": 11, "campaigns": 8, "posts": 12, "post_analytics": 10}
    with campaigns.database.connection() as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM campaigns.posts WHERE content ILIKE '%autumn%'"
        ).fetchall()
        assert "posts_content_trigram" in str(plan)
        plan = connection.execute(
            "EXPLAIN SELECT * FROM campaigns.posts WHERE campaign_id = gen_random_uuid() AND tags @> '{sale}'"
        ).fetchall()
        assert "posts_tags" in str(plan) or "posts_by_campaign" in str(plan)

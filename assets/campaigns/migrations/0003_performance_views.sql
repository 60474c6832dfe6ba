-- campaigns 0003: What campaigns and posts achieve
--
-- The two tables are the aggregates of system.yaml, made here and not by it because the views read them and migrations
-- run first. They are kept by the pipeline, the views are refreshed after them.

-- migrate: up
CREATE TABLE campaigns.post_analytics_by_campaign (
  campaign_id uuid,
  measured_on date,
  impressions numeric,
  clicks      numeric,
  likes       numeric,
  comments    numeric,
  shares      numeric,
  spend       numeric,
  posts       bigint NOT NULL,
  hours       bigint NOT NULL,
  computed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX post_analytics_by_campaign_key ON campaigns.post_analytics_by_campaign (campaign_id, measured_on)
  NULLS NOT DISTINCT;
COMMENT ON TABLE campaigns.post_analytics_by_campaign IS 'What platforms counted for the posts of a campaign on a UTC day.';

CREATE TABLE campaigns.post_analytics_by_post (
  post_id          uuid,
  campaign_id      uuid,
  impressions      numeric,
  clicks           numeric,
  likes            numeric,
  comments         numeric,
  shares           numeric,
  spend            numeric,
  followers        bigint,
  last_measured_at timestamptz,
  hours            bigint NOT NULL,
  computed_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX post_analytics_by_post_key ON campaigns.post_analytics_by_post (post_id, campaign_id)
  NULLS NOT DISTINCT;
COMMENT ON TABLE campaigns.post_analytics_by_post IS 'What platforms have counted for a post in all.';

CREATE MATERIALIZED VIEW campaigns.campaign_performance AS
WITH as_of AS (SELECT max(measured_on) AS day FROM campaigns.post_analytics_by_campaign),
counted AS (
  SELECT campaign_id, min(measured_on) AS first_on, max(measured_on) AS last_on, sum(impressions) AS impressions,
         sum(clicks) AS clicks, sum(coalesce(likes, 0) + coalesce(comments, 0) + coalesce(shares, 0)) AS engagements,
         coalesce(sum(spend), 0) AS spend,
         coalesce(sum(impressions) FILTER (WHERE measured_on > (SELECT day - 7 FROM as_of)), 0) AS impressions_7d,
         coalesce(sum(clicks) FILTER (WHERE measured_on > (SELECT day - 7 FROM as_of)), 0) AS clicks_7d
  FROM campaigns.post_analytics_by_campaign GROUP BY campaign_id
)
SELECT campaign_id, campaigns.name, campaigns.owner_id, campaigns.status, first_on, last_on, impressions, clicks,
       engagements, spend, impressions_7d, clicks_7d, round(clicks / nullif(impressions, 0), 6) AS click_ratio,
       round(spend / nullif(clicks, 0), 4) AS cost_per_click, round(spend / nullif(campaigns.budget, 0), 6) AS budget_ratio,
       (SELECT day FROM as_of) AS as_of
FROM counted LEFT JOIN campaigns.campaigns USING (campaign_id);
COMMENT ON MATERIALIZED VIEW campaigns.campaign_performance IS
  'Counts, rates and cost of each campaign since it began, and in the seven days up to the newest count';
CREATE UNIQUE INDEX campaign_performance_key ON campaigns.campaign_performance (campaign_id);
CREATE INDEX campaign_performance_by_owner ON campaigns.campaign_performance (owner_id, impressions DESC);

CREATE MATERIALIZED VIEW campaigns.top_posts AS
WITH scored AS (
  SELECT post_id, campaign_id, impressions, clicks, followers, last_measured_at,
         coalesce(likes, 0) + coalesce(comments, 0) + coalesce(shares, 0) AS engagements
  FROM campaigns.post_analytics_by_post
),
ranked AS (
  SELECT *, row_number() OVER (ORDER BY engagements DESC, impressions DESC, post_id, campaign_id)::integer AS rank,
         row_number() OVER (PARTITION BY campaign_id ORDER BY engagements DESC, impressions DESC, post_id)::integer
           AS rank_in_campaign
  FROM scored
)
SELECT rank, rank_in_campaign, post_id, ranked.campaign_id, posts.platform, left(posts.content, 200) AS content,
       posts.published_at, impressions, clicks, engagements, followers, last_measured_at,
       round(engagements / nullif(impressions, 0), 6) AS engagement_ratio
FROM ranked LEFT JOIN campaigns.posts USING (post_id)
WHERE rank <= 500;
COMMENT ON MATERIALIZED VIEW campaigns.top_posts IS 'The 500 posts with the most engagement, ranked within their campaign and over all';
CREATE UNIQUE INDEX top_posts_by_rank ON campaigns.top_posts (rank);
CREATE INDEX top_posts_by_campaign ON campaigns.top_posts (campaign_id, rank_in_campaign);

-- migrate: down
DROP MATERIALIZED VIEW campaigns.top_posts, campaigns.campaign_performance;
DROP TABLE campaigns.post_analytics_by_post, campaigns.post_analytics_by_campaign;

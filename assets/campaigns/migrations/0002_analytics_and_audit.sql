-- campaigns 0002: What platforms count, and who changed what
--
-- Both are logs that feeds load and that only grow; longbox.record_keys tells which version of a row is current. No
-- foreign key points from them: a platform reports posts that were deleted here, and a log outlives what it tells of.

-- migrate: up
CREATE TABLE campaigns.post_analytics (
  raw_id       bigint GENERATED ALWAYS AS IDENTITY,
  measured_at  timestamptz NOT NULL,
  updated_at   timestamptz,
  loaded_at    timestamptz NOT NULL DEFAULT now(),
  impressions  bigint NOT NULL CHECK (impressions >= 0),
  clicks       bigint NOT NULL CHECK (clicks >= 0),
  reach        bigint CHECK (reach >= 0),
  likes        bigint CHECK (likes >= 0),
  comments     bigint CHECK (comments >= 0),
  shares       bigint CHECK (shares >= 0),
  followers    bigint,
  load_id      bigint NOT NULL,
  line         bigint NOT NULL,
  landing_day  date NOT NULL,
  post_id      uuid NOT NULL,
  campaign_id  uuid NOT NULL,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  spend        numeric(14,4) CHECK (spend >= 0 AND spend <> 'NaN'),
  platform     text NOT NULL,
  attributes   jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (raw_id, measured_at)
) PARTITION BY RANGE (measured_at);
COMMENT ON TABLE campaigns.post_analytics IS
  'Every version of what a platform counted for a post in an hour, as it landed: a log that only grows';
COMMENT ON COLUMN campaigns.post_analytics.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN campaigns.post_analytics.measured_at IS 'First moment of the hour; decides the partition';
COMMENT ON COLUMN campaigns.post_analytics.updated_at IS 'The platform''s own time of the version: the later one wins';
COMMENT ON COLUMN campaigns.post_analytics.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN campaigns.post_analytics.impressions IS 'Times shown in the hour';
COMMENT ON COLUMN campaigns.post_analytics.clicks IS 'Clicks in the hour';
COMMENT ON COLUMN campaigns.post_analytics.reach IS 'People reached in the hour; hours cannot be added up';
COMMENT ON COLUMN campaigns.post_analytics.likes IS 'Likes in the hour';
COMMENT ON COLUMN campaigns.post_analytics.comments IS 'Comments in the hour';
COMMENT ON COLUMN campaigns.post_analytics.shares IS 'Shares in the hour';
COMMENT ON COLUMN campaigns.post_analytics.followers IS 'Followers of the account at the end of the hour';
COMMENT ON COLUMN campaigns.post_analytics.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN campaigns.post_analytics.line IS 'Line in that file';
COMMENT ON COLUMN campaigns.post_analytics.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN campaigns.post_analytics.post_id IS 'The post; it may have been deleted since';
COMMENT ON COLUMN campaigns.post_analytics.campaign_id IS 'Campaign the post belonged to then';
COMMENT ON COLUMN campaigns.post_analytics.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN campaigns.post_analytics.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN campaigns.post_analytics.spend IS 'What promotion cost in the hour, in the campaign''s currency';
COMMENT ON COLUMN campaigns.post_analytics.platform IS 'Who counted';
COMMENT ON COLUMN campaigns.post_analytics.attributes IS 'What else the platform said, as it said it';
CREATE INDEX post_analytics_by_load ON campaigns.post_analytics (load_id);
CREATE INDEX post_analytics_by_key ON campaigns.post_analytics (key_hash);
CREATE INDEX post_analytics_by_landing ON campaigns.post_analytics USING brin (landing_day) WITH (pages_per_range = 32);
CREATE INDEX post_analytics_by_time ON campaigns.post_analytics USING brin (measured_at) WITH (pages_per_range = 32);
CREATE INDEX post_analytics_of_post ON campaigns.post_analytics (post_id, measured_at DESC);
CREATE INDEX post_analytics_of_campaign ON campaigns.post_analytics (campaign_id, measured_at DESC);
CREATE INDEX post_analytics_of_platform ON campaigns.post_analytics (platform, measured_at DESC);
CREATE INDEX post_analytics_paid ON campaigns.post_analytics (campaign_id, measured_at) WHERE spend > 0;
CREATE INDEX post_analytics_attributes ON campaigns.post_analytics USING gin (attributes jsonb_path_ops);

CREATE TABLE campaigns.audit_log (
  raw_id       bigint GENERATED ALWAYS AS IDENTITY,
  occurred_at  timestamptz NOT NULL,
  loaded_at    timestamptz NOT NULL DEFAULT now(),
  load_id      bigint NOT NULL,
  line         bigint NOT NULL,
  landing_day  date NOT NULL,
  event_id     uuid NOT NULL,
  actor_id     uuid,
  entity_id    uuid NOT NULL,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  action       text NOT NULL CHECK (action IN ('create', 'update', 'delete', 'publish', 'approve', 'login')),
  entity       text NOT NULL CHECK (entity <> ''),
  changes      jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (raw_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE campaigns.audit_log IS 'Who changed what and when, as it landed: a log that only grows';
COMMENT ON COLUMN campaigns.audit_log.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN campaigns.audit_log.occurred_at IS 'When it was done; decides the partition';
COMMENT ON COLUMN campaigns.audit_log.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN campaigns.audit_log.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN campaigns.audit_log.line IS 'Record in that file';
COMMENT ON COLUMN campaigns.audit_log.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN campaigns.audit_log.event_id IS 'The application''s id of the event';
COMMENT ON COLUMN campaigns.audit_log.actor_id IS 'Who did it; null: the application itself';
COMMENT ON COLUMN campaigns.audit_log.entity_id IS 'What it was done to';
COMMENT ON COLUMN campaigns.audit_log.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN campaigns.audit_log.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN campaigns.audit_log.action IS 'create, update, delete, publish, approve or login';
COMMENT ON COLUMN campaigns.audit_log.entity IS 'Kind of what it was done to: user, campaign, post';
COMMENT ON COLUMN campaigns.audit_log.changes IS 'Fields before and after';
CREATE INDEX audit_log_by_load ON campaigns.audit_log (load_id);
CREATE INDEX audit_log_by_key ON campaigns.audit_log (key_hash);
CREATE INDEX audit_log_by_entity ON campaigns.audit_log (entity, entity_id, occurred_at DESC);
CREATE INDEX audit_log_by_actor ON campaigns.audit_log (actor_id, occurred_at DESC) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_log_by_action ON campaigns.audit_log (action, occurred_at DESC);
CREATE INDEX audit_log_by_time ON campaigns.audit_log USING brin (occurred_at) WITH (pages_per_range = 32);
CREATE INDEX audit_log_changes ON campaigns.audit_log USING gin (changes jsonb_path_ops);

-- migrate: down
DROP TABLE campaigns.audit_log, campaigns.post_analytics;

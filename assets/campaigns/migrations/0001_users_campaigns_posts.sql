-- campaigns 0001: People, campaigns and posts
--
-- A user is never deleted by a cascade: erasure deletes what is the user's, relation by relation, and ledgers it.

-- migrate: up
CREATE FUNCTION campaigns.keep_timestamps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.created_at := OLD.created_at;
  NEW.updated_at := now();
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION campaigns.keep_timestamps() IS 'Trigger: created_at never changes, updated_at is the last change, whatever the writer says';

CREATE TABLE campaigns.users (
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  last_login_at timestamptz,
  deleted_at    timestamptz,
  user_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  manager_id    uuid REFERENCES campaigns.users,
  email         text NOT NULL CHECK (email ~ '^[^@\s]+@[^@\s]+$'),
  user_name     text NOT NULL CHECK (length(user_name) BETWEEN 1 AND 100),
  full_name     text NOT NULL DEFAULT '',
  role          text NOT NULL DEFAULT 'editor' CHECK (role IN ('admin', 'manager', 'editor', 'analyst', 'viewer')),
  status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
  time_zone     text NOT NULL DEFAULT 'UTC',
  settings      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
  CONSTRAINT deleted_users_say_when CHECK ((status = 'deleted') = (deleted_at IS NOT NULL)),
  CONSTRAINT user_does_not_manage_itself CHECK (manager_id <> user_id)
);
COMMENT ON TABLE campaigns.users IS 'People who plan, approve and measure campaigns';
COMMENT ON COLUMN campaigns.users.created_at IS 'When the account was made';
COMMENT ON COLUMN campaigns.users.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN campaigns.users.last_login_at IS 'Last sign-in; null: never';
COMMENT ON COLUMN campaigns.users.deleted_at IS 'When the account was closed';
COMMENT ON COLUMN campaigns.users.user_id IS 'The account';
COMMENT ON COLUMN campaigns.users.manager_id IS 'Who approves this user''s posts';
COMMENT ON COLUMN campaigns.users.email IS 'Address, unique among open accounts whatever its case';
COMMENT ON COLUMN campaigns.users.user_name IS 'Name for signing in, unique among open accounts whatever its case';
COMMENT ON COLUMN campaigns.users.full_name IS 'Name as shown';
COMMENT ON COLUMN campaigns.users.role IS 'What the user may do';
COMMENT ON COLUMN campaigns.users.status IS 'active, suspended or deleted';
COMMENT ON COLUMN campaigns.users.time_zone IS 'Zone that times are shown in';
COMMENT ON COLUMN campaigns.users.settings IS 'Preferences of the application';
CREATE UNIQUE INDEX users_one_per_email ON campaigns.users (lower(email)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_one_per_name ON campaigns.users (lower(user_name)) WHERE deleted_at IS NULL;
CREATE INDEX users_by_manager ON campaigns.users (manager_id) WHERE manager_id IS NOT NULL;
CREATE INDEX users_by_role ON campaigns.users (role, status);
CREATE INDEX users_by_creation ON campaigns.users (created_at DESC);
CREATE INDEX users_by_login ON campaigns.users (last_login_at DESC NULLS LAST) WHERE status = 'active';
CREATE INDEX users_suspended ON campaigns.users (updated_at DESC) WHERE status = 'suspended';
CREATE INDEX users_deleted ON campaigns.users (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX users_full_name_trigram ON campaigns.users USING gin (lower(full_name) gin_trgm_ops);
CREATE INDEX users_settings ON campaigns.users USING gin (settings jsonb_path_ops);

CREATE TABLE campaigns.campaigns (
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  starts_on   date NOT NULL,
  ends_on     date,
  campaign_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id    uuid NOT NULL REFERENCES campaigns.users,
  budget      numeric(14,2) CHECK (budget >= 0 AND budget <> 'NaN'),
  currency    text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
  name        text NOT NULL CHECK (name <> ''),
  objective   text NOT NULL DEFAULT 'awareness' CHECK (objective IN ('awareness', 'traffic', 'engagement', 'leads', 'sales')),
  status      text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'active', 'paused', 'completed', 'archived')),
  tags        text[] NOT NULL DEFAULT '{}',
  settings    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
  CONSTRAINT campaign_ends_after_it_starts CHECK (ends_on >= starts_on)
);
COMMENT ON TABLE campaigns.campaigns IS 'Campaigns with their budget and dates';
COMMENT ON COLUMN campaigns.campaigns.created_at IS 'When the campaign was made';
COMMENT ON COLUMN campaigns.campaigns.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN campaigns.campaigns.starts_on IS 'First day';
COMMENT ON COLUMN campaigns.campaigns.ends_on IS 'Last day; null: open';
COMMENT ON COLUMN campaigns.campaigns.campaign_id IS 'The campaign';
COMMENT ON COLUMN campaigns.campaigns.owner_id IS 'Who answers for it';
COMMENT ON COLUMN campaigns.campaigns.budget IS 'What may be spent in all, in currency';
COMMENT ON COLUMN campaigns.campaigns.currency IS 'Currency of the budget';
COMMENT ON COLUMN campaigns.campaigns.name IS 'Name as shown, unique for its owner';
COMMENT ON COLUMN campaigns.campaigns.objective IS 'What it is to achieve';
COMMENT ON COLUMN campaigns.campaigns.status IS 'draft, active, paused, completed or archived';
COMMENT ON COLUMN campaigns.campaigns.tags IS 'Free labels';
COMMENT ON COLUMN campaigns.campaigns.settings IS 'Targeting and tracking, as the application keeps them';
CREATE UNIQUE INDEX campaigns_one_name_per_owner ON campaigns.campaigns (owner_id, lower(name)) WHERE status <> 'archived';
CREATE INDEX campaigns_by_status ON campaigns.campaigns (status, starts_on DESC);
CREATE INDEX campaigns_by_span ON campaigns.campaigns (starts_on, ends_on);
CREATE INDEX campaigns_running ON campaigns.campaigns (ends_on) WHERE status = 'active';
CREATE INDEX campaigns_by_creation ON campaigns.campaigns (created_at DESC);
-- btree_gin: one index answers "this owner's campaigns with these labels".
CREATE INDEX campaigns_tags ON campaigns.campaigns USING gin (owner_id, tags);
CREATE INDEX campaigns_name_trigram ON campaigns.campaigns USING gin (lower(name) gin_trgm_ops);

CREATE TABLE campaigns.posts (
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  scheduled_at   timestamptz,
  published_at   timestamptz,
  post_id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  campaign_id    uuid NOT NULL REFERENCES campaigns.campaigns,
  author_id      uuid NOT NULL REFERENCES campaigns.users,
  platform       text NOT NULL CHECK (platform IN ('instagram', 'facebook', 'x', 'linkedin', 'tiktok', 'youtube')),
  status         text NOT NULL DEFAULT 'draft'
                 CHECK (status IN ('draft', 'approved', 'scheduled', 'published', 'failed', 'deleted')),
  platform_id    text,
  content        text NOT NULL CHECK (content <> ''),
  content_search tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, content)) STORED,
  tags           text[] NOT NULL DEFAULT '{}',
  media          jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(media) = 'array'),
  CONSTRAINT published_posts_say_when CHECK (status <> 'published' OR published_at IS NOT NULL),
  CONSTRAINT scheduled_posts_say_when CHECK (status <> 'scheduled' OR scheduled_at IS NOT NULL)
);
COMMENT ON TABLE campaigns.posts IS 'Posts of a campaign, drafted, scheduled and published';
COMMENT ON COLUMN campaigns.posts.created_at IS 'When the draft was made';
COMMENT ON COLUMN campaigns.posts.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN campaigns.posts.scheduled_at IS 'When it is to be published';
COMMENT ON COLUMN campaigns.posts.published_at IS 'When it was published';
COMMENT ON COLUMN campaigns.posts.post_id IS 'The post';
COMMENT ON COLUMN campaigns.posts.campaign_id IS 'Campaign it belongs to';
COMMENT ON COLUMN campaigns.posts.author_id IS 'Who wrote it';
COMMENT ON COLUMN campaigns.posts.platform IS 'Where it is published';
COMMENT ON COLUMN campaigns.posts.status IS 'draft, approved, scheduled, published, failed or deleted';
COMMENT ON COLUMN campaigns.posts.platform_id IS 'The platform''s own id, once published';
COMMENT ON COLUMN campaigns.posts.content IS 'Its text';
COMMENT ON COLUMN campaigns.posts.content_search IS 'Words of the text; simple: posts are of many languages';
COMMENT ON COLUMN campaigns.posts.tags IS 'Its hashtags, without #';
COMMENT ON COLUMN campaigns.posts.media IS 'Pictures and films, as links with their kind';
CREATE UNIQUE INDEX posts_one_per_platform_id ON campaigns.posts (platform, platform_id) WHERE platform_id IS NOT NULL;
CREATE INDEX posts_by_campaign ON campaigns.posts (campaign_id, published_at DESC NULLS LAST);
CREATE INDEX posts_by_author ON campaigns.posts (author_id, created_at DESC);
CREATE INDEX posts_by_platform ON campaigns.posts (platform, published_at DESC NULLS LAST);
CREATE INDEX posts_by_status ON campaigns.posts (status, updated_at DESC);
CREATE INDEX posts_due ON campaigns.posts (scheduled_at) WHERE status = 'scheduled';
CREATE INDEX posts_failed ON campaigns.posts (updated_at DESC) WHERE status = 'failed';
CREATE INDEX posts_published ON campaigns.posts (published_at DESC) WHERE status = 'published';
CREATE INDEX posts_content_search ON campaigns.posts USING gin (content_search);
CREATE INDEX posts_content_trigram ON campaigns.posts USING gin (content gin_trgm_ops);
CREATE INDEX posts_tags ON campaigns.posts USING gin (campaign_id, tags);

CREATE TRIGGER users_timestamps BEFORE UPDATE ON campaigns.users
  FOR EACH ROW EXECUTE FUNCTION campaigns.keep_timestamps();
CREATE TRIGGER campaigns_timestamps BEFORE UPDATE ON campaigns.campaigns
  FOR EACH ROW EXECUTE FUNCTION campaigns.keep_timestamps();
CREATE TRIGGER posts_timestamps BEFORE UPDATE ON campaigns.posts
  FOR EACH ROW EXECUTE FUNCTION campaigns.keep_timestamps();

-- migrate: down
DROP TABLE campaigns.posts, campaigns.campaigns, campaigns.users;
DROP FUNCTION campaigns.keep_timestamps();

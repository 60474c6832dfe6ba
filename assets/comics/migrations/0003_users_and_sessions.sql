-- comics 0003: Accounts of the price guide and their sessions
--
-- A user is never deleted by a cascade: erasure deletes what is the user's, relation by relation, and ledgers it.

-- migrate: up
CREATE TABLE comics.users (
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  email_verified_at   timestamptz,
  last_seen_at        timestamptz,
  deleted_at          timestamptz,
  user_id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  merged_into_user_id uuid REFERENCES comics.users,
  is_dealer           boolean NOT NULL DEFAULT false,
  email               text NOT NULL CHECK (email ~ '^[^@\s]+@[^@\s]+$'),
  display_name        text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 100),
  password_hash       text,
  status              text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
  country             text CHECK (country ~ '^[A-Z]{2}$'),
  currency            text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
  metadata            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT deleted_users_say_when CHECK ((status = 'deleted') = (deleted_at IS NOT NULL)),
  CONSTRAINT user_is_not_merged_into_itself CHECK (merged_into_user_id <> user_id)
);
COMMENT ON TABLE comics.users IS 'Accounts of the price guide';
COMMENT ON COLUMN comics.users.password_hash IS 'As the application''s password hasher writes it; null for sign-in by others';
COMMENT ON COLUMN comics.users.merged_into_user_id IS 'For a double account: the one that remains';
COMMENT ON COLUMN comics.users.currency IS 'Currency that prices are shown in';
CREATE UNIQUE INDEX users_one_per_email ON comics.users (lower(email)) WHERE deleted_at IS NULL;
CREATE INDEX users_by_name ON comics.users USING gin (lower(display_name) gin_trgm_ops);
CREATE INDEX users_by_last_seen ON comics.users (last_seen_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX users_deleted ON comics.users (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX users_merged ON comics.users (merged_into_user_id) WHERE merged_into_user_id IS NOT NULL;

CREATE TABLE comics.user_sessions (
  started_at   timestamptz NOT NULL,
  last_seen_at timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  ended_at     timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  session_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id      uuid NOT NULL REFERENCES comics.users,
  token_hash   bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  ip_address   inet,
  user_agent   text,
  metadata     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT session_expires_after_it_starts CHECK (expires_at > started_at),
  CONSTRAINT session_ends_after_it_starts CHECK (ended_at >= started_at)
);
COMMENT ON TABLE comics.user_sessions IS 'Sessions of users, open and closed';
COMMENT ON COLUMN comics.user_sessions.token_hash IS 'SHA-256 of the token: who reads this table cannot become the user';
CREATE INDEX user_sessions_by_user ON comics.user_sessions (user_id, started_at DESC);
CREATE INDEX user_sessions_open ON comics.user_sessions (expires_at) WHERE ended_at IS NULL;
CREATE INDEX user_sessions_by_start ON comics.user_sessions (started_at);

CREATE TRIGGER users_timestamps BEFORE UPDATE ON comics.users
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();
CREATE TRIGGER user_sessions_timestamps BEFORE UPDATE ON comics.user_sessions
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();

-- migrate: down
DROP TABLE comics.user_sessions, comics.users;

-- browser 0001: Accounts and their sessions

-- migrate: up
CREATE FUNCTION browser.keep_timestamps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.created_at := OLD.created_at;
  NEW.updated_at := now();
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION browser.keep_timestamps() IS 'Trigger: created_at never changes, updated_at is the last change, whatever the writer says';

CREATE TABLE browser.users (
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  deleted_at    timestamptz,
  user_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  email         text NOT NULL CHECK (email ~ '^[^@\s]+@[^@\s]+$'),
  display_name  text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 100),
  password_hash text CHECK (password_hash ~ '^\$'),
  locale        text NOT NULL DEFAULT 'en' CHECK (locale ~ '^[a-z]{2,3}(-[A-Z]{2})?$'),
  settings      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
  purge_after   timestamptz GENERATED ALWAYS AS ((deleted_at AT TIME ZONE 'UTC' + interval '30 days') AT TIME ZONE 'UTC') STORED
);
COMMENT ON TABLE browser.users IS 'Accounts. A deleted one is marked, and goes for good after 30 days of grace';
COMMENT ON COLUMN browser.users.created_at IS 'When the account was made';
COMMENT ON COLUMN browser.users.updated_at IS 'Last change of this row';
COMMENT ON COLUMN browser.users.deleted_at IS 'When its owner deleted it; null for a living account';
COMMENT ON COLUMN browser.users.user_id IS 'Identity of the account';
COMMENT ON COLUMN browser.users.email IS 'Address for signing in, unique among living accounts whatever its case';
COMMENT ON COLUMN browser.users.display_name IS 'Name that others see';
COMMENT ON COLUMN browser.users.password_hash IS 'In the PHC string format ($argon2id$...); null for sign-in by others';
COMMENT ON COLUMN browser.users.locale IS 'Language of the interface';
COMMENT ON COLUMN browser.users.settings IS 'Preferences that no other column holds';
COMMENT ON COLUMN browser.users.purge_after IS 'When a deleted account may go for good: 30 days after it was deleted';
CREATE UNIQUE INDEX users_one_per_email ON browser.users (lower(email)) WHERE deleted_at IS NULL;
CREATE INDEX users_to_purge ON browser.users (purge_after) WHERE deleted_at IS NOT NULL;
CREATE INDEX users_by_name ON browser.users USING gin (lower(display_name) gin_trgm_ops);
CREATE INDEX users_by_creation ON browser.users (created_at DESC);
CREATE TRIGGER users_timestamps BEFORE UPDATE ON browser.users
  FOR EACH ROW EXECUTE FUNCTION browser.keep_timestamps();

CREATE TABLE browser.sessions (
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  revoked_at   timestamptz,
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  session_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id      uuid NOT NULL REFERENCES browser.users,
  token_hash   bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  device_name  text NOT NULL DEFAULT '',
  ip_address   inet,
  user_agent   text,
  CONSTRAINT session_expires_after_it_begins CHECK (expires_at > created_at)
);
COMMENT ON TABLE browser.sessions IS 'Sign-ins of accounts on devices';
COMMENT ON COLUMN browser.sessions.created_at IS 'When it began';
COMMENT ON COLUMN browser.sessions.updated_at IS 'Last change of this row';
COMMENT ON COLUMN browser.sessions.expires_at IS 'When its token ends to be good; rows go 30 days later';
COMMENT ON COLUMN browser.sessions.revoked_at IS 'When it was ended before its time; null otherwise';
COMMENT ON COLUMN browser.sessions.last_seen_at IS 'Last request with its token';
COMMENT ON COLUMN browser.sessions.session_id IS 'Identity of the session';
COMMENT ON COLUMN browser.sessions.user_id IS 'Whose it is';
COMMENT ON COLUMN browser.sessions.token_hash IS 'SHA-256 of the token: who reads this table cannot become the user';
COMMENT ON COLUMN browser.sessions.device_name IS 'As the device calls itself';
COMMENT ON COLUMN browser.sessions.ip_address IS 'Where the last request came from';
COMMENT ON COLUMN browser.sessions.user_agent IS 'As the device said';
CREATE INDEX sessions_by_user ON browser.sessions (user_id, last_seen_at DESC);
CREATE INDEX sessions_open ON browser.sessions (expires_at) WHERE revoked_at IS NULL;
CREATE INDEX sessions_by_expiry ON browser.sessions (expires_at);
CREATE TRIGGER sessions_timestamps BEFORE UPDATE ON browser.sessions
  FOR EACH ROW EXECUTE FUNCTION browser.keep_timestamps();

-- migrate: down
DROP TABLE browser.sessions, browser.users;
DROP FUNCTION browser.keep_timestamps();

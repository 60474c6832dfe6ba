-- browser 0002: Synced resources and who may use them

-- migrate: up
CREATE TYPE browser.resource_type AS ENUM ('bookmark', 'tab', 'history', 'password', 'setting', 'reading_list');
CREATE TYPE browser.permission AS ENUM ('read', 'write', 'admin');

CREATE TABLE browser.resources (
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  deleted_at    timestamptz,
  resource_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id      uuid NOT NULL REFERENCES browser.users,
  parent_id     uuid REFERENCES browser.resources,
  version       bigint NOT NULL DEFAULT 1 CHECK (version >= 1),
  resource_type browser.resource_type NOT NULL,
  title         text NOT NULL DEFAULT '',
  content       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(content) = 'object'),
  search        tsvector GENERATED ALWAYS AS (
                  to_tsvector('simple', title) || to_tsvector('simple', coalesce(content ->> 'url', ''))) STORED,
  CONSTRAINT resource_is_not_its_own_parent CHECK (parent_id <> resource_id),
  CONSTRAINT content_fits_its_type CHECK (CASE resource_type
    WHEN 'bookmark' THEN content ? 'url' WHEN 'tab' THEN content ? 'url' WHEN 'history' THEN content ? 'url'
    WHEN 'password' THEN content ? 'ciphertext' AND NOT content ? 'password' ELSE true END)
);
COMMENT ON TABLE browser.resources IS 'What an account keeps in step over its devices; the type says what content holds';
COMMENT ON COLUMN browser.resources.created_at IS 'When it was made';
COMMENT ON COLUMN browser.resources.updated_at IS 'Last change of this row';
COMMENT ON COLUMN browser.resources.deleted_at IS 'When it was deleted; kept so that other devices hear of it';
COMMENT ON COLUMN browser.resources.resource_id IS 'Identity of the resource';
COMMENT ON COLUMN browser.resources.owner_id IS 'Whose it is';
COMMENT ON COLUMN browser.resources.parent_id IS 'Folder that holds it';
COMMENT ON COLUMN browser.resources.version IS 'Grows with every change; a writer names the one it read';
COMMENT ON COLUMN browser.resources.resource_type IS 'What it is, and so what content holds';
COMMENT ON COLUMN browser.resources.title IS 'As the user sees it';
COMMENT ON COLUMN browser.resources.content IS 'url for bookmarks, tabs and history; ciphertext for passwords; anything for the others';
COMMENT ON COLUMN browser.resources.search IS 'Words of title and address, for full-text search';
CREATE INDEX resources_by_owner ON browser.resources (owner_id, resource_type, updated_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX resources_by_parent ON browser.resources (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX resources_by_words ON browser.resources USING gin (search);
CREATE INDEX resources_by_title ON browser.resources USING gin (lower(title) gin_trgm_ops);
CREATE INDEX resources_by_content ON browser.resources USING gin (content jsonb_path_ops);
CREATE INDEX resources_changed ON browser.resources (owner_id, updated_at);
CREATE INDEX resources_deleted ON browser.resources (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE TRIGGER resources_timestamps BEFORE UPDATE ON browser.resources
  FOR EACH ROW EXECUTE FUNCTION browser.keep_timestamps();

CREATE TABLE browser.resource_permissions (
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz,
  resource_id uuid NOT NULL REFERENCES browser.resources ON DELETE CASCADE,
  user_id     uuid NOT NULL REFERENCES browser.users,
  granted_by  uuid NOT NULL REFERENCES browser.users,
  permission  browser.permission NOT NULL,
  PRIMARY KEY (resource_id, user_id)
);
COMMENT ON TABLE browser.resource_permissions IS 'Which accounts may see or change which resources of others';
COMMENT ON COLUMN browser.resource_permissions.created_at IS 'When it was granted';
COMMENT ON COLUMN browser.resource_permissions.updated_at IS 'Last change of this row';
COMMENT ON COLUMN browser.resource_permissions.expires_at IS 'When it ends; null for ever';
COMMENT ON COLUMN browser.resource_permissions.resource_id IS 'What may be used';
COMMENT ON COLUMN browser.resource_permissions.user_id IS 'By whom';
COMMENT ON COLUMN browser.resource_permissions.granted_by IS 'Who granted it';
COMMENT ON COLUMN browser.resource_permissions.permission IS 'read, write (and read), admin (may grant too)';
CREATE INDEX resource_permissions_by_user ON browser.resource_permissions (user_id, permission);
CREATE INDEX resource_permissions_by_granter ON browser.resource_permissions (granted_by);
CREATE INDEX resource_permissions_ending ON browser.resource_permissions (expires_at) WHERE expires_at IS NOT NULL;
CREATE TRIGGER resource_permissions_timestamps BEFORE UPDATE ON browser.resource_permissions
  FOR EACH ROW EXECUTE FUNCTION browser.keep_timestamps();

-- migrate: down
DROP TABLE browser.resource_permissions, browser.resources;
DROP TYPE browser.permission, browser.resource_type;

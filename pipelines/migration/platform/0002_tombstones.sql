-- longbox 0002: Deletions that feeds carry

-- migrate: up
-- A constant default is kept in the catalogue of PostgreSQL: no row of the registry is written.
ALTER TABLE longbox.record_keys ADD COLUMN is_tombstone boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN longbox.record_keys.is_tombstone IS 'Whether this version says that the record is deleted; it has no raw row';

CREATE TABLE longbox.tombstones (
  feed_id      integer NOT NULL REFERENCES longbox.feeds,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  landing_day  date NOT NULL,
  load_id      bigint NOT NULL REFERENCES longbox.loads,
  line         bigint NOT NULL,
  landed_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (feed_id, key_hash, content_hash)
);
COMMENT ON TABLE longbox.tombstones IS
  'Every deletion that was ever accepted, with the file and line it came from: a log that only grows, as the raw tables '
  'are. Rows of a file that are loaded are in its raw table or here';
COMMENT ON COLUMN longbox.tombstones.content_hash IS 'Identity of this version of the record, as in longbox.record_keys';
CREATE INDEX tombstones_by_load ON longbox.tombstones (load_id);

-- migrate: down
DROP TABLE longbox.tombstones;
ALTER TABLE longbox.record_keys DROP COLUMN is_tombstone;

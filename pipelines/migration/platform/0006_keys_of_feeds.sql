-- longbox 0006: What identifies the records of a feed, so that a changed key cannot load them a second time

-- migrate: up
ALTER TABLE longbox.feeds ADD COLUMN key_columns text[];
COMMENT ON COLUMN longbox.feeds.key_columns IS
  'The key that the registry''s hashes were made with, in order; empty for file and line. NULL until the next load says it';

-- migrate: down
ALTER TABLE longbox.feeds DROP COLUMN key_columns;

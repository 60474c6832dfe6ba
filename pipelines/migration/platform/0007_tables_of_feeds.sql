-- longbox 0007: Where the records of a feed are, so that a renamed table cannot come to lack them

-- migrate: up
ALTER TABLE longbox.feeds ADD COLUMN table_name text;
COMMENT ON COLUMN longbox.feeds.table_name IS
  'The table that holds the records of the feed. NULL until the next load says it';

-- migrate: down
ALTER TABLE longbox.feeds DROP COLUMN table_name;

-- longbox 0003: The registry is written without looking its feed up for every row

-- migrate: up
-- The check cost as much as the row itself (docs/decisions/0010): the number comes from longbox.feeds in the same
-- transaction, and no role of Longbox deletes feeds. longbox.loads and the others keep their foreign keys.
ALTER TABLE longbox.record_keys DROP CONSTRAINT record_keys_feed_id_fkey;

-- migrate: down
ALTER TABLE longbox.record_keys ADD CONSTRAINT record_keys_feed_id_fkey FOREIGN KEY (feed_id) REFERENCES longbox.feeds;
